//! The audit log: what each component was asked to do, what it called, what was decided and what came of it.
//!
//! Recording never waits: a record goes into a bounded queue, and one thread turns batches of them into lines that are
//! chained by their hashes (`docs/audit.md`). What does not fit is counted, and the count is a record itself.
//! Operations are recorded by `sandbox`, calls by `capability::recorded`, and what the gateway does by itself by those
//! who do it; this module knows neither wasmtime nor engines. It never gets a secret, a configuration value, a tool's
//! argument or its output: those who record show values by their names.

pub mod chain;
pub mod files;
mod frame;
pub mod line;
mod operation;
mod queue;
pub mod reader;
pub mod record;
mod retention;
pub mod text;
pub mod verify;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;

pub use self::chain::Head;
use self::files::Directory;
use self::frame::{Frame, Parts};
use self::operation::Buffers;
pub use self::operation::{Call, Ending, Operation, Subject};
use self::queue::{Origin, Queue};
use self::record::{Kind, Record, Used};
pub use self::retention::Retention;
use self::text::Room;
use self::writer::Writer;

/// What stands for the interface of a call that no component made.
pub const OWN: &str = "gateway";

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the files are. Made if need be, and refused if others may write to it.
    pub directory: PathBuf,
    /// The session: `[a-z0-9-]`, at most 64 bytes.
    pub session: String,
    /// How much is kept.
    pub retention: Retention,
}

/// Where records go. Cheap to clone; without a log it does nothing.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Log>>);

struct Log {
    queue: Arc<Queue>,
    operations: AtomicU64,
    /// Nothing may be done without it.
    is_required: bool,
    /// What operations that ended left for later ones.
    #[expect(clippy::vec_box, reason = "they go to an operation and back, so that only the pointer is moved")]
    spare: Mutex<Vec<Box<Buffers>>>,
}

/// How many operations at once are given what earlier ones left.
const SPARE: usize = 4;

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody waits for it: what is queued is written if the process lives long enough.
        self.queue.close(None);
    }
}

/// Why the end of a log was not written.
#[derive(Debug, Error)]
pub enum CloseError {
    /// It took too long.
    #[error("the audit log could not be written within {0:?}")]
    TimedOut(Duration),
    /// It cannot be written.
    #[error(
        "the audit log could not be written; {records} records are missing from it, and what is there ends with {head}"
    )]
    Lost {
        /// How many records are missing.
        records: u64,
        /// Where the log ends that is there.
        head: Head,
    },
}

impl Audit {
    /// Records nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins the log of a session.
    ///
    /// # Errors
    /// If the directory or the file cannot be made or used.
    pub fn open(options: Options) -> io::Result<Self> {
        Self::begin(options, false)
    }

    /// Begins one without which nothing may be done, see [`Audit::missing`]. Its beginning is written before this returns.
    ///
    /// # Errors
    /// As for [`Audit::open`], and if it cannot be written.
    pub fn open_required(options: Options) -> io::Result<Self> {
        Self::begin(options, true)
    }

    fn begin(options: Options, is_required: bool) -> io::Result<Self> {
        let directory = Directory::create(options.directory)?;
        let queue = Arc::new(Queue::default());
        let mut writer = Writer::new(directory, options.session, options.retention, Arc::clone(&queue))?;
        if is_required {
            writer.begin_now()?;
        }
        std::thread::Builder::new().name("audit".to_owned()).stack_size(512 << 10).spawn(move || writer.run())?;
        Ok(Self(Some(Arc::new(Log { queue, operations: AtomicU64::new(1), is_required, spare: Mutex::default() }))))
    }

