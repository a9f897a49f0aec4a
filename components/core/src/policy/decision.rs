//! Decisions: what was asked, what came of it, and which rule said so.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::text::one_line;

/// How many characters of what was asked for a decision shows.
const SHOWN: usize = 300;

/// A rule of a policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// The file.
    pub file: Arc<str>,
    /// The line that decided, counted from 1.
    pub line: u32,
    /// The rule's name.
    pub name: Arc<str>,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule `{}` ({}:{})", self.name, self.file, self.line)
    }
}

/// The kind of thing that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// A component, by digest.
    Component,
    /// An interface or WASI package.
    Interface,
    /// A ceiling for a component.
    Limit,
    /// A server, by name.
    Server,
    /// Leaving the envelope under a grant.
    Grant,
    /// Anything in a container's specification that the envelope refuses.
    Envelope,
    /// An image.
    Image,
    /// A secret, by name.
    Secret,
    /// Configuration, by path.
    Config,
    /// A mount.
    Mount,
    /// Network access.
    Network,
    /// A host.
    Host,
    /// An environment variable, by name.
    Variable,
    /// A label, by key.
    Label,
    /// A namespace.
    Namespace,
    /// Processor time or memory.
    Resource,
    /// Something that a container must have.
    Requirement,
}

impl SubjectKind {
    /// As it stands in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Interface => "interface",
            Self::Limit => "limit",
            Self::Server => "server",
            Self::Grant => "grant",
            Self::Envelope => "envelope",
            Self::Image => "image",
            Self::Secret => "secret",
            Self::Config => "configuration",
            Self::Mount => "mount",
            Self::Network => "network",
            Self::Host => "host",
            Self::Variable => "environment variable",
            Self::Label => "label",
            Self::Namespace => "namespace",
            Self::Resource => "resource",
            Self::Requirement => "requirement",
        }
    }
}

/// What was asked for. Never a private value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Its name, as one bounded line.
    pub name: String,
}

impl Subject {
    /// A subject. The name may be a stranger's text.
    pub fn new(kind: SubjectKind, name: impl AsRef<str>) -> Self {
        Self { kind, name: one_line(name.as_ref(), SHOWN) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.name(), self.name)
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// It may be.
    Allowed,
    /// It may not be.
    Denied {
        /// Why, as a clause after the subject, and what would allow it.
        reason: String,
    },
}

/// One decision of the policies, or of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What was asked for.
    #[serde(flatten)]
    pub subject: Subject,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The rule that decided; none if no rule is about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
}

impl Decision {
    /// It may be; `rule` is the one that says so, if one does.
    pub fn allowed(subject: Subject, rule: Option<RuleRef>) -> Self {
        Self { subject, outcome: Outcome::Allowed, rule }
    }

    /// It may not be. `reason` is a clause after the subject and says what would allow it.
    pub fn denied(subject: Subject, rule: Option<RuleRef>, reason: impl Into<String>) -> Self {
        Self { subject, outcome: Outcome::Denied { reason: reason.into() }, rule }
    }

    /// Whether it may be.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }

    /// Whether a rule had anything to do with it, or it was denied.
    pub fn is_notable(&self) -> bool {
        self.rule.is_some() || !self.is_allowed()
    }
}

/// ``image `docker.io/x/y:1` is allowed by rule `ours` (policy.yaml:3)``.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.outcome, &self.rule, self.subject.kind) {
            (Outcome::Allowed, Some(rule), _) => write!(f, "{} is allowed by {rule}", self.subject),
            (Outcome::Allowed, None, _) => write!(f, "{} is allowed: no rule is about it", self.subject),
            // The envelope's refusal is a sentence of its own.
            (Outcome::Denied { reason }, None, SubjectKind::Envelope) => f.write_str(reason),
            (Outcome::Denied { reason }, _, _) => write!(f, "{} {reason}", self.subject),
        }
    }
}
