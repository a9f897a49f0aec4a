//! A runtime in memory, for tests: an image is a name and what happens is a closure over in-memory streams.
//!
//! It is part of the library because integration tests need it. It keeps to the contract of [`ContainerRuntime`],
//! which the contract suite checks, but isolates nothing: never offer it to an operator.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use super::{
    Captured, Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError, StderrTail,
    Streams, check_words,
};
use crate::lease::{Lease, Reaper};
use crate::secrets::{SecretStore, SecretText, materialise};

/// How many bytes a stream holds before its writer waits.
const PIPE: usize = 64 << 10;

/// What a process is given.
pub struct Process {
    /// Standard input.
    pub stdin: DuplexStream,
    /// Standard output.
    pub stdout: DuplexStream,
    /// Standard error.
    pub stderr: DuplexStream,
    /// The arguments.
    pub arguments: Vec<SecretText>,
    /// The environment.
    pub environment: Vec<(String, SecretText)>,
}

/// What a process does. Its output is the exit code.
pub type Behaviour = Arc<dyn Fn(Process) -> Pin<Box<dyn Future<Output = i64> + Send>> + Send + Sync>;

/// A runtime whose images are closures.
pub struct FakeRuntime {
    reaper: Reaper,
    secrets: Arc<dyn SecretStore>,
    images: BTreeMap<String, Behaviour>,
    requests: Mutex<Vec<Request>>,
    runs: Mutex<Vec<RunLimits>>,
    live: Arc<AtomicUsize>,
}

impl FakeRuntime {
    /// A runtime without images.
    pub fn new(reaper: Reaper, secrets: Arc<dyn SecretStore>) -> Self {
        Self {
            reaper,
            secrets,
            images: BTreeMap::new(),
            requests: Mutex::default(),
            runs: Mutex::default(),
            live: Arc::default(),
        }
    }

    /// Adds an image.
    #[must_use]
    pub fn image<F>(mut self, name: &str, behaviour: impl Fn(Process) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = i64> + Send + 'static,
    {
        self.images.insert(name.to_owned(), Arc::new(move |process| Box::pin(behaviour(process))));
        self
    }

    /// Everything that `start` and `run` were asked for, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The limits that `run` was given, oldest first.
    pub fn runs(&self) -> Vec<RunLimits> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many containers have not been removed.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    fn find(&self, image: &str) -> Result<Behaviour, RuntimeError> {
        self.images.get(image).cloned().ok_or_else(|| RuntimeError::Image {
            image: image.to_owned(),
            reason: "the fake runtime has no such image; add it with `FakeRuntime::image`".to_owned(),
        })
    }

    async fn launch(&self, request: Request) -> Result<Container, RuntimeError> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let behaviour = self.find(&request.spec.image)?;
        check_words(&request.spec)?;
        let mut arguments = Vec::new();
        for value in &request.spec.command {
            arguments.push(materialise(value, &*self.secrets).await?);
        }
        let mut environment = Vec::new();
        for (name, value) in &request.spec.environment {
            environment.push((name.clone(), materialise(value, &*self.secrets).await?));
        }
        let (stdin, process_stdin) = duplex(PIPE);
        let (stdout, process_stdout) = duplex(PIPE);
        let (stderr, process_stderr) = duplex(PIPE);
        let process = behaviour(Process {
            stdin: process_stdin,
            stdout: process_stdout,
            stderr: process_stderr,
            arguments,
            environment,
        });
        let (removed, live) = (CancellationToken::new(), Arc::clone(&self.live));
        let number = self.live.fetch_add(1, Ordering::SeqCst);
        let stop = removed.clone();
        let process = tokio::spawn(async move {
            tokio::select! {
                code = process => code,
                () = stop.cancelled() => 137,
            }
        });
        let lease = self.reaper.lease(format!("fake-{number}"), move || async move {
            removed.cancel();
            live.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Container { stdin, stdout, stderr, process, lease })
    }
}

struct Container {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    process: tokio::task::JoinHandle<i64>,
    lease: Lease,
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn prepare(&self, image: &str, _progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        self.find(image).map(drop)
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        let Container { stdin, stdout, stderr, lease, .. } = self.launch(request).await?;
        let tail = StderrTail::default();
        let lines = tail.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                lines.push(&line);
            }
        });
        Ok(Running { lease, streams: Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: tail } })
    }

    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(limits);
        let what = request.spec.image.clone();
        let Container { mut stdin, stdout, stderr, process, lease } = self.launch(request).await?;
        tokio::spawn(async move {
            // A process need not read.
            let _ = stdin.write_all(&input).await;
        });
        let all = async {
            let (stdout, stderr, exit_code) =
                tokio::join!(capture(stdout, limits.output_bytes), capture(stderr, limits.output_bytes), process);
            // A behaviour that panics is a process that aborts.
            Completed { exit_code: exit_code.unwrap_or(134), stdout, stderr, note: None }
        };
        let completed = tokio::time::timeout(limits.time, all).await;
        lease.release().await;
        completed.map_err(|_| RuntimeError::ran_too_long(what, limits.time))
    }
}

async fn capture(mut reader: impl AsyncRead + Unpin, limit: usize) -> Captured {
    let mut captured = Captured::default();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        captured.extend(buffer.get(..count).unwrap_or_default(), limit);
    }
    captured
}
