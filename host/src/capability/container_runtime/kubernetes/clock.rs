//! What time it is for the API server, from the `Date` of its answers.
//!
//! Whether a Lease has run out is asked by other machines than the one that renewed it, and clocks differ. So both use the one
//! clock that all of them see; the clock of this machine only tells how much time has passed since.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::DATE;
use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The last time that was told, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl Clock {
    /// Takes note of the time that an answer tells.
    pub(super) fn note(&self, headers: &HeaderMap) {
        let text = headers.get(DATE).and_then(|date| date.to_str().ok());
        if let Some(told) = text.and_then(|text| DateTimeParser::new().parse_timestamp(text).ok()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((told, Instant::now()));
        }
    }

    /// What time it is, to the second. None if it was never told.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (told, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let passed = SignedDuration::try_from(at.elapsed()).ok()?;
        told.checked_add(passed).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_what_was_told_last() {
        let clock = Clock::default();
        assert_eq!(clock.now(), None);
        let tell = |text: &str| clock.note(&[(DATE, text.parse().unwrap())].into_iter().collect());
        tell("Sun, 06 Nov 1994 08:49:37 GMT");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().unwrap().to_string(), "1994-11-06T08:51:07Z");
        tell("no date");
        assert_eq!(clock.now().unwrap().to_string(), "1994-11-06T08:51:07Z");
    }
}
