//! The gateway's session in a cluster: a Lease that says that the gateway lives and that owns everything the session
//! makes, the watch over the session's pods, and what its servers share.
//!
//! The Lease is made before anything else and renewed until the end. A gateway that is killed renews no more; then its
//! Lease runs out, whoever finds it deletes it, and the cluster deletes what it owns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Cluster, QUICK};
use super::error::{self, Step};
use super::watch::Pods;
use super::{labels, names, objects, pod, runner};
use crate::capability::container_runtime::RuntimeError;

/// How long a session counts as alive after its gateway last said so.
const DURATION: Duration = Duration::from_secs(120);
/// How many times in that period it says so.
const RENEWALS: u32 = 4;

/// How far the clock of this machine may be from the API server's.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The session of a runtime, begun when it is first needed.
pub(super) struct Session {
    id: String,
    duration: Duration,
    begun: OnceCell<Begun>,
    no_network: Shared,
    runner: Shared,
}

/// An object that the servers of a session share: the name of the one that there is. It is made before it is first used, and
/// anew when the session has another Lease, because it went with the old one.
#[derive(Default)]
struct Shared(tokio::sync::Mutex<Option<String>>);

impl Shared {
    /// Makes sure that the object of this name is there.
    async fn ensure(
        &self,
        name: &str,
        make: impl Future<Output = Result<(), RuntimeError>>,
    ) -> Result<(), RuntimeError> {
        let mut there = self.0.lock().await;
        if there.as_deref() != Some(name) {
            make.await?;
            *there = Some(name.to_owned());
        }
        Ok(())
    }
}

/// A session that has its Lease.
struct Begun {
    cluster: Cluster,
    lease: String,
    owner: Arc<Mutex<OwnerReference>>,
    pods: Pods,
    renewal: AbortOnDropHandle<()>,
}

impl Session {
    pub(super) fn new(id: String) -> Self {
        let (no_network, runner) = (Shared::default(), Shared::default());
        Self { id, duration: DURATION, begun: OnceCell::new(), no_network, runner }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn set_duration(&mut self, duration: Duration) {
        self.duration = duration;
    }

    /// Makes sure that the session has its Lease and its watch.
    async fn begun(&self, cluster: &Cluster) -> Result<&Begun, RuntimeError> {
        self.begun.get_or_try_init(|| self.begin(cluster)).await
    }

    /// What owns everything that is made for the session now.
    pub(super) async fn owner(&self, cluster: &Cluster) -> Result<OwnerReference, RuntimeError> {
        let begun = self.begun(cluster).await?;
        Ok(begun.owner.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The watch over the session's pods.
    pub(super) async fn pods(&self, cluster: &Cluster) -> Result<&Pods, RuntimeError> {
        Ok(&self.begun(cluster).await?.pods)
    }

    async fn begin(&self, cluster: &Cluster) -> Result<Begun, RuntimeError> {
        let name = names::of_session(&self.id, "session");
        let holder = names::random()?;
        let api: Api<Lease> = cluster.api();
        let made = make(cluster, &api, &name, &self.id, &holder, self.duration).await?;
        let owner = Arc::new(Mutex::new(owner(&made)));
        let renewal = Renewal {
            cluster: cluster.clone(),
            name: name.clone(),
            session: self.id.clone(),
            holder,
            duration: self.duration,
            owner: Arc::clone(&owner),
            is_late: is_late(cluster, &made),
        };
        Ok(Begun {
            cluster: cluster.clone(),
            lease: name,
            owner,
            pods: Pods::watch(cluster, &self.id),
            renewal: AbortOnDropHandle::new(tokio::spawn(renewal.run())),
        })
    }

    /// Makes sure that the policy is there that takes the network from pods that shall have none. It is made before the
    /// first of them.
    pub(super) async fn no_network(&self, cluster: &Cluster) -> Result<(), RuntimeError> {
        let metadata = objects::policy_metadata(&self.id, Some(self.owner(cluster).await?));
        let name = metadata.name.clone().unwrap_or_default();
        let make = async {
            let policy = pod::no_network(metadata, &self.id);
            create(cluster, "networkpolicies", &policy).await?;
            tracing::warn!(
                "servers without a network are kept apart by a NetworkPolicy, which holds only if the cluster's network \
                 plugin enforces such policies"
            );
            Ok(())
        };
        self.no_network.ensure(&name, make).await
    }

    /// The name of the `ConfigMap` with the programs that start tools.
    pub(super) async fn runner(&self, cluster: &Cluster) -> Result<String, RuntimeError> {
        let owner = self.owner(cluster).await?;
        let name = names::of_owner(&self.id, &owner.uid, "runner");
        let make = async {
            let programs = runner::PROGRAMS.iter();
            let map = ConfigMap {
                metadata: labels::of_part(name.clone(), &self.id, "runner", Some(owner)),
                immutable: Some(true),
                binary_data: Some(
                    programs
                        .map(|program| (program.architecture.to_owned(), ByteString(program.bytes.to_vec())))
                        .collect(),
                ),
                ..ConfigMap::default()
            };
            create(cluster, "configmaps", &map).await
        };
        self.runner.ensure(&name, make).await?;
        Ok(name)
    }

    /// Deletes what the servers shared, and the Lease; the cluster deletes whatever it still owns.
    pub(super) async fn end(&self) {
        let Some(begun) = self.begun.get() else { return };
        begun.renewal.abort();
        begun.pods.stop();
        let cluster = &begun.cluster;
        let policy = async {
            if let Some(name) = self.no_network.0.lock().await.take() {
                delete::<NetworkPolicy>(cluster, &name).await;
            }
        };
        let runner = async {
            if let Some(name) = self.runner.0.lock().await.take() {
                delete::<ConfigMap>(cluster, &name).await;
            }
        };
        tokio::join!(policy, runner);
        delete::<Lease>(cluster, &begun.lease).await;
    }
}

/// Creates an object whose name is the owner's own: if it is there, an earlier attempt made it.
async fn create<K>(cluster: &Cluster, resource: &'static str, object: &K) -> Result<(), RuntimeError>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let request = async {
        match cluster.api::<K>().create(&PostParams::default(), object).await {
            Err(error) if error::status(&error) == Some(409) => Ok(()),
            other => other.map(drop),
        }
    };
    cluster.call(Step::new("create", resource, &name), QUICK, request).await
}

async fn delete<K>(cluster: &Cluster, name: &str)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api = cluster.api::<K>();
    let params = DeleteParams::background();
    let deletion = api.delete(name, &params);
    match tokio::time::timeout(QUICK, deletion).await {
        Ok(Err(error)) if error::status(&error) != Some(404) => {
            let error = cluster.error(&error, Step::new("delete", "objects", name));
            tracing::warn!(name, %error, "an object of the session could not be deleted; it goes when its lease has run out");
        }
        Err(_) => {
            tracing::warn!(name, "the API server does not answer; the session's objects go when its lease has run out")
        }
        Ok(_) => {}
    }
}

/// Makes the Lease. One that is there already must be ours.
async fn make(
    cluster: &Cluster,
    api: &Api<Lease>,
    name: &str,
    session: &str,
    holder: &str,
    duration: Duration,
) -> Result<Lease, RuntimeError> {
    let now = MicroTime(now(cluster));
    let lease = Lease {
        metadata: labels::of_part(name.to_owned(), session, "session", None),
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)),
            ..LeaseSpec::default()
        }),
    };
    let request = async {
        match api.create(&PostParams::default(), &lease).await {
            // The answer to an earlier attempt may have got lost.
            Err(error) if error::status(&error) == Some(409) => api.get(name).await,
            other => other,
        }
    };
    let made = cluster.call(Step::new("create", "leases", name), QUICK, request).await?;
    match made.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(holder) {
        true => Ok(made),
        false => Err(RuntimeError::Conflict(format!(
            "session `{session}` is in use by another gateway in namespace `{}`",
            cluster.namespace()
        ))),
    }
}

