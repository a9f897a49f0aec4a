//! From a request to a pod that runs with its streams attached.
//!
//! The steps run in a task of the reaper, so that a caller who goes away in the middle of a request to the cluster does
//! not leave behind what that request makes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use provisioning_core::Network;
use provisioning_core::text::one_line;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Backend;
use super::attach::{self, Attached};
use super::client::{Cluster, QUICK};
use super::error::{self, MESSAGE, Step};
use super::failure::{self, Ended, State};
use super::objects::{self, Draft, Manner, Objects};
use super::removal::{Birth, Kind, Ward};
use super::runner::Started;
use super::streams::{self, Subject};
use super::watch::{self, Followed, Sight};
use super::{names, pod};
use crate::capability::container_runtime::{Request, Running, RuntimeError};
use crate::lease::Lease;

/// How long creating an object may take, with what admission asks others.
const SLOW: Duration = Duration::from_secs(60);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(15 * 60);
/// How long making a node may take, where the cluster says that it makes one.
const NODE: Duration = Duration::from_secs(15 * 60);
/// How often it is said that a pull or a new node is still waited for.
const STILL: Duration = Duration::from_secs(30);
/// How much more time a pod has whose image is pulled a second time; the kubelet waits 10 s before.
const PULL_AGAIN: Duration = Duration::from_secs(20);
/// How often, and with what pauses, it is looked for the event that says why a pull failed: it is sent beside the state.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// After how long it is looked closer at a pod that does not run, if there is that much time.
const LOOK_CLOSER: Duration = Duration::from_secs(4);
/// How long after the end of a watch for events it is looked for them again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long no node may have room where there is no time for a new node anyway.
const NO_ROOM: Duration = Duration::from_secs(2);
/// How much time there must be for it to be worth waiting for a new node.
const NEW_NODE: Duration = Duration::from_secs(60);
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

/// Waits until the container runs, or has run. What keeps it from that is explained.
pub(super) async fn runs(ward: &Ward, followed: &mut Followed, limit: Duration) -> Result<Option<Ended>, RuntimeError> {
    let began = Instant::now();
    let events = Events::Unread { again: None, told: Told::default() };
    let mut patience = Patience { limit, began, events, no_room: None, pull: Pull::NotFailed };
    loop {
        let mut where_ = "waiting for the cluster";
        match followed.now() {
            Sight::Unseen => {}
            Sight::Blind(reason) => return Err(RuntimeError::Denied(reason.to_string())),
            Sight::Gone => {
                return Err(RuntimeError::Engine(format!("pod `{}` was deleted by somebody else", ward.name())));
            }
            Sight::There(pod) => match failure::judge(&pod, ward.name()) {
                State::Running => return Ok(None),
                State::Ended(ended) => return Ok(Some(ended)),
                State::Failed(error) => return Err(error),
                State::NotSeenYet(error) => patience.no_room = Some((began, error)),
                State::Coming(place) => {
                    where_ = place;
                    patience.no_room = None;
                    patience.has_node(&pod);
                }
                State::Unschedulable(reason) => patience.unschedulable(ward.name(), reason),
                State::NotPulled { backing_off, error } => patience.not_pulled(ward, &pod, backing_off, error).await?,
            },
        }
        tokio::select! {
            () = followed.changed() => {}
            outcome = patience.wait(ward, where_) => outcome?,
        }
    }
}

/// How long is still waited for a pod, and what is known from the cluster's events.
struct Patience {
    limit: Duration,
    began: Instant,
    events: Events,
    /// Since when something is in the way that may go by itself, and what it is.
    no_room: Option<(Instant, RuntimeError)>,
    pull: Pull,
}

/// How far a pull is that failed because the node could not read its pull secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pull {
    NotFailed,
    Failed,
    /// The kubelet waits until it tries again.
    BackingOff,
}

enum Events {
    /// It is looked for them later: again at that time, or for the first time when the pod has taken long.
    Unread { again: Option<Instant>, told: Told },
    /// They are being read.
    Read(futures::stream::BoxStream<'static, Result<WatchEvent<Event>, kube::Error>>, Told),
    /// They must not be read.
    Forbidden(Told),
}

impl Events {
    /// It is looked for them again: the watch has ended.
    fn later(told: Told) -> Self {
        Self::Unread { again: Some(Instant::now() + LOOK_AGAIN), told }
    }

