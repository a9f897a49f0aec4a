//! A connection to an MCP server: requests, and everything that the server sends while they are under way.
//!
//! Each request has one bounded, ordered channel on which its progress, the server's log messages, the server's own
//! requests and at last the response arrive, so nothing is reordered and nothing comes after the response. Messages
//! stay JSON: what a model type does not know is not lost. It knows neither containers nor clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::room::{Place, Room, weight};
use super::wire::{Line, LineReader, RawLine, Skim, TooLong, write_messages};

/// How many messages wait for the other side.
const QUEUE: usize = 64;
/// How many lines that are no messages are skipped before the connection fails.
const GARBAGE_LINES: usize = 5;

/// An error object of JSON-RPC, as a server or a client sent it.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// The code.
    pub code: i64,
    /// The message.
    pub message: String,
    /// Whatever came along.
    pub data: Option<Box<Value>>,
}

impl RpcError {
    /// The code for a method that is not there.
    pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
    /// The code for whatever else went wrong.
    pub(crate) const INTERNAL: i64 = -32603;

    pub(crate) fn method_not_found(method: &str) -> Self {
        Self { code: Self::METHOD_NOT_FOUND, message: format!("method `{method}` not found"), data: None }
    }

    fn from_json(error: &Value) -> Self {
        Self {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(-32603),
            message: error.get("message").and_then(Value::as_str).unwrap_or("unknown error").to_owned(),
            data: error.get("data").cloned().map(Box::new),
        }
    }

    fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(data), Some(object)) = (&self.data, error.as_object_mut()) {
            object.insert("data".to_owned(), Value::clone(data));
        }
        error
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, Error, PartialEq)]
pub(crate) enum Closed {
    /// The server closed its side.
    #[error("closed its standard output")]
    Ended,
    /// The server wrote what is not MCP.
    #[error(
        "wrote something that is not MCP on its standard output: `{0}`; a server must write only messages there, and \
         its logs to standard error"
    )]
    Garbage(String),
    /// The server wrote a line that is too long.
    #[error("sent a message of more than 16 MiB; ask it for less at once")]
    TooLong,
    /// Its output broke off, which says nothing of the server itself.
    #[error("cannot be read from any more: {0}")]
    Failed(String),
    /// The transport failed.
    #[error("{0}")]
    Transport(String),
    /// A remote server is not there now. Nothing says that it will not be.
    #[error("{0}")]
    Away(String),
    /// This side closed it.
    #[error("the connection was closed")]
    Dropped,
}

/// What happens to a request under way.
#[derive(Debug)]
pub(crate) enum Event {
    /// The server notifies.
    Notification {
        /// The method.
        method: String,
        /// The parameters, an object.
        params: Value,
    },
    /// The server asks; answer with [`Connection::answer`].
    Request {
        /// Its id, any JSON.
        id: Value,
        /// The method.
        method: String,
        /// The parameters, an object.
        params: Value,
    },
    /// The response; nothing comes after it.
    Response(Result<Value, RpcError>),
    /// There will be no response.
    Closed(Closed),
}

/// A connection to a server. Dropping it closes the server's input once what was sent is written.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    written: CancellationToken,
    _ends: DropGuard,
}

/// What the transport of a connection holds.
#[derive(Debug)]
pub(crate) struct TransportSide {
    /// What to send, with the room that it takes.
    pub messages: mpsc::Receiver<(Value, Place)>,
    /// Cancelled when the connection is dropped.
    pub ends: CancellationToken,
    /// Dropped when everything is sent.
    pub written: DropGuard,
}

/// What requests and the reading task share.
#[derive(Debug)]
pub(crate) struct Shared {
    out: mpsc::Sender<(Value, Place)>,
    /// For what the server sends.
    room: Room,
    table: Mutex<Table>,
    closed: CancellationToken,
    /// Changes whenever the server says that one of its lists did.
    lists: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    calls: BTreeMap<u64, mpsc::Sender<(Event, Place)>>,
    closed: Option<(Closed, Instant)>,
    garbage: Option<String>,
}

