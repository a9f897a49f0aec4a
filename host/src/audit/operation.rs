//! Recording one operation and the calls in it.

use std::time::{Duration, Instant, SystemTime};

use super::Audit;
use super::frame::{Asked, Called, Count, Ended, Frame, Parts};
use super::line::{Members, Texts, name};
use super::queue::Origin;
use super::record::{Decision, Used};
use super::text::Room;

/// How many calls of an operation are listed one by one. Beyond that only those that act outside of the gateway are,
/// which the sandbox limits by itself; the others are counted. A component cannot fill the log.
const LISTED: u32 = 256;
/// How many bytes the records of an operation have together, after which calls are counted likewise, and what those that
/// act are asked for is shown with little text.
const BYTES: usize = 128 << 10;
/// How many bytes of text a record has then.
const LITTLE: usize = 500;
/// How long a record is beside what is rendered here, about.
const FRAME: usize = 200;

/// What an operation is.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What the component is asked for, such as `provision`.
    pub task: &'static str,
    /// The server, if it is in the scope of one.
    pub server: Option<&'a str>,
    /// The tool, if one is run.
    pub tool: Option<&'a str>,
    /// Where the component came from.
    pub component: &'a str,
    /// The SHA-256 of its bytes.
    pub digest: &'a str,
}

/// A call. Calls of one operation never overlap: a guest waits for each.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The interface in WIT.
    pub interface: &'static str,
    /// The function in it.
    pub function: &'static str,
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
}

impl Ending {
    /// Success.
    pub fn ok() -> Self {
        Self { outcome: "ok", error: None }
    }

    /// Failure. The text is bounded when it is recorded.
    pub fn failed(outcome: &'static str, error: impl Into<String>) -> Self {
        Self { outcome, error: Some(error.into()) }
    }
}

/// Records an operation, up to its end or until it is dropped. One that is not recorded costs nothing.
///
/// What is generic in here only hands over to what is not: whatever the calls of an operation share is in the caches of the
/// processor after the first of them, and a copy for each would never be.
pub struct Operation(Option<Box<Recording>>);

struct Recording {
    audit: Audit,
    /// Whether a component asks; otherwise it is the gateway itself.
    is_guests: bool,
    buffers: Box<Buffers>,
    /// How many bytes they have so far.
    bytes: usize,
    began: (SystemTime, Instant),
    under_way: Option<(Call, Instant)>,
    listed: u32,
    unlisted: u64,
    calls: u32,
    largest_copy: u64,
}

/// Where texts are rendered by the thread that says them. Operations hand it on to later ones, so that they need not ask
/// for memory.
#[derive(Default)]
pub(super) struct Buffers {
    /// Whose records they are.
    origin: Origin,
    /// The members that all records of the operation have, as JSON.
    facts: Vec<u8>,
    /// The arguments of the call that is under way, as JSON.
    arguments: Vec<u8>,
    /// What the call gave, likewise.
    gave: Vec<u8>,
    /// The text of an error, likewise.
    error: Vec<u8>,
    room: Room,
    /// How often each function was called, in the order of their first calls.
    counts: Vec<Count>,
}

impl Buffers {
    fn begin(&mut self, number: u64, subject: Option<Subject<'_>>) {
        self.facts.clear();
        self.counts.clear();
        self.room.clear();
        self.origin.set(subject.and_then(|subject| subject.server));
        let mut members = Members::of(&mut self.facts, &mut self.room);
        members.number(name::OPERATION, number);
        let Some(subject) = subject else { return };
        members.word(name::TASK, subject.task);
        if let Some(server) = subject.server {
            members.text(name::SERVER, server);
        }
        if let Some(tool) = subject.tool {
            members.text(name::TOOL, tool);
        }
        members.text(name::COMPONENT, subject.component);
        members.word(name::DIGEST, subject.digest);
    }
}

impl Operation {
    /// One that is not recorded.
    pub fn unrecorded() -> Self {
        Self(None)
    }

    /// Whether it is.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn begin(audit: Audit, number: u64, subject: Subject<'_>) -> Self {
        let mut recording = Recording::new(audit, number, Some(subject));
        recording.record(recording.began.0, Frame::Begun);
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

