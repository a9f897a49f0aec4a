//! The thread that writes: renders records and chains them, begins new files, deletes the oldest, and counts what could
//! not be written.

mod before;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Retention;
use super::chain::{Head, seal};
use super::files::{Directory, is_deleted};
use super::frame::{Frame, Parts};
use super::line::Members;
use super::queue::{Batch, Queue};
use super::record::{FORMAT, Kind, Record, time};
use super::text::Room;

/// How often it is tried again to write after it failed and nothing new came.
const RETRY: Duration = Duration::from_secs(5);
/// How much is put together before it is written.
const CHUNK: usize = 256 << 10;
/// How much room there must be for a log that could not be written to be one that can: for the records of some operations.
const ROOM: u64 = 64 << 10;

pub(super) struct Writer {
    directory: Directory,
    session: String,
    retention: Retention,
    queue: Arc<Queue>,
    file: File,
    number: u32,
    /// How much of the file is whole lines.
    bytes: u64,
    /// The record that the file begins with, rendered: it is tried again until it is there.
    beginning: Vec<u8>,
    /// The last record in the file.
    written: Head,
    /// The last record in `lines`, which follow it.
    head: Head,
    lines: Vec<u8>,
    /// For the texts that are rendered here.
    room: Room,
    /// How many records are in `lines`.
    pending: u64,
    /// How many lost ones those in `lines` tell of.
    told: u64,
    /// How many are lost that no record tells of yet.
    lost: u64,
    lost_in_all: u64,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(
        directory: Directory,
        session: String,
        retention: Retention,
        queue: Arc<Queue>,
    ) -> std::io::Result<Self> {
        let file = directory.begin(&session, 1)?;
        Ok(Self {
            directory,
            session,
            retention,
            queue,
            file,
            number: 1,
            bytes: 0,
            beginning: Vec::new(),
            written: Head::default(),
            head: Head::default(),
            lines: Vec::new(),
            room: Room::default(),
            pending: 0,
            told: 0,
            lost: 0,
            lost_in_all: 0,
            is_failing: false,
        })
    }

    pub(super) fn run(mut self) {
        // The beginning is written with the first batch, so that a process which is over at once is not held up.
        let opened = SystemTime::now();
        loop {
            let batch = self.queue.take((self.lost > 0 || self.is_failing).then_some(RETRY));
            if self.beginning.is_empty() {
                self.introduce(opened);
            }
            let (is_last, done) = (batch.is_last, self.write(batch));
            if is_last {
                // What is missing from the middle has not been told of while writing fails, though the end may find room.
                let is_whole = self.written == self.head && self.lost == 0 && !self.is_failing;
                // The beginning of a file is lost only now.
                let lost = self.lost_in_all + u64::from(self.bytes == 0);
                let ended = if is_whole { Ok(self.head) } else { Err((lost, self.written)) };
                // Whoever is told may look at the file, which must not be locked any more.
                drop(self);
                if let Some(done) = done {
                    // Whoever asked may have given up.
                    let _ = done.send(ended);
                }
                return;
            }
        }
    }

    /// Writes the beginning, to see whether it can be written.
    pub(super) fn begin_now(&mut self) -> std::io::Result<()> {
        self.introduce(SystemTime::now());
        self.flush();
        match self.is_failing || !has_room(&self.file) {
            true => Err(std::io::Error::other("it cannot be written; is there room left?")),
            false => Ok(()),
        }
    }

    /// The first record, with the ends of the logs before.
    fn introduce(&mut self, at: SystemTime) {
        let after = before::ends(&self.directory, &self.session);
        let record = Record {
            format: Some(FORMAT),
            gateway: Some(env!("CARGO_PKG_VERSION").into()),
            process: Some(std::process::id()),
            after,
            ..Record::of(Kind::Opened)
        };
        record.render(&mut self.beginning);
        self.begin(at);
        self.retire();
    }

