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

/// How many connections there may be at once unless more sessions are asked for.
const USUAL: usize = 1024;
/// For those that are not of a session yet, and for `/health`.
const SPARE: usize = 64;

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
        Self { at_once: (open_files() / 2).clamp(16, USUAL), head: Duration::from_secs(15) }
    }
}

impl Connections {
    /// Enough for so many sessions: the client of each may keep a stream open while it sends. For that more files may be open
    /// from now on, as far as the system lets the process have them.
    pub fn for_sessions(sessions: usize) -> Self {
        let needed = 2 * sessions + SPARE;
        let wanted = needed.max(USUAL);
        let there = open_files_up_to(2 * wanted) / 2;
        if there < needed {
            tracing::warn!(
                connections = there,
                sessions,
                "the system lets the gateway have too few files open for so many sessions; raise the limit (`ulimit -n`), or \
                 lower `--max-sessions`"
            );
        }
        Self { at_once: there.clamp(16, wanted), ..Self::default() }
    }
}

/// How many files the process may have open, after asking for so many.
#[cfg(unix)]
fn open_files_up_to(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit on open files stays");
        }
    }
    open_files()
}

#[cfg(not(unix))]
fn open_files_up_to(_wanted: usize) -> usize {
    open_files()
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
        let mut is_told = false;
        loop {
            if places.available_permits() == 0 && !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    connections = bounds.at_once,
                    "there are as many connections as there may be; others wait"
                );
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_connections_for_the_sessions_as_far_as_the_system_has_files() {
        for sessions in [1, 256, 600, 2_000] {
            let connections = Connections::for_sessions(sessions).at_once;
            let needed = 2 * sessions + SPARE;
            assert!(connections >= needed || connections >= open_files() / 2, "{connections} for {sessions}");
            assert!(connections <= needed.max(USUAL), "{connections} for {sessions}");
        }
    }
}
