//! A server that was provisioned and greeted: its connection together with what must be released after it.
//!
//! It provisions through [`Provision`] and speaks the handshake. When to open one and how long to keep it is decided
//! elsewhere.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::connection::{AskError, Closed, Connection, RpcError};
use super::remote;
use super::room::Room;
use crate::capability::container_runtime::StderrTail;
use crate::lease::Lease;
use crate::policy::remote_hosts::RemoteHosts;
use crate::provision::{Endpoint, Provision, ProvisionError};

/// The revision that servers are greeted with. They may answer with an older one.
const PROTOCOL_VERSION: &str = "2025-11-25";
/// How long a server has to read what was sent before it is ended.
const PARTING: Duration = Duration::from_millis(500);

/// How long a server may take to take a log level.
const LEVEL: Duration = Duration::from_secs(5);
/// How long to wait for the rest of a dead server's standard error.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// On whose behalf a server is greeted.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    /// The client's name and version.
    pub client_info: Value,
    /// What the client can do.
    pub capabilities: Value,
    /// Room for large messages that the server sends.
    pub room: Room,
}

impl Introduction {
    /// The gateway on its own: it can do nothing that a server could ask for.
    pub(crate) fn gateway() -> Self {
        Self {
            client_info: json!({ "name": "docker-mcp", "version": env!("CARGO_PKG_VERSION") }),
            capabilities: json!({}),
            room: Room::default(),
        }
    }
}

/// Why a server cannot be used. The text names the server and is fit for a client: nothing private, no output of the
/// server but the first characters of what is no MCP.
#[derive(Clone, Debug, Error)]
pub(crate) enum UpstreamError {
    /// It could not be provisioned.
    #[error("server `{server}` could not be provisioned: {source}")]
    Provision {
        /// The server.
        server: String,
        /// Why.
        source: ProvisionError,
    },
    /// It did not answer in time.
    #[error(
        "server `{server}` did not finish the MCP handshake within {seconds} s; check that it speaks MCP on its standard \
         streams, or raise `--max-server-startup-timeout`"
    )]
    Hangs {
        /// The server.
        server: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// It ended or broke the protocol.
    #[error("server `{server}` {reason}")]
    Broken {
        /// The server.
        server: String,
        /// Why.
        reason: Closed,
    },
    /// It refused.
    #[error("server `{server}` answered `{method}` with an error: {error}")]
    Refused {
        /// The server.
        server: String,
        /// What it was asked.
        method: &'static str,
        /// Its answer.
        error: RpcError,
    },
    /// The entry cannot be used as it is.
    #[error("server `{server}` {reason}")]
    Unusable {
        /// The server.
        server: String,
        /// Why and what to do.
        reason: String,
    },
    /// It ended too often in a row.
    #[error(
        "server `{server}` failed {in_a_row} times in a row and is tried again in {seconds} s; the last time: {reason}"
    )]
    Pausing {
        /// The server.
        server: String,
        /// How often it failed.
        in_a_row: u32,
        /// When it is tried again.
        seconds: u64,
        /// Why it failed the last time.
        reason: String,
    },
    /// Too many calls want it.
    #[error(
        "server `{server}` is busy: it serves {at_once} calls at once, and {reason}; try again later, or raise \
         `--max-concurrent-calls`"
    )]
    Busy {
        /// The server.
        server: String,
        /// How many calls it serves at once.
        at_once: usize,
        /// What is the matter with the queue.
        reason: &'static str,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}

impl UpstreamError {
    /// Of a server that could not be provisioned.
    pub(crate) fn from_provision(server: &str, source: ProvisionError) -> Self {
        match source {
            ProvisionError::Cancelled => Self::Cancelled,
            source => Self::Provision { server: server.to_owned(), source },
        }
    }
}

/// How servers are opened.
pub(crate) struct Opening<'a> {
    /// Provisions.
    pub provision: &'a dyn Provision,
    /// The bound on the handshake.
    pub timeout: Duration,
    /// Where remote servers may be.
    pub remote_hosts: &'a Arc<RemoteHosts>,
    /// Where the parting from a server is tracked, so that the end of the gateway can wait for it.
    pub tracker: &'a TaskTracker,
}

