//! From a request to a pod that runs with its streams attached.
//!
//! The steps run in a task of the reaper, so that a caller who goes away in the middle of a request to the cluster does
//! not leave behind what that request makes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, PostParams};
use provisioning_core::Network;
use provisioning_core::text::one_line;
use tokio::sync::oneshot;

use super::Backend;
use super::attach::{self, Attached};
use super::client::{Cluster, QUICK};
use super::error::{self, MESSAGE, Step};
use super::failure::Ended;
use super::objects::{self, Draft, Manner, Objects};
use super::patience::{NODE, PULL, PULL_AGAIN, runs};
use super::removal::{Birth, Kind, Ward};
use super::runner::Started;
use super::streams::{self, Subject};
use super::watch::{self, Followed};
use super::{names, pod};
use crate::capability::container_runtime::{Request, Running, RuntimeError};
use crate::lease::Lease;

/// How long creating an object may take, with what admission asks others.
const SLOW: Duration = Duration::from_secs(60);
/// How long the cluster may take to say how a container ended that cannot be attached to.
const ENDED: Duration = Duration::from_secs(5);

/// The longest that [`start`] takes where a server is given this much time to begin, its image is pulled twice, and a node is
/// made for it: the lease and the objects before the pod, the pod, and attaching to it.
pub(super) fn limit(patience: Duration) -> Duration {
    patience + 3 * SLOW + PULL + NODE + PULL_AGAIN + QUICK + ENDED
}

/// Starts a server and hands over its streams.
pub(super) async fn start(backend: Arc<Backend>, request: Request) -> Result<Running, RuntimeError> {
    let (answer, outcome) = oneshot::channel();
    let reaper = backend.reaper.clone();
    drop(reaper.spawn(async move {
        let mut answer = answer;
        let started = match make(&backend, &request, &|| answer.is_closed()).await {
            Ok(made) => tokio::select! {
                started = finish(made, &request, backend.settings.start_timeout) => started,
                // Nobody waits any more: what was made is dropped with the work.
                () = answer.closed() => return,
            },
            Err(error) => Err(error),
        };
        // If nobody waits any more, dropping the answer removes the server.
        let _ = answer.send(started);
    }));
    outcome.await.unwrap_or_else(|_| Err(abandoned()))
}

