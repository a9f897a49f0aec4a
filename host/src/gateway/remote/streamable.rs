//! Streamable HTTP: each message is a POST, whose answer is a message or a stream of them; one more stream brings
//! what belongs to no request.
//!
//! Messages stay JSON, so nothing is lost that a model type does not know.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use super::super::connection::{Closed, Shared, TransportSide};
use super::super::room::Place;
use super::super::wire::MAX_LINE;
use super::dial::{Http, unreachable_because};
use super::events::{Broken, Events};
use super::{NO_MCP, TOO_LONG, content_type, deliver};

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
const LAST_EVENT: &str = "last-event-id";

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often a stream that breaks is asked for again in a row.
const RESUMES: u32 = 5;
/// How long to wait before that, if the server does not say.
const PAUSE: Duration = Duration::from_secs(1);
/// The shortest and longest that a server may ask to wait.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much of the body of an answer that is no success is read.
const MAX_REFUSAL: usize = 64 << 10;

/// One session with a server.
struct Session {
    http: Http,
    shared: Arc<Shared>,
    id: OnceLock<HeaderValue>,
    version: OnceLock<HeaderValue>,
}

/// Why a message got no answer.
enum Failure {
    /// The server has forgotten the session.
    SessionEnded,
    /// Anything else.
    Other(Closed),
}

