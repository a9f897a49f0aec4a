//! `--static`: servers that somebody else has started, each in a container of its own that is called `mcp-NAME` and
//! passes its standard streams on at a TCP port, as in a Compose file. They are reached by that name, so the gateway
//! must be on their network, which usually means that it runs in a container too.
//!
//! Remote servers and ephemeral tools are as always. Nothing is created, stopped or removed for the others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Endpoint, Provision, ProvisionError};
use crate::capability::container_runtime::{Completed, Running, StderrTail, Streams};
use crate::lease::Reaper;

/// Where the servers listen.
const PORT: u16 = 4444;

/// Connects to servers that run already.
pub struct Prestarted {
    /// For servers that are not behind a port: remote ones and ephemeral tools.
    pub others: Arc<dyn Provision>,
    /// The names of those others.
    pub elsewhere: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// How long connecting may take.
    pub timeout: Duration,
    /// What leases belong to.
    pub reaper: Reaper,
}

#[async_trait]
impl Provision for Prestarted {
    fn admit(&self, server: &str) -> Result<(), ProvisionError> {
        self.others.admit(server)
    }

    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        if (self.elsewhere)(server) {
            return self.others.provision(server, cancel).await;
        }
        let host = format!("mcp-{server}");
        let connecting = tokio::time::timeout(self.timeout, TcpStream::connect((host.as_str(), PORT)));
        let connected = tokio::select! {
            connected = connecting => connected,
            () = cancel.cancelled() => return Err(ProvisionError::Cancelled),
        };
        let unavailable = |reason: String| {
            ProvisionError::Unavailable(format!(
                "cannot connect to `{host}:{PORT}`: {reason}; with `--static` the server must run already, in a \
                 container of that name on a network of the gateway's"
            ))
        };
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => return Err(unavailable(format!("no answer within {} s", self.timeout.as_secs()))),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot disable Nagle's algorithm");
        }
        let (stdout, stdin) = stream.into_split();
        Ok(Endpoint::Container(Running {
            // Closing the connection is all that there is to release.
            lease: self.reaper.lease(host, || async {}),
            streams: Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: StderrTail::default() },
        }))
    }

    async fn run_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Map<String, Json>,
        cancel: CancellationToken,
    ) -> Result<Completed, ProvisionError> {
        self.others.run_tool(server, tool, arguments, cancel).await
    }
}
