//! Checking logs: is each line as it was written, in its place, and is anything missing that should be there?
//!
//! What is found is evidence against carelessness and against those who cannot write to the directory. Whoever can
//! write to it can make a new chain from end to end: only a head that was kept elsewhere shows that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{self, Broken, Hash, Head};
use super::files::{Directory, LogFile};
use super::reader::{Line, Lines};
use super::record::{Kind, Record};

/// How many problems are described.
const DESCRIBED: usize = 100;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; none if it is about the file as such.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// How the log of a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its gateway closed it.
    Closed,
    /// Its gateway died, and a later one said so.
    Recovered,
    /// Its gateway runs.
    Running,
    /// Neither: its gateway died and none has started since, or the end was removed.
    Unfinished,
}

/// What is known of the log of one session.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// The session.
    pub session: String,
    /// How many files of it are there.
    pub files: usize,
    /// How many records.
    pub records: u64,
    /// The number of the first.
    pub first: u64,
    /// When that was written.
    pub from: String,
    /// When the last was written.
    pub to: String,
    /// The last.
    pub head: Head,
    /// How it ends.
    pub state: State,
    /// How many records could not be written, as it says itself.
    pub lost: u64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The sessions, in the order of their names.
    pub sessions: Vec<SessionReport>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// How many problems more there are.
    pub more_problems: u64,
    /// What is not wrong, but worth knowing.
    pub notes: Vec<String>,
}

/// Checks all logs of a directory.
///
/// # Errors
/// If the directory or a file cannot be read.
pub fn directory(directory: &Directory) -> io::Result<Report> {
    files(directory.files()?, true)
}

/// Checks one file.
///
/// # Errors
/// If it cannot be read.
pub fn file(path: &Path) -> io::Result<Report> {
    let metadata = std::fs::metadata(path)?;
    let (session, number) = LogFile::parse(path).unwrap_or_default();
    let modified = metadata.modified()?;
    files(vec![LogFile { session, number, path: path.to_owned(), bytes: metadata.len(), modified }], false)
}

/// Whether the record that a head names is in the logs.
///
/// # Errors
/// If a file cannot be read.
pub fn holds(paths: &[PathBuf], wanted: Hash) -> io::Result<Option<(PathBuf, u64)>> {
    for path in paths {
        for (number, line) in (1..).zip(Lines::open(path)?) {
            if let Line::Whole(line) = line?
                && chain::check(&line).is_ok_and(|seal| seal.hash == wanted)
            {
                return Ok(Some((path.clone(), number)));
            }
        }
    }
    Ok(None)
}

