//! The standard streams of a server's container, and what is found out about its end.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::attach::{End, Output, Piece};
use super::client::Cluster;
use super::watch::{self, Followed, Sight};
use crate::capability::container_runtime::input::{SharedInput, Stdin};
use crate::capability::container_runtime::stderr::StderrLog;
use crate::capability::container_runtime::{StderrTail, Streams};

/// How long the streams may stay open when the cluster says that the container has ended, or that its pod is gone.
const AFTER_END: Duration = Duration::from_secs(3);
/// How long is waited for the cluster to say how a container ended whose streams have ended.
const REASON: Duration = Duration::from_secs(5);
/// How long reading a log may take.
const LOG: Duration = Duration::from_secs(3);

/// What is known of the container whose streams these are.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) cluster: Cluster,
    pub(super) name: String,
    pub(super) server: String,
    pub(super) followed: Followed,
    /// Cancelled when the lease is released: nobody wants to know any more.
    pub(super) released: CancellationToken,
    /// Cancelled when the output has ended.
    pub(super) finished: CancellationToken,
}

impl Subject {
    /// Waits until the streams should long have ended by themselves.
    async fn gone(mut self) {
        loop {
            match self.followed.now() {
                Sight::Gone => break,
                Sight::There(pod) if super::failure::ended(&pod).is_some() => break,
                _ => {}
            }
            self.followed.changed().await;
        }
        tokio::time::sleep(AFTER_END).await;
    }

    /// Finds out why a server ended that was not told to, and adds it to the last lines of its standard error. What it
    /// wrote before anybody was attached is in the log of its pod only. Gives an error if it may not have ended at all.
    async fn last_words(mut self, end: End, input: SharedInput, tail: StderrTail) -> io::Result<()> {
        let released = self.released.clone();
        let find_out = async {
            if let End::Broken(reason) = &end {
                tracing::warn!(
                    server = self.server,
                    pod = self.name,
                    reason,
                    "the connection to the server's pod ended"
                );
            }
            if input.is_closed() {
                return Ok(());
            }
            let ended = watch::ended(&mut self.followed, REASON).await;
            if ended.is_none() && matches!(self.followed.now(), Sight::Gone) {
                tail.push("the pod was deleted");
                return Ok(());
            }
            if let (End::Broken(reason), None) = (&end, &ended) {
                let reason = format!("lost the connection to pod `{}` ({reason})", self.name);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason));
            }
            if tail.lines().is_empty() {
                self.read_log(&tail).await;
            }
            if let Some(ended) = ended.filter(|ended| ended.code != 0) {
                tail.push(&ended.to_string());
            }
            Ok(())
        };
        tokio::select! {
            result = find_out => result,
            () = released.cancelled() => Ok(()),
        }
    }

    /// Adds the last lines of the pod's log to those of standard error.
    async fn read_log(&self, tail: &StderrTail) {
        let api: Api<Pod> = self.cluster.api();
        let params = LogParams {
            tail_lines: Some(StderrTail::LINES as i64),
            limit_bytes: Some(64 << 10),
            ..LogParams::default()
        };
        if let Ok(Ok(text)) = tokio::time::timeout(LOG, api.logs(&self.name, &params)).await {
            let mut log = StderrLog::new(&self.server, tail.clone());
            log.extend(text.as_bytes());
            log.finish();
        }
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State {
    /// The output is read straight from the connection; standard error goes to the log on the way.
    Open {
        output: Output,
        log: StderrLog,
        gone: Work,
    },
    /// It is being found out why it ended.
    Ending(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>),
    Ended,
}

/// A container's standard output.
struct Stdout {
    /// Never locked: the mutex is what makes it fit to be shared.
    state: Mutex<State>,
    /// What is not read yet of the last piece.
    rest: Bytes,
    subject: Subject,
    input: SharedInput,
    tail: StderrTail,
    runtime: Handle,
}

impl Stdout {
    /// The next piece of standard output; `None` at its end, and an error if the connection was lost before.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let end = match state {
                State::Open { output, log, gone } => match output.poll(context) {
                    Poll::Ready(Ok(Piece::Stdout(bytes))) => return Poll::Ready(Ok(Some(bytes))),
                    Poll::Ready(Ok(Piece::Stderr(bytes))) => {
                        log.extend(&bytes);
                        continue;
                    }
                    Poll::Ready(Err(end)) => end,
                    Poll::Pending => {
                        std::task::ready!(gone.as_mut().poll(context));
                        End::Broken("the pod has ended".to_owned())
                    }
                },
                State::Ending(work) => {
                    let result = std::task::ready!(work.as_mut().poll(context));
                    *state = State::Ended;
                    return Poll::Ready(result.map(|()| None));
                }
                State::Ended => return Poll::Ready(Ok(None)),
            };
            if let State::Open { log, .. } = std::mem::replace(state, State::Ended) {
                log.finish();
            }
            self.subject.finished.cancel();
            let work = self.subject.clone().last_words(end, self.input.clone(), self.tail.clone());
            *state = State::Ending(Box::pin(work));
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
            match std::task::ready!(self.poll_piece(context))? {
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
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let State::Open { mut output, mut log, gone } = std::mem::replace(state, State::Ended) else { return };
        let finished = self.subject.finished.clone();
        drop(self.runtime.spawn(async move {
            let read = async {
                while let Ok(piece) = output.next().await {
                    if let Piece::Stderr(bytes) = piece {
                        log.extend(&bytes);
                    }
                }
            };
            tokio::select! {
                () = read => {}
                () = gone => {}
            }
            log.finish();
            finished.cancel();
        }));
    }
}

/// Makes the streams of an attached container.
pub(super) fn split(output: Output, input: super::attach::Input, subject: Subject) -> (Streams, SharedInput) {
    let input = SharedInput::new(Box::pin(input));
    let tail = StderrTail::default();
    let log = StderrLog::new(&subject.server, tail.clone());
    let gone = Box::pin(subject.clone().gone());
    let stdout = Stdout {
        state: Mutex::new(State::Open { output, log, gone }),
        rest: Bytes::new(),
        subject,
        input: input.clone(),
        tail: tail.clone(),
        runtime: Handle::current(),
    };
    let stdin = Stdin::new(input.clone());
    (Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: tail }, input)
}

/// The streams of a container that ended before anybody was attached: nothing but its last words.
pub(super) fn of_ended(subject: Subject) -> Streams {
    let tail = StderrTail::default();
    let input = SharedInput::new(Box::pin(tokio::io::sink()));
    subject.finished.cancel();
    let work = subject.clone().last_words(End::Finished, input.clone(), tail.clone());
    let stdout = Stdout {
        state: Mutex::new(State::Ending(Box::pin(work))),
        rest: Bytes::new(),
        subject,
        input: input.clone(),
        tail: tail.clone(),
        runtime: Handle::current(),
    };
    Streams { stdin: Box::new(Stdin::new(input)), stdout: Box::new(stdout), stderr: tail }
}
