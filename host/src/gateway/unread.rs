//! What a client has not read yet, on transports that are written here: bounded by number and by size.
//!
//! While too much waits, nothing more is taken from the client, whose requests would pile up as answers, and what servers
//! tell it waits at the servers. Answers to requests that were under way by then are dropped if they are large, and the
//! client is told so in their place.

use std::io;
use std::sync::Arc;

use rmcp::model::{ErrorCode, ErrorData, ServerJsonRpcMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::room::{Place, Room};

/// How many messages may wait for the client to read them before no more is taken from it.
const MESSAGES: usize = 1024;

/// The messages that wait for one client. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    messages: Arc<Semaphore>,
    room: Room,
}

/// A message that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    _message: OwnedSemaphorePermit,
    _place: Place,
}

impl Default for Unread {
    fn default() -> Self {
        Self { messages: Arc::new(Semaphore::new(MESSAGES)), room: Room::default() }
    }
}

impl Unread {
    /// Waits until more may be taken from the client. Dropping the future loses nothing.
    pub(crate) async fn listen(&self) {
        // The semaphore is never closed.
        drop(self.messages.acquire().await);
        self.room.wait().await;
    }

    /// The text of a message, once it may wait for the client: of the message itself, or of what stands for it.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub(crate) async fn admit(&self, message: ServerJsonRpcMessage) -> io::Result<(Vec<u8>, Waiting)> {
        let mut text = serde_json::to_vec(&message)?;
        let place = match self.room.try_take(text.len()) {
            Some(place) => place,
            None => match dropped(&message, text.len()) {
                Some(instead) => {
                    text = serde_json::to_vec(&instead)?;
                    Place::default()
                }
                // Whoever sends it waits, and so does the server that it comes from.
                None => self.room.take(text.len()).await,
            },
        };
        drop(message);
        let permit = Arc::clone(&self.messages).acquire_owned().await.map_err(io::Error::other)?;
        Ok((text, Waiting { _message: permit, _place: place }))
    }
}

/// What a client gets instead of an answer for which there is no room. None if it is no answer.
fn dropped(message: &ServerJsonRpcMessage, bytes: usize) -> Option<ServerJsonRpcMessage> {
    let ServerJsonRpcMessage::Response(response) = message else { return None };
    tracing::warn!(bytes, "dropped an answer: the client does not read those before it");
    let reason = format!(
        "the answer has {bytes} bytes and was dropped, because too much of earlier answers is not read yet; read them, \
         and ask again"
    );
    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, reason, None);
    Some(ServerJsonRpcMessage::error(error, Some(response.id.clone())))
}