/// What time it is: for the API server, which those go by who ask whether a Lease has run out. Before its first answer, here.
fn now(cluster: &Cluster) -> Timestamp {
    cluster.now().unwrap_or_else(|_| Timestamp::now())
}

/// Whether the time that stands in a Lease is not the API server's.
fn is_late(cluster: &Cluster, lease: &Lease) -> bool {
    let written = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    written.is_some_and(|written| now(cluster).duration_since(written.0).abs() > SKEW)
}

fn owner(lease: &Lease) -> OwnerReference {
    OwnerReference {
        api_version: Lease::api_version(&()).into_owned(),
        kind: Lease::kind(&()).into_owned(),
        name: lease.metadata.name.clone().unwrap_or_default(),
        uid: lease.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// Says again and again that the gateway lives.
struct Renewal {
    cluster: Cluster,
    name: String,
    session: String,
    holder: String,
    duration: Duration,
    owner: Arc<Mutex<OwnerReference>>,
    /// Whether the Lease is to be renewed at once, because the clock of this machine is wrong.
    is_late: bool,
}

impl Renewal {
    async fn run(self) {
        let api: Api<Lease> = self.cluster.api();
        let mut pauses = tokio::time::interval(self.duration / RENEWALS);
        pauses.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if !self.is_late {
            pauses.tick().await;
        }
        loop {
            pauses.tick().await;
            let renewed = json!({"spec": {"renewTime": MicroTime(now(&self.cluster)), "holderIdentity": self.holder}});
            let params = PatchParams::default();
            let patch = Patch::Merge(renewed);
            let step = Step::new("patch", "leases", &self.name);
            match tokio::time::timeout(QUICK, api.patch(&self.name, &params, &patch)).await {
                Ok(Ok(_)) => {}
                // This process slept, and somebody took it for dead. What it had is gone; what comes needs an owner.
                Ok(Err(error)) if error::status(&error) == Some(404) => {
                    tracing::warn!("the session's lease is gone, and its servers with it; a new one is made");
                    match make(&self.cluster, &api, &self.name, &self.session, &self.holder, self.duration).await {
                        Ok(lease) => *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner(&lease),
                        Err(error) => tracing::warn!(%error, "the session's lease cannot be made again"),
                    }
                }
                Ok(Err(error)) => {
                    let error = self.cluster.error(&error, step);
                    tracing::warn!(%error, "the session's lease cannot be renewed");
                }
                Err(_) => tracing::warn!("the session's lease cannot be renewed: the API server does not answer"),
            }
        }
    }
}