impl Connection {
    /// Connects over a server's standard streams. There is `room` for large messages that it sends.
    pub(crate) fn over_streams(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
        room: Room,
    ) -> Self {
        let (connection, TransportSide { messages, ends, written }) = Self::unconnected(room);
        tokio::spawn(async move {
            write_messages(stdin, messages).await;
            drop(written);
        });
        let shared = Arc::clone(&connection.shared);
        let reading = async move {
            let reason = tokio::select! {
                reason = read_messages(&shared, stdout) => reason,
                () = ends.cancelled() => Closed::Dropped,
            };
            shared.close(reason);
        };
        tokio::spawn(reading.in_current_span());
        connection
    }

    /// A connection whose transport is up to the caller, who feeds [`Connection::shared`] with what arrives.
    pub(crate) fn unconnected(room: Room) -> (Self, TransportSide) {
        let (out, messages) = mpsc::channel(QUEUE);
        let (ends, written) = (CancellationToken::new(), CancellationToken::new());
        let (table, closed, lists) = (Mutex::default(), CancellationToken::new(), watch::Sender::new(()));
        let shared = Shared { out, room, table, closed, lists };
        let side = TransportSide { messages, ends: ends.clone(), written: written.clone().drop_guard() };
        (Self { shared: Arc::new(shared), written, _ends: ends.drop_guard() }, side)
    }

    /// Resolves once the connection was dropped and everything that it was to send is sent.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + 'static {
        self.written.clone().cancelled_owned()
    }

    /// What the transport feeds.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Whether the other side is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Why there will be no more messages, if that is so.
    pub(crate) fn reason(&self) -> Option<Closed> {
        self.shared.table().closed.as_ref().map(|(reason, _)| reason.clone())
    }

    /// When that was found out.
    pub(crate) fn closed_at(&self) -> Option<Instant> {
        self.shared.table().closed.as_ref().map(|(_, at)| *at)
    }

    /// To be told when the server says that one of its lists changed. Ends with the connection.
    pub(crate) fn list_changes(&self) -> watch::Receiver<()> {
        self.shared.lists.subscribe()
    }

    /// The first line that was no message, if there was one.
    pub(crate) fn garbage(&self) -> Option<String> {
        self.shared.table().garbage.clone()
    }

    /// Sends a request, which keeps its place until it is written. With `progress` the server is asked to report it.
    pub(crate) async fn request(&self, method: &str, mut params: Value, progress: bool, place: Place) -> InFlight {
        let (sender, events) = mpsc::channel(QUEUE);
        let id = {
            let mut table = self.shared.table();
            if let Some((reason, _)) = table.closed.clone() {
                drop(table);
                return InFlight::ended(Arc::clone(&self.shared), reason);
            }
            table.last += 1;
            let id = table.last;
            table.calls.insert(id, sender);
            id
        };
        // Made before sending, so that being dropped while sending tidies up.
        let call = InFlight { id, events, shared: Arc::clone(&self.shared), done: None, place: Place::default() };
        if progress && let Some(object) = params.as_object_mut() {
            let meta = object.entry("_meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("progressToken".to_owned(), id.into());
            }
        }
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }), place).await;
        call
    }

    /// Sends a request and waits for its result, letting everything else pass.
    ///
    /// # Errors
    /// What the server answered, or why it did not.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, AskError> {
        let mut call = self.request(method, params, false, Place::default()).await;
        loop {
            match call.next().await {
                Event::Response(result) => return result.map_err(AskError::Rpc),
                Event::Closed(reason) => return Err(AskError::Closed(reason)),
                Event::Request { id, method, .. } => {
                    self.answer(id, Err(RpcError::method_not_found(&method))).await;
                }
                Event::Notification { .. } => {}
            }
        }
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }), Place::default()).await;
    }

    /// Answers a request of the server.
    pub(crate) async fn answer(&self, id: Value, result: Result<Value, RpcError>) {
        self.shared.answer(id, result).await;
    }

    async fn send(&self, message: Value, place: Place) {
        // If the transport is gone, the reading side says so to every request.
        let _ = self.shared.out.send((message, place)).await;
    }
}

