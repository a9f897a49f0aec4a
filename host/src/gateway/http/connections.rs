//! Accepting connections: a bounded number at once, each of which must send the head of a request within a time. Who may
//! come in is found out only then, so that this holds for everybody.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long to wait before accepting again after that failed, mostly because files ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// How many there are at once. Further ones wait until one of them ends.
    pub at_once: usize,
    /// How long the head of a request may take, from the start of the connection or the end of the answer before.
    pub head: Duration,
}

impl Default for Connections {
    /// 1,024, but no more than half of the files that the process may have open; fifteen seconds.
    fn default() -> Self {
        Self { at_once: (open_files() / 2).clamp(16, 1024), head: Duration::from_secs(15) }
    }
}

#[cfg(unix)]
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
fn open_files() -> usize {
    usize::MAX
}

/// Serves connections until `ends` is cancelled, and then those that are there until they have had their answers.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Connections, ends: &CancellationToken) {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(bounds.at_once)));
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Without it, small events wait for the acknowledgement of those before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot disable Nagle's algorithm");
            }
            let service = TowerToHyperService::new(router.clone());
            let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke");
                }
                drop(place);
            });
        }
    };
    ends.run_until_cancelled(accepting).await;
    graceful.shutdown().await;
}
