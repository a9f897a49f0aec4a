//! Waiting for a pod's container to run: how long, and what keeps it from that.
//!
//! It only looks, at the watch over the session's pods and at the cluster's events; what is made and removed is the business
//! of [`super::start`] and [`super::removal`].

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use provisioning_core::text::one_line;
use tokio::time::Instant;

use super::client::{Cluster, QUICK};
use super::error::{self, MESSAGE, Step};
use super::failure::{self, Ended, State};
use super::removal::Ward;
use super::watch::{Followed, Sight};
use crate::capability::container_runtime::RuntimeError;

/// How long a pull may take.
pub(super) const PULL: Duration = Duration::from_secs(15 * 60);
/// How long making a node may take, where the cluster says that it makes one.
pub(super) const NODE: Duration = Duration::from_secs(15 * 60);
/// How often it is said that a pull or a new node is still waited for.
const STILL: Duration = Duration::from_secs(30);
/// How much more time a pod has whose image is pulled a second time; the kubelet waits 10 s before.
pub(super) const PULL_AGAIN: Duration = Duration::from_secs(20);
/// How often, and with what pauses, it is looked for the event that says why a pull failed: it is sent beside the state.
const LOOKS: u32 = 8;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// After how long it is looked closer at a pod that does not run, if there is that much time.
const LOOK_CLOSER: Duration = Duration::from_secs(4);
/// How long after the end of a watch for events it is looked for them again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long no node may have room where there is no time for a new node anyway.
const NO_ROOM: Duration = Duration::from_secs(2);
/// How much time there must be for it to be worth waiting for a new node.
const NEW_NODE: Duration = Duration::from_secs(60);

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
