//! The connection to a container's standard streams: a WebSocket whose messages begin with the number of a stream.
//!
//! Reading and writing are independent of each other, so that a server that writes while it is written to does not wait
//! for ever. Nothing stands between the connection and whoever reads it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{Sink, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::AttachParams;
use kube::core::Request;
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;

use super::client::Cluster;
use super::pod::CONTAINER;

/// The numbers of the streams.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// What says that a stream is closed; the stream's number follows.
const CLOSE: u8 = 255;

/// How often something is sent over a connection that is otherwise idle.
const PING: Duration = Duration::from_secs(30);
/// How many bytes are put into one message.
const PIECE: usize = 32 << 10;

type Source = Pin<Box<dyn Stream<Item = Result<Message, tungstenite::Error>> + Send>>;
type Target = Pin<Box<dyn Sink<Message, Error = tungstenite::Error> + Send>>;

/// An attached container.
pub(super) struct Attached {
    pub(super) output: Output,
    pub(super) input: Input,
}

/// Attaches to the streams of a container that runs.
pub(super) async fn attach(cluster: &Cluster, name: &str) -> Result<Attached, kube::Error> {
    let params = AttachParams::default().container(CONTAINER).stdin(true).stdout(true).stderr(true);
    let path = Pod::url_path(&(), Some(cluster.namespace()));
    let request = Request::new(path).attach(name, &params).map_err(kube::Error::BuildRequest)?;
    let connection = cluster.client().connect(request).await?;
    let half_close = connection.supports_stream_close();
    let (target, source) = connection.into_stream().split();
    let target: Arc<Mutex<Target>> = Arc::new(Mutex::new(Box::pin(target)));
    drop(tokio::spawn(keep_alive(Arc::downgrade(&target))));
    let input = Input { target: Arc::clone(&target), half_close, closing: false };
    Ok(Attached { output: Output { source: Box::pin(source), _target: target, done: false }, input })
}

/// Sends something now and then, so that nothing on the way takes the connection for idle. Ends with the connection.
async fn keep_alive(target: Weak<Mutex<Target>>) {
    loop {
        tokio::time::sleep(PING).await;
        let Some(target) = target.upgrade() else { return };
        let sent = std::future::poll_fn(|context| {
            let mut target = lock(&target);
            std::task::ready!(target.as_mut().poll_ready(context))?;
            target.as_mut().start_send(Message::Ping(Bytes::new()))?;
            target.as_mut().poll_flush(context)
        });
        if sent.await.is_err() {
            return;
        }
    }
}

fn lock(target: &Mutex<Target>) -> MutexGuard<'_, Target> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A piece of a container's output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Of standard output.
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
}

/// How the output ended.
#[derive(Debug)]
pub(super) enum End {
    /// With the process.
    Finished,
    /// Because the connection broke, for this reason.
    Broken(String),
}

/// The output of an attached container.
pub(super) struct Output {
    source: Source,
    /// As long as there is output, the connection is kept alive.
    _target: Arc<Mutex<Target>>,
    done: bool,
}

impl Output {
    /// The next piece, or how it ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, End>> {
        loop {
            if self.done {
                return Poll::Ready(Err(End::Finished));
            }
            let message = match std::task::ready!(self.source.poll_next_unpin(context)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return self.end(End::Broken(error.to_string())),
                None => return self.end(End::Broken("it was closed without notice".to_owned())),
            };
            if !message.is_binary() {
                continue;
            }
            let mut bytes = message.into_data();
            if bytes.is_empty() {
                continue;
            }
            match bytes.split_to(1).first() {
                // Each stream begins with a message without content.
                _ if bytes.is_empty() => {}
                Some(&STDOUT) => return Poll::Ready(Ok(Piece::Stdout(bytes))),
                Some(&STDERR) => return Poll::Ready(Ok(Piece::Stderr(bytes))),
                Some(&STATUS) => return self.end(of_status(&bytes)),
                _ => {}
            }
        }
    }

    fn end(&mut self, end: End) -> Poll<Result<Piece, End>> {
        self.done = true;
        Poll::Ready(Err(end))
    }

    /// As [`Self::poll`].
    pub(super) async fn next(&mut self) -> Result<Piece, End> {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

/// The last message says whether the streams were carried to their end; it says nothing of the exit code.
fn of_status(bytes: &[u8]) -> End {
    let status = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    match status.get("status").and_then(serde_json::Value::as_str) {
        Some("Failure") => {
            let message = status.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
            End::Broken(provisioning_core::text::one_line(message, 300))
        }
        _ => End::Finished,
    }
}

/// The standard input of an attached container. Shutting it down closes it, and leaves the output open.
pub(super) struct Input {
    target: Arc<Mutex<Target>>,
    /// Whether the cluster knows a message for that. An older one is told by closing the connection.
    half_close: bool,
    closing: bool,
}

fn broken(error: tungstenite::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut target = lock(&self.target);
        std::task::ready!(target.as_mut().poll_ready(context)).map_err(broken)?;
        let (piece, _) = bytes.split_at(bytes.len().min(PIECE));
        let mut message = BytesMut::with_capacity(piece.len() + 1);
        message.put_u8(STDIN);
        message.put_slice(piece);
        target.as_mut().start_send(Message::Binary(message.freeze())).map_err(broken)?;
        // A pipe needs no flushing, so nobody is made to.
        match target.as_mut().poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            _ => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.target).as_mut().poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut target = lock(&this.target);
        if !this.half_close {
            return target.as_mut().poll_close(context).map_err(broken);
        }
        if !this.closing {
            std::task::ready!(target.as_mut().poll_ready(context)).map_err(broken)?;
            let message = Message::Binary(Bytes::from_static(&[CLOSE, STDIN]));
            target.as_mut().start_send(message).map_err(broken)?;
            this.closing = true;
        }
        target.as_mut().poll_flush(context).map_err(broken)
    }
}