fn files(files: Vec<LogFile>, whole: bool) -> io::Result<Report> {
    let mut seen = Seen::default();
    let mut by_session: BTreeMap<String, Vec<LogFile>> = BTreeMap::new();
    for file in files {
        if whole {
            seen.ends_in(&file);
        }
        by_session.entry(file.session.clone()).or_default().push(file);
    }
    let mut report = Report::default();
    // When the oldest file of each session was last written to: what is younger should be there too.
    let mut oldest: BTreeMap<String, String> = BTreeMap::new();
    let mut cut = Vec::new();
    let mut deleted = Deleted::default();
    for (session, files) in by_session {
        let mut check = Check {
            report: &mut report,
            seen: &seen,
            deleted: &mut deleted,
            last: None,
            broken: None,
            lost: 0,
            first: None,
        };
        for (index, file) in files.iter().enumerate() {
            let time = check.file(file, index + 1 == files.len())?;
            let is_written_to = index + 1 == files.len() && matches!(file.lock(), Ok(None));
            if let Some(time) = time.filter(|_| !is_written_to) {
                let known = oldest.entry(session.clone()).or_insert_with(|| time.clone());
                if time < *known {
                    *known = time;
                }
            }
        }
        // A file that begins with the first record, or that was cut itself, is missed by nobody here.
        let begins = check.first.as_ref().filter(|first| first.seq > 1 && !first.is_cut).map(|first| first.number);
        if let Some(summary) = check.summary(&session, &files) {
            if let Some(number) = begins {
                let before = number.checked_sub(1);
                // One that is there without its records was not deleted by anybody's gateway.
                let is_emptied = files.iter().any(|file| Some(file.number) == before);
                let before = before.filter(|_| !is_emptied).map(|number| LogFile::name(&session, number));
                let file = files.first().map(|file| file.path.clone()).unwrap_or_default();
                cut.push((file, is_emptied, before, summary.clone()));
            }
            report.sessions.push(summary);
        }
    }
    for (file, is_emptied, before, summary) in cut {
        let what = format!("session {}: records 1 to {} are not here", summary.session, summary.first - 1);
        // Within a session the numbers tell what is older; its times need not be in order.
        let others = oldest.iter().filter(|(session, _)| **session != summary.session);
        let oldest = others.map(|(_, time)| time.as_str()).min();
        let is_told = before.is_some_and(|before| deleted.names.contains(&before));
        let ruling = if is_emptied { Ruling::Untold } else { deleted.ruling(whole, is_told, oldest) };
        report.missing(file, &summary.from, ruling, what);
    }
    let oldest = oldest.values().map(String::as_str).min();
    for (session, ends) in &seen.ends {
        if report.sessions.iter().any(|known| known.session == *session) {
            continue;
        }
        let is_told = deleted.any_of(session);
        for end in ends {
            let what =
                format!("session {session} is not here; session {} saw it end with record {}", end.by, end.head.seq);
            report.missing(end.file.clone(), &end.time, deleted.ruling(whole, is_told, oldest), what);
        }
    }
    Ok(report)
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, file: &Path, line: Option<u64>, what: impl Into<String>) {
        if self.problems.len() < DESCRIBED {
            self.problems.push(Problem { file: file.to_owned(), line, what: what.into() });
        } else {
            self.more_problems += 1;
        }
    }

    /// Something that was written last at a time is not there.
    fn missing(&mut self, file: PathBuf, time: &str, ruling: Ruling<'_>, what: String) {
        let not_the_gateway = match ruling {
            Ruling::Unjudged => return self.notes.push(format!("{what}: they may be in other files")),
            Ruling::Told => return self.notes.push(format!("{what}: a gateway deleted them, as its record says")),
            Ruling::Untold => "no record says that a gateway deleted them",
            Ruling::ByAge(Some(oldest)) if time > oldest => {
                "older records are: it was not the gateway that deleted them"
            }
            Ruling::ByAge(_) => return self.notes.push(format!("{what}: older than what is kept")),
        };
        self.problem(&file, None, format!("{what}, and {not_the_gateway}"));
    }
}

/// Which files the logs say that gateways deleted.
#[derive(Default)]
struct Deleted {
    names: BTreeSet<String>,
    /// Records were lost, and one of them may have said more.
    is_incomplete: bool,
}

/// How to tell whether it was a gateway that deleted something.
#[derive(Clone, Copy)]
enum Ruling<'a> {
    /// Not at all: not everything is looked at.
    Unjudged,
    /// A record says so.
    Told,
    /// It was not: whenever a gateway deletes a file it first says so in its own, which is newer, so that of the
    /// last such record at least one is left.
    Untold,
    /// The record that would say so may itself be in a file that was deleted. Gateways delete only what is older than
    /// all that is kept, which begins at this time.
    ByAge(Option<&'a str>),
}

impl Deleted {
    fn any_of(&self, session: &str) -> bool {
        let is_of = |name: &String| LogFile::parse(Path::new(name)).is_some_and(|(of, _)| of == session);
        self.names.iter().any(is_of)
    }

    fn ruling<'a>(&self, whole: bool, is_told: bool, oldest: Option<&'a str>) -> Ruling<'a> {
        match whole {
            false => Ruling::Unjudged,
            true if is_told => Ruling::Told,
            true if self.names.is_empty() && !self.is_incomplete => Ruling::Untold,
            true => Ruling::ByAge(oldest),
        }
    }
}

/// The ends of logs as the beginnings of others saw them.
#[derive(Default)]
struct Seen {
    ends: BTreeMap<String, Vec<SeenEnd>>,
}

struct SeenEnd {
    head: Head,
    time: String,
    by: String,
    file: PathBuf,
}

