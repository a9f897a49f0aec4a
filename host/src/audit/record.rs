//! One record: its members in the order in which they are written. `docs/audit.md` describes them for readers.

use std::borrow::Cow;

use provisioning_core::policy::{self, SubjectKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// The version of the format, in the first record of each file.
pub const FORMAT: u32 = 1;

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The log of a session begins.
    #[default]
    Opened,
    /// A file begins; the session's records before it are in the file before.
    Continued,
    /// Files were deleted because more was kept than shall be.
    Removed,
    /// A component was loaded, or refused.
    Loaded,
    /// A policy refuses a server, so that its component is not even asked.
    Refused,
    /// An operation begins.
    Begun,
    /// A call that acts outside of the gateway begins.
    Asked,
    /// A call ended.
    Call,
    /// An operation ended.
    Ended,
    /// Records could not be written.
    Lost,
    /// The log of a session ends.
    Closed,
    /// The gateway ended without closing its log; a later one says so in its place.
    Recovered,
}

impl Kind {
    /// As it stands in a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Continued => "continued",
            Self::Removed => "removed",
            Self::Loaded => "loaded",
            Self::Refused => "refused",
            Self::Begun => "begun",
            Self::Asked => "asked",
            Self::Call => "call",
            Self::Ended => "ended",
            Self::Lost => "lost",
            Self::Closed => "closed",
            Self::Recovered => "recovered",
        }
    }
}

/// What was decided about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may be done.
    Allowed,
    /// It may not.
    Denied,
}

impl Verdict {
    /// As it stands in a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// What decided it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// In words: a grant, the envelope, or a rule of a policy file.
    pub text: Cow<'static, str>,
    /// The policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// What was decided about a call, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub verdict: Verdict,
    /// What decided.
    pub rule: Rule,
}

impl Decision {
    /// Without a policy file.
    pub fn new(verdict: Verdict, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { verdict, rule: Rule { text: rule.into(), file: None, line: None } }
    }
}

impl From<&policy::Decision> for Decision {
    fn from(decision: &policy::Decision) -> Self {
        let verdict = if decision.is_allowed() { Verdict::Allowed } else { Verdict::Denied };
        match (&decision.rule, decision.subject.kind) {
            (Some(rule), _) => {
                let (file, line) = (Some(rule.file.to_string()), Some(rule.line));
                Self { verdict, rule: Rule { text: format!("rule `{}`", rule.name).into(), file, line } }
            }
            (None, SubjectKind::Envelope) => Self::new(verdict, "envelope"),
            (None, SubjectKind::Grant) => Self::new(verdict, "grant"),
            (None, _) => Self::new(verdict, "host"),
        }
    }
}

/// What an operation used, or may use. See `sandbox::Limits` for what each is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// Elements of tables.
    pub table_elements: u64,
    /// Core instances.
    pub instances: u64,
    /// Handles held at once.
    pub handles: u64,
    /// Time that the guest computed, in milliseconds; counted in steps of ten.
    pub guest_ms: u64,
    /// Calls into the host.
    pub host_calls: u64,
    /// Bytes of text that one call handed over, at most.
    pub copied_bytes: u64,
    /// Bytes of values held at once.
    pub value_bytes: u64,
    /// Containers that were asked for.
    pub containers: u64,
    /// Lines in the gateway's log.
    pub log_lines: u64,
}

/// The end of another session's log, as the beginning of this one saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The session.
    pub session: String,
    /// The number and hash of its last record.
    pub head: String,
    /// When that was written.
    pub time: String,
}

/// A record. What does not apply is left out. The first three members are the writer's, and not written while they are
/// empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/audit.md describes the members, and a test holds it to them")]
pub struct Record<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    pub seq: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub time: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub session: Cow<'a, str>,
    pub event: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Anchor>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gave: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub calls: Map<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Used>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_hash: Option<Cow<'a, str>>,
}

impl Record<'_> {
    /// An empty one.
    pub fn of(event: Kind) -> Self {
        Self { event, ..Self::default() }
    }

    /// Renders it into `line`, which is emptied first, as an object that is left open. Nothing if it cannot be JSON, which
    /// cannot happen.
    pub(super) fn render(&self, line: &mut Vec<u8>) {
        line.clear();
        if serde_json::to_writer(&mut *line, self).is_err() || line.pop() != Some(b'}') {
            line.clear();
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A time as it is written: RFC 3339 in UTC, with milliseconds.
pub fn time(at: std::time::SystemTime) -> String {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let time = chrono::DateTime::<chrono::Utc>::from_timestamp_millis(milliseconds).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_record_has_its_members_in_order_and_no_empty_ones() {
        let record = Record { seq: 7, time: time(UNIX_EPOCH).into(), session: "s".into(), ..Record::of(Kind::Begun) };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(text, r#"{"seq":7,"time":"1970-01-01T00:00:00.000Z","session":"s","event":"begun"}"#);
        let mut line = b"another".to_vec();
        Record { call: Some(3), ..Record::of(Kind::Asked) }.render(&mut line);
        assert_eq!(line, br#"{"event":"asked","call":3"#);
    }

    #[test]
    fn names_are_those_that_are_read() {
        let kinds = [
            Kind::Opened,
            Kind::Continued,
            Kind::Removed,
            Kind::Loaded,
            Kind::Refused,
            Kind::Begun,
            Kind::Asked,
            Kind::Call,
            Kind::Ended,
            Kind::Lost,
            Kind::Closed,
            Kind::Recovered,
        ];
        for kind in kinds {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for verdict in [Verdict::Allowed, Verdict::Denied] {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }

    #[test]
    fn times_sort_as_text() {
        let at = |milliseconds| time(UNIX_EPOCH + Duration::from_millis(milliseconds));
        assert_eq!(at(1_795_357_760_123), "2026-11-22T14:29:20.123Z");
        assert!(at(1_795_357_760_123) < at(1_795_357_761_000));
    }
}
