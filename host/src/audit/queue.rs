//! The bounded queue between those who record and the thread that writes. Adding to it never waits.
//!
//! Records are rendered by those who make them, and lie here one after the other: a record costs no memory of its own
//! that one thread would get and another give back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::chain::Head;

/// How many records wait at most.
const CAPACITY: usize = 8192;
/// How many bytes they have at most together: what a component can make the gateway hold.
const BYTES: usize = 16 << 20;
/// How many bytes are kept for the next ones.
const SPARE: usize = 256 << 10;
/// How many make the writer begin at once.
const PLENTY: usize = 1024;
/// How long the writer lets records gather, so that it wakes up ten times a second at most.
const GATHER: Duration = Duration::from_millis(100);

/// Told how the log ended: its head, or how many records are missing.
pub(super) type Done = oneshot::Sender<Result<Head, u64>>;

/// What the writer gets.
pub(super) struct Batch {
    records: Records,
    /// How many did not fit after these.
    pub(super) lost: u64,
    /// This is the last batch.
    pub(super) is_last: bool,
    /// Who waits for the end.
    pub(super) done: Option<Done>,
}

impl Batch {
    /// When each record was made, and the record as [`super::record::Record::render`] gave it.
    pub(super) fn records(&self) -> impl Iterator<Item = (SystemTime, &[u8])> {
        let starts = std::iter::once(0).chain(self.records.ends.iter().map(|(_, end)| *end));
        let spans = starts.zip(&self.records.ends);
        spans.map(|(start, (at, end))| (*at, self.records.bytes.get(start..*end).unwrap_or_default()))
    }
}

/// Rendered records, one after the other.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// When each was made, and where it ends.
    ends: Vec<(SystemTime, usize)>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    records: Records,
    /// Empty ones, kept for their memory.
    spare: Records,
    lost: u64,
    /// The writer sleeps until it is woken.
    is_asleep: bool,
    is_closed: bool,
    done: Option<Done>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.records.ends.is_empty() && self.lost == 0 && !self.is_closed
    }
}

impl Queue {
    /// Adds a rendered record. An empty one is as good as lost.
    pub(super) fn push(&self, at: SystemTime, record: &[u8]) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        // After the first that does not fit none does, until the writer has taken what there is: what is lost is then
        // in one place.
        let count = state.records.ends.len() + 1;
        let bytes = state.records.bytes.len() + record.len();
        if state.lost > 0 || count > CAPACITY || bytes > BYTES || record.is_empty() {
            state.lost += 1;
            return;
        }
        state.records.bytes.extend_from_slice(record);
        state.records.ends.push((at, bytes));
        let wake = (state.is_asleep && count == 1) || count == PLENTY;
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
        let urgent = |state: &mut State| state.is_closed || state.records.ends.len() >= PLENTY;
        let gathered = self.changed.wait_timeout_while(state, GATHER, |state| !urgent(state) && !state.is_empty());
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let spare = std::mem::take(&mut state.spare);
        Batch {
            records: std::mem::replace(&mut state.records, spare),
            lost: std::mem::take(&mut state.lost),
            is_last: state.is_closed,
            done: state.done.take(),
        }
    }

    /// Takes back what a batch lay in, so that those who record need not wait for memory. A large one is given up.
    pub(super) fn reuse(&self, batch: Batch) {
        let mut records = batch.records;
        if records.bytes.capacity() <= SPARE {
            records.bytes.clear();
            records.ends.clear();
            self.state().spare = records;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn push(queue: &Queue) {
        queue.push(SystemTime::UNIX_EPOCH, b"{");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let queue = Queue::default();
        for _ in 0..CAPACITY + 5 {
            push(&queue);
        }
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), batch.lost, batch.is_last), (CAPACITY, 5, false));
        push(&queue);
        assert!(queue.close(None) && !queue.close(None));
        push(&queue);
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), batch.lost, batch.is_last), (1, 0, true));
    }

    #[test]
    fn large_records_do_not_pile_up() {
        let queue = Queue::default();
        let record = vec![b'{'; 1 << 20];
        (0..20).for_each(|_| queue.push(SystemTime::UNIX_EPOCH, &record));
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), batch.lost), (16, 4));
    }

    #[test]
    fn records_stay_apart_and_in_order() {
        let queue = Queue::default();
        for record in [&b"{1"[..], b"{two", b"", b"{"] {
            queue.push(SystemTime::UNIX_EPOCH, record);
        }
        let batch = queue.take(None);
        let records: Vec<_> = batch.records().map(|(_, record)| record).collect();
        assert_eq!((records, batch.lost), (vec![&b"{1"[..], b"{two"], 2));
    }

    #[test]
    fn records_of_one_moment_come_in_one_batch() {
        let queue = Arc::new(Queue::default());
        let writer = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.take(None).records().count()
        });
        while !queue.state().is_asleep {
            std::thread::yield_now();
        }
        for _ in 0..50 {
            push(&queue);
        }
        // The last could come later than the time for gathering only if this thread stood still for so long.
        let taken = writer.join().unwrap();
        assert!(taken >= 1 && taken + queue.state().records.ends.len() == 50, "{taken}");
    }
}
