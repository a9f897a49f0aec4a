//! Sessions: the servers that live longer than a call, and for whom they are kept.
//!
//! A session belongs to one stdio connection, one HTTP session, or, where the protocol has no sessions, to one
//! authenticated principal. Dropping it ends its servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::restart::{Ends, RestartPolicy};
use super::room::Room;
use super::upstream::{Upstream, UpstreamError};

/// How many principals keep servers at the same time.
const MAX_PRINCIPALS: usize = 64;

/// A server that is kept, and how it fared.
#[derive(Debug, Default)]
struct Kept {
    upstream: Option<Arc<Upstream>>,
    ends: Ends,
}

type Slot = Arc<tokio::sync::Mutex<Kept>>;

/// The long-lived servers of one client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    slots: Mutex<HashMap<usize, Slot>>,
    /// Room for large messages of its servers.
    pub room: Room,
}

impl Session {
    /// The session's server, opened by `open` if there is none or it ended. Concurrent callers share it.
    ///
    /// # Errors
    /// Those of `open`, and [`UpstreamError::Pausing`] for a server that failed several times in a row.
    pub(crate) async fn server<F>(
        &self,
        server: usize,
        name: &str,
        policy: &RestartPolicy,
        open: impl FnOnce() -> F,
    ) -> Result<Arc<Upstream>, UpstreamError>
    where
        F: Future<Output = Result<Upstream, UpstreamError>>,
    {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(server).or_default())
        };
        let mut kept = slot.lock().await;
        if let Some(upstream) = kept.upstream.take() {
            if !upstream.is_closed() {
                kept.upstream = Some(Arc::clone(&upstream));
                return Ok(upstream);
            }
            let error = upstream.end();
            let (end, lived) = upstream.end_of_life();
            kept.ends.ended(policy, error.to_string(), lived, end);
            upstream.log_last_words(&error).await;
        }
        if let Some(pause) = kept.ends.pause(Instant::now()) {
            return Err(UpstreamError::Pausing {
                server: name.to_owned(),
                in_a_row: pause.in_a_row,
                seconds: pause.left.as_secs() + 1,
                reason: pause.reason,
            });
        }
        match open().await {
            Ok(upstream) => {
                let upstream = Arc::new(upstream);
                kept.upstream = Some(Arc::clone(&upstream));
                Ok(upstream)
            }
            Err(UpstreamError::Cancelled) => Err(UpstreamError::Cancelled),
            Err(error) => {
                kept.ends.ended(policy, error.to_string(), Duration::ZERO, Instant::now());
                Err(error)
            }
        }
    }

    /// Lets go of a server that is no longer one of the gateway's. Calls under way keep it until they are done.
    pub(crate) fn release(&self, server: usize) {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
        drop(slot);
    }

    /// Lets go of a server that broke, so that the next call gets a new one.
    pub(crate) async fn forget(&self, server: usize, broken: &Arc<Upstream>, policy: &RestartPolicy, reason: String) {
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(&server).map(Arc::clone)
        };
        if let Some(slot) = slot {
            let mut kept = match slot.try_lock() {
                Ok(kept) => kept,
                // Somebody else has seen the end and opens a new one, which may take long, or will see it next time.
                Err(_) if broken.is_closed() => return,
                Err(_) => slot.lock().await,
            };
            if kept.upstream.as_ref().is_some_and(|upstream| Arc::ptr_eq(upstream, broken)) {
                kept.upstream = None;
                let (end, lived) = broken.end_of_life();
                kept.ends.ended(policy, reason, lived, end);
            }
        }
    }
}

/// The sessions of principals, which end when they were not used for some time.
#[derive(Debug)]
pub(crate) struct Principals {
    idle: Duration,
    sessions: Mutex<HashMap<String, (Arc<Session>, Instant)>>,
}

impl Principals {
    /// Keeps sessions for `idle` after their last use.
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, sessions: Mutex::default() }
    }

    /// A principal's session. It counts as used until the caller drops it.
    pub(crate) fn session(&self, principal: &str) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if !sessions.contains_key(principal) && sessions.len() >= MAX_PRINCIPALS {
            let idle = sessions.iter().filter(|(_, (session, _))| Arc::strong_count(session) == 1);
            let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(principal, _)| principal.clone());
            match oldest {
                Some(oldest) => drop(sessions.remove(&oldest)),
                // All are busy: this one is not kept beyond the call.
                None => return Arc::default(),
            }
        }
        let (session, used) = sessions.entry(principal.to_owned()).or_insert_with(|| (Arc::default(), Instant::now()));
        *used = Instant::now();
        Arc::clone(session)
    }

    /// Ends the sessions that are idle for too long. Those in use count as just used.
    pub(crate) fn sweep(&self, now: Instant) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (session, used)| {
            if Arc::strong_count(session) > 1 {
                *used = now;
            }
            now.duration_since(*used) < self.idle
        });
    }

    /// How often to sweep.
    pub(crate) fn sweep_interval(&self) -> Duration {
        (self.idle / 4).max(Duration::from_millis(50))
    }

    /// Ends all sessions that nobody uses.
    pub(crate) fn clear(&self) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principals_session_ends_when_idle_but_not_while_used() {
        let principals = Principals::new(Duration::from_secs(60));
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        let session = principals.session("a");
        let weak = Arc::downgrade(&session);
        principals.sweep(after(100));
        assert!(weak.upgrade().is_some());
        drop(session);
        // It counts as used at the sweep that found it in use.
        principals.sweep(after(150));
        assert!(weak.upgrade().is_some());
        principals.sweep(after(161));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn the_number_of_principals_is_bounded() {
        let principals = Principals::new(Duration::from_secs(60));
        for index in 0..200 {
            drop(principals.session(&index.to_string()));
        }
        assert_eq!(principals.sessions.lock().unwrap().len(), MAX_PRINCIPALS);
    }
}
