//! The connection to a container's standard streams: a WebSocket whose messages begin with the number of a stream.
//!
//! Reading and writing are independent of each other, so that a server that writes while it is written to does not wait
//! for ever. Nothing stands between the connection and whoever reads it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
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
/// How many of these may remain without an answer, where others were answered.
const UNANSWERED: u32 = 3;
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
    Ok(over(Box::pin(source), Box::pin(target), half_close))
}

/// The streams over a connection.
fn over(source: Source, target: Target, half_close: bool) -> Attached {
    let (target, pulse) = (Arc::new(Mutex::new(target)), Arc::new(Pulse::default()));
    drop(tokio::spawn(keep_alive(Arc::downgrade(&target), Arc::clone(&pulse))));
    let input = Input { target: Arc::clone(&target), pulse: Arc::clone(&pulse), half_close, closing: false };
    let silence = Box::pin(pulse.silent.clone().cancelled_owned());
    Attached { output: Output { source, _target: target, pulse, silence, done: false }, input }
}

/// Whether anybody is at the other end.
#[derive(Default)]
struct Pulse {
    /// How many pings were sent since the last message.
    unanswered: AtomicU32,
    /// Whether pings are answered there at all.
    answers: AtomicBool,
    /// Whether standard input was written since the last message: a process that does not read holds up everything.
    is_written: AtomicBool,
    /// Cancelled when nobody is.
    silent: CancellationToken,
}

impl Pulse {
    fn heard(&self, message: &Message) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.is_written.store(false, Ordering::Relaxed);
        if message.is_pong() {
            self.answers.store(true, Ordering::Relaxed);
        }
    }

    fn is_gone(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
            && !self.is_written.load(Ordering::Relaxed)
            && self.unanswered.load(Ordering::Relaxed) >= UNANSWERED
    }
}

/// Sends something now and then, so that nothing on the way takes the connection for idle, and notes when nobody answers it
/// any more. Ends with the connection.
async fn keep_alive(target: Weak<Mutex<Target>>, pulse: Arc<Pulse>) {
    loop {
        tokio::time::sleep(PING).await;
        let Some(target) = target.upgrade() else { return };
        if pulse.is_gone() {
            return pulse.silent.cancel();
        }
        pulse.unanswered.fetch_add(1, Ordering::Relaxed);
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
    pulse: Arc<Pulse>,
    silence: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
}

impl Output {
    /// The next piece, or how it ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, End>> {
        loop {
            if self.done {
                return Poll::Ready(Err(End::Finished));
            }
            let message = match self.source.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return self.end(End::Broken(error.to_string())),
                Poll::Ready(None) => return self.end(End::Broken("it was closed without notice".to_owned())),
                Poll::Pending => {
                    std::task::ready!(self.silence.as_mut().poll(context));
                    return self.end(End::Broken("the API server does not answer over it any more".to_owned()));
                }
            };
            self.pulse.heard(&message);
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
    pulse: Arc<Pulse>,
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
        self.pulse.is_written.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;
    use futures::channel::mpsc;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;

    /// A connection whose other end answers so many pings and then nothing.
    fn answering(mut pings: usize) -> Attached {
        let (answers, source) = mpsc::unbounded::<Result<Message, tungstenite::Error>>();
        let target = futures::sink::drain::<Message>().sink_map_err(|never| match never {});
        let target = target.with_flat_map(move |message: Message| {
            if message.is_ping() && pings > 0 {
                pings -= 1;
                answers.unbounded_send(Ok(Message::Pong(Bytes::new()))).unwrap();
            }
            // Nothing arrives anywhere.
            futures::stream::empty()
        });
        over(Box::pin(source), Box::pin(target), true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_over_which_nobody_answers_any_more_is_broken() {
        let began = Instant::now();
        let mut attached = answering(4);
        let end = tokio::time::timeout(Duration::from_secs(3600), attached.output.next()).await.unwrap();
        assert!(matches!(&end, Err(End::Broken(reason)) if reason.contains("does not answer")), "{end:?}");
        assert!(began.elapsed() < PING * 9, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_answers_pings_or_has_much_to_read_is_waited_for() {
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, answering(0).output.next()).await.is_err());
        let mut attached = answering(4);
        tokio::time::timeout(PING * 5, attached.output.next()).await.unwrap_err();
        attached.input.write_all(b"x").await.unwrap();
        assert!(tokio::time::timeout(hour, attached.output.next()).await.is_err());
    }
}
