//! The bounded queue between those who record and the thread that writes. Adding to it never waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::chain::Head;
use super::operation::Facts;
use super::record::Record;

/// How many records wait at most. Each is bounded in size.
const CAPACITY: usize = 8192;
/// How many make the writer begin at once.
const PLENTY: usize = 1024;
/// How long the writer lets records gather, so that it wakes up ten times a second at most.
const GATHER: Duration = Duration::from_millis(100);

/// A record on its way.
pub(super) struct Entry {
    /// When it happened.
    pub(super) at: SystemTime,
    /// The operation that it belongs to.
    pub(super) about: Option<Arc<Facts>>,
    /// What it says itself.
    pub(super) record: Box<Record<'static>>,
}

/// Told how the log ended: its head, or how many records are missing.
pub(super) type Done = oneshot::Sender<Result<Head, u64>>;

/// What the writer gets.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// How many did not fit after these.
    pub(super) lost: u64,
    /// This is the last batch.
    pub(super) is_last: bool,
    /// Who waits for the end.
    pub(super) done: Option<Done>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    lost: u64,
    /// The writer sleeps until it is woken.
    is_asleep: bool,
    is_closed: bool,
    done: Option<Done>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lost == 0 && !self.is_closed
    }
}

impl Queue {
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        // After the first that does not fit none does, until the writer has taken what there is: what is lost is then
        // in one place.
        if state.lost > 0 || state.entries.len() >= CAPACITY {
            state.lost += 1;
            return;
        }
        state.entries.push(entry);
        let wake = (state.is_asleep && state.entries.len() == 1) || state.entries.len() == PLENTY;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Lets the writer end after what is there. False if that was said before.
    pub(super) fn close(&self, done: Option<Done>) -> bool {
        let mut state = self.state();
        if state.is_closed {
            return false;
        }
        state.is_closed = true;
        state.done = done;
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Waits for records, without waking up while there are none, and lets more gather. With a `timeout` it returns
    /// after this time in any case.
    pub(super) fn take(&self, timeout: Option<Duration>) -> Batch {
        let began = Instant::now();
        let mut state = self.state();
        while state.is_empty() {
            state.is_asleep = true;
            state = match timeout.map(|timeout| timeout.saturating_sub(began.elapsed())) {
                Some(Duration::ZERO) => break,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.is_asleep = false;
        let urgent = |state: &mut State| state.is_closed || state.entries.len() >= PLENTY;
        let gathered = self.changed.wait_timeout_while(state, GATHER, |state| !urgent(state) && !state.is_empty());
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        Batch {
            entries: std::mem::take(&mut state.entries),
            lost: std::mem::take(&mut state.lost),
            is_last: state.is_closed,
            done: state.done.take(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Kind;

    fn entry() -> Entry {
        Entry { at: SystemTime::UNIX_EPOCH, about: None, record: Box::new(Record::of(Kind::Begun)) }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let queue = Queue::default();
        for _ in 0..CAPACITY + 5 {
            queue.push(entry());
        }
        let batch = queue.take(None);
        assert_eq!((batch.entries.len(), batch.lost, batch.is_last), (CAPACITY, 5, false));
        queue.push(entry());
        assert!(queue.close(None) && !queue.close(None));
        queue.push(entry());
        let batch = queue.take(None);
        assert_eq!((batch.entries.len(), batch.lost, batch.is_last), (1, 0, true));
    }

    #[test]
    fn records_of_one_moment_come_in_one_batch() {
        let queue = Arc::new(Queue::default());
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.take(None).entries.len()
        });
        while !queue.state().is_asleep {
            std::thread::yield_now();
        }
        for _ in 0..50 {
            queue.push(entry());
        }
        // The last could come later than the time for gathering only if this thread stood still for so long.
        let taken = writer.join().unwrap();
        assert!(taken >= 1 && taken + queue.state().entries.len() == 50, "{taken}");
    }
}