/// Why a request has no result.
#[derive(Clone, Debug, Error)]
pub(crate) enum AskError {
    /// The server answered with an error.
    #[error("answered with an error: {0}")]
    Rpc(RpcError),
    /// The server is gone.
    #[error("{0}")]
    Closed(Closed),
}

/// A request under way. Dropping it before the response tells the server that it is cancelled.
#[derive(Debug)]
pub(crate) struct InFlight {
    id: u64,
    events: mpsc::Receiver<(Event, Place)>,
    shared: Arc<Shared>,
    done: Option<Closed>,
    /// The place of the event that came last.
    place: Place,
}

impl InFlight {
    fn ended(shared: Arc<Shared>, reason: Closed) -> Self {
        let (_, events) = mpsc::channel(1);
        Self { id: 0, events, shared, done: Some(reason), place: Place::default() }
    }

    /// What happens next. Safe to drop.
    pub(crate) async fn next(&mut self) -> Event {
        if let Some(reason) = &self.done {
            return Event::Closed(reason.clone());
        }
        let event = self.events.recv().await;
        let (event, place) = event.unwrap_or_else(|| (Event::Closed(self.shared.reason()), Place::default()));
        self.place = place;
        match &event {
            Event::Response(_) => self.done = Some(Closed::Ended),
            Event::Closed(reason) => self.done = Some(reason.clone()),
            Event::Notification { .. } | Event::Request { .. } => {}
        }
        event
    }

    /// The place that the event which came last takes up. It is given back with the next one, unless a clone is kept.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.done.is_none() && self.shared.table().calls.remove(&self.id).is_some() {
            let cancelled = json!({
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": { "requestId": self.id, "reason": "the client cancelled the request" },
            });
            // A full queue means that the server does not read; it will not miss this.
            let _ = self.shared.out.try_send((cancelled, Place::default()));
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self) -> Closed {
        self.table().closed.as_ref().map_or(Closed::Ended, |(reason, _)| reason.clone())
    }

    async fn answer(&self, id: Value, result: Result<Value, RpcError>) {
        let message = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
        };
        let _ = self.out.send((message, Place::default())).await;
    }

    /// Waits until there is room for a message. Nothing more is read from the server before. A message that there is never
    /// room for fails the request that it answers, whose id is then the error, if it can be told.
    pub(crate) async fn room_for(&self, text: &[u8]) -> Result<Place, Option<Value>> {
        let weight = weight(text);
        match self.room.holds(weight) {
            Ok(()) => Ok(self.room.take(weight).await),
            Err(reason) => {
                let id = Skim::id_of(text);
                match &id {
                    Some(id) => self.unreadable(id, &reason).await,
                    None => tracing::warn!(reason, "dropped a message of the server"),
                }
                Err(id)
            }
        }
    }

    /// Takes in a message from the server, which takes up a place.
    pub(crate) async fn receive(&self, message: Value, place: &Place) {
        match message {
            Value::Object(mut message) => {
                let id = message.remove("id").filter(|id| !id.is_null());
                let method = message.get("method").and_then(Value::as_str).map(str::to_owned);
                let params = message.remove("params").unwrap_or_else(|| json!({}));
                match (method, id) {
                    (Some(method), Some(id)) => self.requested(id, method, params, place).await,
                    (Some(method), None) => self.notified(method, params, place).await,
                    (None, Some(id)) => self.responded(&id, message, place).await,
                    (None, None) => tracing::debug!("ignored a message that is neither request nor response"),
                }
            }
            // A batch of the 2025-03-26 revision.
            Value::Array(messages) => {
                for message in messages {
                    Box::pin(self.receive(message, place)).await;
                }
            }
            _ => {}
        }
    }

    async fn requested(&self, id: Value, method: String, params: Value, place: &Place) {
        if method == "ping" {
            return self.answer(id, Ok(json!({}))).await;
        }
        // Revisions with such requests have no field that says which call they belong to; all calls of a connection
        // are of one client, so any of them reaches it.
        let Some(call) = self.any_call() else {
            return self.answer(id, Err(RpcError::method_not_found(&method))).await;
        };
        let request = Event::Request { id: id.clone(), method: method.clone(), params };
        if call.send((request, place.clone())).await.is_err() {
            self.answer(id, Err(RpcError::method_not_found(&method))).await;
        }
    }

    async fn notified(&self, method: String, params: Value, place: &Place) {
        if method.ends_with("/list_changed") {
            self.lists.send_replace(());
            return;
        }
        let call = if method == "notifications/progress" {
            let token = params.get("progressToken").and_then(Value::as_u64);
            token.and_then(|token| self.table().calls.get(&token).cloned())
        } else {
            self.any_call()
        };
        if let Some(call) = call {
            // A call that has just ended needs no news.
            let _ = call.send((Event::Notification { method, params }, place.clone())).await;
        }
    }

    async fn responded(&self, id: &Value, mut message: serde_json::Map<String, Value>, place: &Place) {
        let Some(call) = id.as_u64().and_then(|id| self.table().calls.remove(&id)) else {
            tracing::debug!("ignored the response to a request that is no longer waited for");
            return;
        };
        let result = match (message.remove("result"), message.get("error")) {
            (Some(result), _) => Ok(result),
            (None, Some(error)) => Err(RpcError::from_json(error)),
            (None, None) => {
                Err(RpcError { code: -32603, message: "the response holds no result".to_owned(), data: None })
            }
        };
        let _ = call.send((Event::Response(result), place.clone())).await;
    }

    /// An answer that cannot be read fails the request that it belongs to, and nothing else.
    pub(crate) async fn unreadable(&self, id: &Value, reason: &str) {
        tracing::warn!(reason, "the server sent a message that cannot be read");
        let message = format!("the server sent an answer that cannot be read: {reason}");
        let error = json!({ "code": RpcError::INTERNAL, "message": message });
        let answer = serde_json::Map::from_iter([("error".to_owned(), error)]);
        self.responded(id, answer, &Place::default()).await;
    }

    fn any_call(&self) -> Option<mpsc::Sender<(Event, Place)>> {
        self.table().calls.values().next().cloned()
    }

    /// A request that could not be sent.
    pub(crate) async fn failed_to_send(&self, id: u64, reason: Closed) {
        let call = self.table().calls.remove(&id);
        if let Some(call) = call {
            let _ = call.send((Event::Closed(reason), Place::default())).await;
        }
    }

    /// Ends every request. The first reason stays.
    pub(crate) fn close(&self, reason: Closed) {
        let calls = {
            let mut table = self.table();
            table.closed.get_or_insert_with(|| (reason.clone(), Instant::now()));
            std::mem::take(&mut table.calls)
        };
        self.closed.cancel();
        for call in calls.into_values() {
            // Not awaited for long: a call that does not read its events sees the channel end.
            let _ = call.try_send((Event::Closed(reason.clone()), Place::default()));
        }
    }
}

