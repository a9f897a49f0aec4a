//! The standard streams of an attached container: demultiplexed, bounded, and closed in a way that the process sees.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;

use super::stderr::StderrLog;
use crate::capability::container_runtime::{StderrTail, Streams};

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

type Pieces = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// A container's standard output, read straight from the engine; standard error, which comes over the same connection,
/// goes to the log on the way. Nothing else reads the connection, so that a message passes through no further task.
struct Stdout {
    /// None once it has ended. Never locked: the mutex is what makes it fit to be shared.
    pieces: Option<(Mutex<Pieces>, StderrLog)>,
    /// What is not read yet of the last piece.
    rest: Bytes,
    runtime: Handle,
}

impl Stdout {
    /// The next piece of standard output; `None` at its end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some((pieces, log)) = &mut self.pieces else { return Poll::Ready(None) };
            let pieces = pieces.get_mut().unwrap_or_else(PoisonError::into_inner);
            match std::task::ready!(pieces.poll_next_unpin(context)) {
                Some(Ok(LogOutput::StdOut { message })) => return Poll::Ready(Some(message)),
                Some(Ok(LogOutput::StdErr { message })) => log.extend(&message),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "the connection to the container's output broke");
                    self.finish();
                }
                None => self.finish(),
            }
        }
    }

    fn finish(&mut self) {
        if let Some((_, log)) = self.pieces.take() {
            log.finish();
        }
    }
}

impl AsyncRead for Stdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match std::task::ready!(self.poll_piece(context)) {
                Some(piece) => self.rest = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stdout {
    /// Standard error is still worth having when nobody reads standard output any more.
    fn drop(&mut self) {
        let Some((pieces, mut log)) = self.pieces.take() else { return };
        let mut pieces = pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(self.runtime.spawn(async move {
            while let Some(Ok(piece)) = pieces.next().await {
                if let LogOutput::StdErr { message } = piece {
                    log.extend(&message);
                }
            }
            log.finish();
        }));
    }
}

/// Makes the streams of an attached container.
pub(super) fn split(attached: AttachContainerResults, server: &str) -> (Streams, SharedInput) {
    let AttachContainerResults { output, input } = attached;
    let (input, runtime) = (SharedInput::new(input), Handle::current());
    let stderr = StderrTail::default();
    let log = StderrLog::new(server, stderr.clone());
    let stdout = Stdout { pieces: Some((Mutex::new(output), log)), rest: Bytes::new(), runtime: runtime.clone() };
    let stdin = Stdin { input: input.clone(), runtime };
    (Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr }, input)
}
