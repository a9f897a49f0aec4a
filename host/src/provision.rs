//! Turning catalog entries into running servers: the gateway's only way to reach containers.
//!
//! [`Provision`] is what the gateway sees. Behind it, a WebAssembly component decides and the host acts; the gateway
//! knows of neither.

pub mod prestarted;
pub mod sandboxed;

use std::collections::BTreeMap;

use async_trait::async_trait;
use provisioning_core::policy::DeniedAddresses;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::capability::container_runtime::{Completed, Running};
use crate::secrets::SecretText;

/// A provisioned server. Dropping it releases everything that belongs to it.
#[derive(Debug)]
pub enum Endpoint {
    /// A container that speaks MCP on its standard streams.
    Container(Running),
    /// A remote server.
    Remote(Remote),
}

/// Where a remote server is and what to send along.
#[derive(Debug)]
pub struct Remote {
    /// The address, which may hold secrets.
    pub url: SecretText,
    /// The transport.
    pub transport: RemoteTransport,
    /// Header values, which may hold secrets.
    pub headers: BTreeMap<String, SecretText>,
    /// Where it must not be, whatever its name: policies deny these addresses.
    pub denied: DeniedAddresses,
}

/// How a remote server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteTransport {
    /// Streamable HTTP.
    StreamableHttp,
    /// The deprecated HTTP+SSE.
    Sse,
}

/// Why a server could not be provisioned or a tool not be run.
///
/// The text tells an operator what to do. It holds no private value, so it may also be shown to an MCP client.
#[derive(Clone, Debug, Error)]
pub enum ProvisionError {
    /// No enabled server has this name.
    #[error("server `{0}` is not enabled")]
    UnknownServer(String),
    /// The operator's policy or the envelope refuses it.
    #[error("{0}")]
    Denied(String),
    /// The catalog entry, its configuration or its secrets are not usable as they are.
    #[error("{0}")]
    Invalid(String),
    /// An engine or store is away.
    #[error("{0}")]
    Unavailable(String),
    /// It took longer than it may.
    #[error("{0}")]
    TimedOut(String),
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// The provisioner component failed: trapped, or used up a limit.
    #[error("{0}")]
    Component(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Provisions the servers of one gateway session.
#[async_trait]
pub trait Provision: Send + Sync {
    /// Whether policy lets a server be used at all. Looks at nothing outside.
    ///
    /// # Errors
    /// [`ProvisionError::Denied`] with the reason.
    fn admit(&self, _server: &str) -> Result<(), ProvisionError> {
        Ok(())
    }

    /// Starts a server, or finds out where it is. Waits for its image if need be; the time for that does not count
    /// against the start-up timeout, all the rest does. Cancelling leaves nothing behind.
    ///
    /// # Errors
    /// See [`ProvisionError`].
    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError>;

    /// Fetches the images that a server and its ephemeral tools need, so that the first call does not wait for them.
    /// Safe to repeat.
    ///
    /// # Errors
    /// If one of them cannot be had.
    async fn prepare(&self, _server: &str, _cancel: CancellationToken) -> Result<(), ProvisionError> {
        Ok(())
    }

    /// Runs an ephemeral tool to its end.
    ///
    /// # Errors
    /// See [`ProvisionError`]. A tool that ran and failed is no error.
    async fn run_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: serde_json::Map<String, serde_json::Value>,
        cancel: CancellationToken,
    ) -> Result<Completed, ProvisionError>;
}
