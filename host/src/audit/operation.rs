//! Recording one operation and the calls in it.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value as Json};

use super::Audit;
use super::record::{Decision, Kind, Record, Used, Verdict};
use super::text::Room;

/// How many calls of an operation are listed one by one. Beyond that only those that act outside of the gateway are,
/// which the sandbox limits by itself; the others are counted. A component cannot fill the log.
const LISTED: u32 = 256;

/// What an operation is.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the component is asked for, such as `provision`.
    pub task: &'static str,
    /// The server, if it is in the scope of one.
    pub server: Option<String>,
    /// The tool, if one is run.
    pub tool: Option<String>,
    /// Where the component came from.
    pub component: String,
    /// The SHA-256 of its bytes.
    pub digest: String,
}

/// What all records of an operation say.
#[derive(Debug)]
struct Facts {
    number: u64,
    /// None for what the gateway does by itself.
    subject: Option<Subject>,
}

impl Facts {
    /// The record with what all of them say.
    fn added_to<'a>(&'a self, record: Record<'a>) -> Record<'a> {
        let record = Record { operation: Some(self.number), ..record };
        let Some(subject) = &self.subject else { return record };
        Record {
            task: Some(subject.task.into()),
            server: subject.server.as_deref().map(Cow::Borrowed),
            tool: subject.tool.as_deref().map(Cow::Borrowed),
            component: Some(subject.component.as_str().into()),
            digest: Some(subject.digest.as_str().into()),
            ..record
        }
    }
}

/// A call that is under way. Calls of one operation never overlap: a guest waits for each.
#[derive(Debug)]
pub struct Call {
    /// The interface in WIT.
    pub interface: &'static str,
    /// The function in it.
    pub function: &'static str,
    /// Its arguments, as they are recorded.
    pub arguments: Map<String, Json>,
    /// Whether it acts outside of the gateway: it is recorded before it is made as well, and always.
    pub acts: bool,
}

/// How something ended.
#[derive(Debug)]
pub struct Ending {
    /// `ok`, the case of an error, or what ended it.
    pub outcome: &'static str,
    /// The text of the error.
    pub error: Option<String>,
    /// What the caller was given, with values by their names.
    pub gave: Vec<String>,
}

impl Ending {
    /// Success.
    pub fn ok() -> Self {
        Self { outcome: "ok", error: None, gave: Vec::new() }
    }

    /// Failure. The text is bounded when it is recorded.
    pub fn failed(outcome: &'static str, error: impl Into<String>) -> Self {
        Self { outcome, error: Some(error.into()), gave: Vec::new() }
    }
}

/// Records an operation, up to its end or until it is dropped. One that is not recorded costs nothing.
pub struct Operation(Option<Box<Recording>>);

struct Recording {
    audit: Audit,
    facts: Facts,
    /// Where records are rendered.
    line: Vec<u8>,
    started: Instant,
    under_way: Option<(Call, SystemTime, Instant)>,
    /// How often each function was called, in the order of their first calls.
    counts: Vec<(&'static str, &'static str, u64)>,
    listed: u32,
    unlisted: u64,
    calls: u32,
    largest_copy: u64,
}

impl Operation {
    /// One that is not recorded.
    pub fn unrecorded() -> Self {
        Self(None)
    }

    pub(super) fn begin(audit: Audit, number: u64, subject: Subject) -> Self {
        let mut room = Room::default();
        let subject = Subject {
            task: subject.task,
            server: subject.server.map(|server| room.line(&server)),
            tool: subject.tool.map(|tool| room.line(&tool)),
            component: room.line(&subject.component),
            digest: subject.digest,
        };
        let mut recording = Recording::new(audit, number, Some(subject));
        recording.push(SystemTime::now(), Record::of(Kind::Begun));
        Self(Some(Box::new(recording)))
    }

    /// One that no component is in: of its calls there are records, of its beginning and end there are none.
    pub(super) fn own(audit: Audit, number: u64) -> Self {
        Self(Some(Box::new(Recording::new(audit, number, None))))
    }

    /// Counts a call that is too cheap and harmless for a record of its own, and how much text it handed over.
    pub fn count(&mut self, interface: &'static str, function: &'static str, copied_bytes: usize) {
        if let Some(recording) = &mut self.0 {
            recording.count(interface, function);
            recording.copied(copied_bytes);
        }
    }

