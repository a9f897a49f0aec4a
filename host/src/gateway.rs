//! The gateway: one MCP endpoint in front of many servers.
//!
//! It owns what clients see (the front), when servers are opened and how long they are kept (sessions), and the relay
//! between the two. How a server comes to run is behind [`Provision`]; this is the only user of `rmcp`.

pub mod client;
mod connection;
mod discovery;
mod ephemeral;
mod follow;
mod front;
mod guard;
mod http;
mod inventory;
mod relay;
mod remote;
mod restart;
mod room;
mod servers;
mod session;
mod standard_streams;
mod stdio;
mod tool_filter;
mod turns;
mod unread;
mod upstream;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::connection::RpcError;
pub use self::http::{Connections, HttpOptions, HttpTransport};
use self::inventory::{Inventory, Status};
pub use self::restart::RestartPolicy;
use self::servers::Servers;
use self::session::Principals;
pub use self::tool_filter::ToolFilter;
use self::upstream::Opening;
use crate::catalog::Entry;
use crate::intercept::Interceptor;
use crate::policy::remote_hosts::RemoteHosts;
use crate::provision::Provision;
use crate::screen::Screen;

/// How many calls a kept server serves at once.
pub const CALLS_OF_KEPT: usize = 32;
/// How many servers are started at once for the calls of one.
pub const CALLS_OF_FRESH: usize = 8;
/// How many calls may wait for a server.
pub const QUEUED_CALLS: usize = 128;

/// How long [`Gateway::shutdown`] waits for what is under way.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// How the gateway treats servers and calls.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// How long a server may take to greet and to list what it offers, and how long lists wait for servers, counted
    /// from the start of the gateway. Image pulls do not count.
    pub startup_timeout: Duration,
    /// How long a server may take to answer a request, whatever its method.
    pub call_timeout: Duration,
    /// Keeps every server for the whole client session instead of a call.
    pub long_lived: bool,
    /// The tools that clients may see and call.
    pub tools: ToolFilter,
    /// Logs a line for each call of a tool.
    pub log_calls: bool,
    /// Refuses what must not pass in either direction.
    pub screen: Option<Arc<Screen>>,
    /// Look at calls of tools and at their results, and may replace them, in this order.
    pub interceptors: Vec<Interceptor>,
    /// How long servers are kept for a client without a session after its last request.
    pub principal_idle: Duration,
    /// How many calls a server serves at once, over all clients. `None` means [`CALLS_OF_KEPT`] for servers that are
    /// kept and [`CALLS_OF_FRESH`] for those that are started for a call.
    pub calls_at_once: Option<usize>,
    /// How many more calls may wait for each server; those beyond are refused.
    pub queue: usize,
    /// How soon kept servers that ended are started again.
    pub restart: RestartPolicy,
    /// Where remote servers may be.
    pub remote_hosts: Arc<RemoteHosts>,
}

impl Default for GatewayOptions {
    /// Ten seconds to start, ten minutes to answer, a server per call, all tools, calls logged, nothing screened or
    /// intercepted, five minutes of idleness, remote servers at public addresses only; calls at once and in the queue as the constants of this module say.
    fn default() -> Self {
        Self {
            startup_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(600),
            long_lived: false,
            tools: ToolFilter::default(),
            log_calls: true,
            screen: None,
            interceptors: Vec::new(),
            principal_idle: Duration::from_secs(300),
            calls_at_once: None,
            queue: QUEUED_CALLS,
            restart: RestartPolicy::default(),
            remote_hosts: Arc::default(),
        }
    }
}

/// A server behind the gateway.
#[derive(Clone, Debug)]
pub struct ServerDefinition {
    /// Its name in the catalog.
    pub name: String,
    /// Its catalog entry.
    pub entry: Arc<Entry>,
}

/// How the discovery of a server ended.
#[derive(Clone, Debug)]
pub enum ServerStatus {
    /// It has not answered yet.
    Pending,
    /// It offers this many things.
    Ready {
        /// Tools.
        tools: usize,
        /// Prompts.
        prompts: usize,
        /// Resources and resource templates.
        resources: usize,
    },
    /// It is left out, for this reason, which names it.
    Failed(String),
}

/// Why a front could not be served.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The client did not open the conversation as MCP has it.
    #[error("the client did not speak MCP: {0}; it must begin with `initialize` or a request with its own metadata")]
    NotMcp(String),
    /// The listener failed.
    #[error("cannot serve HTTP: {0}")]
    Http(#[from] std::io::Error),
}