    /// A call begins. Its arguments are only asked for if it is recorded.
    pub fn enter(&mut self, copied_bytes: usize, call: Call, arguments: impl FnOnce(&mut Members<'_>)) {
        if let Some(recording) = &mut self.0 {
            recording.copied(copied_bytes);
            if let Some(mut members) = recording.asks(call) {
                arguments(&mut members);
            }
            recording.entered(call);
        }
    }

    /// The call ended. `ending` also tells what the caller was given, with values by their names. Without a decision, it
    /// was allowed by the grant of its interface unless access was denied.
    pub fn leave(&mut self, decision: Option<Decision>, ending: impl FnOnce(&mut Texts<'_>) -> Ending) {
        if let Some(recording) = &mut self.0 {
            let Some(left) = recording.leaves() else { return };
            let ending = ending(&mut recording.gives());
            recording.left(left, decision, &ending);
        }
    }

    /// The operation ended.
    pub fn end(&mut self, ending: impl FnOnce() -> Ending, used: impl FnOnce() -> Used) {
        if let Some(recording) = self.0.take() {
            recording.end(&ending(), Some(used()));
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(recording) = self.0.take() {
            recording.end(&Ending::failed("abandoned", "the gateway gave it up"), None);
        }
    }
}

impl Recording {
    fn new(audit: Audit, number: u64, subject: Option<Subject<'_>>) -> Self {
        let mut buffers = audit.buffers();
        buffers.begin(number, subject);
        Self {
            audit,
            is_guests: subject.is_some(),
            buffers,
            bytes: 0,
            began: (SystemTime::now(), Instant::now()),
            under_way: None,
            listed: 0,
            unlisted: 0,
            calls: 0,
            largest_copy: 0,
        }
    }

    /// Records what the buffers have.
    #[inline(never)]
    fn record(&mut self, at: SystemTime, frame: Frame) {
        let Buffers { origin, facts, arguments, gave, error, .. } = &*self.buffers;
        let mut parts = Parts { facts, ..Parts::default() };
        match frame {
            Frame::Whole | Frame::Begun => {}
            Frame::Asked(_) => parts.arguments = arguments,
            Frame::Called(_) => (parts.arguments, parts.gave, parts.error) = (arguments, gave, error),
            Frame::Ended(_) => parts.error = error,
        }
        self.bytes += parts.bytes() + FRAME;
        self.audit.push(at, frame, parts, origin);
    }

    /// How much text a record has, unless it is as much as any.
    fn little(&self) -> Option<usize> {
        self.is_full().then_some(LITTLE)
    }

    /// When something is that happens now or a moment ago. The clock is looked at once for an operation.
    fn time(&self, at: Instant) -> SystemTime {
        self.began.0 + at.saturating_duration_since(self.began.1)
    }

    fn count(&mut self, interface: &'static str, function: &'static str) {
        let counts = &mut self.buffers.counts;
        match counts.iter_mut().find(|known| known.interface == interface && known.function == function) {
            Some(known) => known.count += 1,
            None => counts.push(Count { interface, function, count: 1 }),
        }
    }

    fn copied(&mut self, bytes: usize) {
        self.largest_copy = self.largest_copy.max(bytes as u64);
    }

    /// Whether the operation has had what there is for it.
    fn is_full(&self) -> bool {
        self.bytes >= BYTES
    }

    /// Whether the call has a record of its own.
    fn is_listed(&self, call: Call) -> bool {
        call.acts || (self.listed < LISTED && !self.is_full())
    }

    /// A call begins; its arguments are to be given if it is listed.
    #[inline(never)]
    fn asks(&mut self, call: Call) -> Option<Members<'_>> {
        self.count(call.interface, call.function);
        self.calls += 1;
        if !self.is_listed(call) {
            return None;
        }
        let little = self.little();
        let Buffers { arguments, room, .. } = &mut *self.buffers;
        arguments.clear();
        room.clear_to(little);
        Some(Members::of(arguments, room))
    }

    /// What it asks for is told.
    #[inline(never)]
    fn entered(&mut self, call: Call) {
        if self.is_listed(call) {
            let Buffers { arguments, room, .. } = &mut *self.buffers;
            if let Some(cut) = room.cut() {
                Members::of(arguments, room).json(name::CUT, cut);
            }
        }
        let (now, number) = (Instant::now(), self.calls);
        if call.acts {
            self.record(self.time(now), Frame::Asked(Asked { number, call }));
        }
        self.under_way = Some((call, now));
    }

    /// The call that is under way ended; what came of it is to be told if it is listed.
    #[inline(never)]
    fn leaves(&mut self) -> Option<Left> {
        let (call, started) = self.under_way.take()?;
        let taken = started.elapsed();
        if !self.is_listed(call) {
            self.unlisted += 1;
            return None;
        }
        self.listed += 1;
        Some(Left { call, started, taken })
    }

    /// Where to put what it gave.
    #[inline(never)]
    fn gives(&mut self) -> Texts<'_> {
        let little = self.little();
        let Buffers { gave, room, .. } = &mut *self.buffers;
        gave.clear();
        room.clear_to(little);
        Texts::of(gave, room)
    }

    /// All is told of it.
    #[inline(never)]
    fn left(&mut self, left: Left, decision: Option<Decision>, ending: &Ending) {
        let Left { call, started, taken } = left;
        let asked = Asked { number: self.calls, call };
        let outcome = self.came_to(ending);
        let called = Called { asked, decision, is_guests: self.is_guests, outcome, taken };
        self.record(self.time(started), Frame::Called(called));
    }

    /// How it ended, with the text of the error in its place.
    fn came_to(&mut self, ending: &Ending) -> &'static str {
        let little = self.little();
        let Buffers { error, room, .. } = &mut *self.buffers;
        error.clear();
        if let Some(text) = &ending.error {
            room.clear_to(little);
            Members::of(error, room).text(name::ERROR, text);
        }
        ending.outcome
    }

