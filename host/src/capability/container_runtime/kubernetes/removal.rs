//! Ending a server and deleting its objects, whatever state they are in and whether or not the requests that made them
//! were answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::DeleteParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Cluster, QUICK};
use super::error::{self, Step};
use crate::capability::container_runtime::input::SharedInput;
use crate::lease::Attempts;

/// How long a server may take to end after its standard input was closed.
const GRACE: Duration = Duration::from_secs(1);
/// How long an object may still appear whose create request got no answer, from when the API server was there to say that
/// there is none.
const APPEAR: Duration = Duration::from_secs(10);

/// The kinds of objects that a server has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Pod, Self::Secret, Self::ConfigMap];

    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
        }
    }
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// It was not asked for, or the API server refused: there is nothing to delete.
    Absent,
    /// It was asked for, and there is no answer yet.
    Asked,
    /// It exists.
    Made,
}

/// A server's objects on their way from the create requests to their deletion; all have the same name. Shared by whoever
/// makes them and by their lease.
pub(super) struct Ward {
    cluster: Cluster,
    name: String,
    births: Mutex<[Birth; 3]>,
    input: Mutex<Option<SharedInput>>,
    /// Kill without grace: the process was told to end, or is not to go on.
    hurry: AtomicBool,
    /// Cancelled when removal begins.
    released: CancellationToken,
    /// Cancelled when the output has ended, and so the process.
    finished: CancellationToken,
}

impl Ward {
    pub(super) fn new(cluster: Cluster, name: String) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            name,
            births: Mutex::new([Birth::Absent; 3]),
            input: Mutex::new(None),
            hurry: AtomicBool::new(true),
            released: CancellationToken::new(),
            finished: CancellationToken::new(),
        })
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn released(&self) -> &CancellationToken {
        &self.released
    }

    pub(super) fn finished(&self) -> &CancellationToken {
        &self.finished
    }

    /// What is known of an object now.
    pub(super) fn set(&self, kind: Kind, birth: Birth) {
        let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        for (of, known) in Kind::ALL.into_iter().zip(births.iter_mut()) {
            if of == kind {
                *known = birth;
            }
        }
    }

    fn births(&self) -> [Birth; 3] {
        *self.births.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standard input to close before the process is killed. From now on it is given time to end by itself.
    pub(super) fn set_input(&self, input: SharedInput) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
        self.hurry.store(false, Ordering::Relaxed);
    }

    /// Ends the process and deletes everything. Returns when it is gone, however long the API server is away.
    pub(super) async fn remove(self: Arc<Self>) {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(input) = input {
            input.close().await;
            if !self.hurry.load(Ordering::Relaxed) {
                // Whether it ended or not: deleting it comes next.
                let _ = tokio::time::timeout(GRACE, self.finished.cancelled()).await;
            }
        }
        self.released.cancel();
        let [pod, secret, config_map] = self.births();
        tokio::join!(
            self.delete::<Pod>(Kind::Pod, pod),
            self.delete::<Secret>(Kind::Secret, secret),
            self.delete::<ConfigMap>(Kind::ConfigMap, config_map),
        );
    }

    async fn delete<K>(&self, kind: Kind, birth: Birth)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        if birth == Birth::Absent {
            return;
        }
        let api = self.cluster.api::<K>();
        // Only pods have a grace period.
        let grace_period_seconds = (kind == Kind::Pod).then_some(0);
        let params = DeleteParams { grace_period_seconds, ..DeleteParams::background() };
        let step = Step::new("delete", kind.resource(), &self.name);
        let (mut attempts, mut missed_since) = (Attempts::begin(), None);
        loop {
            let reason = match tokio::time::timeout(QUICK, api.delete(&self.name, &params)).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) if error::status(&error) == Some(404) => {
                    if birth != Birth::Asked || missed_since.get_or_insert_with(Instant::now).elapsed() >= APPEAR {
                        break;
                    }
                    "it may still appear".to_owned()
                }
                Ok(Err(error)) => self.cluster.error(&error, step).to_string(),
                Err(_) => error::silent(&self.cluster, step, QUICK).to_string(),
            };
            if attempts.is_news() {
                tracing::warn!(
                    kind = kind.resource(),
                    name = self.name,
                    reason,
                    "an object in the cluster cannot be deleted; it is tried again every half minute while this process \
                     lives, and goes with the session's lease after that"
                );
            }
            attempts.pause().await;
        }
        if attempts.was_news() {
            let seconds = attempts.elapsed().as_secs();
            tracing::info!(kind = kind.resource(), name = self.name, seconds, "the object is deleted at last");
        }
    }
}
