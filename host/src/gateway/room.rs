//! Room for large messages: how many bytes of them are kept at once. Each client has some for its requests, and some for
//! what comes from servers, so that long messages times many of them have a bound.
//!
//! Small messages need none, and cost nothing here; how many there are is bounded elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes make a message large.
pub(crate) const LARGE: usize = 16 << 10;
/// How many bytes of large messages there is room for, unless it is said otherwise.
pub(crate) const ROOM: usize = 64 << 20;

/// What is in memory of a message once it is parsed, beside its text, in bytes: for each value in a list or an object, each
/// object, each member of one, and each text. Measured with lists of millions of each (`serde_json` with the order of members
/// kept; vectors have up to twice the room that they need).
const VALUE: usize = 64;
const OBJECT: usize = 200;
const MEMBER: usize = 130;
const TEXT: usize = 32;

/// How much room a message takes: roughly what it has in memory once it is parsed, in bytes. Nothing for a small one.
pub(crate) fn weight(text: &[u8]) -> usize {
    if text.len() < LARGE {
        return 0;
    }
    let (mut weight, mut bytes) = (text.len(), text.iter());
    while let Some(byte) = bytes.next() {
        weight = weight.saturating_add(match byte {
            b',' | b'[' => VALUE,
            b'{' => OBJECT,
            b':' => MEMBER,
            b'"' => {
                // What stands in a text is no structure.
                while let Some(byte) = bytes.find(|byte| matches!(byte, b'"' | b'\\')) {
                    match byte {
                        b'"' => break,
                        _ => drop(bytes.next()),
                    }
                }
                TEXT
            }
            _ => 0,
        });
    }
    weight
}

/// Room for large messages. Clones are the same room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    all: u32,
}

/// A place in a room, given back when the last clone is dropped. A small message has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Option<Arc<Taken>>);

/// One place, and another that goes with it.
#[derive(Debug)]
struct Taken {
    _permit: OwnedSemaphorePermit,
    _other: Place,
}

impl Place {
    /// Whether there is anything to give back.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    fn of(permit: OwnedSemaphorePermit, other: Self) -> Self {
        Self(Some(Arc::new(Taken { _permit: permit, _other: other })))
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

impl Room {
    /// Room for so many bytes, less than 4 GiB.
    pub(crate) fn of(bytes: usize) -> Self {
        let all = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Whether a message could ever have a place.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(crate) fn holds(&self, weight: usize) -> Result<(), String> {
        if weight <= self.all as usize {
            return Ok(());
        }
        let megabytes = |bytes: usize| bytes.div_ceil(1 << 20);
        Err(format!(
            "the message would take {} MiB of memory because of its many values, where {} are allowed; send less at once",
            megabytes(weight),
            megabytes(self.all as usize)
        ))
    }

    /// Waits for a place. A message that is larger than the room gets all of it. Dropping the future leaves the queue.
    pub(crate) async fn take(&self, weight: usize) -> Place {
        if weight < LARGE {
            return Place::default();
        }
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_many_owned(self.wanted(weight)).await;
        permit.map_or_else(|_| Place::default(), |permit| Place::of(permit, Place::default()))
    }

    /// A place, if there is one now.
    pub(crate) fn try_take(&self, weight: usize) -> Option<Place> {
        self.try_take_with(weight, Place::default())
    }

    /// A place that keeps another, if there is one now.
    pub(crate) fn try_take_with(&self, weight: usize, other: Place) -> Option<Place> {
        if weight < LARGE {
            return Some(other);
        }
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.wanted(weight)).ok()?;
        Some(Place::of(permit, other))
    }

    /// Waits until there is room for a large message.
    pub(crate) async fn wait(&self) {
        if self.free.available_permits() < LARGE {
            drop(self.take(LARGE).await);
        }
    }

    /// Whether nobody else has a part in it, and nothing is taken.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.free) == 1
    }

    fn wanted(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(u32::MAX).min(self.all)
    }
}

/// What a request and its answer take up until the client has the answer.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// The place of the request.
    pub request: Place,
    answer: Mutex<Place>,
}

impl Exchange {
    /// Of a request that takes this place.
    pub(crate) fn new(request: Place) -> Self {
        Self { request, answer: Mutex::default() }
    }

    /// Keeps the place of the answer.
    pub(crate) fn keep(&self, answer: Place) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_message_weighs_what_it_is_when_parsed_and_a_small_one_nothing() {
        assert_eq!(weight(&vec![b','; LARGE - 1]), 0);
        assert_eq!(weight(&vec![b'x'; LARGE]), LARGE);
        assert_eq!(weight(b"0,".repeat(LARGE).as_slice()), 2 * LARGE + LARGE * VALUE);
        let objects = br#"{"":0},"#.repeat(LARGE);
        assert_eq!(weight(&objects), objects.len() + LARGE * (OBJECT + TEXT + MEMBER + VALUE));
        // What looks like structure in a text is none, whatever is escaped there.
        let text = format!(r#"["{}\\","\"{}"]"#, "{:,[".repeat(LARGE), "{".repeat(LARGE));
        assert_eq!(weight(text.as_bytes()), text.len() + 2 * VALUE + 2 * TEXT);
        assert!(Room::of(10).holds(10).is_ok() && Room::of(10).holds(11).unwrap_err().contains("1 MiB of memory"));
    }

    #[tokio::test]
    async fn room_is_given_back_with_the_last_clone_and_small_messages_need_none() {
        let room = Room::of(10 * LARGE);
        let place = room.try_take(9 * LARGE).unwrap();
        assert!(room.try_take(2 * LARGE).is_none());
        assert!(!room.try_take(LARGE - 1).unwrap().is_taken());
        let mut waits = Box::pin(room.take(2 * LARGE));
        assert!(waits.as_mut().now_or_never().is_none());
        let other = place.clone();
        drop(place);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(other);
        assert!(waits.await.is_taken());
    }

    #[tokio::test]
    async fn what_is_larger_than_the_room_gets_all_of_it() {
        let room = Room::of(2 * LARGE);
        let all = room.take(usize::MAX).await;
        assert!(room.try_take(LARGE).is_none() && room.wait().now_or_never().is_none());
        drop(all);
        assert!(room.wait().now_or_never().is_some());
    }
}
