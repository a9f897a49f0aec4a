//! Carrying one request of a client to a server and everything that comes back, in order.
//!
//! What the server reports or asks while it works goes to the client that made the call, and to nobody else. The
//! server is told the abilities of that very client.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rmcp::RoleServer;
use rmcp::model::{ClientCapabilities, ClientResult, Implementation, ProgressToken, ServerNotification, ServerRequest};
use rmcp::service::{Peer, ServiceError};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Core;
use super::connection::{Closed, Connection, Event, RpcError};
use super::follow::follow;
use super::room::Exchange;
use super::servers::Server;
use super::session::Session;
use super::turns::Crowded;
use super::upstream::{Introduction, Upstream, UpstreamError};

/// How long a server that let a call run out of time may take to show that it lives.
const PING: Duration = Duration::from_secs(5);
/// How long one may whose call the client gave up: it may work on, and answer nobody until it is done.
const PATIENT_PING: Duration = Duration::from_secs(60);
/// How soon whoever waits for that notices that the server's session has ended.
const LOOK: Duration = Duration::from_millis(250);
/// How many questions of a server the client is asked at once during one call.
const MAX_QUESTIONS: usize = 16;

/// The client's side of one request.
pub(crate) struct Caller {
    /// Reaches the client.
    pub peer: Peer<RoleServer>,
    /// Cancelled when the client gives up or is gone.
    pub cancel: CancellationToken,
    /// What the client can be asked; none if it cannot be sent requests.
    pub capabilities: Option<ClientCapabilities>,
    /// The client's name and version.
    pub client_info: Option<Implementation>,
    /// The client's own token for progress.
    pub progress_token: Option<ProgressToken>,
    /// From which level on the client wants log messages. `None` leaves it to the server.
    pub log_level: Option<String>,
    /// Whether the client takes log messages for this request.
    pub wants_logs: bool,
    /// Keeps long-lived servers.
    pub session: Arc<Session>,
    /// What the request and its answer take up, where that is counted beyond the call.
    pub exchange: Option<Arc<Exchange>>,
}

impl Caller {
    /// Who a server is told that it serves.
    fn introduction(&self) -> Introduction {
        let client_info = self.client_info.as_ref().and_then(|info| serde_json::to_value(info).ok());
        Introduction {
            client_info: client_info.unwrap_or_else(|| Introduction::gateway().client_info),
            capabilities: Value::Object(self.abilities()),
            room: self.session.room.clone(),
        }
    }

    /// The abilities that are relayed. Announcing others would make servers ask for what cannot be delivered.
    fn abilities(&self) -> Map<String, Value> {
        let Some(Ok(Value::Object(capabilities))) = self.capabilities.as_ref().map(serde_json::to_value) else {
            return Map::new();
        };
        let relayed = capabilities.into_iter().filter_map(|(name, value)| match name.as_str() {
            "sampling" | "elicitation" => Some((name, value)),
            // Without `listChanged`: changes of roots are not passed on.
            "roots" => Some((name, json!({}))),
            _ => None,
        });
        relayed.collect()
    }
}

/// Why a request has no result.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// The server answered with an error, which is the client's to see as it is.
    #[error("{0}")]
    Rpc(RpcError),
    /// The gateway does not let it pass.
    #[error("{0}")]
    Refused(String),
    /// The server cannot be used.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// A kept server ended during the call.
    #[error("{0}; what the call did is not known, and the next call starts the server again")]
    Lost(UpstreamError),
    /// It took too long.
    #[error(
        "server `{server}` did not answer within {seconds} s; the request was cancelled; raise `--call-timeout` if it needs longer"
    )]
    TimedOut {
        /// The server.
        server: String,
        /// The limit in seconds.
        seconds: u64,
    },
}

