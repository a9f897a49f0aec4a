//! The log on standard error. Writing it never waits for whoever reads it: a client that starts the gateway with a pipe
//! and reads only standard output must not be able to stop it.
//!
//! As long as there is room where it goes, a line is written at once, by whoever has it. When there is none, a thread
//! takes over that may wait, and a bounded number of bytes waits with it; lines beyond are dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How many bytes of lines may wait for the reader.
const WAITING: usize = 1 << 20;
/// How long the end of the process waits for the reader.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How soon it is tried again where writing does not wait.
const PAUSE: Duration = Duration::from_millis(20);

/// Standard error, for lines of the log.
static STANDARD_ERROR: OnceLock<Option<Lines>> = OnceLock::new();

/// What the log of a process that serves is written with. `None` where standard error cannot be used so, and is better
/// written as always.
pub(super) fn standard_error() -> Option<&'static Lines> {
    STANDARD_ERROR.get_or_init(of_standard_error).as_ref()
}

/// Writes the last line of the process, after what waits, and gives the reader a moment for it.
pub(super) fn last_line(line: &str) {
    match STANDARD_ERROR.get().and_then(Option::as_ref) {
        None => eprintln!("{line}"),
        Some(mut lines) => {
            // Dropped if there is no room.
            let _ = lines.write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// Gives the reader a moment for what waits. The end of the process does not wait for longer.
pub(super) fn finish() {
    if let Some(lines) = STANDARD_ERROR.get().and_then(Option::as_ref) {
        lines.wait(LAST_WORDS);
    }
}

#[cfg(unix)]
fn of_standard_error() -> Option<Lines> {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileTypeExt as _;
    let file = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
    let kind = file.metadata().ok()?.file_type();
    // A file always has room, and does not like to be opened twice.
    if kind.is_file() {
        return None;
    }
    let quick = if kind.is_fifo() || kind.is_char_device() { anew("/proc/self/fd/2") } else { None };
    Some(Lines::new(quick, file))
}

#[cfg(not(unix))]
fn of_standard_error() -> Option<Lines> {
    None
}

/// Opened anew, it has flags of its own, so that whoever shares it with this process sees no change.
#[cfg(target_os = "linux")]
fn anew(path: &str) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).ok()?;
    File::options().write(true).custom_flags(flags).open(path).ok()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn anew(_path: &str) -> Option<File> {
    None
}

/// Writes lines without waiting.
pub(super) struct Lines {
    /// Says so when there is no room. `None` where there is no such way.
    quick: Option<File>,
    /// Waits when there is no room.
    patient: File,
    state: Mutex<State>,
    /// Something came to wait, or nothing does any more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the thread has not taken yet.
    waiting: Vec<u8>,
    /// Lines that found no room.
    dropped: u64,
    /// The thread is writing, or is about to: whoever comes has to wait behind it.
    is_behind: bool,
    has_thread: bool,
}

impl Lines {
    fn new(quick: Option<File>, patient: File) -> Self {
        Self { quick, patient, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as much as there is room for.
    fn write_at_once(&self, line: &[u8]) -> usize {
        let Some(mut quick) = self.quick.as_ref() else { return 0 };
        let mut written = 0;
        while let Some(rest @ [_, ..]) = line.get(written..) {
            match quick.write(rest) {
                Ok(count @ 1..) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // There is no reader any more.
                Ok(_) | Err(_) => return line.len(),
            }
        }
        written
    }

    fn put(&'static self, line: &[u8]) {
        let mut state = self.state();
        let written = if state.is_behind { 0 } else { self.write_at_once(line) };
        let Some(rest @ [_, ..]) = line.get(written..) else { return };
        // What has begun is also finished.
        if written == 0 && state.waiting.len() + rest.len() > WAITING {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(rest);
        state.is_behind = true;
        if !state.has_thread {
            let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(|| self.drain());
            state.has_thread = spawned.is_ok();
        }
        self.changed.notify_all();
    }

    /// Writes what waits, for as long as the process lives.
    fn drain(&self) {
        let mut state = self.state();
        loop {
            while state.waiting.is_empty() && state.dropped == 0 {
                state.is_behind = false;
                self.changed.notify_all();
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let (mut batch, dropped) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped));
            drop(state);
            if dropped > 0 {
                batch.extend(
                    format!("{dropped} lines of the log were dropped, because nobody read them in time\n").into_bytes(),
                );
            }
            self.write_in_time(&batch);
            state = self.state();
        }
    }

    /// Writes all of it, however long that takes.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, and no event that every system has")]
    fn write_in_time(&self, batch: &[u8]) {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = batch.get(written..) {
            match (&self.patient).write(rest) {
                Ok(count @ 1..) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares it has made it so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                // There is no reader any more.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits until nothing waits, for so long at most.
    fn wait(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        while state.is_behind && state.has_thread {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for &'static Lines {
    /// Takes a line whole, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use super::*;

    fn lines(is_quick: bool) -> (&'static Lines, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let quick = is_quick.then(|| anew(&format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap());
        (Box::leak(Box::new(Lines::new(quick, File::from(OwnedFd::from(writer))))), reader)
    }

    #[test]
    fn a_reader_who_reads_gets_every_line_and_no_thread_is_needed() {
        let (mut lines, reader) = lines(true);
        let mut reader = BufReader::new(reader);
        for number in 0..5_000 {
            writeln!(lines, "line {number}").unwrap();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, format!("line {number}\n"));
        }
        assert!(!lines.state().has_thread);
    }

    #[test]
    fn without_a_reader_nothing_waits_and_what_was_dropped_is_counted() {
        for is_quick in [true, false] {
            let (mut lines, reader) = lines(is_quick);
            let began = Instant::now();
            const ALL: u64 = 100_000;
            for number in 0..ALL {
                lines.write_all(format!("{number:99}\n").as_bytes()).unwrap();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            let waiting = lines.state().waiting.len();
            assert!(waiting <= WAITING, "{waiting}");
            // From now on somebody reads.
            let (mut next, mut dropped) = (0, 0);
            for line in BufReader::new(reader).lines() {
                let line = line.unwrap();
                match line.trim().parse::<u64>() {
                    Ok(number) => {
                        assert_eq!(number, next, "in order and without a gap up to the last that had room");
                        next += 1;
                    }
                    Err(_) => {
                        let (count, rest) = line.split_once(' ').unwrap();
                        assert!(rest.starts_with("lines of the log were dropped"), "{line}");
                        dropped += count.parse::<u64>().unwrap();
                        break;
                    }
                }
            }
            assert_eq!(next + dropped, ALL);
            lines.wait(Duration::from_secs(10));
            assert!(!lines.state().is_behind);
        }
    }

    #[test]
    fn a_reader_who_leaves_is_no_trouble() {
        let (mut lines, reader) = lines(true);
        drop(reader);
        for _ in 0..100 {
            lines.write_all(b"x\n").unwrap();
        }
    }
}
