//! Running MCP servers that are WASI components in this process: standard streams, the declared arguments and
//! environment, clocks and random numbers, and nothing else.
//!
//! It deliberately gives no files, no network and no user: an entry that needs one of them is refused, not run
//! without. Limits hold as in a container: memory is bounded, and a busy guest gives way at every tick of the
//! engine's clock.

mod guest;
mod image;
mod limits;
mod pipe;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt as _};

use self::guest::{Guest, Launch};
use self::image::Images;
pub use self::image::is_embedded;
use super::stderr::StderrLog;
use super::{
    Captured, Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError, StderrTail,
    Streams, check_words,
};
use crate::lease::{Lease, Reaper};
use crate::sandbox::engine::Engine;
use crate::secrets::{SecretStore, materialise};

/// The image reference of the sample server.
pub const SAMPLE: &str = "embedded:sample";

/// Runs servers in this process.
pub struct EmbeddedRuntime {
    engine: Engine,
    reaper: Reaper,
    secrets: Arc<dyn SecretStore>,
    images: Images,
    started: AtomicU64,
}

impl EmbeddedRuntime {
    /// A runtime. Relative image paths are looked up below `base`; the image `embedded:NAME` is `builtin[NAME]`.
    ///
    /// # Errors
    /// If the engine cannot link WASI, which is a fault of the build.
    pub fn new(
        engine: Engine,
        reaper: Reaper,
        secrets: Arc<dyn SecretStore>,
        base: PathBuf,
        builtin: BTreeMap<&'static str, &'static [u8]>,
    ) -> Result<Self, RuntimeError> {
        let linker = guest::linker(&engine)
            .map_err(|error| RuntimeError::Engine(format!("the embedded runtime cannot link WASI: {error:#}")))?;
        let images = Images::new(engine.clone(), linker, base, builtin);
        Ok(Self { engine, reaper, secrets, images, started: AtomicU64::new(0) })
    }

    /// Starts a guest. Dropping the lease ends it.
    async fn launch(&self, request: &Request) -> Result<(Guest, Lease), RuntimeError> {
        check(request)?;
        let command = self.images.load(&request.spec.image).await?;
        let launch = self.materialise(request).await?;
        let (guest, instantiated) = Guest::spawn(&self.engine, command, launch);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let name = format!("embedded-{}-{number}", request.identity.session);
        let stopping = guest.clone();
        let lease = self.reaper.lease(name, move || stopping.stop());
        match instantiated.await {
            Ok(Ok(())) => Ok((guest, lease)),
            Ok(Err(reason)) => Err(RuntimeError::Image {
                image: request.spec.image.clone(),
                reason: format!("it cannot start: {reason}"),
            }),
            Err(_) => Err(RuntimeError::Engine("the process is about to end".to_owned())),
        }
    }

    async fn materialise(&self, request: &Request) -> Result<Launch, RuntimeError> {
        let mut arguments = Vec::with_capacity(request.spec.command.len());
        for value in &request.spec.command {
            arguments.push(materialise(value, &*self.secrets).await?.expose().to_owned());
        }
        let mut environment = Vec::with_capacity(request.spec.environment.len());
        for (name, value) in &request.spec.environment {
            environment.push((name.clone(), materialise(value, &*self.secrets).await?.expose().to_owned()));
        }
        Ok(Launch { arguments, environment, resources: request.spec.resources })
    }
}

#[async_trait]
impl ContainerRuntime for EmbeddedRuntime {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn prepare(&self, image: &str, _progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        self.images.load(image).await.map(drop)
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        let (guest, lease) = self.launch(&request).await?;
        let stderr = StderrTail::default();
        tokio::spawn(follow(guest.stderr.reader(), request.identity.server, stderr.clone()));
        let streams =
            Streams { stdin: Box::new(guest.stdin.writer()), stdout: Box::new(guest.stdout.reader()), stderr };
        Ok(Running { lease, streams })
    }

    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        let (guest, lease) = self.launch(&request).await?;
        let mut stdin = guest.stdin.writer();
        let feed = async move {
            // A guest need not read.
            let _ = stdin.write_all(&input).await;
            let _ = stdin.shutdown().await;
            std::future::pending::<Infallible>().await
        };
        let all = async {
            let (stdout, stderr) = tokio::join!(
                capture(guest.stdout.reader(), limits.output_bytes),
                capture(guest.stderr.reader(), limits.output_bytes)
            );
            Completed { exit_code: guest.ended().await, stdout, stderr, note: None }
        };
        let completed = tokio::select! {
            completed = tokio::time::timeout(limits.time, all) => completed,
            never = feed => match never {},
        };
        lease.release().await;
        completed.map_err(|_| RuntimeError::ran_too_long(request.spec.image.clone(), limits.time))
    }
}

/// An entry that asks for something that embedded servers do not have would not work as it was meant to.
///
/// # Errors
/// [`RuntimeError::Invalid`] if it does.
pub fn check(request: &Request) -> Result<(), RuntimeError> {
    let spec = &request.spec;
    check_words(spec)?;
    let asked = [
        (!spec.volumes.is_empty(), "volumes", "has no files"),
        (spec.user.is_some(), "a user", "has no users"),
        (!spec.hosts.is_empty(), "host names", "has no network"),
    ];
    if let Some((_, what, why)) = asked.into_iter().find(|(asked, ..)| *asked) {
        return Err(RuntimeError::Invalid(format!(
            "server `{}` asks for {what}, but an embedded server {why}; remove that from its catalog entry or use a \
             container image",
            request.identity.server
        )));
    }
    match spec.environment.iter().find(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
        Some((name, _)) => {
            Err(RuntimeError::Invalid(format!("`{name}` cannot be the name of an environment variable; rename it")))
        }
        None => Ok(()),
    }
}

/// Logs standard error line by line and keeps the last lines.
async fn follow(mut reader: impl AsyncRead + Unpin, server: String, tail: StderrTail) {
    let mut log = StderrLog::new(&server, tail);
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        log.extend(buffer.get(..count).unwrap_or_default());
    }
    log.finish();
}

/// Reads to the end, keeping at most `limit` bytes.
async fn capture(mut reader: impl AsyncRead + Unpin, limit: usize) -> Captured {
    let mut captured = Captured::default();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        captured.extend(buffer.get(..count).unwrap_or_default(), limit);
    }
    captured
}
