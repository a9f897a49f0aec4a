//! Carrying one request of a client to a server and everything that comes back, in order.
//!
//! What the server reports or asks while it works goes to the client that made the call, and to nobody else. The
//! server is told the abilities of that very client.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rmcp::RoleServer;
use rmcp::model::{ClientResult, ProgressToken, ServerNotification, ServerRequest};
use rmcp::service::{Peer, ServiceError};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::Core;
use super::connection::{Closed, Connection, Event, RpcError};
use super::session::Session;
use super::upstream::{Introduction, Upstream, UpstreamError};

/// The client's side of one request.
pub(crate) struct Caller {
    /// Reaches the client.
    pub peer: Peer<RoleServer>,
    /// Cancelled when the client gives up or is gone.
    pub cancel: CancellationToken,
    /// Whether the client can be sent requests, and which.
    pub abilities: Map<String, Value>,
    /// The client's name and version.
    pub client_info: Option<Value>,
    /// The client's own token for progress.
    pub progress_token: Option<ProgressToken>,
    /// From which level on the client wants log messages. `None` leaves it to the server.
    pub log_level: Option<String>,
    /// Whether the client takes log messages for this request.
    pub wants_logs: bool,
    /// Keeps long-lived servers.
    pub session: Arc<Session>,
}

/// Why a request has no result.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// The server answered with an error, which is the client's to see as it is.
    #[error("{0}")]
    Rpc(RpcError),
    /// The server cannot be used.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// It took too long.
    #[error("server `{server}` did not answer within {seconds} s; the request was cancelled")]
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
    core: &Core,
    server: usize,
    method: &str,
    params: Value,
    caller: &Caller,
) -> Result<Value, CallError> {
    let Some(definition) = core.servers.get(server) else {
        return Err(UpstreamError::Cancelled.into());
    };
    // The end of the gateway waits for what is under way here.
    let _under_way = core.tracker.token();
    let cancel = core.cancel.child_token();
    let introduction = Introduction {
        client_info: caller.client_info.clone().unwrap_or_else(|| Introduction::gateway().client_info),
        capabilities: Value::Object(caller.abilities.clone()),
    };
    let work = async {
        let opening = core.opening();
        let open = Upstream::open(&opening, &definition.name, &introduction, &cancel);
        let is_kept = core.is_long_lived(definition);
        let upstream = if is_kept { caller.session.server(server, open).await? } else { Arc::new(open.await?) };
        if let Some(level) = &caller.log_level {
            upstream.set_log_level(level).await;
        }
        let result = converse(core, &upstream, method, params, caller).await;
        if let Err(CallError::Upstream(error)) = &result {
            upstream.log_last_words(error).await;
            if is_kept {
                caller.session.forget(server, &upstream).await;
            }
        }
        result
    };
    // Dropping the work cancels provisioning and the request at the server.
    let _cancels = cancel.clone().drop_guard();
    tokio::select! {
        result = work => result,
        () = caller.cancel.cancelled() => Err(UpstreamError::Cancelled.into()),
        () = core.cancel.cancelled() => Err(UpstreamError::Cancelled.into()),
    }
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
        let mut call = connection.request(method, params, caller.progress_token.is_some()).await;
        let mut answers = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                event = call.next() => event,
                Some(()) = answers.next(), if !answers.is_empty() => continue,
            };
            match event {
                Event::Notification { method, params } => notify(caller, &method, params).await,
                Event::Request { id, method, params } => answers.push(ask(connection, caller, id, method, params)),
                Event::Response(result) => return result.map_err(CallError::Rpc),
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
        // The server's own lists are not the gateway's, and it cancels what it asked the gateway, not the client.
        "notifications/cancelled"
        | "notifications/tools/list_changed"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed" => return,
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
    let result = if caller.abilities.contains_key(ability) {
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