impl Seen {
    /// Takes what the first line of a session says.
    fn ends_in(&mut self, file: &LogFile) {
        let first = Lines::open(&file.path).ok().and_then(|mut lines| lines.next());
        let Some(Ok(Line::Whole(line))) = first else { return };
        let Ok(record) = serde_json::from_slice::<Record<'static>>(&line) else { return };
        if record.event != Kind::Opened || chain::check(&line).is_err() {
            return;
        }
        for anchor in record.after {
            let head = anchor
                .head
                .split_once(':')
                .and_then(|(seq, hash)| Some(Head { seq: seq.parse().ok()?, hash: hash.parse().ok()? }));
            if let Some(head) = head {
                let end = SeenEnd { head, time: anchor.time, by: file.session.clone(), file: file.path.clone() };
                self.ends.entry(anchor.session).or_default().push(end);
            }
        }
    }
}

/// Goes through the files of one session.
struct Check<'a> {
    report: &'a mut Report,
    seen: &'a Seen,
    deleted: &'a mut Deleted,
    /// The last good record.
    last: Option<Last>,
    /// Lines since then that are none.
    broken: Option<Damage>,
    lost: u64,
    first: Option<First>,
}

/// The first record of a session that is there.
struct First {
    seq: u64,
    time: String,
    /// The number of the file that it is in.
    number: u32,
    /// It cannot have been the first of its file, which is told.
    is_cut: bool,
}

struct Last {
    head: Head,
    time: String,
    event: Kind,
}

struct Damage {
    line: Vec<u8>,
    number: u64,
    why: Broken,
    /// How many lines in a row.
    count: u64,
}

impl Check<'_> {
    /// Returns when the last record of the file was written.
    fn file(&mut self, file: &LogFile, is_last: bool) -> io::Result<Option<String>> {
        let mut time = None;
        for (number, line) in (1..).zip(Lines::open(&file.path)?) {
            match line? {
                Line::Whole(line) => match chain::check(&line) {
                    Ok(seal) => match serde_json::from_slice::<Record<'static>>(&line) {
                        Ok(record) => {
                            time = Some(record.time.clone().into_owned());
                            self.record(file, number, seal, &record);
                        }
                        Err(_) => self.report.problem(&file.path, Some(number), "it is no record of an audit log"),
                    },
                    Err(why) => self.broken(&file.path, number, line, why),
                },
                Line::TooLong(line) => self.broken(&file.path, number, line, Broken::Unsealed),
                Line::Torn(line) if is_last => {
                    let (path, bytes) = (file.path.display(), line.len());
                    self.report.notes.push(format!("{path}:{number}: the last line is torn after {bytes} bytes"));
                }
                Line::Torn(line) => self.broken(&file.path, number, line, Broken::Unsealed),
            }
        }
        self.settle(&file.path, None);
        Ok(time)
    }

    fn broken(&mut self, path: &Path, number: u64, line: Vec<u8>, why: Broken) {
        let count = self.broken.as_ref().map_or(0, |damage| damage.count);
        if count > 0 {
            self.settle(path, None);
        }
        self.broken = Some(Damage { line, number, why, count: count + 1 });
    }

    /// What a broken line means is known from the record after it. Returns how many lines in a row were broken.
    fn settle(&mut self, path: &Path, after: Option<&Record<'_>>) -> u64 {
        let Some(damage) = self.broken.take() else { return 0 };
        let bytes = damage.line.len() as u64;
        let is_told = after.is_some_and(|record| {
            record.event == Kind::Recovered
                && record.torn_bytes == Some(bytes)
                && record.torn_hash.as_deref() == Some(&*Hash::of(&damage.line).to_string())
        });
        if is_told {
            let (path, number) = (path.display(), damage.number);
            self.report.notes.push(format!("{path}:{number}: the gateway was killed while it wrote this line"));
            return 0;
        }
        self.report.problem(path, Some(damage.number), damage.why.to_string());
        damage.count
    }

    fn record(&mut self, file: &LogFile, number: u64, seal: chain::Seal, record: &Record<'_>) {
        let broken = self.settle(&file.path, Some(record));
        if !file.session.is_empty() && *record.session != *file.session {
            self.report.problem(&file.path, Some(number), "it belongs to another session");
        }
        let head = Head { seq: record.seq, hash: seal.hash };
        let complaint = match &self.last {
            None if self.first.is_some() || broken > 0 => None,
            None if record.seq == 1 && seal.prev != Hash::default() => {
                Some("it is the first record, and follows another".to_owned())
            }
            None => None,
            Some(last) => misplaced(last.head, broken, record.seq, seal.prev),
        };
        if let Some(complaint) = complaint {
            self.report.problem(&file.path, Some(number), complaint);
        }
        if self.first.is_none() {
            let cut = if broken > 0 { None } else { cut_before(file, record) };
            let is_cut = cut.is_some() || broken > 0;
            if let Some(complaint) = cut {
                self.report.problem(&file.path, Some(number), complaint);
            }
            let time = record.time.clone().into_owned();
            self.first = Some(First { seq: record.seq, time, number: file.number, is_cut });
        }
        if record.event == Kind::Removed {
            self.deleted.names.extend(record.files.iter().cloned());
        }
        self.deleted.is_incomplete |= record.lost.is_some();
        let ended = self.last.as_ref().is_some_and(|last| matches!(last.event, Kind::Closed | Kind::Recovered));
        if ended && record.event != Kind::Recovered {
            self.report.problem(&file.path, Some(number), "it follows the end of the log");
        }
        for end in self.seen.ends.get(&file.session).into_iter().flatten() {
            if end.head.seq == record.seq && end.head.hash != seal.hash {
                let what = format!("session {} saw another record {} in its place", end.by, record.seq);
                self.report.problem(&file.path, Some(number), what);
            }
        }
        self.lost += record.lost.unwrap_or(0);
        let time = record.time.clone().into_owned();
        self.last = Some(Last { head, time, event: record.event });
    }

    fn summary(self, session: &str, files: &[LogFile]) -> Option<SessionReport> {
        let file = files.last()?;
        let (Some(First { seq: first, time: from, .. }), Some(last)) = (self.first, self.last) else {
            self.report.notes.push(format!("{}: it holds no record", file.path.display()));
            return None;
        };
        let state = match last.event {
            Kind::Closed => State::Closed,
            Kind::Recovered => State::Recovered,
            _ if matches!(file.lock(), Ok(None)) => State::Running,
            _ => State::Unfinished,
        };
        for end in self.seen.ends.get(session).into_iter().flatten() {
            if end.head.seq > last.head.seq {
                let what = format!(
                    "records {} to {} are missing at its end; session {} saw them",
                    last.head.seq + 1,
                    end.head.seq,
                    end.by
                );
                self.report.problem(&file.path, None, what);
            }
        }
        Some(SessionReport {
            session: session.to_owned(),
            files: files.len(),
            records: last.head.seq.saturating_sub(first) + 1,
            first,
            from,
            to: last.time,
            head: last.head,
            state,
            lost: self.lost,
        })
    }
}

