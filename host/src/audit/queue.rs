//! The bounded queue between those who record and the thread that writes. Adding to it never waits.
//!
//! What is rendered of records lies here one after the other: nearly all cost no memory of their own that one thread would
//! get and another give back.
//!
//! While more than half of the room is taken, nobody gets more of it than the other half: whoever floods the log loses
//! records of its own, and not those of others.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::chain::Head;
use super::frame::{Frame, Parts};

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

/// Told how the log ended: its head, or how many records are missing from it and the head of what is there.
pub(super) type Done = oneshot::Sender<Result<Head, (u64, Head)>>;

/// What the writer gets.
pub(super) struct Batch {
    records: Records,
    /// What did not fit after these.
    pub(super) lost: Vec<Lost>,
    /// This is the last batch.
    pub(super) is_last: bool,
    /// Who waits for the end.
    pub(super) done: Option<Done>,
}

/// Records of one server that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    key: u64,
    /// The server; none for what is nobody's.
    pub(super) server: Option<String>,
    /// How many.
    pub(super) count: u64,
}

/// Whose a record is: in the scope of which server it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// 0 if it is nobody's.
    key: u64,
    server: String,
}

impl Origin {
    /// In the scope of this server, or of none.
    pub(super) fn set(&mut self, server: Option<&str>) {
        // Only told apart, so that it may be the same for two now and then.
        self.key = server.map_or(0, |server| {
            let mut hasher = std::hash::DefaultHasher::new();
            std::hash::Hash::hash(server, &mut hasher);
            std::hash::Hasher::finish(&hasher) | 1
        });
        self.server.clear();
        self.server.push_str(server.unwrap_or_default());
    }

    fn lost(&self) -> Lost {
        let server = (self.key != 0).then(|| self.server.clone());
        Lost { key: self.key, server, count: 1 }
    }
}

impl Batch {
    /// When each record was made, and what it is rendered from.
    pub(super) fn records(&self) -> impl Iterator<Item = (SystemTime, &Frame, Parts<'_>)> {
        let mut rest = self.records.bytes.as_slice();
        self.records.waiting.iter().map(move |record| {
            let [facts, arguments, gave, error] = record.lengths.map(|length| {
                let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                rest = after;
                part
            });
            (record.at, &record.frame, Parts { facts, arguments, gave, error })
        })
    }
}

/// Records and what is rendered of them, one after the other.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    waiting: Vec<Waiting>,
    /// How many bytes all of them hold.
    held: usize,
    /// What everybody has of it. Empty while less than half of the room is taken: nobody can have more than that.
    shares: BTreeMap<u64, Share>,
}

struct Waiting {
    /// When the record was made.
    at: SystemTime,
    frame: Frame,
    /// How long its parts are.
    lengths: [usize; 4],
    /// How many bytes it holds.
    held: usize,
    /// Whose it is.
    key: u64,
}

#[derive(Clone, Copy, Default)]
struct Share {
    count: usize,
    bytes: usize,
}

impl Records {
    /// Whether a record of so many bytes fits, and into the share of whoever it is of.
    fn fits(&mut self, bytes: usize, key: u64) -> bool {
        let (all, whole) = (self.waiting.len() + 1, self.held + bytes);
        if all <= CAPACITY / 2 && whole <= BYTES / 2 {
            return true;
        }
        if self.shares.is_empty() {
            for record in &self.waiting {
                self.shares.entry(record.key).or_default().add(record.held);
            }
        }
        let share = self.shares.entry(key).or_default();
        let fits = all <= CAPACITY && whole <= BYTES && share.count < CAPACITY / 2 && share.bytes + bytes <= BYTES / 2;
        if fits {
            share.add(bytes);
        }
        fits
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.waiting.clear();
        self.held = 0;
        self.shares.clear();
    }
}

impl Share {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }
}

#[derive(Default)]
pub(super) struct Queue {
    /// Whether what is taken cannot be written.
    pub(super) is_failing: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    records: Records,
    /// Empty ones, kept for their memory.
    spare: Records,
    lost: Vec<Lost>,
    /// The writer sleeps until it is woken.
    is_asleep: bool,
    is_closed: bool,
    done: Option<Done>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.records.waiting.is_empty() && self.lost.is_empty() && !self.is_closed
    }
}

