//! What gateways have in a namespace: which objects, of which session, and whether that session lives.
//!
//! A session is a Lease that its gateway renews; everything that the gateway makes is owned by it. A session is dead
//! when its Lease has run out, or is gone while something that it owned is still there. What has no such owner is never
//! judged: nothing says whether somebody uses it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DeleteParams, ListParams, Preconditions};
use serde::Serialize;

use super::cluster::{Cluster, Step};
use crate::capability::container_runtime::kubernetes::reap::last_renewed;

/// What every object of a gateway is labelled with.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by=mcp-gateway";
/// The label with the session.
const SESSION_LABEL: &str = "mcp-gateway.docker.com/session";
/// The label with a readable form of the server's name.
const SERVER_LABEL: &str = "app.kubernetes.io/name";
/// The annotation with the whole of it.
const SERVER_ANNOTATION: &str = "mcp-gateway.docker.com/server";
/// How long after its end a Lease is still taken for renewed: a request may be on its way.
const SLACK_SECONDS: i64 = 30;
/// How long a pod may take to end, in seconds.
const GRACE_SECONDS: u32 = 2;

/// An object that a gateway made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Left {
    /// `pod`, `secret`, `configmap`, `networkpolicy` or `lease`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) session: String,
    pub(super) server: String,
    /// How old it is.
    pub(super) age_seconds: i64,
    #[serde(skip)]
    uid: String,
    /// The Lease of its session, which owns it or is it: name and unique identifier.
    #[serde(skip)]
    pub(super) owner: Option<(String, String)>,
}

impl Left {
    pub(super) fn of(kind: &'static str, metadata: ObjectMeta, now: Timestamp) -> Self {
        let labels = metadata.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let whole_name = metadata.annotations.and_then(|annotations| annotations.get(SERVER_ANNOTATION).cloned());
        let (name, uid) = (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default());
        let mut owners = metadata.owner_references.unwrap_or_default().into_iter();
        let owner = match kind {
            "lease" => Some((name.clone(), uid.clone())),
            _ => owners.find(|owner| owner.kind == "Lease").map(|owner| (owner.name, owner.uid)),
        };
        Self {
            kind,
            name,
            session: label(SESSION_LABEL),
            server: whole_name.unwrap_or_else(|| label(SERVER_LABEL)),
            age_seconds: metadata.creation_timestamp.map_or(0, |made| (now.as_second() - made.0.as_second()).max(0)),
            uid,
            owner,
        }
    }
}

/// Whether the gateway of a session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its Lease is renewed.
    Living,
    /// Its Lease ran out so many seconds ago.
    Expired(i64),
    /// Its Lease is gone.
    Gone,
    /// Nothing tells.
    Unknown,
}

impl Life {
    /// True if nobody uses what the session made.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self, Self::Expired(_) | Self::Gone)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Living => write!(f, "its gateway lives"),
            Self::Expired(seconds) => write!(f, "its Lease ran out {} ago", in_short(*seconds)),
            Self::Gone => write!(f, "its Lease is gone"),
            Self::Unknown => write!(f, "it has no Lease"),
        }
    }
}