    /// A call begins. What it is, is only asked for if it is recorded.
    pub fn enter(&mut self, copied_bytes: usize, call: impl FnOnce() -> Call) {
        let Some(recording) = &mut self.0 else { return };
        recording.copied(copied_bytes);
        let mut call = call();
        recording.count(call.interface, call.function);
        recording.calls += 1;
        let now = SystemTime::now();
        if call.acts {
            let arguments = std::mem::take(&mut call.arguments);
            let record = Record { arguments, ..recording.about(&call, Kind::Asked) };
            call.arguments = recording.push(now, record);
        }
        recording.under_way = Some((call, now, Instant::now()));
    }

    /// The call ended. Without a decision, it was allowed by the grant of its interface unless access was denied.
    pub fn leave(&mut self, decision: Option<Decision>, ending: impl FnOnce() -> Ending) {
        if let Some(recording) = &mut self.0 {
            recording.leave(decision, ending);
        }
    }

    /// The operation ended.
    pub fn end(&mut self, ending: impl FnOnce() -> Ending, used: impl FnOnce() -> Used) {
        if let Some(recording) = self.0.take() {
            recording.end(ending(), Some(used()));
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(recording) = self.0.take() {
            recording.end(Ending::failed("abandoned", "the gateway gave it up"), None);
        }
    }
}

impl Recording {
    fn new(audit: Audit, number: u64, subject: Option<Subject>) -> Self {
        Self {
            audit,
            facts: Facts { number, subject },
            line: Vec::with_capacity(1024),
            started: Instant::now(),
            under_way: None,
            counts: Vec::with_capacity(12),
            listed: 0,
            unlisted: 0,
            calls: 0,
            largest_copy: 0,
        }
    }

    /// Records something. Gives the arguments back.
    fn push(&mut self, at: SystemTime, record: Record<'_>) -> Map<String, Json> {
        let record = self.facts.added_to(record);
        record.render(&mut self.line);
        self.audit.push(at, &self.line);
        record.arguments
    }

    fn about(&self, call: &Call, kind: Kind) -> Record<'static> {
        Record {
            call: Some(self.calls),
            interface: Some(call.interface.into()),
            function: Some(call.function.into()),
            ..Record::of(kind)
        }
    }

    fn count(&mut self, interface: &'static str, function: &'static str) {
        match self.counts.iter_mut().find(|(known, of, _)| *known == interface && *of == function) {
            Some((.., count)) => *count += 1,
            None => self.counts.push((interface, function, 1)),
        }
    }

    fn copied(&mut self, bytes: usize) {
        self.largest_copy = self.largest_copy.max(bytes as u64);
    }

    fn leave(&mut self, decision: Option<Decision>, ending: impl FnOnce() -> Ending) {
        let Some((call, at, started)) = self.under_way.take() else { return };
        if !call.acts && self.listed >= LISTED {
            self.unlisted += 1;
            return;
        }
        self.listed += 1;
        let ending = ending();
        let decision = decision.unwrap_or_else(|| match ending.outcome {
            "access-denied" => Decision::new(Verdict::Denied, "host"),
            // Nobody grants anything to the gateway.
            _ if self.facts.subject.is_none() => Decision::new(Verdict::Allowed, "host"),
            _ => Decision::new(Verdict::Allowed, format!("grant `{}`", call.interface)),
        });
        let mut room = Room::default();
        let mut rule = decision.rule;
        rule.text = room.line(&rule.text);
        rule.file = rule.file.map(|file| room.line(&file));
        let record = Record {
            decision: Some(decision.verdict),
            rule: Some(rule),
            outcome: Some(ending.outcome.into()),
            error: ending.error.map(|error| room.line(&error).into()),
            gave: ending.gave,
            duration_us: Some(microseconds(started.elapsed())),
            ..self.about(&call, Kind::Call)
        };
        self.push(at, Record { arguments: call.arguments, ..record });
    }

    fn end(mut self: Box<Self>, ending: Ending, used: Option<Used>) {
        if self.under_way.is_some() {
            self.leave(None, || Ending::failed("abandoned", "it was under way when the operation ended"));
        }
        if self.facts.subject.is_none() {
            return;
        }
        let mut calls = Map::new();
        for (interface, function, count) in &self.counts {
            calls.insert(format!("{interface}.{function}"), (*count).into());
        }
        let record = Record {
            outcome: Some(ending.outcome.into()),
            error: ending.error.map(|error| Room::default().line(&error).into()),
            duration_us: Some(microseconds(self.started.elapsed())),
            calls,
            unlisted: Some(self.unlisted).filter(|unlisted| *unlisted > 0),
            used: used.map(|used| Used { copied_bytes: self.largest_copy, ..used }),
            ..Record::of(Kind::Ended)
        };
        self.push(SystemTime::now(), record);
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
