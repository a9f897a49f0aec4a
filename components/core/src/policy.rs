//! Policies: what the operator's files allow, and the evaluation of it. Pure and total; reading files is the host's.
//!
//! A policy never grants. What a component may do is what it was granted *and* what every policy file allows. Within
//! a file, `allow` lists of one kind add up, and a kind that has one allows nothing else; a kind without one is not
//! restricted by that file. Everything that forbids (`deny` lists, ceilings, requirements) always holds. So a further
//! file or a further `deny` can only take away, and the order of files and rules changes no outcome.

pub mod glob;
pub mod patterns;

mod addresses;
mod audit;
mod decision;
mod evaluate;
mod judge;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use addresses::DeniedAddresses;
pub use audit::{AuditDemand, AuditDemands};
pub use decision::{Decision, Outcome, RuleRef, Subject, SubjectKind};
pub use evaluate::{Ceiling, Holding, Who};
pub use judge::{Case, judge, known_text, remote_secrets};

use crate::envelope::Bounds;
use glob::{NamePattern, SubtreePattern};
use patterns::{ComponentPattern, HostPattern, ImagePattern, MountPattern};

/// All files that hold at once. Without any, nothing is restricted beyond the grants.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Each of them must allow what is asked for.
    pub files: Vec<Policy>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file, for messages.
    pub file: Arc<str>,
    /// Which components may run, and with what.
    pub components: Components,
    /// Which servers may run.
    pub servers: Lists<NamePattern>,
    /// Everything else.
    pub rules: Vec<Rule>,
    /// What it demands of the audit log.
    pub audit: Option<AuditDemand>,
}

/// A pattern and the line that it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<P> {
    /// The line, counted from 1.
    pub line: u32,
    /// The pattern.
    pub pattern: P,
}

/// A list of patterns that allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow<P> {
    /// The line of the list.
    pub line: u32,
    /// Its entries. None at all allow nothing.
    pub entries: Vec<Listed<P>>,
}

/// What is allowed and what is denied of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists<P> {
    /// If it is there, nothing else is allowed.
    pub allow: Option<Allow<P>>,
    /// Denied whatever is allowed.
    pub deny: Vec<Listed<P>>,
}

impl<P> Default for Lists<P> {
    fn default() -> Self {
        Self { allow: None, deny: Vec::new() }
    }
}

impl<P> Lists<P> {
    /// Whether they say nothing.
    pub fn is_silent(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }
}

/// Which components may run.
#[derive(Clone, Debug, Default)]
pub struct Components {
    /// The line of the list, if there is one, and what it allows.
    pub allow: Option<(u32, Vec<AllowedComponent>)>,
    /// Those that never run.
    pub deny: Vec<Listed<ComponentPattern>>,
}

/// A component that may run, and how far.
#[derive(Clone, Debug)]
pub struct AllowedComponent {
    /// The line.
    pub line: u32,
    /// What the operator calls it.
    pub name: Arc<str>,
    /// Which it is.
    pub component: ComponentPattern,
    /// The interfaces that it may use, of those that it is granted; none for all of those.
    pub interfaces: Option<Allow<String>>,
    /// How far it may leave the envelope, of what it is granted; none for all of that.
    pub grants: Option<(u32, Bounds)>,
    /// Ceilings for its limits.
    pub limits: BTreeMap<Limit, Listed<u64>>,
}

/// A limit of a component in one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Bytes of linear memory.
    Memory,
    /// Elements of tables.
    TableElements,
    /// Core instances.
    Instances,
    /// Handles that it holds at once.
    Handles,
    /// Bytes that one host call copies.
    CopiedBytes,
    /// Bytes of the values that it holds.
    ValueBytes,
    /// Containers that it asks for.
    Containers,
    /// Milliseconds that it computes.
    Time,
    /// Calls into the host.
    HostCalls,
    /// Lines in the log.
    LogLines,
}

impl Limit {
    /// The name in a policy file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TableElements => "table-elements",
            Self::Instances => "instances",
            Self::Handles => "handles",
            Self::CopiedBytes => "copied-bytes",
            Self::ValueBytes => "value-bytes",
            Self::Containers => "containers",
            Self::Time => "time",
            Self::HostCalls => "host-calls",
            Self::LogLines => "log-lines",
        }
    }
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// In a container, or embedded.
    Container,
    /// Somewhere else.
    Remote,
}

/// Something that a container must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// An image whose content cannot change under its name.
    ImageDigest,
    /// A read-only root file system.
    ReadOnlyRoot,
    /// No Linux capability.
    DropCapabilities,
    /// A process that is not user 0.
    RunAsNonRoot,
}

impl Requirement {
    /// The name in a policy file.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageDigest => "image-digest",
            Self::ReadOnlyRoot => "read-only-root",
            Self::DropCapabilities => "drop-capabilities",
            Self::RunAsNonRoot => "run-as-non-root",
        }
    }
}

/// A rule: for whom it holds, and what it allows, denies, limits and requires.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// Its line.
    pub line: u32,
    /// The servers that it is about; none for all.
    pub servers: Option<Vec<NamePattern>>,
    /// The components that it is about; none for all.
    pub components: Option<Vec<ComponentPattern>>,
    /// The kinds of servers that it is about; none for all.
    pub kinds: Option<Vec<Kind>>,
    /// Images.
    pub images: Lists<ImagePattern>,
    /// Secrets, by name.
    pub secrets: Lists<NamePattern>,
    /// Configuration, by path.
    pub config: Lists<SubtreePattern>,
    /// Directories of the host, and named volumes.
    pub mounts: Lists<MountPattern>,
    /// Network access of containers: `none`, `declared`.
    pub networks: Lists<NamePattern>,
    /// Hosts that a server is reached at or may reach.
    pub hosts: Lists<HostPattern>,
    /// Names of environment variables.
    pub variables: Lists<NamePattern>,
    /// Keys of labels.
    pub labels: Lists<NamePattern>,
    /// Namespaces of a cluster.
    pub namespaces: Lists<NamePattern>,
    /// The most processor time, in thousandths of a core.
    pub cpu_millis: Option<Listed<u32>>,
    /// The most memory, in bytes.
    pub memory_bytes: Option<Listed<u64>>,
    /// What containers must have.
    pub require: Vec<Listed<Requirement>>,
}

#[cfg(test)]
mod tests;
