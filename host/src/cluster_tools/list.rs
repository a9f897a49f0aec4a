//! `cluster-tools list`: the pods of servers.

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use provisioning_core::text::one_line;
use serde::Serialize;

use super::Status;
use super::cluster::{Cluster, Step};
use super::leftovers::{Left, MANAGED_BY, in_short};
use super::options::ClusterOptions;
use super::output::Output;

/// List the pods of servers.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The namespace
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

/// A pod, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    session: String,
    status: String,
    age_seconds: i64,
    server: String,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { namespace, output, cluster } = arguments;
    let cluster = Cluster::connect(cluster, namespace.as_deref()).await?;
    let api = cluster.api::<Pod>();
    let pods = cluster.get(Step::new("list", "pods", ""), api.list(&ListParams::default().labels(MANAGED_BY))).await?;
    let now = Timestamp::now();
    let mut rows: Vec<Row> = pods.items.into_iter().map(|pod| row(pod, now)).collect();
    rows.sort_by(|one, other| (&one.session, &one.name).cmp(&(&other.session, &other.name)));
    let cells = rows.iter().map(|row| {
        vec![row.name.clone(), row.session.clone(), row.status.clone(), in_short(row.age_seconds), row.server.clone()]
    });
    output.table(&["NAME", "SESSION", "STATUS", "AGE", "SERVER"], &cells.collect::<Vec<_>>())?;
    output.line(format!("\nTotal: {} pods", rows.len()))?;
    output.document(&rows)?;
    Ok(Status::Success)
}

fn row(pod: Pod, now: Timestamp) -> Row {
    let status = status(&pod);
    let Left { name, session, server, age_seconds, .. } = Left::of("pod", pod.metadata, now);
    Row { name, session, status, age_seconds, server }
}

/// The state of a pod in a word, as `kubectl get pods` has it.
fn status(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".to_owned();
    }
    let Some(status) = &pod.status else { return "Unknown".to_owned() };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut reasons = containers.filter_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        waiting.or_else(|| state.terminated.as_ref().and_then(|ended| ended.reason.clone()))
    });
    // A reason says more than the phase, except for init containers that are done.
    let reason = reasons.rfind(|reason| reason != "Completed" && reason != "PodInitializing");
    let phase = status.reason.clone().or(reason).or_else(|| status.phase.clone());
    one_line(&phase.unwrap_or_else(|| "Unknown".to_owned()), 60)
}