/// Creates a server's objects. Where the namespace wants to be told that a pod does not run as root, and the image says so by
/// the number of its user, the pod says it too; that costs a look at the image only where it is wanted.
async fn make(
    backend: &Backend,
    request: &Request,
    is_abandoned: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Made, RuntimeError> {
    let deadline = objects::deadline(&backend.settings);
    let how = |user| How { started: None, user, stdin: true, deadline };
    let refused = match create(backend, request, how(None), is_abandoned).await {
        Err(RuntimeError::Denied(refused)) if error::wants_user(&refused) && request.spec.user.is_none() => refused,
        other => return other,
    };
    let cluster = backend.cluster().await?;
    let Some(architecture) = backend.runner.now(&backend.settings.node_selector) else {
        return Err(RuntimeError::Denied(refused));
    };
    let image = &request.spec.image;
    let inspected = backend.images.inspect(cluster, image, architecture, &backend.settings.pull_secrets).await;
    let why = match inspected {
        Ok(inspected) if pod::is_number_of_somebody(&inspected.user) => {
            return create(backend, request, how(Some(inspected.user.clone())), is_abandoned).await;
        }
        Ok(inspected) if inspected.user.is_empty() => "the image says that it runs as root".to_owned(),
        Ok(inspected) => format!(
            "the image's own user is `{}`, and a cluster only knows numbers",
            one_line(&inspected.user, MESSAGE)
        ),
        Err(reason) => format!("the image's own user cannot be found out: {reason}"),
    };
    Err(RuntimeError::Denied(format!("{refused} ({why})")))
}

/// Waits for a server that was asked for.
async fn finish(mut made: Made, request: &Request, limit: Duration) -> Result<Running, RuntimeError> {
    let subject = made.subject(&request.identity.server);
    match connect(&made.ward, &mut made.followed, limit).await? {
        Connected::Attached(Attached { output, input }) => {
            let (streams, input) = streams::split(output, input, subject);
            made.ward.set_input(input);
            Ok(Running { lease: made.lease, streams })
        }
        Connected::Ended(_) => Ok(Running { lease: made.lease, streams: streams::of_ended(subject) }),
    }
}

/// How a pod is to be made.
pub(super) struct How {
    pub(super) started: Option<Started>,
    /// The image's user, for a pod that must say who it runs as.
    pub(super) user: Option<String>,
    pub(super) stdin: bool,
    pub(super) deadline: Option<i64>,
}

/// A pod that was asked for and is on its way.
pub(super) struct Made {
    pub(super) lease: Lease,
    pub(super) ward: Arc<Ward>,
    pub(super) followed: Followed,
}

impl Made {
    pub(super) fn subject(&self, server: &str) -> Subject {
        Subject {
            cluster: self.ward.cluster().clone(),
            name: self.ward.name().to_owned(),
            server: server.to_owned(),
            followed: self.followed.clone(),
            released: self.ward.released().clone(),
            finished: self.ward.finished().clone(),
        }
    }
}

/// Creates a server's objects, the pod last.
pub(super) async fn create(
    backend: &Backend,
    request: &Request,
    how: How,
    is_abandoned: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Made, RuntimeError> {
    let (session, own) = (&request.identity.session, backend.session.id());
    if session != own {
        // Its pods would not be watched.
        return Err(RuntimeError::Engine(format!(
            "a request of session `{session}` came to the runtime of session `{own}`; this is a bug"
        )));
    }
    let name = names::unique(&request.identity.server)?;
    let draft = Draft::new(&name, request)?;
    let cluster = backend.cluster().await?;
    let (contents, owner) = tokio::join!(draft.contents(backend.secrets.as_ref()), backend.session.owner(cluster));
    let (contents, owner) = (contents?, Some(owner?));
    let How { started, user, stdin, deadline } = how;
    let manner = Manner { settings: &backend.settings, owner, started, user, stdin, deadline };
    let Objects { pod, secret, config_map, claims } = draft.objects(&contents, manner)?;
    drop(contents);
    let ward = Ward::new(cluster.clone(), name.clone());
    let lease = backend.reaper.lease(name.clone(), {
        let ward = Arc::clone(&ward);
        move || ward.remove()
    });
    let followed = backend.session.pods(cluster).await?.follow(&name);
    if is_abandoned() {
        return Err(abandoned());
    }
    let secret = async { if let Some(secret) = &secret { ask(&ward, Kind::Secret, secret).await } else { Ok(()) } };
    let config_map =
        async { if let Some(map) = &config_map { ask(&ward, Kind::ConfigMap, map).await } else { Ok(()) } };
    let network = async {
        match request.spec.network {
            Network::None => backend.session.no_network(cluster).await,
            Network::Declared => Ok(()),
        }
    };
    let claims = futures::future::try_join_all(claims.iter().map(|wanted| claim(cluster, wanted)));
    tokio::try_join!(secret, config_map, network, claims)?;
    if is_abandoned() {
        return Err(abandoned());
    }
    ask(&ward, Kind::Pod, &pod).await?;
    Ok(Made { lease, ward, followed })
}

/// Sends a create request and keeps account of whether there may be an object now.
async fn ask<K>(ward: &Ward, kind: Kind, object: &K) -> Result<(), RuntimeError>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let cluster = ward.cluster();
    let step = Step::new("create", kind.resource(), ward.name());
    ward.set(kind, Birth::Asked);
    let api = cluster.api::<K>();
    match tokio::time::timeout(SLOW, api.create(&PostParams::default(), object)).await {
        Ok(Ok(_)) => ward.set(kind, Birth::Made),
        // Nobody else takes this name: an earlier attempt of the same request arrived.
        Ok(Err(error)) if error::status(&error) == Some(409) && is_ours(&error) => ward.set(kind, Birth::Made),
        Ok(Err(error)) => {
            if error::is_answer(&error) {
                ward.set(kind, Birth::Absent);
            }
            return Err(cluster.error(&error, step));
        }
        Err(_) => return Err(error::silent(cluster, step, SLOW)),
    }
    Ok(())
}

fn is_ours(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_already_exists())
}

/// Makes sure that the claim of a named volume is there.
async fn claim(cluster: &Cluster, wanted: &PersistentVolumeClaim) -> Result<(), RuntimeError> {
    let api: Api<PersistentVolumeClaim> = cluster.api();
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let request = async {
        match api.create(&PostParams::default(), wanted).await {
            Err(error) if error::status(&error) == Some(409) => Ok(()),
            other => other.map(drop),
        }
    };
    cluster.call(Step::new("create", "persistentvolumeclaims", name), SLOW, request).await
}

/// A container that was started.
pub(super) enum Connected {
    Attached(Attached),
    /// It ended before anybody could attach to it.
    Ended(Ended),
}

/// Waits until the container runs and attaches to its streams.
pub(super) async fn connect(ward: &Ward, followed: &mut Followed, limit: Duration) -> Result<Connected, RuntimeError> {
    if let Some(ended) = runs(ward, followed, limit).await? {
        return Ok(Connected::Ended(ended));
    }
    let cluster = ward.cluster();
    let attached = tokio::time::timeout(QUICK, attach::attach(cluster, ward.name())).await;
    let step = Step::new("get", "pods/attach", ward.name());
    let error = match attached {
        Ok(Ok(attached)) => return Ok(Connected::Attached(attached)),
        Ok(Err(error)) => error,
        Err(_) => return Err(error::silent(cluster, step, QUICK)),
    };
    // A container that ended in the meantime cannot be attached to.
    if !matches!(error::status(&error), Some(401 | 403))
        && let Some(ended) = watch::ended(followed, ENDED).await
    {
        return Ok(Connected::Ended(ended));
    }
    Err(cluster.error(&error, step))
}

/// What a task answers whose caller went away. Nobody reads it.
pub(super) fn abandoned() -> RuntimeError {
    RuntimeError::Engine("the pod was abandoned".to_owned())
}