/// The gateway. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Gateway {
    core: Arc<Core>,
}

/// What all parts share.
pub(crate) struct Core {
    servers: Arc<Servers>,
    provision: Arc<dyn Provision>,
    options: GatewayOptions,
    inventory: Inventory,
    principals: Principals,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Core {
    fn opening(&self) -> Opening<'_> {
        Opening {
            provision: self.provision.as_ref(),
            timeout: self.options.startup_timeout,
            remote_hosts: &self.options.remote_hosts,
            tracker: &self.tracker,
        }
    }

    /// Makes these the servers and finds out what the new ones offer, in the background.
    fn replace(self: &Arc<Self>, definitions: Vec<ServerDefinition>, changed: &BTreeSet<String>) {
        let new = self.servers.replace(definitions, changed, &self.options, &self.cancel);
        self.inventory.rearrange();
        for index in new {
            let core = Arc::clone(self);
            self.tracker.spawn(async move {
                if let Some(server) = core.servers.get(index) {
                    discovery::discover(&core.opening(), &server, index, &core.inventory).await;
                }
            });
        }
    }
}

impl GatewayOptions {
    /// Remote servers are kept too: nothing runs here that a fresh start would isolate.
    fn keeps(&self, entry: &Entry) -> bool {
        self.long_lived || entry.long_lived || entry.remote.is_some() || entry.sse_endpoint.is_some()
    }
}

impl Gateway {
    /// Starts the discovery of all servers, concurrently and in the background. Must be called in a Tokio runtime.
    pub fn start(servers: Vec<ServerDefinition>, provision: Arc<dyn Provision>, options: GatewayOptions) -> Self {
        let deadline = tokio::time::Instant::now() + options.startup_timeout;
        let known = Arc::new(Servers::default());
        let core = Arc::new(Core {
            inventory: Inventory::new(Arc::clone(&known), options.tools.clone(), deadline),
            principals: Principals::new(options.principal_idle),
            servers: known,
            provision,
            options,
            tracker: TaskTracker::new(),
            cancel: CancellationToken::new(),
        });
        core.replace(servers, &BTreeSet::new());
        let shared = Arc::clone(&core);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(shared.principals.sweep_interval());
            while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                shared.principals.sweep(tokio::time::Instant::now());
            }
        });
        Self { core }
    }

    /// Makes these the servers from now on. One that is there already with an equal entry stays as it is, with whatever
    /// is kept of it, unless it is among `changed`, whose configuration is new. Calls under way go on; clients are told
    /// that lists changed.
    pub fn replace(&self, servers: Vec<ServerDefinition>, changed: &BTreeSet<String>) {
        self.core.replace(servers, changed);
    }

    /// The patterns of the tool filter that match no tool, as far as servers have answered.
    pub fn unused_tool_patterns(&self) -> Vec<String> {
        self.core.inventory.unused_patterns()
    }

    /// Waits until every server has answered or failed, or the start-up timeout is over.
    pub async fn ready(&self) {
        self.core.inventory.settled().await;
    }

    /// Waits until every server has answered or failed, however long images take to arrive.
    pub async fn complete(&self) {
        self.core.inventory.complete().await;
    }

    /// How the discovery of each server stands, in their order.
    pub fn status(&self) -> Vec<(String, ServerStatus)> {
        let snapshot = self.core.inventory.now();
        let status = |status: Option<&Status>| match status {
            None | Some(Status::Pending | Status::Retired) => ServerStatus::Pending,
            Some(Status::Ready(offer)) => ServerStatus::Ready {
                tools: offer.tools.len(),
                prompts: offer.prompts.len(),
                resources: offer.resources.len() + offer.templates.len(),
            },
            Some(Status::Failed(reason)) => ServerStatus::Failed(reason.clone()),
        };
        let servers = self.core.servers.active().into_iter();
        servers.map(|(index, server)| (server.name.clone(), status(snapshot.status.get(index)))).collect()
    }

    /// Ends everything: discovery, calls and kept servers. Returns true if nothing is left; what backends still
    /// remove afterwards is theirs to wait for.
    pub async fn shutdown(self) -> bool {
        self.core.cancel.cancel();
        self.core.principals.clear();
        self.core.tracker.close();
        tokio::time::timeout(SHUTDOWN, self.core.tracker.wait()).await.is_ok()
    }
}
