//! The `remote-endpoint` interface: hands out the address that the catalog entry declares. Nothing is sent here.

use provisioning_core::Value;
use provisioning_core::policy::remote_secrets;
use provisioning_core::value::{ObjectKind, Segment};
use wasmtime::component::Resource;

use super::{Context, Failure};
use crate::provision::RemoteTransport;
use crate::sandbox::bindings::mcp_gateway::provisioning::remote_endpoint::Host;

/// A remote server as the entry declares it, with secrets still as names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteHandle {
    /// The address.
    pub url: Value,
    /// The transport.
    pub transport: RemoteTransport,
    /// Headers in the order of their names.
    pub headers: Vec<(String, Value)>,
}

impl RemoteHandle {
    /// The number of bytes it holds in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.held_bytes()).sum::<usize>() + self.url.held_bytes()
    }
}

impl Host for Context {
    async fn connect(&mut self) -> Result<Resource<RemoteHandle>, Failure> {
        let scope = self.enter()?.clone();
        let remote = super::guarded(&self.cancel, "resolving the address", super::RESOLVE_TIME, scope.remote()).await?;
        let policies = &self.enforcement.policies;
        let needs_cluster = std::iter::once(&remote.url)
            .chain(remote.headers.iter().map(|(_, value)| value))
            .flat_map(Value::segments)
            .any(|segment| matches!(segment, Segment::ClusterKey { kind: ObjectKind::Secret, .. }));
        let mut decisions = Vec::new();
        if needs_cluster {
            decisions.push(remote_secrets(policies, self.who(), &self.bounds));
        }
        if !policies.is_empty() {
            let named = |(name, value): &(String, Value)| (name.clone(), scope.named(value).into_owned());
            let headers: Vec<_> = remote.headers.iter().map(named).collect();
            let url = scope.named(&remote.url);
            decisions.extend(crate::policy::enforcement::remote(policies, self.who(), &url, &headers));
        }
        self.require(decisions)?;
        // A guest may ask again and again, and what it gets may be long.
        self.charge(remote.held_bytes())?;
        Ok(self.hold(remote)?)
    }
}

impl From<RemoteTransport> for crate::sandbox::bindings::mcp_gateway::provisioning::types::RemoteTransport {
    fn from(transport: RemoteTransport) -> Self {
        match transport {
            RemoteTransport::StreamableHttp => Self::StreamableHttp,
            RemoteTransport::Sse => Self::Sse,
        }
    }
}
