//! The pace at which a release is tried that does not succeed: soon at first, then slowly, for as long as the process
//! lives.
//!
//! What is tried, and what it means that it failed, is the caller's business.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause. Each further one is twice as long.
const FIRST: Duration = Duration::from_millis(20);
/// The longest pause before failure is news.
const SOON: Duration = Duration::from_secs(2);
/// How long failure is no news: until then it may be the engine that restarts.
const QUIET: Duration = Duration::from_secs(60);
/// The pause from then on.
const SLOW: Duration = Duration::from_secs(30);

/// Attempts at one thing.
#[derive(Debug)]
pub struct Attempts {
    began: Instant,
    pause: Duration,
    is_news_told: bool,
}

impl Attempts {
    /// The first is about to be made.
    pub fn begin() -> Self {
        Self { began: Instant::now(), pause: FIRST, is_news_told: false }
    }

    /// One failed. True once: when it has failed for so long that somebody should know.
    pub fn is_news(&mut self) -> bool {
        !self.is_news_told && self.is_long() && {
            self.is_news_told = true;
            true
        }
    }

    /// Whether failure was news, so that success is too.
    pub fn was_news(&self) -> bool {
        self.is_news_told
    }

    /// Since the first.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the next is due.
    pub async fn pause(&mut self) {
        let pause = if self.is_long() { SLOW } else { self.pause };
        self.pause = (self.pause * 2).min(SOON);
        tokio::time::sleep(pause).await;
    }

    fn is_long(&self) -> bool {
        self.elapsed() >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_quick_at_first_then_slow_and_never_end() {
        let mut attempts = Attempts::begin();
        let (mut soon, mut news) = (0, Vec::new());
        while attempts.elapsed() < QUIET {
            assert!(!attempts.is_news());
            attempts.pause().await;
            soon += 1;
        }
        assert!((30..45).contains(&soon), "{soon}");
        assert!(!attempts.was_news());
        for _ in 0..100 {
            news.push(attempts.is_news());
            let before = attempts.elapsed();
            attempts.pause().await;
            assert_eq!(attempts.elapsed() - before, SLOW);
        }
        assert_eq!(news.iter().filter(|news| **news).count(), 1);
        assert!(news[0] && attempts.was_news());
    }
}
