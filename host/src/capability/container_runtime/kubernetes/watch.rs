//! What becomes of the session's pods: one watch for all of them, from which whoever waits for a pod is told.
//!
//! The watch begins anew by itself when it ends, when the cluster has forgotten where it was, and after the API server was
//! away. It says so to those who wait only if there is no point in waiting: if watching is not allowed.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::client::Cluster;
use super::error::{self, Step};
use super::labels;

/// How long watching may fail before it is said: an API server may begin anew.
const OUTAGE: Duration = Duration::from_secs(30);

/// What is known of a pod.
#[derive(Clone, Debug, Default)]
pub(super) enum Sight {
    /// Nothing has been seen of it yet.
    #[default]
    Unseen,
    /// It is there, in this state.
    There(Arc<Pod>),
    /// It was there and is gone.
    Gone,
    /// Nobody can tell, for this reason.
    Blind(Arc<str>),
}

/// The pods of a session.
pub(super) struct Pods {
    shared: Arc<Mutex<Shared>>,
    task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    waiting: HashMap<String, watch::Sender<Sight>>,
    /// Why nothing can be seen, while that is so.
    blind: Option<Arc<str>>,
}

impl Pods {
    /// Begins to watch.
    pub(super) fn watch(cluster: &Cluster, session: &str) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let work = follow(cluster.clone(), labels::of_session(session), Arc::clone(&shared));
        Self { shared, task: AbortOnDropHandle::new(tokio::spawn(work)) }
    }

    /// Ends the watch.
    pub(super) fn stop(&self) {
        self.task.abort();
    }

    /// Follows the pod of this name, which need not be there yet.
    pub(super) fn follow(&self, name: &str) -> Followed {
        let mut shared = lock(&self.shared);
        let first = shared.blind.clone().map_or(Sight::Unseen, Sight::Blind);
        let (sender, sights) = watch::channel(first);
        shared.waiting.insert(name.to_owned(), sender);
        let forget = Arc::new(Forget { shared: Arc::clone(&self.shared), name: name.to_owned() });
        Followed { sights, _forget: forget }
    }
}

/// A pod that is followed.
#[derive(Clone)]
pub(super) struct Followed {
    sights: watch::Receiver<Sight>,
    _forget: Arc<Forget>,
}

struct Forget {
    shared: Arc<Mutex<Shared>>,
    name: String,
}

impl Drop for Forget {
    fn drop(&mut self) {
        lock(&self.shared).waiting.remove(&self.name);
    }
}

impl Followed {
    /// What is known now. The next [`Self::changed`] waits for something newer.
    pub(super) fn now(&mut self) -> Sight {
        self.sights.borrow_and_update().clone()
    }

    /// Waits until something else is known. Never ends once nobody watches any more.
    pub(super) async fn changed(&mut self) {
        if self.sights.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(cluster: Cluster, selector: String, shared: Arc<Mutex<Shared>>) {
    let api: Api<Pod> = cluster.api();
    let config = watcher::Config::default().labels(&selector);
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    // Which of those that are followed were seen since the watch began anew.
    let mut listed: Option<Vec<String>> = None;
    let mut outage = Outage::default();
    while let Some(event) = events.next().await {
        match &event {
            Ok(_) => outage.is_over(),
            Err(error) => outage.goes_on(error),
        }
        match event {
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(pod)) => {
                listed.iter_mut().for_each(|listed| listed.push(pod.name_any()));
                tell(&shared, pod);
            }
            Ok(Event::InitDone) => {
                let there = listed.take().unwrap_or_default();
                let mut shared = lock(&shared);
                shared.blind = None;
                for (name, sights) in &shared.waiting {
                    // What was seen before and is not there any more went while nobody looked.
                    if !there.contains(name) {
                        sights.send_if_modified(|sight| match sight {
                            Sight::There(_) => replace(sight, Sight::Gone),
                            Sight::Blind(_) => replace(sight, Sight::Unseen),
                            Sight::Unseen | Sight::Gone => false,
                        });
                    }
                }
            }
            Ok(Event::Apply(pod)) => tell(&shared, pod),
            Ok(Event::Delete(pod)) => {
                if let Some(sights) = lock(&shared).waiting.get(&pod.name_any()) {
                    sights.send_replace(Sight::Gone);
                }
            }
            Err(error) => note(&cluster, &shared, &error),
        }
    }
}

/// Whether the watch fails, and whether that was said.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    is_told: bool,
}

impl Outage {
    fn goes_on(&mut self, error: &watcher::Error) {
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed();
        if lasts >= OUTAGE && !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                %error,
                "the cluster has not told what becomes of the pods for {} s; it is tried again and again",
                lasts.as_secs()
            );
        }
    }

    fn is_over(&mut self) {
        if self.is_told {
            tracing::info!("the cluster tells again what becomes of the pods");
        }
        *self = Self::default();
    }
}

fn replace(sight: &mut Sight, by: Sight) -> bool {
    *sight = by;
    true
}

fn tell(shared: &Mutex<Shared>, pod: Pod) {
    if let Some(sights) = lock(shared).waiting.get(&pod.name_any()) {
        sights.send_replace(Sight::There(Arc::new(pod)));
    }
}

/// A watch that failed. It is tried again, so only what will not mend itself is told to those who wait.
fn note(cluster: &Cluster, shared: &Mutex<Shared>, error: &watcher::Error) {
    let (verb, refused) = match error {
        watcher::Error::InitialListFailed(error) => ("list", Some(error)),
        watcher::Error::WatchStartFailed(error) => ("watch", Some(error)),
        _ => ("watch", None),
    };
    let Some(refused) = refused.filter(|error| matches!(error::status(error), Some(401 | 403 | 404))) else {
        tracing::debug!(%error, "the watch over the pods was interrupted");
        return;
    };
    let text: Arc<str> = cluster.error(refused, Step::new(verb, "pods", "")).to_string().into();
    let mut shared = lock(shared);
    for sights in shared.waiting.values() {
        sights.send_replace(Sight::Blind(Arc::clone(&text)));
    }
    shared.blind = Some(text);
}

/// Waits for at most `limit` until the pod's container has ended. None if that was not seen.
pub(super) async fn ended(followed: &mut Followed, limit: Duration) -> Option<super::failure::Ended> {
    let wait = async {
        loop {
            match followed.now() {
                Sight::There(pod) => {
                    if let Some(ended) = super::failure::ended(&pod) {
                        return Some(ended);
                    }
                }
                Sight::Gone | Sight::Blind(_) => return None,
                Sight::Unseen => {}
            }
            followed.changed().await;
        }
    };
    tokio::time::timeout(limit, wait).await.ok().flatten()
}