/// An open server. Dropping it ends and releases it in the background.
pub(crate) struct Upstream {
    server: String,
    connection: Option<Connection>,
    stderr: Option<StderrTail>,
    // In a lock only because a release can be sent between threads, but not shared.
    lease: Mutex<Option<Lease>>,
    tracker: TaskTracker,
    capabilities: Value,
    log_level: Mutex<Option<String>>,
    opened: Instant,
    is_followed: AtomicBool,
    doubts: Arc<Semaphore>,
}

impl Upstream {
    /// Provisions a server and greets it.
    ///
    /// # Errors
    /// See [`UpstreamError`]; nothing is left behind.
    pub(crate) async fn open(
        opening: &Opening<'_>,
        server: &str,
        introduction: &Introduction,
        cancel: &CancellationToken,
    ) -> Result<Self, UpstreamError> {
        let span = tracing::info_span!("upstream", server);
        Self::open_in_span(opening, server, introduction, cancel).instrument(span).await
    }

    async fn open_in_span(
        opening: &Opening<'_>,
        server: &str,
        introduction: &Introduction,
        cancel: &CancellationToken,
    ) -> Result<Self, UpstreamError> {
        let endpoint = opening.provision.provision(server, cancel.child_token()).await;
        let endpoint = endpoint.map_err(|source| UpstreamError::from_provision(server, source))?;
        let mut upstream = Self {
            server: server.to_owned(),
            connection: None,
            stderr: None,
            lease: Mutex::default(),
            tracker: opening.tracker.clone(),
            capabilities: Value::Null,
            log_level: Mutex::default(),
            opened: Instant::now(),
            is_followed: AtomicBool::new(false),
            doubts: Arc::new(Semaphore::new(1)),
        };
        match endpoint {
            Endpoint::Container(running) => {
                upstream.lease = Mutex::new(Some(running.lease));
                upstream.stderr = Some(running.streams.stderr);
                let (stdin, stdout) = (running.streams.stdin, running.streams.stdout);
                upstream.connection = Some(Connection::over_streams(stdin, stdout, introduction.room.clone()));
            }
            Endpoint::Remote(address) => {
                let connection = remote::connect(&address, opening.remote_hosts, introduction.room.clone())
                    .map_err(|reason| UpstreamError::Unusable { server: server.to_owned(), reason })?;
                upstream.connection = Some(connection);
            }
        }
        let greeting = tokio::select! {
            greeting = tokio::time::timeout(opening.timeout, upstream.greet(introduction)) => greeting,
            () = cancel.cancelled() => return Err(UpstreamError::Cancelled),
        };
        let greeting = greeting.unwrap_or_else(|_| {
            if upstream.is_remote() {
                return Err(upstream.mute(opening.timeout));
            }
            Err(match upstream.connection.as_ref().and_then(Connection::garbage) {
                Some(garbage) => upstream.broken(Closed::Garbage(garbage)),
                None => UpstreamError::Hangs { server: server.to_owned(), seconds: opening.timeout.as_secs() },
            })
        });
        match greeting {
            Ok(capabilities) => {
                upstream.capabilities = capabilities;
                // Its life begins when it can be used, however long that took.
                upstream.opened = Instant::now();
            }
            Err(error) => {
                upstream.log_last_words(&error).await;
                return Err(error);
            }
        }
        Ok(upstream)
    }