/// Why a record cannot be the first of its file: the first file of a session begins with its first record, and every
/// other one by saying that it goes on. Files without a number are anybody's.
fn cut_before(file: &LogFile, record: &Record<'_>) -> Option<String> {
    let before = || match record.seq {
        2 => "record 1 is missing before it".to_owned(),
        seq => format!("records 1 to {} are missing before it", seq.saturating_sub(1)),
    };
    match file.number {
        1 if record.seq > 1 => Some(format!("{}: the file was cut at its beginning", before())),
        2.. if record.event != Kind::Continued => {
            Some("the file does not begin with it: lines before it were removed".to_owned())
        }
        _ => None,
    }
}

/// What is wrong with the place of a record after the last good one and some broken lines.
fn misplaced(last: Head, broken: u64, seq: u64, prev: Hash) -> Option<String> {
    let next = last.seq.saturating_add(1);
    if seq == next && prev == last.hash {
        return None;
    }
    // The broken lines may be the records in between, changed.
    if broken > 0 && seq == next.saturating_add(broken) {
        return None;
    }
    Some(match seq {
        _ if seq < next => format!("record {seq} stands after record {}: it was moved, or added", last.seq),
        _ if seq > next => match seq - next {
            1 => format!("record {next} is missing before it"),
            _ => format!("records {next} to {} are missing before it", seq - 1),
        },
        _ => "the record before it is not the one that it followed".to_owned(),
    })
}

#[cfg(test)]
mod tests;
