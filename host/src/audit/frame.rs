//! The records of operations as they wait for the writer.
//!
//! Whoever makes a call is to lose as little time as can be. So what strangers say is bounded and rendered where it is
//! said, since it must not be kept as it is, and everything around it is written out by the thread that has time for it.

use std::time::Duration;

use super::line::{Members, name};
use super::operation::Call;
use super::record::{Decision, Kind, Used, Verdict};

/// A record without what strangers say in it.
#[derive(Debug)]
pub(super) enum Frame {
    /// Rendered as a whole, see [`super::record::Record::render`].
    Whole,
    /// An operation begins.
    Begun,
    /// A call is about to act outside of the gateway.
    Asked(Asked),
    /// A call ended.
    Called(Called),
    /// An operation ended.
    Ended(Box<Ended>),
}

/// Which call it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) call: Call,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) asked: Asked,
    pub(super) decision: Option<Decision>,
    /// Whether a component asked.
    pub(super) is_guests: bool,
    pub(super) outcome: &'static str,
    pub(super) taken: Duration,
}

/// What came of an operation.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: &'static str,
    pub(super) taken: Duration,
    pub(super) counts: Vec<Count>,
    pub(super) unlisted: u64,
    pub(super) used: Option<Used>,
}

/// How often a function was called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) interface: &'static str,
    pub(super) function: &'static str,
    pub(super) count: u64,
}

/// What is rendered already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The whole record, or the members that all records of the operation have.
    pub(super) facts: &'a [u8],
    /// What is asked for, as members.
    pub(super) arguments: &'a [u8],
    /// What the call gave, as texts.
    pub(super) gave: &'a [u8],
    /// The text of the error, as a member.
    pub(super) error: &'a [u8],
}

impl Parts<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.facts.len() + self.arguments.len() + self.gave.len() + self.error.len()
    }
}

impl Frame {
    /// How many bytes it holds beyond its own size.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Called(Called { decision: Some(Decision { rule, .. }), .. }) => {
                rule.text.len() + rule.file.as_ref().map_or(0, String::len)
            }
            Self::Ended(ended) => size_of::<Ended>() + ended.counts.capacity() * size_of::<Count>(),
            Self::Whole | Self::Begun | Self::Asked(_) | Self::Called(_) => 0,
        }
    }

    /// Writes the members of the record.
    pub(super) fn render(&self, parts: Parts<'_>, members: &mut Members<'_>) {
        let kind = match self {
            Self::Whole => return members.joined(parts.facts),
            Self::Begun => Kind::Begun,
            Self::Asked(_) => Kind::Asked,
            Self::Called(_) => Kind::Call,
            Self::Ended(_) => Kind::Ended,
        };
        members.word(name::EVENT, kind.name());
        members.joined(parts.facts);
        match self {
            Self::Whole | Self::Begun => {}
            Self::Asked(asked) => asked.render(parts, members),
            Self::Called(called) => called.render(parts, members),
            Self::Ended(ended) => ended.render(parts, members),
        }
    }
}

impl Asked {
    fn render(&self, parts: Parts<'_>, members: &mut Members<'_>) {
        members.number(name::CALL, self.number.into());
        members.word(name::INTERFACE, self.call.interface);
        members.word(name::FUNCTION, self.call.function);
        members.enclosed(name::ARGUMENTS, *b"{}", parts.arguments);
    }
}

impl Called {
    fn render(&self, parts: Parts<'_>, members: &mut Members<'_>) {
        self.asked.render(parts, members);
        match &self.decision {
            Some(decision) => decided(members, decision),
            None if self.outcome == "access-denied" => {
                members.word(name::DECISION, Verdict::Denied.name());
                members.object(name::RULE, |rule| rule.word(name::TEXT, "host"));
            }
            None => {
                members.word(name::DECISION, Verdict::Allowed.name());
                members.object(name::RULE, |rule| match self.is_guests {
                    true => rule.text(name::TEXT, format_args!("grant `{}`", self.asked.call.interface)),
                    // Nobody grants anything to the gateway.
                    false => rule.word(name::TEXT, "host"),
                });
            }
        }
        members.word(name::OUTCOME, self.outcome);
        members.joined(parts.error);
        members.enclosed(name::GAVE, *b"[]", parts.gave);
        members.number(name::DURATION_US, microseconds(self.taken));
    }
}

impl Ended {
    fn render(&self, parts: Parts<'_>, members: &mut Members<'_>) {
        members.word(name::OUTCOME, self.outcome);
        members.joined(parts.error);
        members.number(name::DURATION_US, microseconds(self.taken));
        if !self.counts.is_empty() {
            members.object(name::CALLS, |members| {
                for Count { interface, function, count } in &self.counts {
                    members.number_of(interface, function, *count);
                }
            });
        }
        if self.unlisted > 0 {
            members.number(name::UNLISTED, self.unlisted);
        }
        if let Some(used) = self.used {
            members.json(name::USED, used);
        }
    }
}

fn decided(members: &mut Members<'_>, decision: &Decision) {
    members.word(name::DECISION, decision.verdict.name());
    members.object(name::RULE, |members| {
        members.text(name::TEXT, &decision.rule.text);
        if let Some(file) = &decision.rule.file {
            members.text(name::FILE, file);
        }
        if let Some(line) = decision.rule.line {
            members.number(name::LINE, line.into());
        }
    });
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
