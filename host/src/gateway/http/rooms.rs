//! Room for the large requests of HTTP clients: so many bytes for each session, and so many for all together. It is taken
//! before the body is read, and more of it before the body is parsed, and given back when the request is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

use super::MAX_BODY;
use crate::gateway::room::{Exchange, LARGE, Place, ROOM, Room, weight};

/// The header with the session.
pub(super) const SESSION: &str = "mcp-session-id";
/// How many bytes of large requests there is room for in all sessions together.
const ALL: usize = 4 * ROOM;
/// When a client that was turned away may try again, in seconds.
const RETRY_AFTER: &str = "1";

/// The rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Room,
    /// Of the sessions with large requests under way, as they call themselves.
    each: Mutex<HashMap<String, Room>>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { all: Room::of(ALL), each: Mutex::default() }
    }
}

impl Rooms {
    /// The place of a request, if there is one.
    pub(super) fn place(&self, request: &Request) -> Option<Place> {
        // A body of unknown length is taken to be as long as it may be.
        let bytes =
            request.body().size_hint().upper().map_or(MAX_BODY, |bytes| usize::try_from(bytes).unwrap_or(MAX_BODY));
        if bytes < LARGE {
            return Some(Place::default());
        }
        // Longer ones are refused.
        let bytes = bytes.min(MAX_BODY);
        let own = self.of(request).try_take(bytes)?;
        self.all.try_take_with(bytes, own)
    }

    /// The place of a request whose body is there by now: what it takes when it is parsed. `place` is what its length took.
    ///
    /// # Errors
    /// What the client gets.
    pub(super) fn weighed(&self, request: &Request, body: &[u8], place: Place) -> Result<Place, Box<Response>> {
        let weight = weight(body);
        let own = self.of(request);
        if let Err(reason) = own.holds(weight) {
            return Err(Box::new((StatusCode::PAYLOAD_TOO_LARGE, format!("{reason}\n")).into_response()));
        }
        let more = weight.saturating_sub(body.len());
        let place = own.try_take_with(more, place);
        place.and_then(|place| self.all.try_take_with(more, place)).ok_or_else(|| Box::new(turn_away()))
    }

    /// The room of the request's session. Requests without a session share one.
    fn of(&self, request: &Request) -> Room {
        let header = request.headers().get(SESSION).and_then(|value| value.to_str().ok());
        let session = header.or_else(|| request.uri().query()).unwrap_or_default();
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        each.retain(|_, room| !room.is_unused());
        each.entry(session.to_owned()).or_default().clone()
    }
}

/// What a client gets for whose request there is no room.
pub(super) fn turn_away() -> Response {
    tracing::warn!("turned a request away: those that are not answered yet are too large together");
    let text = format!(
        "the requests that are not answered yet are too large together for one more of this size: there is room for {} \
         MiB of a session and {} MiB of all; wait for answers, or send less at once\n",
        ROOM >> 20,
        ALL >> 20
    );
    let headers = [
        (header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER)),
        // What is left of the body would be taken for the next request.
        (header::CONNECTION, HeaderValue::from_static("close")),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}

/// Keeps what an exchange takes up until the client has taken the answer.
pub(super) fn hold(response: Response, exchange: Arc<Exchange>) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        // As it would be without this.
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let body = body.into_data_stream().map(move |piece| {
        let _held = &exchange;
        piece
    });
    Response::from_parts(parts, Body::from_stream(body))
}
