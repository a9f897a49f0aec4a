//! Serving one client over a pair of streams, such as standard input and output.

mod lines;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use self::lines::ClientLines;
use super::front::Front;
use super::standard_streams::HangUp;
use super::{Gateway, GatewayError, standard_streams};

/// How long calls under way may go on after the client has closed its side.
const LINGER: Duration = Duration::from_secs(2);

impl Gateway {
    /// Serves the client on standard input and output until it closes its side or `cancel` is cancelled. Its servers
    /// are then released in the background; [`Gateway::shutdown`] waits for that.
    ///
    /// # Errors
    /// [`GatewayError::NotMcp`] if the client does not speak MCP.
    pub async fn serve_stdio(&self, cancel: CancellationToken) -> Result<(), GatewayError> {
        let (read, write) = (standard_streams::input(), standard_streams::output());
        self.serve_client(read, write, HangUp::of_input(), cancel).await
    }

    /// Serves one client over any pair of streams; otherwise like [`Gateway::serve_stdio`].
    ///
    /// # Errors
    /// [`GatewayError::NotMcp`] if the client does not speak MCP.
    pub async fn serve<R, W>(&self, read: R, write: W, cancel: CancellationToken) -> Result<(), GatewayError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.serve_client(read, write, HangUp::default(), cancel).await
    }

    async fn serve_client<R, W>(
        &self,
        read: R,
        write: W,
        hang_up: HangUp,
        cancel: CancellationToken,
    ) -> Result<(), GatewayError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let ends = cancel.child_token();
        let closed = CancellationToken::new();
        let read = Watched { stream: read, closed: closed.clone() };
        let front = Front::new(Arc::clone(&self.core));
        let conversation = async {
            match front.serve_with_ct(ClientLines::new(read, write, hang_up), ends.clone()).await {
                Ok(running) => {
                    // Fails only if the conversation panicked, which is logged by then.
                    let _ = running.waiting().await;
                    Ok(())
                }
                Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
                // The debug form of the message may hold anything; only its kind is shown.
                Err(ServerInitializeError::ExpectedInitializeRequest(_)) => {
                    Err(GatewayError::NotMcp("its first message was no request".to_owned()))
                }
                Err(error) => Err(GatewayError::NotMcp(error.to_string())),
            }
        };
        let ending = async {
            tokio::select! {
                () = async { closed.cancelled().await; tokio::time::sleep(LINGER).await } => {}
                () = self.core.cancel.cancelled() => {}
            }
            ends.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = conversation => result,
            () = ending => Ok(()),
        }
    }
}

/// Tells when a stream has ended.
struct Watched<R> {
    stream: R,
    closed: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let ended = match &result {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            self.closed.cancel();
        }
        result
    }
}