impl Queue {
    /// Adds a record. One of which nothing is rendered is as good as lost.
    pub(super) fn push(&self, at: SystemTime, frame: Frame, parts: Parts<'_>, origin: &Origin) {
        let held = parts.bytes() + frame.held_bytes();
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        // After the first of somebody's that does not fit none of theirs does, until the writer has taken what there is:
        // what is lost is then in one place.
        let lost = state.lost.iter_mut().find(|lost| lost.key == origin.key);
        if let Some(lost) = lost {
            lost.count += 1;
            return;
        }
        if parts.bytes() == 0 || !state.records.fits(held, origin.key) {
            state.lost.push(origin.lost());
            return;
        }
        let parts = [parts.facts, parts.arguments, parts.gave, parts.error];
        let records = &mut state.records;
        parts.iter().for_each(|part| records.bytes.extend_from_slice(part));
        records.held += held;
        records.waiting.push(Waiting { at, frame, lengths: parts.map(<[u8]>::len), held, key: origin.key });
        let count = state.records.waiting.len();
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
        let urgent = |state: &mut State| state.is_closed || state.records.waiting.len() >= PLENTY;
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
            records.clear();
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

    fn note(queue: &Queue, record: &[u8], origin: &Origin) {
        queue.push(SystemTime::UNIX_EPOCH, Frame::Whole, Parts { facts: record, ..Parts::default() }, origin);
    }

    fn push(queue: &Queue) {
        note(queue, b"{", &Origin::default());
    }

    fn of(server: &str) -> Origin {
        let mut origin = Origin::default();
        origin.set(Some(server));
        origin
    }

    fn lost(batch: &Batch) -> u64 {
        batch.lost.iter().map(|lost| lost.count).sum()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let queue = Queue::default();
        for number in 0..CAPACITY + 5 {
            note(&queue, b"{", &of(&(number % 4).to_string()));
        }
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), lost(&batch), batch.is_last), (CAPACITY, 5, false));
        push(&queue);
        assert!(queue.close(None) && !queue.close(None));
        push(&queue);
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), lost(&batch), batch.is_last), (1, 0, true));
    }

    #[test]
    fn whoever_floods_the_queue_loses_its_own_records_and_nobody_elses() {
        let (flood, quiet) = (of("flood"), of("quiet"));
        // By their number, and by their size.
        for (record, most) in [(vec![b'{'; 10], CAPACITY / 2), (vec![b'{'; 64 << 10], BYTES / 2 / (64 << 10))] {
            let queue = Queue::default();
            let add = |origin| note(&queue, &record, origin);
            add(&quiet);
            (0..3 * most).for_each(|_| add(&flood));
            (0..most - 1).for_each(|_| add(&quiet));
            push(&queue);
            let batch = queue.take(None);
            let expected = Lost { key: flood.key, server: Some("flood".to_owned()), count: 2 * most as u64 };
            assert_eq!(batch.lost[0], expected);
            // By size, there may be no room left for one byte that is nobody's.
            assert!(batch.lost.len() <= 2 && batch.records().count() >= 2 * most);
            // What is taken makes room again, also where the batch before lay.
            queue.reuse(batch);
            add(&flood);
            assert_eq!(lost(&queue.take(None)), 0);
        }
    }

    #[test]
    fn large_records_do_not_pile_up() {
        let queue = Queue::default();
        let record = vec![b'{'; 1 << 20];
        (0..20).for_each(|number| note(&queue, &record, &of(&(number % 2).to_string())));
        let batch = queue.take(None);
        assert_eq!((batch.records().count(), lost(&batch)), (16, 4));
    }

    #[test]
    fn records_stay_apart_and_in_order() {
        let queue = Queue::default();
        for record in [&b"{1"[..], b"{two", b"", b"{"] {
            note(&queue, record, &Origin::default());
        }
        let parts = Parts { facts: b"f", arguments: b"", gave: b"gg", error: b"eee" };
        queue.push(SystemTime::UNIX_EPOCH, Frame::Begun, parts, &of("s"));
        let batch = queue.take(None);
        let records: Vec<_> = batch.records().map(|(.., parts)| parts).collect();
        let whole = |facts| Parts { facts, ..Parts::default() };
        // After the first that was lost of somebody's, the others are.
        assert_eq!((records, lost(&batch)), (vec![whole(b"{1"), whole(b"{two"), parts], 2));
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
        assert!(taken >= 1 && taken + queue.state().records.waiting.len() == 50, "{taken}");
    }
}
