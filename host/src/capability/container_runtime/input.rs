//! A container's standard input, which its owner and its lease can both close.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;

/// How long the engine may take to close a standard input.
const CLOSE: Duration = Duration::from_secs(5);

type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A container's standard input, which its owner and the lease can both close.
#[derive(Clone)]
pub(in crate::capability::container_runtime) struct SharedInput(Arc<Mutex<Option<Input>>>);

impl SharedInput {
    pub(in crate::capability::container_runtime) fn new(input: Input) -> Self {
        Self(Arc::new(Mutex::new(Some(input))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Input>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was closed here.
    pub(in crate::capability::container_runtime) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    /// Closes it, so that the process reads its end. Safe to repeat.
    pub(in crate::capability::container_runtime) async fn close(&self) {
        let input = self.lock().take();
        if let Some(mut input) = input {
            // An error means that the container or the engine is gone, which closes it as well.
            let _ = tokio::time::timeout(CLOSE, input.shutdown()).await;
        }
    }
}

/// The owner's end of a standard input: closes it when dropped.
pub(in crate::capability::container_runtime) struct Stdin {
    input: SharedInput,
    runtime: Handle,
}

impl Stdin {
    pub(in crate::capability::container_runtime) fn new(input: SharedInput) -> Self {
        Self { input, runtime: Handle::current() }
    }

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
