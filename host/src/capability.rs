//! What the host can do for a component: one module per WIT import.
//!
//! Each holds a view over the operation's [`Context`], the `Host` implementation that converts, checks and
//! delegates, and where an engine is behind it the trait that engines implement. What is granted is decided in
//! `sandbox`; what a container may become in `provisioning-core`.

mod cluster_objects;
pub mod config_resolver;
pub mod container_runtime;
mod handles;
pub mod log;
pub(crate) mod recorded;
pub mod remote_endpoint;
pub mod secret_resolver;
mod values;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use provisioning_core::policy::{Decision, SubjectKind, Who};
use provisioning_core::text::one_line;
use provisioning_core::{Bounds, Value};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{Resource, ResourceTable};

use crate::policy::enforcement::Enforcement;
use crate::resolve::{ResolveError, ServerScope};
use crate::sandbox::Stop;
use crate::sandbox::bindings::mcp_gateway::provisioning::types::{self, Error};
use crate::sandbox::bindings::mcp_gateway::provisioning::values::Binding;
use crate::sandbox::operation::with_text;

/// What one operation's instance can reach: everything here dies with the operation.
pub struct Context {
    /// Everything that the guest holds a handle to.
    pub table: ResourceTable,
    /// The server that the instance serves; none outside of any server's scope.
    pub scope: Option<Arc<ServerScope>>,
    /// Where containers run.
    pub runtime: Arc<dyn container_runtime::ContainerRuntime>,
    /// The component: the SHA-256 of its bytes in hexadecimal, and its name if it is part of the gateway.
    pub component: (String, Option<String>),
    /// How far the component may leave the envelope.
    pub bounds: Bounds,
    /// The policies, and who is told of decisions.
    pub enforcement: Enforcement,
    /// Whether `secret-resolver` is granted, so that configuration may carry secrets.
    pub secrets_granted: bool,
    /// The keys of objects that the guest has used.
    pub stored_keys: BTreeSet<String>,
    /// The gateway session.
    pub session: String,
    /// How long containers may take.
    pub times: Times,
    /// Cancels the operation.
    pub cancel: CancellationToken,
    /// What is left of the guest's allowance.
    pub allowance: Allowance,
    /// The most handles that it held at once.
    pub most_handles: usize,
    /// Records the operation and its calls.
    pub audit: crate::audit::Operation,
    /// What was decided about the call that is under way, for its record.
    pub decision: Option<crate::audit::record::Decision>,
    /// Texts of errors that the guest was not told.
    pub reasons: Reasons,
}

/// How long containers may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Until one runs, the fetching of images apart.
    pub start: Duration,
    /// For one that is run to its end, from start to end.
    pub run: Duration,
}

/// How much a guest may still ask for.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Calls into the host.
    pub host_calls: u32,
    /// Lines in the log.
    pub log_lines: u32,
    /// Bytes of the values that it holds.
    pub value_bytes: usize,
    /// The least that was ever left of these.
    pub least_value_bytes: usize,
    /// Containers.
    pub containers: u32,
}

impl Context {
    /// Counts a host call and returns the scope.
    fn enter(&mut self) -> Result<&Arc<ServerScope>, Failure> {
        self.count_call()?;
        self.scope.as_ref().ok_or_else(|| {
            Failure::Guest(Error::AccessDenied("this call serves no server, so there is nothing to resolve".to_owned()))
        })
    }