/// Reads until the server ends or cannot be understood any more.
async fn read_messages(shared: &Shared, stdout: impl AsyncRead + Unpin) -> Closed {
    let mut lines = LineReader::new(BufReader::with_capacity(64 << 10, stdout), TooLong::Fail);
    let mut garbage = 0;
    loop {
        let line = lines.next_line().await;
        // Before it is parsed, which makes it larger.
        let place = match &line {
            RawLine::Line => match shared.room_for(lines.line()).await {
                Ok(place) => place,
                Err(_) => continue,
            },
            _ => Place::default(),
        };
        match lines.parse(line) {
            Line::Message(message) => shared.receive(message, &place).await,
            Line::Unreadable(id, reason) => shared.unreadable(&id, &reason).await,
            Line::Garbage(excerpt) => {
                garbage += 1;
                tracing::warn!(line = excerpt, "skipped a line on standard output that is no MCP message");
                let first = shared.table().garbage.get_or_insert(excerpt).clone();
                if garbage > GARBAGE_LINES {
                    return Closed::Garbage(first);
                }
            }
            Line::TooLong => return Closed::TooLong,
            Line::Failed(reason) => return Closed::Failed(reason),
            Line::End => {
                let garbage = shared.table().garbage.clone();
                return garbage.map_or(Closed::Ended, Closed::Garbage);
            }
        }
    }
}

#[cfg(test)]
mod tests;