    /// Why nothing may be done now: the log is required, and cannot be written. It is known a moment after it begins, and
    /// over as soon as the log could be written again.
    pub fn missing(&self) -> Option<&'static str> {
        let is_missing = |log: &Arc<Log>| log.is_required && log.queue.is_failing.load(Ordering::Relaxed);
        self.0.as_ref().is_some_and(is_missing).then_some(
            "a policy requires the audit log, and it cannot be written; make room in its directory, or make it writable again",
        )
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins to record an operation.
    pub fn operation<'a>(&self, subject: impl FnOnce() -> Subject<'a>) -> Operation {
        match &self.0 {
            Some(log) => Operation::begin(self.clone(), log.operations.fetch_add(1, Ordering::Relaxed), subject()),
            None => Operation::unrecorded(),
        }
    }

    /// Begins to record something that the gateway does by itself: no component asks for it.
    pub fn own(&self) -> Operation {
        match &self.0 {
            Some(log) => Operation::own(self.clone(), log.operations.fetch_add(1, Ordering::Relaxed)),
            None => Operation::unrecorded(),
        }
    }

    /// Records something that belongs to no operation.
    fn record(&self, record: impl FnOnce() -> Record<'static>) {
        if self.is_on() {
            let mut rendered = Vec::new();
            record().render(&mut rendered);
            let parts = Parts { facts: &rendered, ..Parts::default() };
            self.push(SystemTime::now(), Frame::Whole, parts, &Origin::default());
        }
    }

    fn push(&self, at: SystemTime, frame: Frame, parts: Parts<'_>, origin: &Origin) {
        if let Some(log) = &self.0 {
            log.queue.push(at, frame, parts, origin);
        }
    }

    /// What an operation renders its records in.
    fn buffers(&self) -> Box<Buffers> {
        let left = self.0.as_ref().and_then(|log| log.spare.lock().unwrap_or_else(PoisonError::into_inner).pop());
        left.unwrap_or_default()
    }

    /// Takes it back for a later operation.
    fn hand_on(&self, buffers: Box<Buffers>) {
        if let Some(log) = &self.0 {
            let mut spare = log.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARE {
                spare.push(buffers);
            }
        }
    }

    /// Writes what is queued and the record that ends the log; records that come later are ignored. None without a
    /// log, and when it was closed before.
    ///
    /// # Errors
    /// If the end could not be written in this time, or not at all.
    pub async fn close(&self, within: Duration) -> Result<Option<Head>, CloseError> {
        let Some(log) = &self.0 else { return Ok(None) };
        let (done, closed) = tokio::sync::oneshot::channel();
        if !log.queue.close(Some(done)) {
            return Ok(None);
        }
        match tokio::time::timeout(within, closed).await {
            Ok(Ok(Ok(head))) => Ok(Some(head)),
            Ok(Ok(Err((records, head)))) => Err(CloseError::Lost { records, head }),
            // The thread is gone, or does not get on.
            Ok(Err(_)) | Err(_) => Err(CloseError::TimedOut(within)),
        }
    }
}

/// A component that was loaded, or refused.
pub struct Loaded {
    /// Where it came from.
    pub component: String,
    /// The SHA-256 of its bytes, if they could be read.
    pub digest: Option<String>,
    /// What it is granted.
    pub grants: Vec<String>,
    /// What each of its operations may use.
    pub limits: Used,
    /// Why it was refused.
    pub error: Option<String>,
    /// What a policy decided about it, if that is why.
    pub decision: Option<record::Decision>,
}

impl Audit {
    /// Records that a component was loaded, or why not.
    pub fn loaded(&self, loaded: impl FnOnce() -> Loaded) {
        self.record(|| {
            let loaded = loaded();
            let mut room = Room::default();
            Record {
                component: Some(room.line(&loaded.component).into()),
                digest: loaded.digest.map(Into::into),
                outcome: Some(if loaded.error.is_some() { "refused" } else { "ok" }.into()),
                error: loaded.error.map(|error| room.line(&error).into()),
                grants: room.lines(loaded.grants),
                limits: Some(loaded.limits),
                decision: loaded.decision.as_ref().map(|decision| decision.verdict),
                rule: loaded.decision.map(|decision| decision.rule),
                ..Record::of(Kind::Loaded)
            }
        });
    }

    /// Records that a policy refuses a server.
    pub fn refused(&self, server: &str, denied: &provisioning_core::policy::Decision) {
        self.record(|| {
            let mut room = Room::default();
            let decision = record::Decision::from(denied);
            Record {
                server: Some(room.line(server).into()),
                decision: Some(decision.verdict),
                rule: Some(decision.rule),
                outcome: Some("refused".into()),
                error: Some(room.line(denied).into()),
                ..Record::of(Kind::Refused)
            }
        });
    }
}
