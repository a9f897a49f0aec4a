//! Running containers: the trait behind the WIT interface `container-runtime`, and the types that cross it.
//!
//! A backend receives a specification that has already been judged against the server's envelope. It resolves
//! values itself, as late as it can, and returns things that release themselves when dropped. It deliberately
//! knows nothing of guests.

mod credentials;
pub mod docker;
pub mod embedded;
pub mod fake;
mod host;
mod input;
pub mod kubernetes;
pub mod plan;
pub mod routed;
mod stderr;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use provisioning_core::{ContainerSpec, Segment, Value};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lease::Lease;

/// For whom a container is created. Labels and names are made from this by the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The gateway session: `[a-z0-9-]`, at most 64 bytes.
    pub session: String,
    /// The server's name in the catalog; any text.
    pub server: String,
    /// The tool's name if this is an ephemeral tool; any text.
    pub tool: Option<String>,
}

/// A request to a backend.
#[derive(Clone, Debug)]
pub struct Request {
    /// For whom.
    pub identity: Identity,
    /// What, inside the envelope.
    pub spec: ContainerSpec,
}

/// No program can be given a null character, wherever it runs: its words end there.
fn check_words(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    let arguments = spec.command.iter().enumerate().map(|(at, value)| (format!("argument {}", at + 1), value));
    let variables =
        spec.environment.iter().map(|(name, value)| (format!("environment variable `{}`", name.escape_debug()), value));
    match arguments.chain(variables).find(|(_, value)| has_null(value)) {
        Some((what, _)) => Err(RuntimeError::Invalid(format!(
            "{what} has a null character, which no program can be given; leave it out"
        ))),
        None => Ok(()),
    }
}

fn has_null(value: &Value) -> bool {
    value.segments().iter().any(|segment| match segment {
        Segment::Text(text) => text.contains('\0'),
        Segment::Private { text, .. } => text.contains('\0'),
        Segment::Stored { content, .. } => has_null(content),
        Segment::Secret(_) | Segment::ClusterKey { .. } => false,
    })
}

/// Bounds on a container that is run to its end.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// How long it may take from start to end.
    pub time: Duration,
    /// How many bytes of standard output and of standard error are kept, each.
    pub output_bytes: usize,
}

impl Default for RunLimits {
    /// Ten minutes; 4 MiB of each stream.
    fn default() -> Self {
        Self { time: Duration::from_secs(600), output_bytes: 4 << 20 }
    }
}

/// A container that runs, with its standard streams. Dropping the lease stops and removes it.
#[derive(Debug)]
pub struct Running {
    /// Removes the container when dropped.
    pub lease: Lease,
    /// The standard streams.
    pub streams: Streams,
}

/// The standard streams of a running container.
pub struct Streams {
    /// Standard input. Dropping it closes the container's standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    /// Standard output, and nothing else. Ends when the container ends.
    pub stdout: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// The last lines of standard error, for messages. The backend also logs them as they come.
    pub stderr: StderrTail,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// The last lines that a server wrote to standard error. Shared with the task that reads them.
#[derive(Clone, Default)]
pub struct StderrTail(Arc<Mutex<VecDeque<String>>>);

impl StderrTail {
    /// How many lines are kept.
    pub const LINES: usize = 20;
    /// How many characters of a line are kept.
    pub const LINE_CHARS: usize = 500;

    /// Adds a line, cutting it if it is long and forgetting the oldest.
    pub fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == Self::LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(Self::LINE_CHARS).collect());
    }

    /// The lines kept, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What a container that ran to its end left behind. Never enters a guest.
#[derive(Clone, PartialEq, Eq)]
pub struct Completed {
    /// The exit code of the process.
    pub exit_code: i64,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// What the engine knows of its end that an exit code does not tell, and what to do; nothing that the process wrote.
    pub note: Option<String>,
}

impl Completed {
    /// What is said of a process that needed more memory than it may have.
    pub const OUT_OF_MEMORY: &str = "it was killed because it needed more memory than it may have; raise `--memory`";
}

impl fmt::Debug for Completed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completed").field("exit_code", &self.exit_code).finish_non_exhaustive()
    }
}

