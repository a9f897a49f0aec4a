//! Following kept servers that say that their lists have changed: they are asked again, and clients are told.
//!
//! Servers that run for one call are not followed: what they say about their lists ends with them.

use std::sync::Arc;
use std::time::Duration;

use super::discovery;
use super::inventory::Status;
use super::session::Session;
use super::upstream::Upstream;
use super::{Core, ephemeral};

/// How long after asking a server it is not asked again, however often it says that something changed.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows a kept server of a session until it or the gateway ends. Does nothing if that is done already.
pub(crate) fn follow(core: &Arc<Core>, server: usize, upstream: &Arc<Upstream>, session: &Arc<Session>) {
    let Some(mut changes) = upstream.changes_for_first() else { return };
    let (shared, kept) = (Arc::clone(core), Arc::downgrade(upstream));
    let Some(retired) = core.servers.get(server).map(|definition| definition.retired.clone()) else {
        return session.release(server);
    };
    let session = Arc::downgrade(session);
    core.tracker.spawn(async move {
        let following = async {
            while changes.changed().await.is_ok() {
                // Kept alive by the session, not from here.
                let Some(upstream) = kept.upgrade() else { return };
                rediscover(&shared, server, &upstream).await;
                drop(upstream);
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = following => {}
            // It is not kept for those who may not call it any more. At the end of the gateway there is nothing to do.
            () = retired.cancelled() => if let Some(session) = session.upgrade() {
                session.release(server);
            },
        }
    });
}

async fn rediscover(core: &Core, server: usize, upstream: &Upstream) {
    let lists = tokio::time::timeout(core.options.startup_timeout, discovery::lists(upstream)).await;
    match lists {
        Ok(Ok(mut offer)) => {
            let entry = core.servers.get(server).map(|definition| Arc::clone(&definition.entry));
            offer.tools.extend(entry.iter().flat_map(|entry| &entry.tools).filter_map(ephemeral::definition));
            tracing::info!(server = upstream.server(), tools = offer.tools.len(), "server changed what it offers");
            core.inventory.record(server, Status::Ready(Arc::new(offer)));
        }
        Ok(Err(error)) => tracing::warn!(%error, "a server changed its lists and did not give them"),
        Err(_) => {
            tracing::warn!(server = upstream.server(), "a server changed its lists and did not give them in time")
        }
    }
}