/// Sends a request to a server, opening it if need be, and relays until there is a response.
///
/// # Errors
/// See [`CallError`]. Whatever the outcome, a server that was opened for this request alone is released in the
/// background.
pub(crate) async fn forward(
    core: &Arc<Core>,
    server: usize,
    method: &str,
    params: Value,
    caller: &Caller,
) -> Result<Value, CallError> {
    let Some(definition) = core.servers.get(server) else {
        return Err(CallError::Refused("the server is not enabled any more; list the tools again".to_owned()));
    };
    // The end of the gateway waits for what is under way here.
    let _under_way = core.tracker.token();
    let cancel = core.cancel.child_token();
    // The server that is kept, once it is asked.
    let asked = OnceLock::new();
    let work = async {
        let _turn = turn(core, &definition).await?;
        // Only for a server that is not there yet: the calls of one that is kept are to cost as little as they can.
        let open = || {
            Box::pin(async { Upstream::open(&core.opening(), &definition.name, &caller.introduction(), &cancel).await })
        };
        let (is_kept, policy) = (core.options.keeps(&definition.entry), &core.options.restart);
        let upstream = if is_kept {
            caller.session.server(server, &definition.name, policy, open).await?
        } else {
            Arc::new(open().await?)
        };
        if is_kept {
            follow(core, server, &upstream, &caller.session);
            let _ = asked.set(Arc::clone(&upstream));
        }
        let result = converse(core, &upstream, method, params, caller).await;
        match result {
            Err(CallError::Upstream(error)) => {
                if is_kept {
                    caller.session.forget(server, &upstream, policy, error.to_string()).await;
                }
                upstream.log_last_words(&error).await;
                Err(if is_kept { CallError::Lost(error) } else { error.into() })
            }
            Err(error @ CallError::TimedOut { .. }) if is_kept => {
                replace_if_stuck(core, server, &upstream, caller, PING, error.to_string());
                Err(error)
            }
            result => result,
        }
    };
    // Dropping the work cancels provisioning and the request at the server.
    let _cancels = cancel.clone().drop_guard();
    tokio::select! {
        result = work => result,
        () = caller.cancel.cancelled() => {
            if let Some(upstream) = asked.get() {
                let reason = "it answered neither a call that was given up nor a `ping`".to_owned();
                replace_if_stuck(core, server, upstream, caller, PATIENT_PING, reason);
            }
            Err(UpstreamError::Cancelled.into())
        }
        () = core.cancel.cancelled() => Err(UpstreamError::Cancelled.into()),
    }
}

/// Waits until the server may serve one more call.
///
/// # Errors
/// [`UpstreamError::Busy`].
pub(crate) async fn turn<'a>(core: &Core, server: &'a Server) -> Result<SemaphorePermit<'a>, UpstreamError> {
    let busy = |crowded| UpstreamError::Busy {
        server: server.name.clone(),
        at_once: server.turns.at_once(),
        reason: match crowded {
            Crowded::QueueIsFull => "the queue is full",
            Crowded::WaitedTooLong => "the call waited for as long as a call may take",
        },
    };
    server.turns.take(core.options.call_timeout).await.map_err(busy)
}

