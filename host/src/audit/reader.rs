//! Reading logs: lines of files, and the records of several sessions in the order of their times.
//!
//! Reading believes what it reads and leaves out what is no record; whether it can be believed is for `verify`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::files::{Directory, LogFile};
use super::record::{Kind, Record, Verdict};

/// The longest line that is read. The longest that is written is far shorter.
const MAX_LINE: u64 = 1 << 20;

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// With its line feed, which is left out here.
    Whole(Vec<u8>),
    /// The last one, without a line feed.
    Torn(Vec<u8>),
    /// Longer than any that is written. What is read of it.
    TooLong(Vec<u8>),
}

/// Reads a file line by line.
pub struct Lines(BufReader<File>);

impl Lines {
    /// Opens it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::with_capacity(64 << 10, File::open(path)?)))
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.pop_if(|last| *last == b'\n').is_some() => Some(Ok(Line::Whole(line))),
            Ok(read) if (read as u64) < MAX_LINE => Some(Ok(Line::Torn(line))),
            Ok(_) => Some(skip_line(&mut self.0).map(|()| Line::TooLong(line))),
            Err(error) => Some(Err(error)),
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of sessions whose identifier begins so.
    pub session: Option<String>,
    /// Of this server.
    pub server: Option<String>,
    /// Of the component with this name, or whose digest begins so.
    pub component: Option<String>,
    /// Only what was denied.
    pub denied: bool,
    /// Not before this time, as it is written in records or the beginning of it.
    pub since: Option<String>,
}

impl Filter {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| match wanted {
            Some(wanted) => found == Some(wanted.as_str()),
            None => true,
        };
        let component = match &self.component {
            Some(wanted) => {
                let digest = wanted.strip_prefix("sha256:").unwrap_or(wanted);
                record.component.as_deref() == Some(wanted)
                    || (digest.len() >= 8 && record.digest.as_deref().is_some_and(|found| found.starts_with(digest)))
            }
            None => true,
        };
        component
            && is(&self.server, record.server.as_deref())
            && (!self.denied || is_denied(record))
            && self.since.as_deref().is_none_or(|since| *record.time >= *since)
    }

    fn wants_session(&self, session: &str) -> bool {
        self.session.as_deref().is_none_or(|wanted| session.starts_with(wanted))
    }
}

/// Whether a record tells of a refusal.
pub fn is_denied(record: &Record<'_>) -> bool {
    record.decision == Some(Verdict::Denied)
        || matches!(record.outcome.as_deref(), Some("access-denied" | "refused")) && record.event != Kind::Asked
}

/// A record and the line that it stands in.
pub struct Found {
    /// What it says.
    pub record: Record<'static>,
    /// The line, as it is in the file.
    pub line: String,
}

/// The records of a directory that are wanted, by time.
pub struct Records {
    filter: Filter,
    sessions: Vec<Session>,
    /// The next record of each session, by its time.
    next: BinaryHeap<Reverse<(String, usize)>>,
}

struct Session {
    files: std::vec::IntoIter<LogFile>,
    lines: Option<Lines>,
    next: Option<Found>,
}

impl Records {
    /// Begins to read.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn open(directory: &Directory, filter: Filter) -> io::Result<Self> {
        let files = directory.files()?.into_iter().filter(|file| filter.wants_session(&file.session));
        let mut by_session: Vec<Vec<LogFile>> = Vec::new();
        for file in files {
            match by_session.last_mut() {
                Some(session) if session.first().is_some_and(|first| first.session == file.session) => {
                    session.push(file)
                }
                _ => by_session.push(vec![file]),
            }
        }
        let sessions =
            by_session.into_iter().map(|files| Session { files: files.into_iter(), lines: None, next: None });
        let mut records = Self { filter, sessions: sessions.collect(), next: BinaryHeap::new() };
        for index in 0..records.sessions.len() {
            records.advance(index);
        }
        Ok(records)
    }

    fn advance(&mut self, index: usize) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.next = session.read(&self.filter);
        if let Some(found) = &session.next {
            self.next.push(Reverse((found.record.time.clone().into_owned(), index)));
        }
    }
}

impl Session {
    fn read(&mut self, filter: &Filter) -> Option<Found> {
        loop {
            if self.lines.is_none() {
                // A file that is gone by now, or that cannot be read, is for `verify` to report.
                self.lines = Lines::open(&self.files.next()?.path).ok();
            }
            match self.lines.as_mut().and_then(Iterator::next) {
                None | Some(Err(_)) => self.lines = None,
                Some(Ok(Line::Whole(line))) => {
                    let found = String::from_utf8(line).ok().and_then(|line| {
                        let record = serde_json::from_str(&line).ok()?;
                        Some(Found { record, line })
                    });
                    if let Some(found) = found.filter(|found| filter.wants(&found.record)) {
                        return Some(found);
                    }
                }
                Some(Ok(Line::Torn(_) | Line::TooLong(_))) => {}
            }
        }
    }
}

impl Iterator for Records {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let Reverse((_, index)) = self.next.pop()?;
        let found = self.sessions.get_mut(index)?.next.take();
        self.advance(index);
        found
    }
}
