//! The standard streams of an attached container: demultiplexed, bounded, and closed in a way that the process sees.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bollard::container::{AttachContainerResults, LogOutput};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;

use crate::capability::container_runtime::input::{SharedInput, Stdin};
use crate::capability::container_runtime::stderr::StderrLog;
use crate::capability::container_runtime::{StderrTail, Streams};

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
    let stdout = Stdout { pieces: Some((Mutex::new(output), log)), rest: Bytes::new(), runtime };
    let stdin = Stdin::new(input.clone());
    (Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr }, input)
}
