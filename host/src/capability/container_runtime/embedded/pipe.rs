//! Bounded in-memory pipes between a guest's standard streams and the host.
//!
//! A full pipe makes the writer wait, so a guest cannot fill the host's memory. What a guest wrote stays readable
//! after the guest has ended. No task is needed to carry bytes, and bytes are never logged: the stream adapters
//! of wasmtime-wasi need the one and do the other.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// How many bytes a pipe holds.
const CAPACITY: usize = 64 << 10;

/// One pipe, seen from either side. Clones are the same pipe.
#[derive(Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    buffer: VecDeque<u8>,
    writer_gone: bool,
    reader_gone: bool,
    // One each: a guest does one thing at a time and the host's ends are not cloned.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// No more bytes will come; what is buffered can still be read.
    pub(super) fn close_writer(&self) {
        let mut inner = self.lock();
        inner.writer_gone = true;
        inner.wake();
    }

    /// Nobody will read any more; writing fails from now on.
    pub(super) fn close_reader(&self) {
        let mut inner = self.lock();
        inner.reader_gone = true;
        inner.buffer.clear();
        inner.wake();
    }

    /// Adds the host's own words, even if the pipe is full.
    pub(super) fn append(&self, text: &str) {
        let mut inner = self.lock();
        if !inner.reader_gone {
            inner.buffer.extend(text.as_bytes());
            inner.wake();
        }
    }

    /// The reading end for the host. Dropping it closes that end.
    pub(super) fn reader(&self) -> HostReader {
        HostReader(self.clone())
    }

    /// The writing end for the host. Dropping it closes that end.
    pub(super) fn writer(&self) -> HostWriter {
        HostWriter(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_readable(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, Inner>> {
        let mut inner = self.lock();
        if inner.buffer.is_empty() && !inner.writer_gone && !inner.reader_gone {
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(inner)
    }

    fn poll_writable(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, Inner>> {
        let mut inner = self.lock();
        if inner.room() == 0 && !inner.writer_gone && !inner.reader_gone {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(inner)
    }

    fn poll_read(&self, cx: &Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_readable(cx).map(|mut inner| {
            out.put_slice(&inner.take(out.remaining()));
            Ok(())
        })
    }

    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writable(cx).map(|mut inner| {
            if inner.writer_gone || inner.reader_gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let (now, _) = bytes.split_at(bytes.len().min(inner.room()));
            inner.put(now);
            Ok(now.len())
        })
    }
}

impl Inner {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.buffer.len())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
        self.wake();
    }

    fn take(&mut self, limit: usize) -> Bytes {
        let count = limit.min(self.buffer.len());
        let taken: Bytes = self.buffer.drain(..count).collect();
        self.wake();
        taken
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The host's reading end.
pub(super) struct HostReader(Pipe);

impl AsyncRead for HostReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, out)
    }
}

impl Drop for HostReader {
    fn drop(&mut self) {
        self.0.close_reader();
    }
}

/// The host's writing end.
pub(super) struct HostWriter(Pipe);

impl AsyncWrite for HostWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close_writer();
        Poll::Ready(Ok(()))
    }
}

impl Drop for HostWriter {
    fn drop(&mut self) {
        self.0.close_writer();
    }
}

/// The guest's ends. WASI hands out as many as the guest asks for, so dropping one closes nothing.
#[derive(Clone)]
pub(super) struct GuestEnd(pub(super) Pipe);

impl IsTerminal for GuestEnd {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for GuestEnd {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(GuestInput(self.0.clone()))
    }
}

impl StdoutStream for GuestEnd {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(GuestOutput(self.0.clone()))
    }
}

impl AsyncRead for GuestEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, out)
    }
}

impl AsyncWrite for GuestEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct GuestInput(Pipe);

#[async_trait]
impl Pollable for GuestInput {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.0.poll_readable(cx).map(drop)).await;
    }
}

impl InputStream for GuestInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut inner = self.0.lock();
        if inner.buffer.is_empty() && (inner.writer_gone || inner.reader_gone) {
            return Err(StreamError::Closed);
        }
        Ok(inner.take(size))
    }
}

struct GuestOutput(Pipe);

#[async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.0.poll_writable(cx).map(drop)).await;
    }
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut inner = self.0.lock();
        if inner.writer_gone || inner.reader_gone {
            return Err(StreamError::Closed);
        }
        if bytes.len() > inner.room() {
            return Err(StreamError::trap("more bytes written than `check-write` allowed"));
        }
        inner.put(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let inner = self.0.lock();
        if inner.writer_gone || inner.reader_gone { Err(StreamError::Closed) } else { Ok(inner.room()) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_written_can_be_read_after_the_writer_has_gone() {
        let pipe = Pipe::default();
        let (mut writer, mut reader) = (pipe.writer(), pipe.reader());
        writer.write_all(b"last words").await.unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait_and_a_gone_reader_makes_it_fail() {
        let pipe = Pipe::default();
        let (mut writer, reader) = (pipe.writer(), pipe.reader());
        writer.write_all(&vec![0; CAPACITY]).await.unwrap();
        let mut guest = GuestOutput(pipe.clone());
        assert_eq!(guest.check_write().unwrap(), 0);
        assert!(futures::poll!(Box::pin(writer.write_all(b"x"))).is_pending());
        drop(reader);
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(matches!(guest.check_write(), Err(StreamError::Closed)));
    }
}
