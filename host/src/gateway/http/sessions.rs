//! The sessions of HTTP clients: rmcp's own, but no more than a given number.

use std::cell::Cell;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager};
use thiserror::Error;

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
    opening: tokio::sync::Mutex<()>,
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
        Self { local, most, opening: tokio::sync::Mutex::default() }
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
        Ok(self.local.create_stream(id, message).await?)
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
        Ok(self.local.resume(id, last_event_id).await?)
    }
}