/// How long something has been there, for people: `45s`, `3m`, `7h`, `12d`.
pub(super) fn in_short(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Everything that gateways made in a namespace.
pub(super) struct Leftovers {
    /// The pods first.
    pub(super) objects: Vec<Left>,
    leases: BTreeMap<String, Lease>,
    now: Timestamp,
}

impl Leftovers {
    /// Looks. Of Secrets only the metadata is asked for.
    ///
    /// # Errors
    /// If one kind of object cannot be listed: half of the truth would be taken for the whole.
    pub(super) async fn find(cluster: &Cluster) -> anyhow::Result<Self> {
        // Leases first: one that is missing here and owns something that is found below is asked for by itself.
        let leases: kube::Api<Lease> = cluster.api();
        let found = cluster.get(Step::new("list", "leases", ""), leases.list(&ListParams::default())).await?;
        let named = |lease: Lease| Some((lease.metadata.name.clone()?, lease));
        let mut all = Self {
            objects: Vec::new(),
            leases: found.items.into_iter().filter_map(named).collect(),
            now: cluster.now()?,
        };
        for (kind, plural, resource) in kinds() {
            let (api, managed) = (cluster.dynamic(&resource), ListParams::default().labels(MANAGED_BY));
            let listed = cluster.get(Step::new("list", plural, ""), api.list_metadata(&managed)).await?;
            all.objects.extend(listed.items.into_iter().map(|object| Left::of(kind, object.metadata, all.now)));
        }
        for owner in all.objects.iter().filter_map(|object| object.owner.as_ref()).map(|(name, _)| name.clone()) {
            if let std::collections::btree_map::Entry::Vacant(unseen) = all.leases.entry(owner) {
                let step = Step::new("get", "leases", "");
                if let Some(lease) = cluster.get(step, leases.get_opt(unseen.key())).await? {
                    unseen.insert(lease);
                }
            }
        }
        Ok(all)
    }

    /// Whether somebody may still use the object.
    pub(super) fn life(&self, object: &Left) -> Life {
        let Some((name, uid)) = &object.owner else { return Life::Unknown };
        match self.leases.get(name) {
            Some(lease) if lease.metadata.uid.as_ref() == Some(uid) => self.of_lease(lease),
            _ => Life::Gone,
        }
    }

    fn of_lease(&self, lease: &Lease) -> Life {
        let duration = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        // A Lease that does not say how long it holds says nothing about its holder.
        let (Some(since), Some(duration)) = (last_renewed(lease), duration) else { return Life::Unknown };
        let over = self.now.as_second() - since.as_second() - i64::from(duration);
        if over > SLACK_SECONDS { Life::Expired(over) } else { Life::Living }
    }

    /// A Lease as it was seen.
    pub(super) fn lease(&self, name: &str) -> Option<&Lease> {
        self.leases.get(name)
    }
}

/// The kinds of objects: in a word, as the API calls them, and how they are asked for.
fn kinds() -> [(&'static str, &'static str, ApiResource); 5] {
    [
        ("pod", "pods", ApiResource::erase::<Pod>(&())),
        ("secret", "secrets", ApiResource::erase::<Secret>(&())),
        ("configmap", "configmaps", ApiResource::erase::<ConfigMap>(&())),
        ("networkpolicy", "networkpolicies", ApiResource::erase::<NetworkPolicy>(&())),
        ("lease", "leases", ApiResource::erase::<Lease>(&())),
    ]
}

/// Deletes an object, if it is still the one that was seen. One that is gone is no error.
///
/// # Errors
/// If it cannot be deleted.
pub(super) async fn delete(cluster: &Cluster, object: &Left) -> anyhow::Result<()> {
    let Some((_, plural, resource)) = kinds().into_iter().find(|(kind, ..)| *kind == object.kind) else {
        return Ok(());
    };
    let seen = Preconditions { uid: Some(object.uid.clone()), resource_version: None };
    let mut parameters = DeleteParams::background().preconditions(seen);
    if object.kind == "pod" {
        parameters = parameters.grace_period(GRACE_SECONDS);
    }
    let step = Step::new("delete", plural, &object.name);
    match cluster.ask(step, cluster.dynamic(&resource).delete(&object.name, &parameters)).await? {
        Ok(_) => Ok(()),
        Err(status) if status.code == 404 || status.is_conflict() => Ok(()),
        Err(status) => Err(cluster.refused(step, &status)),
    }
}

/// Deletes the Lease of a dead session, if nobody renewed it since it was seen. False if somebody did.
///
/// # Errors
/// If it cannot be deleted.
pub(super) async fn end_lease(cluster: &Cluster, lease: &Lease) -> anyhow::Result<bool> {
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    let seen =
        Preconditions { uid: lease.metadata.uid.clone(), resource_version: lease.metadata.resource_version.clone() };
    let api: kube::Api<Lease> = cluster.api();
    let step = Step::new("delete", "leases", name);
    match cluster.ask(step, api.delete(name, &DeleteParams::background().preconditions(seen))).await? {
        Ok(_) => Ok(true),
        Err(status) if status.code == 404 => Ok(true),
        Err(status) if status.is_conflict() => Ok(false),
        Err(status) => Err(cluster.refused(step, &status)),
    }
}

#[cfg(test)]
mod tests;