/// A kept server that does not even answer a `ping` after it let a call run out of time, or be given up, is replaced for
/// the next call. It is asked once at a time, and kept for nobody whose session has ended.
fn replace_if_stuck(
    core: &Arc<Core>,
    server: usize,
    upstream: &Arc<Upstream>,
    caller: &Caller,
    patience: Duration,
    reason: String,
) {
    let Some(doubt) = upstream.doubt() else { return };
    let (session, upstream, policy) = (Arc::downgrade(&caller.session), Arc::clone(upstream), core.options.restart);
    let cancel = core.cancel.clone();
    core.tracker.spawn(async move {
        let ended = async {
            while session.strong_count() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let is_stuck = tokio::select! {
            answer = tokio::time::timeout(patience, upstream.ask("ping", json!({}))) => answer.is_err(),
            () = ended => false,
            () = cancel.cancelled() => false,
        };
        drop(doubt);
        if let (true, Some(session)) = (is_stuck, session.upgrade()) {
            tracing::warn!(server = upstream.server(), "a server does not answer any more and is replaced");
            session.forget(server, &upstream, &policy, reason).await;
        }
    });
}

async fn converse(
    core: &Core,
    upstream: &Upstream,
    method: &str,
    params: Value,
    caller: &Caller,
) -> Result<Value, CallError> {
    let Some(connection) = upstream.connection() else { return Err(upstream.broken(Closed::Dropped).into()) };
    let limit = core.options.call_timeout;
    let exchange = async {
        if let Some(level) = &caller.log_level {
            upstream.set_log_level(level).await;
        }
        let place = caller.exchange.as_ref().map(|exchange| exchange.request.clone()).unwrap_or_default();
        let mut call = connection.request(method, params, caller.progress_token.is_some(), place).await;
        let mut answers = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                event = call.next() => event,
                Some(()) = answers.next(), if !answers.is_empty() => continue,
            };
            match event {
                Event::Notification { method, params } => notify(caller, &method, params).await,
                Event::Request { id, .. } if answers.len() >= MAX_QUESTIONS => {
                    let message = format!("more than {MAX_QUESTIONS} questions are open; wait for the answers");
                    connection.answer(id, Err(RpcError { code: RpcError::INTERNAL, message, data: None })).await;
                }
                Event::Request { id, method, params } => {
                    let (place, asking) = (call.place(), ask(connection, caller, id, method, params));
                    answers.push(async move {
                        let _place = place;
                        asking.await;
                    });
                }
                Event::Response(result) => {
                    if let Some(exchange) = &caller.exchange {
                        exchange.keep(call.place());
                    }
                    return result.map_err(CallError::Rpc);
                }
                Event::Closed(reason) => return Err(upstream.broken(reason).into()),
            }
        }
    };
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(CallError::TimedOut { server: upstream.server().to_owned(), seconds: limit.as_secs() }))
}

/// Passes a notification on and waits until it is sent, so that the next cannot overtake it.
async fn notify(caller: &Caller, method: &str, mut params: Value) {
    match method {
        "notifications/progress" => {
            let (Some(token), Some(object)) = (&caller.progress_token, params.as_object_mut()) else { return };
            object.insert("progressToken".to_owned(), json!(token));
        }
        "notifications/message" if !caller.wants_logs => return,
        // It cancels what it asked the gateway, not the client.
        "notifications/cancelled" => return,
        _ => {}
    }
    match serde_json::from_value::<ServerNotification>(json!({ "method": method, "params": params })) {
        Ok(notification) => {
            if let Err(error) = caller.peer.send_notification(notification).await {
                tracing::debug!(method, %error, "a notification did not reach the client");
            }
        }
        Err(error) => tracing::debug!(method, %error, "dropped a malformed notification"),
    }
}

/// Passes a server's request on to the client and the answer back.
async fn ask(connection: &Connection, caller: &Caller, id: Value, method: String, params: Value) {
    let ability = match method.as_str() {
        "sampling/createMessage" => "sampling",
        "elicitation/create" => "elicitation",
        "roots/list" => "roots",
        _ => "",
    };
    let result = if caller.abilities().contains_key(ability) {
        ask_client(caller, &method, params).await
    } else {
        Err(RpcError::method_not_found(&method))
    };
    connection.answer(id, result).await;
}

async fn ask_client(caller: &Caller, method: &str, params: Value) -> Result<Value, RpcError> {
    let invalid = |error: serde_json::Error| RpcError { code: -32602, message: error.to_string(), data: None };
    let request: ServerRequest =
        serde_json::from_value(json!({ "method": method, "params": params })).map_err(invalid)?;
    match caller.peer.send_request(request).await {
        Ok(ClientResult::EmptyResult(_)) => Ok(json!({})),
        Ok(result) => serde_json::to_value(result).map_err(invalid),
        Err(ServiceError::McpError(error)) => Err(RpcError {
            code: error.code.0.into(),
            message: error.message.into_owned(),
            data: error.data.map(Box::new),
        }),
        Err(error) => {
            Err(RpcError { code: -32603, message: format!("the client did not answer: {error}"), data: None })
        }
    }
}