impl From<Closed> for Failure {
    fn from(reason: Closed) -> Self {
        Self::Other(reason)
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Other(Closed::Transport(reason))
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Carries messages until the connection is dropped.
pub(super) async fn run(http: Http, shared: Arc<Shared>, side: TransportSide) {
    let TransportSide { mut messages, ends, written } = side;
    let session =
        Arc::new(Session { http, shared: Arc::clone(&shared), id: OnceLock::new(), version: OnceLock::new() });
    let mut tasks: JoinSet<Option<u64>> = JoinSet::new();
    let mut under_way: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    loop {
        let message = tokio::select! {
            () = ends.cancelled() => break,
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(Some(id)) = done {
                    under_way.remove(&id);
                }
                continue;
            }
            message = messages.recv() => match message {
                Some(message) => message,
                None => break,
            },
        };
        let (message, place) = message;
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        if matches!(method, "initialize" | "notifications/initialized") {
            // The handshake is strictly one after the other.
            let is_done = method != "initialize";
            tokio::select! {
                () = ends.cancelled() => break,
                () = session.exchange(message) => {}
            }
            if is_done {
                let session = Arc::clone(&session);
                tasks.spawn(async move {
                    session.listen().await;
                    None
                });
            }
            continue;
        }
        let id = request_id(&message);
        // The stream of a request that is cancelled is let go once the server knows.
        let cancelled = message.pointer("/params/requestId").and_then(Value::as_u64);
        let cancelled = cancelled.filter(|_| method == "notifications/cancelled");
        let cancelled = cancelled.and_then(|id| under_way.remove(&id));
        let session = Arc::clone(&session);
        let task = tasks.spawn(async move {
            let _place = place;
            session.exchange(message).await;
            if let Some(task) = cancelled {
                task.abort();
            }
            id
        });
        if let Some(id) = id {
            under_way.insert(id, task);
        }
    }
    // Notifications that were queued before the end, such as a cancellation, are still sent. Requests are not: nobody
    // waits for them any more.
    messages.close();
    let goodbye = async {
        while let Ok((message, _)) = messages.try_recv() {
            if message.get("id").is_none() {
                session.exchange(message).await;
            }
        }
        shared.close(Closed::Dropped);
        if session.id.get().is_some() {
            // Whether that works changes nothing here.
            let _ = session.request(Method::DELETE).send().await;
        }
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    shared.close(Closed::Dropped);
    drop(written);
}

impl Session {
    /// A request with what this session has so far.
    fn request(&self, method: Method) -> RequestBuilder {
        let mut request = self.http.request(method, self.http.url());
        for (name, value) in [(SESSION, self.id.get()), (VERSION, self.version.get())] {
            if let Some(value) = value {
                request = request.header(name, value.clone());
            }
        }
        request
    }

    /// Sends a message and takes in whatever answers it.
    async fn exchange(&self, message: Value) {
        let id = request_id(&message);
        match (self.post(&message, id).await, id) {
            (Ok(()), _) => {}
            (Err(Failure::SessionEnded), _) => self.shared.close(Closed::Transport("ended the session".to_owned())),
            (Err(Failure::Other(reason)), Some(id)) => {
                self.shared.failed_to_send(id, reason).await;
            }
            (Err(Failure::Other(reason)), None) => tracing::debug!(%reason, "a notification did not arrive"),
        }
    }

    async fn post(&self, message: &Value, id: Option<u64>) -> Result<(), Failure> {
        let request = self
            .request(Method::POST)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"))
            .body(message.to_string());
        let mut response = request.send().await.map_err(|error| unreachable_because(&error))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND && self.id.get().is_some() {
            return Err(Failure::SessionEnded);
        }
        if !status.is_success() {
            return self.refused(response, id).await;
        }
        if is_initialize(message)
            && let Some(session) = response.headers_mut().remove(SESSION)
        {
            let _ = self.id.set(session);
        }
        match (content_type(&response).as_str(), id) {
            // Nothing is expected; servers answer in many ways that they have understood.
            (_, None) => Ok(()),
            (_, Some(_)) if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) => {
                Err("took the request and did not answer it".into())
            }
            ("application/json", Some(id)) => {
                let body = body(response, MAX_LINE).await?;
                if self.take(&body, Some(id)).await {
                    return Ok(());
                }
                Err(NO_MCP.into())
            }
            ("text/event-stream", Some(id)) => self.follow(Events::new(response), id).await,
            _ => Err(NO_MCP.into()),
        }
    }

    /// Servers may say what is wrong with a request in JSON-RPC too. Refused credentials stay what they are.
    async fn refused(&self, response: Response, id: Option<u64>) -> Result<(), Failure> {
        let status = response.status();
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !is_refusal
            && id.is_some()
            && content_type(&response) == "application/json"
            && let Ok(body) = body(response, MAX_REFUSAL).await
            && let Ok(error) = serde_json::from_slice::<Value>(&body)
            && error.get("error").is_some()
            && error.get("id").and_then(Value::as_u64) == id
        {
            self.shared.receive(error, &Place::default()).await;
            return Ok(());
        }
        Err(self.http.refusal(status).into())
    }

    /// Takes in the events that answer a request, up to the answer itself. A stream that breaks off is taken up again
    /// if the server numbers its events.
    async fn follow(&self, mut events: Events, id: u64) -> Result<(), Failure> {
        let mut resumes = 0;
        loop {
            match events.next().await {
                Ok(Some(event)) if event.data.is_empty() => {}
                Ok(Some(event)) => {
                    resumes = 0;
                    if self.take(event.data.as_bytes(), Some(id)).await {
                        return Ok(());
                    }
                }
                Err(Broken::TooLong) => return Err(TOO_LONG.into()),
                Ok(None) | Err(Broken::Connection) => {
                    let Some(last) = events.last_id().map(str::to_owned).filter(|_| resumes < RESUMES) else {
                        return Err("broke off in the middle of an answer".into());
                    };
                    resumes += 1;
                    tokio::time::sleep(pause(events.retry())).await;
                    if let Some(resumed) = self.open(Some(&last)).await? {
                        events = Events::new(resumed);
                    }
                }
            }
        }
    }

    /// Takes in what belongs to no request, as long as the server has such a stream.
    async fn listen(&self) {
        let (mut last, mut wait, mut failures) = (None::<String>, PAUSE, 0);
        while failures < RESUMES {
            match self.open(last.as_deref()).await {
                Ok(Some(response)) => {
                    failures = 0;
                    let (mut events, mut was_idle) = (Events::new(response), true);
                    while let Ok(Some(event)) = events.next().await {
                        was_idle = false;
                        if !event.data.is_empty() {
                            self.take(event.data.as_bytes(), None).await;
                        }
                    }
                    last = events.last_id().map(str::to_owned).or(last);
                    // One that ends again and again without a word is asked for less and less often.
                    wait = if was_idle { (wait * 2).min(LONGEST_PAUSE) } else { pause(events.retry()) };
                }
                // Most servers that have none say so with 405.
                Ok(None) => return,
                Err(_) => failures += 1,
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for a stream of events; none if the server has no such thing.
    async fn open(&self, last: Option<&str>) -> Result<Option<Response>, Closed> {
        let mut request = self.request(Method::GET).header(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last {
            request = request.header(LAST_EVENT, last);
        }
        let response = request.send().await.map_err(|error| unreachable_because(&error))?;
        Ok(Some(response).filter(|found| found.status().is_success() && content_type(found) == "text/event-stream"))
    }

    /// Takes a message in. True if it is the answer to this request.
    async fn take(&self, text: &[u8], id: Option<u64>) -> bool {
        let Some(answers) = deliver(&self.shared, text, |message| {
            let version = message.pointer("/result/protocolVersion").and_then(Value::as_str);
            if let Some(version) = version.and_then(|version| HeaderValue::from_str(version).ok()) {
                // The first one is that of the handshake.
                let _ = self.version.set(version);
            }
        })
        .await
        else {
            return false;
        };
        id.is_some_and(|id| answers.contains(&id))
    }
}

fn pause(retry: Option<u64>) -> Duration {
    retry.map_or(PAUSE, Duration::from_millis).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

fn is_initialize(message: &Value) -> bool {
    message.get("method").and_then(Value::as_str) == Some("initialize")
}

/// The id of a message that wants an answer.
fn request_id(message: &Value) -> Option<u64> {
    message.get("method").and(message.get("id")).and_then(Value::as_u64)
}

/// Reads a body up to a bound.
async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) if body.len() + bytes.len() > limit => return Err(TOO_LONG.to_owned()),
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => return Ok(body),
            Err(_) => return Err("broke off in the middle of an answer".to_owned()),
        }
    }
}
