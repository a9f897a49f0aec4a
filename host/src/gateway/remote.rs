//! Connections to remote servers, over streamable HTTP or the older HTTP+SSE. Messages are passed on as they are.
//!
//! Who may be reached is `policy::remote_hosts`' to say; what the messages mean is [`super::connection`]'s.

mod dial;
mod events;
mod legacy;
mod streamable;

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use reqwest::Response;
use serde_json::Value;
use tracing::Instrument as _;

use self::dial::Http;
use super::connection::{Connection, Shared};
use super::room::Room;
use super::wire::Skim;
use crate::policy::remote_hosts::RemoteHosts;
use crate::provision::{Remote, RemoteTransport};

const NO_MCP: &str = "answered with something that is not MCP; check `remote.url`";
const TOO_LONG: &str = "sent a message of more than 16 MiB; ask it for less at once";

/// Connects to a remote server, with room for large messages that it sends. Nothing is sent before the first request, except that HTTP+SSE opens its stream.
///
/// # Errors
/// A text that says what is wrong with the entry, without any header's value.
pub(crate) fn connect(remote: &Remote, hosts: &Arc<RemoteHosts>, room: Room) -> Result<Connection, String> {
    let http = Http::new(remote, hosts)?;
    let (connection, side) = Connection::unconnected(room);
    let shared = connection.shared();
    match remote.transport {
        RemoteTransport::StreamableHttp => tokio::spawn(streamable::run(http, shared, side).in_current_span()),
        RemoteTransport::Sse => tokio::spawn(legacy::run(http, shared, side).in_current_span()),
    };
    Ok(connection)
}

/// The type of a body, without its parameters.
fn content_type(response: &Response) -> String {
    let text = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Passes a message on, after `look` has seen it, and returns the ids of the requests that it answers. None if it is no
/// message. One that cannot be read fails the request that it answers, and nothing else.
async fn deliver(shared: &Shared, text: &[u8], look: impl Fn(&Value)) -> Option<Vec<u64>> {
    // Before it is parsed, which makes it larger.
    let place = match shared.room_for(text).await {
        Ok(place) => place,
        Err(id) => return Some(id.as_ref().and_then(Value::as_u64).into_iter().collect()),
    };
    let answered =
        |message: &Value| message.get("id").filter(|_| message.get("method").is_none()).and_then(Value::as_u64);
    match serde_json::from_slice(text) {
        Ok(message @ Value::Object(_)) => {
            look(&message);
            let ids = answered(&message).into_iter().collect();
            shared.receive(message, &place).await;
            Some(ids)
        }
        Ok(Value::Array(batch)) => {
            let ids = batch.iter().filter_map(answered).collect();
            shared.receive(Value::Array(batch), &place).await;
            Some(ids)
        }
        Ok(_) => {
            tracing::debug!("ignored an event that is no message");
            None
        }
        Err(error) => {
            let id = Skim::id_of(text)?;
            shared.unreadable(&id, &error.to_string()).await;
            Some(id.as_u64().into_iter().collect())
        }
    }
}
