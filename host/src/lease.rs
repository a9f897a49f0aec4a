//! Ownership of things outside the process: a [`Lease`] releases what it stands for when it is dropped, wherever
//! that happens, and [`Reaper::drain`] waits until everything is released.
//!
//! It knows nothing of what is leased.

mod attempts;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

pub use self::attempts::Attempts;

/// How long [`Lease::release`] waits.
const PATIENCE: Duration = Duration::from_secs(45);

type Release = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Runs releases in the background and lets the end of the process wait for them.
#[derive(Clone, Debug)]
pub struct Reaper {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Reaper {
    /// A reaper on the current Tokio runtime.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), runtime: Handle::current() }
    }

    /// Runs work that must not be cut short by the cancellation of whoever began it, such as a create request
    /// whose result decides what must be released. [`Reaper::drain`] waits for it.
    pub fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(work, &self.runtime)
    }

    /// A lease that runs `release` when it is dropped.
    pub fn lease<F, R>(&self, name: impl Into<String>, release: F) -> Lease
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Lease { name: name.into(), reaper: self.clone(), release: Some(Box::new(move || Box::pin(release()))) }
    }

    /// Waits until everything dropped so far is released, for at most `limit`. True if nothing is left. Releases that
    /// take longer go on for as long as the runtime lives.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.tracker.close();
        let drained = tokio::time::timeout(limit, self.tracker.wait()).await.is_ok();
        self.tracker.reopen();
        drained
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new()
    }
}

/// Something outside the process that is released when this is dropped.
#[must_use = "dropping a lease releases what it stands for"]
pub struct Lease {
    name: String,
    reaper: Reaper,
    release: Option<Release>,
}

impl Lease {
    /// What it stands for, such as a container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Releases now and waits for it, for at most 45 seconds; what takes longer goes on in the background.
    pub async fn release(mut self) {
        if let Some(release) = self.release.take() {
            let work = self.reaper.spawn(release());
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, work).await {
                tracing::error!(%error, name = self.name, "release failed");
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            // Not awaited here: `drain` does.
            drop(self.reaper.spawn(release()));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn drain_waits_for_what_was_dropped() {
        let reaper = Reaper::new();
        let released = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let released = Arc::clone(&released);
            drop(reaper.lease("x", move || async move {
                tokio::task::yield_now().await;
                released.fetch_add(1, Ordering::SeqCst);
            }));
        }
        assert!(reaper.drain(Duration::from_secs(5)).await);
        assert_eq!(released.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_takes_long_is_not_waited_for_and_goes_on() {
        let reaper = Reaper::new();
        let released = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&released);
        let lease = reaper.lease("x", move || async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            counted.fetch_add(1, Ordering::SeqCst);
        });
        lease.release().await;
        assert_eq!(released.load(Ordering::SeqCst), 0);
        assert!(!reaper.drain(Duration::from_secs(20)).await);
        assert!(reaper.drain(Duration::from_secs(3600)).await);
        assert_eq!(released.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_lease_dropped_outside_the_runtime_is_released() {
        let reaper = Reaper::new();
        let (sent, received) = tokio::sync::oneshot::channel();
        let lease = reaper.lease("x", move || async move {
            let _ = sent.send(());
        });
        let thread = std::thread::spawn(move || drop(lease));
        assert!(thread.join().is_ok());
        assert!(received.await.is_ok());
    }
}
