//! The deprecated HTTP+SSE transport of the 2024-11-05 revision, for clients that know no other: `GET /sse` opens a
//! session and streams everything that the gateway sends, `POST /message?sessionId=…` takes what the client sends.
//!
//! A session lives as long as its stream, unless it is idle for too long. The bounds are those of streamable HTTP.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use rmcp::RoleServer;
use rmcp::ServiceExt as _;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, GetExtensions as _, RequestId, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{HttpOptions, MAX_BODY};
use crate::gateway::Core;
use crate::gateway::front::Front;
use crate::gateway::room::Exchange;
use crate::gateway::unread::{Unread, Waiting};

/// How many messages wait between a request and the session, and between the session and the stream.
const QUEUE: usize = 64;
/// How often a stream without events shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client that was turned away may try again, in seconds.
const RETRY_AFTER: &str = "30";

/// All sessions.
struct Sessions {
    core: Arc<Core>,
    most: usize,
    idle: Duration,
    ends: CancellationToken,
    open: Mutex<HashMap<String, Session>>,
}

/// What requests need of a session.
#[derive(Clone)]
struct Session {
    incoming: mpsc::Sender<ClientJsonRpcMessage>,
    /// Told of every request.
    used: mpsc::Sender<()>,
}

/// An event of a session, and what counts it as unread.
type Outgoing = (Event, Waiting);