    fn told(&mut self) -> &mut Told {
        match self {
            Self::Unread { told, .. } | Self::Read(_, told) | Self::Forbidden(told) => told,
        }
    }
}

/// What events told.
#[derive(Clone, Default)]
struct Told {
    /// Since when the image is being pulled.
    pulling: Option<Instant>,
    /// Since when a node is being made for the pod.
    making_node: Option<Instant>,
    /// How long that took which is over, which is nobody's fault.
    excused: Duration,
    warning: Option<String>,
}

impl Patience {
    fn unschedulable(&mut self, pod: &str, reason: String) {
        if self.no_room.is_none() {
            tracing::warn!(pod, reason, "no node has room for the pod");
        }
        let since = self.no_room.take().map_or_else(Instant::now, |(since, _)| since);
        let more = match self.limit < NEW_NODE {
            true => {
                "; where the cluster makes nodes when they are needed, raise `--max-server-startup-timeout` to 60 or more"
            }
            false => "",
        };
        let text = format!("no node has room for the pod: {reason}; lower `--cpus` or `--memory`, or add nodes{more}");
        self.no_room = Some((since, RuntimeError::Unavailable(text)));
    }

    /// Gives a pull up that failed, unless it failed because the node could not read its pull secrets although they are
    /// there: a kubelet with much to do gives its caches a second, pulls without them, and tries again.
    async fn not_pulled(
        &mut self,
        ward: &Ward,
        pod: &Pod,
        backing_off: bool,
        error: RuntimeError,
    ) -> Result<(), RuntimeError> {
        self.pull = match self.pull {
            Pull::NotFailed => {
                let spec = pod.spec.as_ref();
                let secrets = spec.and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
                let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
                if names.is_empty() || !lacked_secrets(ward).await {
                    return Err(error);
                }
                let missing = missing(ward.cluster(), &names).await;
                if !missing.is_empty() {
                    return Err(without(error, &missing, ward.cluster()));
                }
                tracing::info!(pod = ward.name(), "the node could not read the pull secrets and tries again");
                if backing_off { Pull::BackingOff } else { Pull::Failed }
            }
            // It was tried again.
            Pull::BackingOff if !backing_off => return Err(error),
            Pull::Failed | Pull::BackingOff if backing_off => Pull::BackingOff,
            same @ (Pull::Failed | Pull::BackingOff) => same,
        };
        self.no_room = Some((self.began, error));
        Ok(())
    }

    /// The pod has a node, so that none is made for it any more.
    fn has_node(&mut self, pod: &Pod) {
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            let told = self.events.told();
            told.excused += told.making_node.take().map(|since| since.elapsed()).unwrap_or_default();
        }
    }

    /// Waits until something is known from events. An error when there is nothing to wait for any more.
    async fn wait(&mut self, ward: &Ward, where_: &str) -> Result<(), RuntimeError> {
        let told = self.events.told().clone();
        let until = self.until(&told);
        tokio::select! {
            () = tokio::time::sleep_until(until) => Err(self.over(ward, where_, told, until)),
            () = self.read(ward) => Ok(()),
            () = told.remind(ward.name()) => Ok(()),
        }
    }

    /// When there is nothing to wait for any more, if nothing happens.
    fn until(&self, told: &Told) -> Instant {
        let again = if self.pull == Pull::NotFailed { Duration::ZERO } else { PULL_AGAIN };
        let usual = self.began + self.limit + told.excused + again;
        match (told.pulling, told.making_node, &self.no_room) {
            (Some(since), _, _) => usual.max(since + PULL),
            (None, Some(since), _) => usual.max(since + NODE),
            (None, None, Some((since, RuntimeError::Unavailable(_)))) if self.limit < NEW_NODE => {
                usual.min(*since + NO_ROOM)
            }
            (None, None, _) => usual,
        }
    }

    /// What is said of a pod that took too long: what it waited for, and what to do.
    fn over(&mut self, ward: &Ward, where_: &str, told: Told, until: Instant) -> RuntimeError {
        if let Some((_, error)) = self.no_room.take() {
            return error;
        }
        let (place, advice) = match (told.pulling, matches!(self.events, Events::Forbidden(_))) {
            (Some(_), _) => {
                ("pulling its image", "check how the nodes reach the registry, or load the image onto them beforehand")
            }
            (None, true) => (
                where_,
                "let the gateway `list` and `watch` `events`, so that it can tell a long pull, or raise \
                 `--max-server-startup-timeout`",
            ),
            (None, false) => (where_, RuntimeError::RAISE_STARTUP_TIMEOUT),
        };
        let detail = told.warning.map(|warning| format!(": {warning}")).unwrap_or_default();
        let what = format!("starting pod `{}` ({place}{detail})", ward.name());
        RuntimeError::TimedOut { what, seconds: (until - self.began).as_secs(), advice }
    }