    /// Writes a batch, and what is to be said around it.
    fn write(&mut self, mut batch: Batch) -> Option<super::queue::Done> {
        if is_deleted(&self.file) {
            self.next_file("the file before was deleted while it was written to");
        }
        self.tell_unwritten();
        for (at, frame, parts) in batch.records() {
            self.append_frame(at, frame, parts);
        }
        for lost in std::mem::take(&mut batch.lost) {
            self.lost += lost.count;
            self.lost_in_all += lost.count;
            let server = lost.server.as_deref();
            tracing::warn!(records = lost.count, server, "audit records are lost, because there were too many at once");
            self.tell_lost(server, "there were too many at once");
        }
        if batch.is_last {
            self.append(SystemTime::now(), Record::of(Kind::Closed));
        }
        self.flush();
        let done = batch.done.take();
        self.queue.reuse(batch);
        done
    }

    fn tell_unwritten(&mut self) {
        self.tell_lost(None, "they could not be written");
    }

    fn tell_lost(&mut self, server: Option<&str>, why: &'static str) {
        if self.lost > 0 {
            let (lost, before) = (std::mem::take(&mut self.lost), self.pending);
            let server = server.map(|server| super::text::Room::default().line(server).into());
            let record = Record { server, lost: Some(lost), error: Some(why.into()), ..Record::of(Kind::Lost) };
            self.append(SystemTime::now(), record);
            // The record itself would be no loss; what it tells of is.
            self.pending = before;
            self.told += lost;
        }
    }

    /// Adds a record to what is to be written.
    fn append(&mut self, at: SystemTime, record: Record<'_>) {
        let mut rendered = Vec::new();
        record.render(&mut rendered);
        self.append_frame(at, &Frame::Whole, Parts { facts: &rendered, ..Parts::default() });
    }

    fn append_frame(&mut self, at: SystemTime, frame: &Frame, parts: Parts<'_>) {
        // What the last write lost belongs before what comes next.
        if self.lost > 0 && self.lines.is_empty() {
            self.tell_unwritten();
        }
        if self.bytes + self.lines.len() as u64 >= self.retention.file_bytes {
            self.flush();
            // What could not be written stays the business of this file.
            if !self.is_failing {
                self.next_file("");
            }
        }
        self.add(at, frame, parts);
        if self.lines.len() >= CHUNK {
            self.flush();
        }
    }

    fn add_own(&mut self, record: Record<'_>) {
        let mut rendered = Vec::new();
        record.render(&mut rendered);
        self.add(SystemTime::now(), &Frame::Whole, Parts { facts: &rendered, ..Parts::default() });
    }

    /// Adds the record that the file begins with, unless it is there.
    fn begin(&mut self, at: SystemTime) {
        if self.bytes == 0 && self.lines.is_empty() && !self.beginning.is_empty() {
            let (beginning, before) = (std::mem::take(&mut self.beginning), self.pending);
            self.add_line(at, &Frame::Whole, Parts { facts: &beginning, ..Parts::default() });
            self.beginning = beginning;
            // It is no loss, since it is tried again.
            self.pending = before;
        }
    }

    fn add(&mut self, at: SystemTime, frame: &Frame, parts: Parts<'_>) {
        self.begin(SystemTime::now());
        self.add_line(at, frame, parts);
    }

