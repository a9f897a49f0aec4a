//! How many calls one server serves at once, and how many wait for their turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of one server. Those who wait are served in order; one who gives up leaves the queue.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Semaphore,
    at_once: usize,
    waiting: AtomicUsize,
    queue: usize,
}

/// Why there was no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Too many wait already.
    QueueIsFull,
    /// It waited for as long as a call may take.
    WaitedTooLong,
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Turns {
    /// So many calls at once, at least one, while so many more may wait.
    pub(crate) fn new(at_once: usize, queue: usize) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(at_once), at_once, waiting: AtomicUsize::new(0), queue }
    }

    /// How many calls are served at once.
    pub(crate) fn at_once(&self) -> usize {
        self.at_once
    }

    /// Waits for a turn, which lasts until the permit is dropped. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// See [`Crowded`].
    pub(crate) async fn take(&self, patience: Duration) -> Result<SemaphorePermit<'_>, Crowded> {
        if let Ok(permit) = self.places.try_acquire() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue {
            return Err(Crowded::QueueIsFull);
        }
        // The semaphore is never closed.
        let turn = tokio::time::timeout(patience, self.places.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(Crowded::WaitedTooLong)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_queue_is_bounded_and_in_order() {
        let turns = Turns::new(1, 2);
        let held = turns.take(PATIENCE).await.unwrap();
        let (mut second, mut third) = (Box::pin(turns.take(PATIENCE)), Box::pin(turns.take(PATIENCE)));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert_eq!(turns.take(PATIENCE).await.unwrap_err(), Crowded::QueueIsFull);
        drop(held);
        assert!(third.as_mut().now_or_never().is_none(), "the third came before the second");
        let held = second.await.unwrap();
        drop(held);
        drop(third.await.unwrap());
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_the_queue() {
        let turns = Turns::new(1, 1);
        let held = turns.take(PATIENCE).await.unwrap();
        let mut gives_up = Box::pin(turns.take(PATIENCE));
        assert!(gives_up.as_mut().now_or_never().is_none());
        drop(gives_up);
        let mut waits = Box::pin(turns.take(PATIENCE));
        assert!(waits.as_mut().now_or_never().is_none(), "there is a place in the queue again");
        drop(held);
        drop(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let turns = Turns::new(1, 1);
        let _held = turns.take(PATIENCE).await.unwrap();
        assert_eq!(turns.take(PATIENCE).await.unwrap_err(), Crowded::WaitedTooLong);
    }
}