    /// Counts a host call.
    fn count_call(&mut self) -> wasmtime::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled.into());
        }
        self.allowance.host_calls =
            self.allowance.host_calls.checked_sub(1).ok_or_else(|| wasmtime::Error::from(Stop::HostCalls))?;
        Ok(())
    }

    /// On whose behalf the guest asks.
    fn who(&self) -> Who<'_> {
        let (digest, builtin) = &self.component;
        let scope = self.scope.as_deref();
        Who {
            digest,
            builtin: builtin.as_deref(),
            server: scope.map(ServerScope::name),
            kind: scope.map(ServerScope::kind),
        }
    }

    /// Tells of a decision.
    pub fn decided(&self, decision: &Decision) {
        if let Some(sink) = &self.enforcement.sink {
            sink.decided(self.scope.as_deref().map(ServerScope::name), decision);
        }
    }

    /// Tells of decisions. If one denies, the guest is told why. The record of the call has room for one: the first
    /// that denies, or else the first in which a rule or a grant had a part.
    fn require(&mut self, decisions: Vec<Decision>) -> Result<(), Failure> {
        decisions.iter().for_each(|decision| self.decided(decision));
        let denied = decisions.iter().find(|decision| !decision.is_allowed());
        let telling = |decision: &&Decision| decision.rule.is_some() || decision.subject.kind == SubjectKind::Grant;
        if let Some(decision) = denied.or_else(|| decisions.iter().find(telling)).filter(|_| self.audit.is_recorded()) {
            self.decision = Some(decision.into());
        }
        match denied {
            None => Ok(()),
            Some(denied) => {
                let server = self.scope.as_deref().map(ServerScope::name).unwrap_or_default();
                tracing::warn!(server, refusal = %denied, "refused what the provisioner asked for");
                Err(Failure::Kept(Error::AccessDenied(format!("server `{server}`: {denied}"))))
            }
        }
    }

    /// Whether the guest may hold these values: by secret and by configuration path.
    fn permit<'v>(&mut self, values: impl IntoIterator<Item = &'v Value>) -> Result<(), Failure> {
        if self.enforcement.policies.is_empty() {
            return Ok(());
        }
        // What is in a cluster is decided about by the name that the entry has for it.
        let named: Vec<Cow<'_, Value>> = match &self.scope {
            Some(scope) => values.into_iter().map(|value| scope.named(value)).collect(),
            None => values.into_iter().map(Cow::Borrowed).collect(),
        };
        let decisions = self.enforcement.policies.holding(self.who()).values(named.iter().map(AsRef::as_ref));
        self.require(decisions)
    }

    /// Counts a container, whether or not it comes to be.
    fn count_container(&mut self) -> wasmtime::Result<()> {
        self.allowance.containers =
            self.allowance.containers.checked_sub(1).ok_or_else(|| wasmtime::Error::from(Stop::Containers))?;
        Ok(())
    }

    /// Counts bytes that are about to be kept for the guest.
    fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.allowance.value_bytes =
            self.allowance.value_bytes.checked_sub(bytes).ok_or_else(|| wasmtime::Error::from(Stop::ValueBytes))?;
        self.allowance.least_value_bytes = self.allowance.least_value_bytes.min(self.allowance.value_bytes);
        Ok(())
    }

    /// Gives back what was charged for something that the guest has let go.
    fn refund(&mut self, bytes: usize) {
        self.allowance.value_bytes = self.allowance.value_bytes.saturating_add(bytes);
    }

    /// Keeps a value for the guest.
    fn push_value(&mut self, value: Value) -> wasmtime::Result<Resource<Value>> {
        self.charge(value.held_bytes())?;
        self.hold(value)
    }

    /// Gives the guest a handle.
    fn hold<T: Send + 'static>(&mut self, thing: T) -> wasmtime::Result<Resource<T>> {
        let handle = self.table.push(thing)?;
        // Handles that were given back are used again, so that the number of one tells how many there were before.
        self.most_handles = self.most_handles.max(handle.rep() as usize + 1);
        Ok(handle)
    }

    /// Keeps named values for the guest.
    fn bind(&mut self, values: Vec<(String, Value)>) -> Result<Vec<Binding>, Failure> {
        values.into_iter().map(|(name, value)| Ok(Binding { name, value: self.push_value(value)? })).collect()
    }
}

/// How long resolving may take: a credential helper may ask its user.
const RESOLVE_TIME: Duration = Duration::from_secs(60);

/// Waits for work behind a host call, for at most `limit` and until the operation is cancelled.
async fn guarded<T, E: Into<Failure>>(
    cancel: &CancellationToken,
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::Trap(Stop::Cancelled.into())),
        done = tokio::time::timeout(limit, work) => match done {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Failure::Guest(Error::TimedOut(format!("{what} did not finish within {} s", limit.as_secs())))),
        },
    }
}