/// The routes of the transport.
pub(super) fn router(core: Arc<Core>, options: &HttpOptions, ends: CancellationToken) -> Router {
    let sessions = Arc::new(Sessions {
        core,
        most: options.max_sessions,
        idle: options.session_idle,
        ends,
        open: Mutex::default(),
    });
    Router::new().route("/sse", get(open)).route("/message", post(message)).with_state(sessions)
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a session and streams its events.
async fn open(State(sessions): State<Arc<Sessions>>) -> Response {
    let mut random = [0_u8; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the system has no randomness");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let id = format!("{:032x}", u128::from_le_bytes(random));
    let (incoming, messages) = mpsc::channel(QUEUE);
    let (outgoing, events) = mpsc::channel(QUEUE);
    let (used, uses) = mpsc::channel(1);
    let requests = Arc::new(Requests { under_way: Mutex::default(), used: used.downgrade() });
    {
        let mut open = sessions.open();
        if open.len() >= sessions.most {
            tracing::warn!(most = sessions.most, "turned a client away: there are too many sessions");
            let text =
                format!("the gateway has {} sessions already: close one, or raise `--max-sessions`\n", sessions.most);
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response();
        }
        open.insert(id.clone(), Session { incoming, used });
    }
    let ends = sessions.ends.child_token();
    let stream_ends = ends.clone();
    // Dropped with the stream, which is how the end of the connection is seen.
    let connected = ends.clone().drop_guard();
    let endpoint = Event::default().event("endpoint").data(format!("/message?sessionId={id}"));
    tokio::spawn(async move {
        let unread = Unread::default();
        let transport = Channels { messages, outgoing, unread, requests: Arc::clone(&requests) };
        let front = Front::new(Arc::clone(&sessions.core));
        let conversation = async {
            match front.serve_with_ct(transport, ends.clone()).await {
                // Fails only if the conversation panicked, which is logged by then.
                Ok(running) => drop(running.waiting().await),
                Err(error) => tracing::debug!(%error, "a client did not open the conversation"),
            }
        };
        tokio::select! {
            () = conversation => {}
            () = ends.cancelled() => {}
            () = sessions.core.cancel.cancelled() => {}
            () = idle(uses, sessions.idle, &requests) => tracing::debug!("a session was idle for too long"),
        }
        ends.cancel();
        sessions.open().remove(&id);
    });
    let first = stream::once(async { Ok::<_, Infallible>(endpoint) });
    let rest = stream::unfold((events, stream_ends, connected), next_event);
    let events = futures::StreamExt::chain(first, rest);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

type Events = (mpsc::Receiver<Outgoing>, CancellationToken, DropGuard);

async fn next_event((mut events, ends, connected): Events) -> Option<(Result<Event, Infallible>, Events)> {
    let event = tokio::select! {
        biased;
        event = events.recv() => event?,
        () = ends.cancelled() => return None,
    };
    // From here on it is on its way.
    let (event, _waiting) = event;
    Some((Ok(event), (events, ends, connected)))
}

/// Resolves when nothing was used for so long, and no answer is owed.
async fn idle(mut uses: mpsc::Receiver<()>, limit: Duration, requests: &Requests) {
    loop {
        match tokio::time::timeout(limit, uses.recv()).await {
            Ok(Some(())) => {}
            Err(_) if !requests.under_way().is_empty() => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// The requests of a session that are not answered yet.
struct Requests {
    under_way: Mutex<HashSet<RequestId>>,
    /// Told when one is answered: a session is not idle before that.
    used: mpsc::WeakSender<()>,
}

impl Requests {
    fn under_way(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self, message: &ClientJsonRpcMessage) {
        match message {
            ClientJsonRpcMessage::Request(request) => {
                self.under_way().insert(request.id.clone());
            }
            // One that is cancelled gets no answer.
            ClientJsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.under_way().remove(id);
                }
            }
            _ => {}
        }
    }

    fn goes(&self, message: &ServerJsonRpcMessage) {
        let id = match message {
            ServerJsonRpcMessage::Response(response) => Some(&response.id),
            ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        if id.is_some_and(|id| self.under_way().remove(id))
            && let Some(used) = self.used.upgrade()
        {
            // Full means that it was just told.
            let _ = used.try_send(());
        }
    }
}

/// Takes a message of a client for its session.
async fn message(State(sessions): State<Arc<Sessions>>, request: Request) -> Response {
    let exchange = request.extensions().get::<Arc<Exchange>>().map(Arc::clone);
    let query = request.uri().query().unwrap_or_default();
    let id = query.split('&').find_map(|part| part.strip_prefix("sessionId=")).unwrap_or_default();
    let Some(session) = sessions.open().get(id).cloned() else {
        return (StatusCode::NOT_FOUND, "there is no such session; open one with GET /sse\n").into_response();
    };
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        let text = format!("the message cannot be read, or is longer than {} MiB\n", MAX_BODY >> 20);
        // What is left of the body would be taken for the next request.
        return (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")], text).into_response();
    };
    let mut message: ClientJsonRpcMessage = match serde_json::from_slice(&body) {
        Ok(message) => message,
        Err(error) => {
            // Only the place: the text of a mismatch quotes what was sent.
            let place = (error.line(), error.column());
            let text = format!("the body is no message of MCP (line {} column {})\n", place.0, place.1);
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    if let (Some(exchange), ClientJsonRpcMessage::Request(request)) = (exchange, &mut message) {
        // It goes where the request goes.
        request.request.extensions_mut().insert(exchange);
    }
    // Full means that the session was just told.
    let _ = session.used.try_send(());
    match session.incoming.try_send(message) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(mpsc::error::TrySendError::Full(_)) => {
            let text = "too many messages wait: read the events of the session\n";
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
        }
        Err(mpsc::error::TrySendError::Closed(_)) => {
            (StatusCode::NOT_FOUND, "the session has ended; open one with GET /sse\n").into_response()
        }
    }
}

/// A session's transport: messages come from requests and go to the stream.
struct Channels {
    messages: mpsc::Receiver<ClientJsonRpcMessage>,
    outgoing: mpsc::Sender<Outgoing>,
    unread: Unread,
    requests: Arc<Requests>,
}

impl Transport<RoleServer> for Channels {
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (outgoing, unread) = (self.outgoing.clone(), self.unread.clone());
        self.requests.goes(&message);
        async move {
            let (text, waiting) = unread.admit(message).await?;
            let data = String::from_utf8(text).map_err(io::Error::other)?;
            let event = Event::default().event("message").data(data);
            outgoing.send((event, waiting)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.unread.listen().await;
        let message = self.messages.recv().await?;
        self.requests.came(&message);
        Some(message)
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.messages.close();
        Ok(())
    }
}