    /// Adds a record as the next line: the members that are the writer's, then its own.
    fn add_line(&mut self, at: SystemTime, frame: &Frame, mut parts: Parts<'_>) {
        if let Frame::Whole = frame {
            let Some(members) = parts.facts.strip_prefix(b"{") else {
                self.lost += 1;
                self.lost_in_all += 1;
                return;
            };
            parts.facts = members;
        }
        let from = self.lines.len();
        // A session is `[a-z0-9-]` and a time has digits and signs: neither needs escaping.
        let (seq, time, session) = (self.head.seq + 1, time(at), &self.session);
        // Writing to memory cannot fail.
        let _ = write!(self.lines, r#"{{"seq":{seq},"time":"{time}","session":"{session}""#);
        self.room.clear();
        frame.render(parts, &mut Members::of(&mut self.lines, &mut self.room));
        seal(&mut self.lines, from, &mut self.head);
        self.pending += 1;
    }

    /// Writes the lines that are pending, whole or not at all.
    fn flush(&mut self) {
        // What is written to a file without a name is gone.
        let is_gone = is_deleted(&self.file);
        let written = match is_gone {
            _ if self.lines.is_empty() => Ok(()),
            true => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
            false => self.file.write_all(&self.lines),
        };
        match written {
            Ok(()) => {
                self.bytes += self.lines.len() as u64;
                self.written = self.head;
                if self.is_failing && !is_gone && has_room(&self.file) {
                    self.is_failing = false;
                    self.queue.is_failing.store(false, Ordering::Relaxed);
                    tracing::warn!("the audit log is written again; {} records are missing from it", self.lost_in_all);
                }
            }
            Err(error) => {
                // Part of a line may be there.
                let _ = self.file.set_len(self.bytes);
                self.head = self.written;
                self.fail(&error);
            }
        }
        self.lines.clear();
        (self.pending, self.told) = (0, 0);
    }

    /// Counts what is pending as lost, and says so once.
    fn fail(&mut self, error: &std::io::Error) {
        self.lost += self.pending + self.told;
        self.lost_in_all += self.pending;
        self.queue.is_failing.store(true, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                directory = %self.directory.path().display(), %error,
                "the audit log cannot be written; records are lost until it can"
            );
        }
    }

    /// Goes on in a new file, if one can be made; otherwise in this one. `why` is empty if it is just full.
    fn next_file(&mut self, why: &'static str) {
        let number = self.number + 1;
        match self.directory.begin(&self.session, number) {
            Ok(file) => {
                self.file = file;
                self.number = number;
                self.bytes = 0;
                let error = (!why.is_empty()).then(|| why.into());
                let record = Record { format: Some(FORMAT), error, ..Record::of(Kind::Continued) };
                record.render(&mut self.beginning);
                self.begin(SystemTime::now());
                self.retire();
            }
            Err(error) if !self.is_failing => tracing::warn!(
                directory = %self.directory.path().display(), %error, "no new file can be made for the audit log"
            ),
            Err(_) => {}
        }
    }

    /// Says which files are the oldest while there are too many, and deletes them. What is gone without a record was
    /// deleted by somebody else: `verify` relies on it.
    fn retire(&mut self) {
        let own = |session: &str, number: u32| session == self.session && number == self.number;
        let oldest = before::oldest(&self.directory, self.retention, own);
        if oldest.is_empty() {
            return;
        }
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        for paths in oldest.chunks(50) {
            self.add_own(Record { files: paths.iter().filter_map(name).collect(), ..Record::of(Kind::Removed) });
        }
        // If it cannot be written it counts as lost, which `verify` knows of.
        self.flush();
        for path in oldest {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, file = %path.display(), "an older audit log cannot be deleted");
            }
        }
    }
}

impl Drop for Writer {
    /// However its thread ends, nobody is to believe that records are still written.
    fn drop(&mut self) {
        self.queue.is_failing.store(true, Ordering::Relaxed);
    }
}

/// Whether some records more could be written. What is reserved for them is not part of the file until they are.
#[cfg(target_os = "linux")]
fn has_room(file: &File) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    let Ok(end) = file.metadata().map(|metadata| metadata.len()) else { return false };
    match fallocate(file, FallocateFlags::KEEP_SIZE, end, ROOM) {
        // Not every file system can tell.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => true,
        Err(_) => false,
    }
}

/// Whether some records more could be written: here nobody can tell before.
#[cfg(not(target_os = "linux"))]
fn has_room(_: &File) -> bool {
    true
}

#[cfg(test)]
mod tests;