    /// Whether it runs elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        self.stderr.is_none()
    }

    /// Of a remote server that did not answer in time, which says nothing of whether it ever will.
    pub(crate) fn mute(&self, timeout: Duration) -> UpstreamError {
        self.broken(Closed::Away(format!(
            "did not answer within {} s; check `remote.url` and the network, or raise `--max-server-startup-timeout`",
            timeout.as_secs()
        )))
    }

    async fn greet(&self, introduction: &Introduction) -> Result<Value, UpstreamError> {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": introduction.capabilities,
            "clientInfo": introduction.client_info,
        });
        let mut greeting = self.ask("initialize", params).await?;
        if let Some(connection) = self.connection() {
            connection.notify("notifications/initialized", json!({})).await;
        }
        Ok(greeting.get_mut("capabilities").map(Value::take).unwrap_or_default())
    }

    /// The name of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// What the server said that it can do.
    pub(crate) fn capabilities(&self) -> &Value {
        &self.capabilities
    }

    /// The connection, for requests. There is always one while this is open.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Whether the server can still be asked.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_closed)
    }

    /// When it ended, as far as it has, and how long it could be used until then.
    pub(crate) fn end_of_life(&self) -> (Instant, Duration) {
        let end = self.connection().and_then(Connection::closed_at).unwrap_or_else(Instant::now);
        (end, end.saturating_duration_since(self.opened))
    }

    /// Why it ended, for one that did.
    pub(crate) fn end(&self) -> UpstreamError {
        self.broken(self.connection().and_then(Connection::reason).unwrap_or(Closed::Ended))
    }

    /// To be told of changes of its lists, for the first who asks.
    pub(crate) fn changes_for_first(&self) -> Option<watch::Receiver<()>> {
        if self.is_followed.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.connection().map(Connection::list_changes)
    }

    /// For the one who finds out whether it still answers, until that is dropped.
    pub(crate) fn doubt(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.doubts).try_acquire_owned().ok()
    }

    /// Logs why the server cannot be used any more, with the last lines of its standard error. One that is away has none, and
    /// whoever wants it says so: it may be asked for again and again.
    pub(crate) async fn log_last_words(&self, error: &UpstreamError) {
        if matches!(error, UpstreamError::Broken { reason: Closed::Away(_), .. }) {
            return;
        }
        // Standard error is read by another task, which may be a little behind.
        tokio::time::sleep(LAST_WORDS).await;
        let stderr = self.stderr.as_ref().map(StderrTail::lines).unwrap_or_default().join("\n");
        tracing::warn!(server = self.server, %error, stderr, "a server cannot be used");
    }

    /// Asks and waits, outside of any client's call.
    ///
    /// # Errors
    /// [`UpstreamError::Broken`] or [`UpstreamError::Refused`].
    pub(crate) async fn ask(&self, method: &'static str, params: Value) -> Result<Value, UpstreamError> {
        let Some(connection) = self.connection() else { return Err(self.broken(Closed::Dropped)) };
        connection.ask(method, params).await.map_err(|error| match error {
            AskError::Rpc(error) => UpstreamError::Refused { server: self.server.clone(), method, error },
            AskError::Closed(reason) => self.broken(reason),
        })
    }

    /// The error for a server that ended or broke the protocol.
    pub(crate) fn broken(&self, reason: Closed) -> UpstreamError {
        UpstreamError::Broken { server: self.server.clone(), reason }
    }

    /// Tells the server from which level on the client wants its log messages, if it logs and does not know yet. Waits a
    /// few seconds for it at most: what it does with the level is its own business.
    pub(crate) async fn set_log_level(&self, level: &str) {
        if self.capabilities.get("logging").is_none() {
            return;
        }
        {
            let mut known = self.log_level.lock().unwrap_or_else(PoisonError::into_inner);
            if known.as_deref() == Some(level) {
                return;
            }
            *known = Some(level.to_owned());
        }
        match tokio::time::timeout(LEVEL, self.ask("logging/setLevel", json!({ "level": level }))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(server = self.server, %error, "the log level was not taken"),
            Err(_) => tracing::debug!(server = self.server, "the server did not say whether it took the log level"),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let lease = self.lease.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of a runtime there is nobody to wait either; the lease then releases itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tracker.spawn_on(part(connection, lease), &runtime);
        }
    }
}

/// Lets the last messages, such as a cancellation, go out before the server is ended.
async fn part(connection: Option<Connection>, lease: Option<Lease>) {
    if let Some(connection) = connection {
        let written = connection.written();
        drop(connection);
        let _ = tokio::time::timeout(PARTING, written).await;
    }
    if let Some(lease) = lease {
        lease.release().await;
    }
}
