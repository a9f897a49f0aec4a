//! The sessions of HTTP clients: rmcp's own, but no more than a given number, and none is idle while a client waits for
//! an answer.

use std::cell::Cell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use futures::{Stream, StreamExt as _};
use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use thiserror::Error;

use crate::gateway::room::Exchange;

/// A request that no session has.
const NO_REQUEST: u64 = u64::MAX;
/// When a client that was turned away may try again, in seconds.
const RETRY_AFTER: &str = "30";

tokio::task_local! {
    /// Whether the request under way was turned away.
    static TURNED_AWAY: Cell<bool>;
}

/// Manages at most so many sessions.
pub(super) struct Sessions {
    local: LocalSessionManager,
    most: usize,
    idle: Duration,
    opening: tokio::sync::Mutex<()>,
    awaited: Arc<Awaited>,
}

/// For how many answers the clients of sessions wait.
#[derive(Debug, Default)]
struct Awaited(Mutex<HashMap<SessionId, usize>>);

impl Awaited {
    fn counts(&self) -> MutexGuard<'_, HashMap<SessionId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream on which a client waits for an answer.
struct Answering<S> {
    stream: Pin<Box<S>>,
    session: SessionId,
    awaited: Arc<Awaited>,
    /// What the answer takes up until it was taken from the stream.
    _exchange: Option<Arc<Exchange>>,
}

impl<S: Stream> Answering<S> {
    fn new(stream: S, session: &SessionId, awaited: &Arc<Awaited>, exchange: Option<Arc<Exchange>>) -> Self {
        *awaited.counts().entry(session.clone()).or_default() += 1;
        let (stream, session, awaited) = (Box::pin(stream), session.clone(), Arc::clone(awaited));
        Self { stream, session, awaited, _exchange: exchange }
    }
}

/// What a request takes up.
fn exchange_of(message: &ClientJsonRpcMessage) -> Option<Arc<Exchange>> {
    let ClientJsonRpcMessage::Request(request) = message else { return None };
    let parts = request.request.extensions().get::<Parts>()?;
    parts.extensions.get::<Arc<Exchange>>().map(Arc::clone)
}

impl<S: Stream> Stream for Answering<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl<S> Drop for Answering<S> {
    fn drop(&mut self) {
        let mut counts = self.awaited.counts();
        if let Some(count) = counts.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.session);
            }
        }
    }
}

/// Why a session cannot be used.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    /// There are too many.
    #[error("there are too many sessions")]
    TooMany,
    /// rmcp says so.
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl Sessions {
    /// At most `most` sessions, each of which ends when it was idle for so long.
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        let mut local = LocalSessionManager::default();
        let mut session = SessionConfig::default();
        session.keep_alive = Some(idle);
        local.session_config = session;
        Self { local, most, idle, opening: tokio::sync::Mutex::default(), awaited: Arc::default() }
    }

    /// Keeps the sessions whose clients wait for an answer from being idle, for ever. rmcp counts from the last message in
    /// either direction, and a call may take longer than that.
    pub(super) async fn keep_awake(&self) {
        let mut ticks = tokio::time::interval((self.idle / 4).max(Duration::from_millis(20)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let waiting: Vec<_> = self.awaited.counts().keys().cloned().collect();
            let sessions = self.local.sessions.read().await;
            let handles: Vec<_> = waiting.iter().filter_map(|id| sessions.get(id).cloned()).collect();
            drop(sessions);
            // Closing what is not there changes nothing, and counts as a message. A session that does not take it has
            // others waiting.
            let pokes = handles.iter().map(|handle| {
                tokio::time::timeout(Duration::from_secs(1), handle.close_request_wise_channel(NO_REQUEST))
            });
            join_all(pokes).await;
        }
    }
}

/// Answers a request that was turned away so that the client knows why and when to come again. rmcp alone would call
/// it an internal error.
pub(super) async fn explain(State(most): State<usize>, request: Request, next: Next) -> Response {
    let work = async {
        let response = next.run(request).await;
        if !TURNED_AWAY.with(Cell::get) {
            return response;
        }
        let text = format!(
            "the gateway has {most} sessions already: end one with DELETE, wait until an idle one ends, or raise \
             `--max-sessions`\n"
        );
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response()
    };
    TURNED_AWAY.scope(Cell::new(false), work).await
}

impl SessionManager for Sessions {
    type Error = SessionError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionError> {
        // One after the other, so that the count is right.
        let _opening = self.opening.lock().await;
        if self.local.sessions.read().await.len() >= self.most {
            // Fails only outside of `explain`, where there is nobody to tell.
            let _ = TURNED_AWAY.try_with(|turned_away| turned_away.set(true));
            tracing::warn!(most = self.most, "turned a client away: there are too many sessions");
            return Err(SessionError::TooMany);
        }
        Ok(self.local.create_session().await?)
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionError> {
        Ok(self.local.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionError> {
        Ok(self.local.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionError> {
        Ok(self.local.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        let exchange = exchange_of(&message);
        Ok(Answering::new(self.local.create_stream(id, message).await?, id, &self.awaited, exchange))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), SessionError> {
        Ok(self.local.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        Ok(self.local.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionError> {
        // Events that belong to a request have it in their id; one who asks for the others waits for no answer.
        let is_answer = last_event_id.contains('/');
        let stream = self.local.resume(id, last_event_id).await?;
        Ok(match is_answer {
            true => Answering::new(stream, id, &self.awaited, None).left_stream(),
            false => stream.right_stream(),
        })
    }
}
