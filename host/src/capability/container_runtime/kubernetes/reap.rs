//! Removing what dead sessions left in a namespace: those whose Lease has run out, because their gateway was killed or its
//! machine lost power.
//!
//! A session is judged by its Lease alone. Its pods are deleted with it; everything else goes by itself, because the cluster
//! deletes what a deleted object owned. So no secret has to be listed for this. Docker's own gateway labels its pods in the
//! same way but has no Lease: what no Lease owns is never touched.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use k8s_openapi::Resource as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, ObjectList, Preconditions};

use super::client::{Cluster, QUICK};
use super::error::{self, Step};
use super::labels;
use crate::capability::container_runtime::RuntimeError;

/// How many objects are listed at once.
const PAGE: u32 = 200;
/// How many objects are deleted at once.
const AT_ONCE: usize = 8;
/// How much longer a session counts as alive than its Lease says: a renewal may be on its way.
const SLACK: SignedDuration = SignedDuration::from_secs(30);
/// How long a session may have pods without anybody seeing its Lease.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// What was found, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The dead sessions, in the order of their identifiers.
    pub dead: Vec<DeadSession>,
    /// The sessions that are alive.
    pub alive: Vec<String>,
}

/// A dead session and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSession {
    /// Its identifier, as its label has it.
    pub session: String,
    /// Its pods.
    pub pods: Vec<Left>,
    /// What could not be done, and why. Nothing is forgotten: the next time it is tried again.
    pub failures: Vec<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// The server that it was made for, as far as known.
    pub server: String,
}

/// What is known of a session.
#[derive(Default)]
struct Session {
    leases: Vec<Lease>,
    pods: Vec<Left>,
    /// When its youngest pod was made.
    made: Option<Timestamp>,
}

pub(super) async fn reap(cluster: &Cluster, dry_run: bool) -> Result<Report, RuntimeError> {
    // In this order: whatever pod is listed belongs to a session whose Lease was there before.
    let pods: Vec<Pod> = list(cluster, "pods").await?;
    let leases: Vec<Lease> = list(cluster, "leases").await?;
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    for pod in pods {
        let Some(session) = pod.labels().get(labels::SESSION).filter(|_| is_owned(&pod)) else { continue };
        let known = sessions.entry(session.clone()).or_default();
        let server = pod.annotations().get(labels::SERVER).cloned().unwrap_or_default();
        known.made = known.made.max(pod.creation_timestamp().map(|time| time.0));
        known.pods.push(Left { name: pod.name_any(), server });
    }
    for lease in leases {
        let Some(session) = lease.labels().get(labels::SESSION) else { continue };
        sessions.entry(session.clone()).or_default().leases.push(lease);
    }
    if sessions.is_empty() {
        return Ok(Report::default());
    }
    let now = cluster.now()?;
    let mut report = Report::default();
    for (id, session) in sessions {
        if !is_dead(&session, now) {
            report.alive.push(id);
            continue;
        }
        let mut dead = DeadSession { session: id, pods: session.pods, failures: Vec::new() };
        if !dry_run {
            match clean(cluster, &dead.pods, &session.leases).await {
                Ok(failures) => dead.failures = failures,
                Err(Awake) => {
                    report.alive.push(dead.session);
                    continue;
                }
            }
        }
        report.dead.push(dead);
    }
    Ok(report)
}

/// Whether a Lease owns, or owned, a pod.
fn is_owned(pod: &Pod) -> bool {
    pod.owner_references().iter().any(|owner| owner.kind == Lease::KIND && owner.api_version == Lease::API_VERSION)
}

/// When its holder was last known to live, by the API server's clock. What stands in a Lease that was never renewed may be
/// of a gateway that did not know yet what time it is; the cluster itself says when it was made.
pub(crate) fn last_renewed(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref();
    let acquired = spec.and_then(|spec| spec.acquire_time.as_ref());
    match spec.and_then(|spec| spec.renew_time.as_ref()) {
        Some(renewed) if acquired != Some(renewed) => Some(renewed.0),
        first => first.map(|time| time.0).max(lease.creation_timestamp().map(|time| time.0)),
    }
}

/// Whether, at this time of the API server, nobody says any more that a session is alive. One without a Lease is dead,
/// unless it has only just begun.
fn is_dead(session: &Session, now: Timestamp) -> bool {
    let passed = |since: Timestamp, limit: SignedDuration| now.duration_since(since) > limit;
    match session.leases.as_slice() {
        [] => session.made.is_none_or(|made| passed(made, YOUNG)),
        leases => leases.iter().all(|lease| {
            let spec = lease.spec.clone().unwrap_or_default();
            let seconds = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(0)));
            last_renewed(lease).is_some_and(|renewed| passed(renewed, seconds.saturating_add(SLACK)))
        }),
    }
}

