//! The `remote-endpoint` interface: hands out the address that the catalog entry declares. Nothing is sent here.

use provisioning_core::Value;
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
        if !policies.is_empty() {
            let decisions = crate::policy::enforcement::remote(policies, self.who(), &remote.url, &remote.headers);
            self.require(decisions)?;
        }
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
