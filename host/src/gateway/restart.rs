//! When a kept server that ended may be started again: at once the first time, later and later while it keeps ending.

use std::time::Duration;

use tokio::time::Instant;

/// How soon kept servers are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The pause after the second end in a row; each further one doubles it. The first is followed by none.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A server that lived this long, from the handshake to its end, ends the row.
    pub settled: Duration,
}

impl Default for RestartPolicy {
    /// One second, at most a minute, forgotten after a minute of life.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), settled: Duration::from_secs(60) }
    }
}

/// The ends of one server in a row.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    in_a_row: u32,
    not_before: Option<Instant>,
    reason: String,
}

/// Why a server is not started now.
#[derive(Debug, PartialEq)]
pub(crate) struct Pause {
    /// How often it ended in a row.
    pub in_a_row: u32,
    /// How long until it is started again.
    pub left: Duration,
    /// Why it ended the last time.
    pub reason: String,
}

impl Ends {
    /// It ended, or could not even be opened, after so long a life. Pauses begin at the end, whenever it is noticed.
    pub(crate) fn ended(&mut self, policy: &RestartPolicy, reason: String, lived: Duration, end: Instant) {
        if lived >= policy.settled {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.reason = reason;
        self.not_before = self.in_a_row.checked_sub(2).map(|doublings| {
            let pause = policy.first.saturating_mul(1 << doublings.min(16));
            end + pause.min(policy.longest)
        });
    }

    /// Whether to wait, and for how long.
    pub(crate) fn pause(&self, now: Instant) -> Option<Pause> {
        let left = self.not_before?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Pause { in_a_row: self.in_a_row, left, reason: self.reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(ends: &Ends, now: Instant) -> Option<u64> {
        ends.pause(now).map(|pause| pause.left.as_secs())
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let (policy, now, mut ends) = (RestartPolicy::default(), Instant::now(), Ends::default());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            ends.ended(&policy, "x".to_owned(), Duration::ZERO, now);
            pauses.push(left(&ends, now));
        }
        let expected = [0, 1, 2, 4, 8, 16, 32, 60, 60, 60].map(|seconds| Some(seconds).filter(|seconds| *seconds > 0));
        assert_eq!(pauses, expected);
        assert_eq!(ends.pause(now).unwrap().reason, "x");
        assert_eq!(left(&ends, now + Duration::from_secs(60)), None);
    }

    #[test]
    fn a_long_life_ends_the_row() {
        let (policy, now, mut ends) = (RestartPolicy::default(), Instant::now(), Ends::default());
        for lived in [0, 0, 59] {
            ends.ended(&policy, String::new(), Duration::from_secs(lived), now);
        }
        assert_eq!(left(&ends, now), Some(2));
        ends.ended(&policy, String::new(), Duration::from_secs(60), now);
        assert_eq!(left(&ends, now), None);
    }

    #[test]
    fn a_million_ends_do_not_overflow() {
        let policy = RestartPolicy { longest: Duration::MAX, ..RestartPolicy::default() };
        let mut ends = Ends { in_a_row: u32::MAX, ..Ends::default() };
        let now = Instant::now();
        ends.ended(&policy, String::new(), Duration::ZERO, now);
        assert_eq!(left(&ends, now), Some(1 << 16));
    }
}