/// Lists everything of the gateway's in pages. A list that the cluster has forgotten in the middle is begun anew.
async fn list<K>(cluster: &Cluster, resource: &'static str) -> Result<Vec<K>, RuntimeError>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = cluster.api();
    let selector = format!("{}={}", labels::MANAGED_BY, labels::GATEWAY);
    let step = Step::new("list", resource, "");
    let (mut found, mut token, mut again) = (Vec::new(), None, true);
    loop {
        let mut params = ListParams::default().labels(&selector).limit(PAGE);
        params.continue_token = token.take();
        let page: ObjectList<K> = match tokio::time::timeout(QUICK, api.list(&params)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) if error::status(&error) == Some(410) && again => {
                again = false;
                found.clear();
                continue;
            }
            Ok(Err(error)) => return Err(cluster.error(&error, step)),
            Err(_) => return Err(error::silent(cluster, step, QUICK)),
        };
        token = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        found.extend(page.items);
        if token.is_none() {
            return Ok(found);
        }
    }
}

/// The gateway of a session that was taken for dead has said that it lives.
struct Awake;

/// What deleting came to.
enum Deleted {
    Done,
    /// It is not what it was.
    Changed,
    Failed(String),
}

/// Deletes a session's Lease, and then its pods. From the moment when the Lease is gone the cluster deletes what is left,
/// whoever dies in between. Returns what failed.
async fn clean(cluster: &Cluster, pods: &[Left], leases: &[Lease]) -> Result<Vec<String>, Awake> {
    let mut failures = Vec::new();
    let api: Api<Lease> = cluster.api();
    for lease in leases {
        // Only as it was when it was judged: a gateway that slept and woke up keeps it.
        let preconditions = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match delete(cluster, &api, "leases", &lease.name_any(), &params).await {
            Deleted::Done => {}
            Deleted::Changed => return Err(Awake),
            Deleted::Failed(reason) => failures.push(reason),
        }
    }
    if !failures.is_empty() {
        return Ok(failures);
    }
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    let api: Api<Pod> = cluster.api();
    let deletions: Vec<_> = pods.iter().map(|pod| delete(cluster, &api, "pods", &pod.name, &params)).collect();
    let results: Vec<_> = futures::stream::iter(deletions).buffer_unordered(AT_ONCE).collect().await;
    failures.extend(results.into_iter().filter_map(|result| match result {
        Deleted::Failed(reason) => Some(reason),
        Deleted::Done | Deleted::Changed => None,
    }));
    Ok(failures)
}

async fn delete<K>(
    cluster: &Cluster,
    api: &Api<K>,
    resource: &'static str,
    name: &str,
    params: &DeleteParams,
) -> Deleted
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let step = Step::new("delete", resource, name);
    match tokio::time::timeout(QUICK, api.delete(name, params)).await {
        Ok(Ok(_)) => Deleted::Done,
        Ok(Err(error)) => match error::status(&error) {
            Some(404) => Deleted::Done,
            Some(409) => Deleted::Changed,
            _ => Deleted::Failed(cluster.error(&error, step).to_string()),
        },
        Err(_) => Deleted::Failed(error::silent(cluster, step, QUICK).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

    use super::*;

    fn renewed(seconds_ago: i64, now: Timestamp) -> Session {
        let spec = LeaseSpec {
            renew_time: Some(MicroTime(now - SignedDuration::from_secs(seconds_ago))),
            lease_duration_seconds: Some(120),
            ..LeaseSpec::default()
        };
        Session { leases: vec![Lease { spec: Some(spec), ..Lease::default() }], ..Session::default() }
    }

    #[test]
    fn a_session_is_dead_when_its_lease_has_run_out_and_clocks_do_not_matter() {
        let now = Timestamp::now();
        for (ago, dead) in [(0, false), (119, false), (145, false), (151, true), (9999, true), (-600, false)] {
            assert_eq!(is_dead(&renewed(ago, now), now), dead, "{ago} s ago");
        }
        let made = |ago| Session { made: Some(now - SignedDuration::from_secs(ago)), ..Session::default() };
        assert!(!is_dead(&made(5), now) && is_dead(&made(61), now));
        // Made by a gateway with a clock that is wrong, which has yet to learn what time it is.
        let mut first = renewed(9999, now);
        let Lease { metadata, spec: Some(spec) } = &mut first.leases[0] else { unreachable!() };
        metadata.creation_timestamp = Some(Time(now - SignedDuration::from_secs(5)));
        spec.acquire_time.clone_from(&spec.renew_time);
        assert!(!is_dead(&first, now) && is_dead(&first, now + SignedDuration::from_secs(160)));
        let odd = Session { leases: vec![Lease::default()], ..Session::default() };
        assert!(!is_dead(&odd, now), "nothing is known of it");
    }
}
