//! What other sessions left in the directory: how their logs end, the end of those that have none, and deleting the
//! oldest files.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::audit::Retention;
use crate::audit::chain::{self, Hash, Head, seal};
use crate::audit::files::{Directory, LogFile};
use crate::audit::record::{Anchor, Kind, Record, time};

/// How many of the sessions that were written to last are looked at.
const LOOKED_AT: usize = 64;
/// How many ends are kept in a record.
const KEPT: usize = 16;
/// How much of the end of a file is read: more than the longest line.
const TAIL: u64 = 64 << 10;

/// How the latest other sessions end, newest first. The logs of those that died get their end here.
pub(super) fn ends(directory: &Directory, own: &str) -> Vec<Anchor> {
    let mut ends = Vec::new();
    for file in latest(directory, own) {
        match end(directory, &file, own) {
            Ok(end) => ends.extend(end),
            Err(error) => tracing::debug!(%error, file = %file.path.display(), "an older audit log cannot be read"),
        }
        if ends.len() == KEPT {
            break;
        }
    }
    ends
}

/// The last files of the sessions that were written to last, newest first.
fn latest(directory: &Directory, own: &str) -> Vec<LogFile> {
    let mut last: Vec<LogFile> = Vec::new();
    for file in directory.files().unwrap_or_default() {
        if file.session == own {
            continue;
        }
        // They are in the order of their sessions and numbers.
        if last.last().is_some_and(|before| before.session == file.session) {
            last.pop();
        }
        last.push(file);
    }
    last.sort_by_key(|file| std::cmp::Reverse(file.modified));
    last.truncate(LOOKED_AT);
    last
}

/// How a log ends. None if it is still written to, or does not end as a log does: `verify` says more about it.
fn end(directory: &Directory, file: &LogFile, by: &str) -> std::io::Result<Option<Anchor>> {
    let Some(last) = Last::of(file)? else { return Ok(None) };
    if last.is_end {
        return Ok(Some(last.anchor(file)));
    }
    let Some(locked) = file.lock()? else { return Ok(None) };
    // Between looking and locking, its gateway may have gone on, even in another file.
    let goes_on = |other: &LogFile| other.session == file.session && other.number > file.number;
    if directory.files()?.iter().any(goes_on) {
        return Ok(None);
    }
    let Some(last) = Last::of(file)? else { return Ok(None) };
    let last = if last.is_end { last } else { last.recover(locked, file, by)? };
    Ok(Some(last.anchor(file)))
}

/// The last line of a file.
struct Last {
    head: Head,
    time: String,
    is_end: bool,
    /// What follows it and is no whole line.
    torn: Vec<u8>,
}

impl Last {
    fn of(file: &LogFile) -> std::io::Result<Option<Self>> {
        let (tail, _) = file.tail(TAIL)?;
        let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
        let (whole, torn) = tail.split_at(end);
        let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let (Ok(seal), Ok(record)) = (chain::check(line), serde_json::from_slice::<Record<'static>>(line)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            head: Head { seq: record.seq, hash: seal.hash },
            time: record.time.into_owned(),
            is_end: matches!(record.event, Kind::Closed | Kind::Recovered) && torn.len() == 1,
            torn: torn.get(1..).unwrap_or_default().to_vec(),
        }))
    }

    /// Says in the log of a gateway that died that it did.
    fn recover(mut self, mut locked: File, file: &LogFile, by: &str) -> std::io::Result<Self> {
        let torn = !self.torn.is_empty();
        let record = Record {
            seq: self.head.seq + 1,
            time: time(SystemTime::now()).into(),
            session: file.session.as_str().into(),
            by: Some(by.into()),
            torn_bytes: torn.then_some(self.torn.len() as u64),
            torn_hash: torn.then(|| Hash::of(&self.torn).to_string().into()),
            ..Record::of(Kind::Recovered)
        };
        let mut text = if torn { vec![b'\n'] } else { Vec::new() };
        let from = text.len();
        serde_json::to_writer(&mut text, &record)?;
        text.pop();
        seal(&mut text, from, &mut self.head);
        let before = locked.metadata()?.len();
        if let Err(error) = locked.write_all(&text) {
            let _ = locked.set_len(before);
            return Err(error);
        }
        self.time = record.time.into_owned();
        Ok(self)
    }

    fn anchor(self, file: &LogFile) -> Anchor {
        Anchor { session: file.session.clone(), head: self.head.to_string(), time: self.time }
    }
}

/// The oldest files, as many as there are more than shall be kept. Files that a gateway writes to stay.
pub(super) fn oldest(directory: &Directory, keep: Retention, own: impl Fn(&str, u32) -> bool) -> Vec<PathBuf> {
    let mut files = directory.files().unwrap_or_default();
    files.sort_by_key(|file| file.modified);
    let (mut bytes, mut count) = (files.iter().map(|file| file.bytes).sum::<u64>(), files.len());
    let mut oldest = Vec::new();
    for file in files {
        if bytes <= keep.total_bytes && count <= keep.files {
            break;
        }
        if !own(&file.session, file.number) && matches!(file.lock(), Ok(Some(_))) {
            (bytes, count) = (bytes.saturating_sub(file.bytes), count - 1);
            oldest.push(file.path);
        }
    }
    oldest
}