/// Output that was kept, up to a bound.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The bytes, as they came.
    pub bytes: Vec<u8>,
    /// How many bytes more there were, which were dropped.
    pub dropped: u64,
}

impl Captured {
    /// Adds bytes, keeping at most `limit` in all.
    pub fn extend(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.bytes.len()).min(bytes.len());
        let (kept, dropped) = bytes.split_at(room);
        self.bytes.extend_from_slice(kept);
        self.dropped += dropped.len() as u64;
    }
}

/// Why a backend could not do what was asked. The text is for people and holds no private value.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The image cannot be had.
    #[error("image `{image}` cannot be had: {reason}")]
    Image {
        /// The image reference.
        image: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The request is wrong or cannot be honoured on this backend.
    #[error("{0}")]
    Invalid(String),
    /// Policy refuses it, for example a bind mount.
    #[error("{0}")]
    Denied(String),
    /// The engine refuses the combination.
    #[error("{0}")]
    Conflict(String),
    /// The engine is away.
    #[error("{0}")]
    Unavailable(String),
    /// It took too long.
    #[error("{what} did not finish within {seconds} s; {advice}")]
    TimedOut {
        /// What.
        what: String,
        /// The limit in seconds.
        seconds: u64,
        /// What to do.
        advice: &'static str,
    },
    /// A value could not be resolved.
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    /// Anything else that the engine reports.
    #[error("{0}")]
    Engine(String),
}

impl RuntimeError {
    /// What to do about a tool that takes longer than [`RunLimits::time`].
    pub const RAISE_CALL_TIMEOUT: &str = "raise `--call-timeout` if it needs longer";
    /// What to do about a server that takes long to start.
    pub const RAISE_STARTUP_TIMEOUT: &str = "raise `--max-server-startup-timeout` if it needs longer";

    /// A tool or an interceptor took longer than it may.
    pub fn ran_too_long(what: String, limit: Duration) -> Self {
        Self::TimedOut { what, seconds: limit.as_secs(), advice: Self::RAISE_CALL_TIMEOUT }
    }
}

/// Told how the preparation of an image goes on.
pub trait ImageProgress: Send + Sync {
    /// Bytes fetched so far and in all, as far as known. Called often.
    fn bytes(&self, image: &str, done: u64, total: u64);
}

/// Ignores progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ImageProgress for Quiet {
    fn bytes(&self, _image: &str, _done: u64, _total: u64) {}
}

/// A container engine.
///
/// Every method may be dropped at any await point: what it began is then finished and undone in the background by
/// the reaper that the backend was made with.
#[async_trait]
pub trait ContainerRuntime: Send + Sync {
    /// The name that guests and people see.
    fn name(&self) -> &'static str;

    /// The name of the engine that an image would run on, where one runtime stands for several.
    fn name_for(&self, _image: &str) -> &'static str {
        self.name()
    }

    /// Makes sure that the image is there, pulling it if need be. Safe to repeat; concurrent calls for one image
    /// pull once.
    ///
    /// # Errors
    /// [`RuntimeError::Image`] if it cannot be had, [`RuntimeError::Unavailable`] if the engine is away.
    async fn prepare(&self, image: &str, progress: &dyn ImageProgress) -> Result<(), RuntimeError>;

    /// How long [`Self::start`] may take where a server is given this much time to begin. An engine that fetches images, or
    /// machines, only when it starts a container needs more for that, and keeps to the time itself for everything else.
    fn start_limit(&self, _image: &str, patience: Duration) -> Duration {
        patience
    }

    /// Starts a container whose streams carry MCP.
    ///
    /// # Errors
    /// See [`RuntimeError`]; nothing is left behind.
    async fn start(&self, request: Request) -> Result<Running, RuntimeError>;

    /// Runs a container to its end with these bytes on its standard input, then the end of it, and removes it.
    ///
    /// # Errors
    /// See [`RuntimeError`]; nothing is left behind. A process that fails, or does not read, is no error.
    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError>;

    /// Runs a container to its end with empty standard input and removes it.
    ///
    /// # Errors
    /// As for [`Self::run_with_input`].
    async fn run(&self, request: Request, limits: RunLimits) -> Result<Completed, RuntimeError> {
        self.run_with_input(request, Vec::new(), limits).await
    }
}