    #[inline(never)]
    fn end(mut self, ending: &Ending, used: Option<Used>) {
        if let Some(left) = self.leaves() {
            self.gives();
            self.left(left, None, &Ending::failed("abandoned", "it was under way when the operation ended"));
        }
        if self.is_guests {
            let now = Instant::now();
            let ended = Ended {
                outcome: self.came_to(ending),
                taken: now.saturating_duration_since(self.began.1),
                counts: self.buffers.counts.clone(),
                unlisted: self.unlisted,
                used: used.map(|used| Used { copied_bytes: self.largest_copy, ..used }),
            };
            self.record(self.time(now), Frame::Ended(Box::new(ended)));
        }
        self.audit.hand_on(self.buffers);
    }
}

/// A call that ended.
struct Left {
    call: Call,
    started: Instant,
    taken: Duration,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::line::name;
    use crate::audit::record::{Kind, Record, Rule, Verdict};
    use crate::audit::{Audit, Options, Retention};

    /// Everything that a record of an operation can have, and texts that JSON and terminals would take for something else.
    fn record(audit: &Audit) {
        let evil = "a \"b\" \\ \u{1b}[31m\n\u{202e}ü";
        let mut operation = audit.operation(|| Subject {
            task: "run-tool",
            server: Some(evil),
            tool: Some("tool"),
            component: evil,
            digest: "d1",
        });
        let asks = |acts| Call { interface: "container-runtime", function: "start", acts };
        operation.count("values", "new", 7);
        operation.enter(9, asks(true), |arguments| {
            arguments.text(name::IMAGE, evil);
            arguments.texts(name::COMMAND, (0..1000).map(|number| format!("--{number}={evil}")));
            arguments.texts(name::LABELS, [""; 0]);
            arguments.number(name::CPU_MILLIS, 7);
        });
        let rule = Rule { text: evil.into(), file: Some(evil.to_owned()), line: Some(3) };
        operation.leave(Some(Decision { verdict: Verdict::Denied, rule }), |gave| {
            gave.push(evil);
            gave.extend(["", "b"]);
            Ending::failed("access-denied", evil)
        });
        for denied in [false, true] {
            operation.enter(0, asks(false), |_| {});
            operation.leave(None, |_| if denied { Ending::failed("access-denied", "") } else { Ending::ok() });
        }
        for _ in 0..LISTED {
            operation.enter(0, asks(false), |arguments| arguments.text(name::IMAGE, "no longer asked for"));
            operation.leave(None, |_| Ending::ok());
        }
        operation.enter(0, asks(true), |_| {});
        operation.end(Ending::ok, Default::default);
        let mut own = audit.own();
        own.enter(0, asks(true), |_| {});
        own.leave(None, |_| Ending::ok());
    }