/// How a host call fails: with an error that the guest can handle, or by ending the guest.
#[derive(Debug)]
pub enum Failure {
    /// The guest is told.
    Guest(Error),
    /// The guest is told the case. The text is for people: what an engine, a registry, a secret store, a catalog entry or a
    /// policy says may quote what is private, tell the time, or show the machine. See [`Reasons`].
    Kept(Error),
    /// The guest ends: it broke the rules, it was cancelled, or the host has a bug.
    Trap(wasmtime::Error),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Failure {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let text = error.to_string();
        Self::Kept(match error {
            ResolveError::Template(_) | ResolveError::Entry(_) => Error::Invalid(text),
            ResolveError::SecretMissing { .. } => Error::NotFound(text),
            ResolveError::Configuration(_) => Error::Invalid(text),
            ResolveError::Forbidden(_) => Error::AccessDenied(text),
            ResolveError::SecretStore(_) => Error::Unavailable(text),
            ResolveError::Mapping(_) => Error::Other(text),
        })
    }
}

/// Texts of errors that a guest was not told. It gets a number for each, and if that is in the error with which the
/// operation ends, the text is put in its place.
#[derive(Debug, Default)]
pub struct Reasons {
    texts: Vec<String>,
    bytes: usize,
}

impl Reasons {
    /// Keeps a text and returns what the guest is told instead.
    fn keep(&mut self, text: &str) -> String {
        let text = one_line(text, MAX_REASON);
        if self.bytes + text.len() > MAX_REASONS {
            return "a reason that the gateway did not keep after many others".to_owned();
        }
        self.bytes += text.len();
        self.texts.push(text);
        Self::told(self.texts.len())
    }

    fn told(number: usize) -> String {
        format!("reason {number}, which the gateway tells the user")
    }

    /// A guest's text with the kept texts in their places.
    pub(crate) fn put_into(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, reason) in self.texts.iter().enumerate() {
            let told = Self::told(index + 1);
            if text.contains(&told) {
                text = text.replacen(&told, reason, 1);
            }
        }
        text
    }
}

/// How many characters of a reason are kept.
const MAX_REASON: usize = 2000;
/// How many bytes of reasons are kept of an operation.
const MAX_REASONS: usize = 256 << 10;

impl types::Host for Context {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error> {
        match failure {
            Failure::Guest(error) => Ok(error),
            Failure::Kept(error) => {
                tracing::debug!(reason = crate::sandbox::operation::text(&error), "a component is not told this");
                Ok(with_text(error, |text| self.reasons.keep(&text)))
            }
            Failure::Trap(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::operation::text;

    #[test]
    fn reasons_without_end_are_not_kept() {
        let mut reasons = Reasons::default();
        let told: Vec<String> = (0..10_000).map(|_| reasons.keep(&"x".repeat(10_000))).collect();
        assert!(reasons.bytes <= MAX_REASONS && reasons.texts.len() > 100, "{}", reasons.texts.len());
        assert!(reasons.put_into(&told[0]).starts_with("xxx"));
        assert_eq!(reasons.put_into(told.last().unwrap()), "a reason that the gateway did not keep after many others");
    }

    #[test]
    fn what_went_wrong_with_secrets_and_templates_is_kept_from_the_guest_and_put_back_for_people() {
        let missing = ResolveError::SecretMissing { name: "s.token".to_owned(), remedy: "set canary".to_owned() };
        let errors = [ResolveError::Entry, ResolveError::SecretStore, ResolveError::Configuration]
            .map(|of| of("canary".to_owned()));
        let more = [ResolveError::Mapping, ResolveError::Forbidden].map(|of| of("canary".to_owned()));
        for error in errors.into_iter().chain(more).chain([missing]) {
            let Failure::Kept(error) = Failure::from(error) else { panic!("the guest would be told") };
            let mut reasons = Reasons::default();
            let told = with_text(error, |text| reasons.keep(&text));
            assert!(!text(&told).contains("canary"), "{told:?}");
            let handed_back = format!("it did not work: {}", text(&told));
            assert!(reasons.put_into(&handed_back).contains("canary"), "{handed_back}");
        }
    }
}