    /// Reads the next event. Events are only looked for if the pod takes long, or no node has room for it.
    async fn read(&mut self, ward: &Ward) {
        if let Events::Unread { again, told } = &self.events {
            match again {
                Some(again) => tokio::time::sleep_until(*again).await,
                None if self.no_room.is_some() => {}
                None => tokio::time::sleep_until(self.began + LOOK_CLOSER.min(self.limit / 2)).await,
            }
            let told = told.clone();
            let api: Api<Event> = ward.cluster().api();
            let params = WatchParams::default().fields(&about(ward));
            // From no version on, so that what was before comes first.
            self.events = match tokio::time::timeout(QUICK, api.watch(&params, "0")).await {
                Ok(Ok(events)) => Events::Read(events.boxed(), told),
                Ok(Err(error)) if error::status(&error) == Some(403) => Events::Forbidden(told),
                _ => Events::later(told),
            };
            return;
        }
        let Events::Read(events, told) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Some(Ok(WatchEvent::Added(event) | WatchEvent::Modified(event))) => told.note(&event),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => self.events = Events::later(told.clone()),
        }
    }
}

/// Whether the node says that it could not read pull secrets of the pod.
async fn lacked_secrets(ward: &Ward) -> bool {
    let cluster = ward.cluster();
    let api: Api<Event> = cluster.api();
    let fields = format!("{},reason=FailedToRetrieveImagePullSecret", about(ward));
    let params = ListParams::default().fields(&fields).limit(1);
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        match cluster.call(Step::new("list", "events", ""), QUICK, api.list(&params)).await {
            Ok(found) if found.items.is_empty() => {}
            Ok(_) => return true,
            // Whoever may not look does not know.
            Err(_) => return false,
        }
    }
    false
}

/// Which of these secrets do not exist. One that must not be read counts as there.
async fn missing<'a>(cluster: &Cluster, names: &[&'a str]) -> Vec<&'a str> {
    let api: Api<Secret> = cluster.api();
    let looks = names.iter().map(async |name| {
        let found = tokio::time::timeout(QUICK, api.get_metadata(name)).await;
        matches!(found, Ok(Err(error)) if error::status(&error) == Some(404)).then_some(*name)
    });
    futures::future::join_all(looks).await.into_iter().flatten().collect()
}

/// An error of an image, with the pull secrets that do not exist.
fn without(error: RuntimeError, missing: &[&str], cluster: &Cluster) -> RuntimeError {
    let RuntimeError::Image { image, reason } = error else { return error };
    let (names, namespace) = (missing.join("`, `"), cluster.namespace());
    RuntimeError::Image { image, reason: format!("{reason}; namespace `{namespace}` has no secret `{names}`") }
}

/// The field selector of the events about a pod.
fn about(ward: &Ward) -> String {
    format!("involvedObject.kind=Pod,involvedObject.name={}", ward.name())
}

impl Told {
    fn note(&mut self, event: &Event) {
        match event.reason.as_deref() {
            Some("Pulling") if self.pulling.is_none() => {
                self.pulling = Some(Instant::now());
                tracing::info!(pod = event.involved_object.name, "the cluster pulls the image");
            }
            Some("Pulled" | "Failed") => {
                self.excused += self.pulling.take().map(|since| since.elapsed()).unwrap_or_default();
            }
            // Of the cluster autoscaler, and of Karpenter.
            Some("TriggeredScaleUp" | "Nominated") if self.making_node.is_none() => {
                self.making_node = Some(Instant::now());
                tracing::info!(pod = event.involved_object.name, "the cluster makes a node for the pod");
            }
            _ => {}
        }
        if event.type_.as_deref() == Some("Warning") || event.reason.as_deref() == Some("NotTriggerScaleUp") {
            let message = event.message.as_deref().unwrap_or_default();
            self.warning = Some(one_line(message.trim(), MESSAGE));
        }
    }

    /// Says now and then what is waited for, if that may take long.
    async fn remind(&self, pod: &str) {
        let (since, what) = match (self.pulling, self.making_node) {
            (Some(since), _) => (since, "pulls the image"),
            (None, Some(since)) => (since, "makes a node for the pod"),
            (None, None) => return std::future::pending().await,
        };
        let said = since.elapsed().as_secs() / STILL.as_secs();
        let next = STILL * u32::try_from(said + 1).unwrap_or(u32::MAX);
        tokio::time::sleep_until(since + next).await;
        tracing::info!(pod, seconds = since.elapsed().as_secs(), "the cluster still {what}");
    }
}

/// What a task answers whose caller went away. Nobody reads it.
pub(super) fn abandoned() -> RuntimeError {
    RuntimeError::Engine("the pod was abandoned".to_owned())
}