    #[tokio::test]
    async fn the_records_of_an_operation_are_bounded_together_and_what_acts_is_still_there() {
        let place = tempfile::tempdir().unwrap();
        let options =
            Options { directory: place.path().to_owned(), session: "s".to_owned(), retention: Retention::default() };
        let audit = Audit::open(options).unwrap();
        let mut operation = audit.operation(|| Subject {
            task: "provision",
            server: Some("github"),
            tool: None,
            component: "evil",
            digest: "d1",
        });
        let mut ask = |acts| {
            operation.enter(0, Call { interface: "log", function: "write", acts }, |arguments| {
                arguments.texts(name::MESSAGE, (0..100).map(|number| format!("{number}{}", "x".repeat(300))));
            });
            operation.leave(None, |gave| {
                gave.extend((0..100).map(|number| format!("{number}{}", "\\".repeat(300))));
                Ending::ok()
            });
        };
        (0..100).for_each(|_| ask(false));
        (0..20).for_each(|_| ask(true));
        operation.end(Ending::ok, Default::default);
        audit.close(Duration::from_secs(20)).await.unwrap();
        let text = std::fs::read_to_string(place.path().join("s.000001.jsonl")).unwrap();
        assert!(text.len() < BYTES + 20 * 2 * 4 * 1024, "{}", text.len());
        let records: Vec<Record<'_>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind| records.iter().filter(|record| record.event == kind).collect::<Vec<_>>();
        let (asked, calls, ended) = (of(Kind::Asked), of(Kind::Call), of(Kind::Ended));
        assert_eq!((asked.len(), calls.len() as u64 + ended[0].unlisted.unwrap()), (20, 120));
        // However little is shown, what it was can be proved.
        assert_eq!(asked[0].arguments["cut"]["bytes"], calls[0].arguments["cut"]["bytes"]);
        assert_eq!(asked[0].arguments["cut"]["sha256"], calls[0].arguments["cut"]["sha256"]);
    }

    #[tokio::test]
    async fn what_is_rendered_is_what_a_record_would_be() {
        let place = tempfile::tempdir().unwrap();
        let options =
            Options { directory: place.path().to_owned(), session: "s".to_owned(), retention: Retention::default() };
        let audit = Audit::open(options).unwrap();
        // Twice: the second is rendered where the first was.
        record(&audit);
        record(&audit);
        audit.close(Duration::from_secs(20)).await.unwrap();
        let text = std::fs::read_to_string(place.path().join("s.000001.jsonl")).unwrap();
        let mut seen = Vec::new();
        for line in text.lines() {
            let (members, _) = line.rsplit_once(",\"prev\":").unwrap();
            let record: Record<'_> = serde_json::from_str(line).unwrap();
            let rendered = serde_json::to_string(&record).unwrap();
            assert_eq!(rendered.strip_suffix('}').unwrap(), members);
            if record.operation.is_some() {
                seen.push((record.operation, record.event, record.call, record.arguments.len(), record.gave.len()));
            }
        }
        let of = |operation| seen.iter().filter(move |(number, ..)| *number == Some(operation)).collect::<Vec<_>>();
        for (number, own) in [(1, 2), (3, 4)] {
            let records = of(number);
            assert_eq!(records.len(), 1 + 2 + LISTED as usize - 1 + 2 + 1);
            // Image, command, processor time, and what was cut; two texts and one that is empty.
            assert_eq!(
                records[1..3],
                [&(Some(number), Kind::Asked, Some(1), 4, 0), &(Some(number), Kind::Call, Some(1), 4, 3)]
            );
            assert_eq!(of(own).len(), 2);
        }
        assert!(text.contains(r#""decision":"allowed","rule":{"text":"grant `container-runtime`"},"outcome":"ok""#));
        assert!(text.contains(r#""decision":"denied","rule":{"text":"host"},"outcome":"access-denied","error":"""#));
        assert!(text.contains(r#""outcome":"abandoned","error":"it was under way"#));
        assert!(text.contains(r#""calls":{"values.new":1,"container-runtime.start":260},"unlisted":3"#), "{text}");
    }
}
