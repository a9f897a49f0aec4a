//! The standard streams of an attached container: demultiplexed, bounded, and closed in a way that the process sees.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::stderr::StderrLog;
use crate::capability::container_runtime::{StderrTail, Streams};

/// How much standard output waits for its reader before the server has to wait.
const BUFFER: usize = 64 << 10;

/// How long the engine may take to close a standard input.
const CLOSE: Duration = Duration::from_secs(5);

type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A container's standard input, which its owner and the lease can both close.
#[derive(Clone)]
pub(super) struct SharedInput(Arc<Mutex<Option<Input>>>);

impl SharedInput {
    pub(super) fn new(input: Input) -> Self {
        Self(Arc::new(Mutex::new(Some(input))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Input>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it, so that the process reads its end. Safe to repeat.
    pub(super) async fn close(&self) {
        let input = self.lock().take();
        if let Some(mut input) = input {
            // An error means that the container or the engine is gone, which closes it as well.
            let _ = tokio::time::timeout(CLOSE, input.shutdown()).await;
        }
    }
}

/// The owner's end of a standard input: closes it when dropped.
struct Stdin {
    input: SharedInput,
    runtime: Handle,
}

impl Stdin {
    fn poll(
        &self,
        poll: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send)>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match self.input.lock().as_mut() {
            Some(input) => poll(input.as_mut()),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|input| input.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|input| input.poll_flush(context).map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.input.lock();
        let Some(input) = guard.as_mut() else { return Poll::Ready(Ok(())) };
        let polled = input.as_mut().poll_shutdown(context);
        if polled.is_ready() {
            *guard = None;
        }
        polled
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let input = self.input.clone();
        drop(self.runtime.spawn(async move { input.close().await }));
    }
}

/// Makes the streams of an attached container. The token is cancelled when its output has ended.
pub(super) fn split(attached: AttachContainerResults, server: &str) -> (Streams, SharedInput, CancellationToken) {
    let AttachContainerResults { mut output, input } = attached;
    let input = SharedInput::new(input);
    let (mut stdout, reader) = tokio::io::duplex(BUFFER);
    let stderr = StderrTail::default();
    let ended = CancellationToken::new();
    let mut log = StderrLog::new(server, stderr.clone());
    let end = ended.clone().drop_guard();
    tokio::spawn(async move {
        let _end = end;
        let mut wanted = true;
        while let Some(piece) = output.next().await {
            match piece {
                Ok(LogOutput::StdOut { message }) if wanted => {
                    // An error means that nobody reads it any more. Standard error is still worth having.
                    wanted = stdout.write_all(&message).await.is_ok();
                }
                Ok(LogOutput::StdErr { message }) => log.extend(&message),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the connection to the container's output broke");
                    break;
                }
            }
        }
        log.finish();
    });
    let stdin = Stdin { input: input.clone(), runtime: Handle::current() };
    (Streams { stdin: Box::new(stdin), stdout: Box::new(reader), stderr }, input, ended)
}
