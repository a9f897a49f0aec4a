//! `cluster-tools session`: delete what one session made.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::Status;
use super::cluster::Cluster;
use super::leftovers::{self, Left, Leftovers, Life};
use super::options::ClusterOptions;
use super::output::{self, Output};

/// Delete what a session of a gateway made: its pods, what they used, and its Lease.
///
/// Also if the gateway still runs: it then loses its servers.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The session, as `list` shows it
    session: String,
    /// The namespace
    namespace: Option<String>,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { session, namespace, dry_run, output, cluster } = arguments;
    if session.is_empty() {
        bail!("the session is empty; `cluster-tools list` shows those that there are");
    }
    let cluster = Cluster::connect(cluster, namespace.as_deref()).await?;
    let namespace = cluster.namespace();
    output.line(format!("Cleaning up pods for session '{session}' in namespace '{namespace}'..."))?;
    let all = Leftovers::find(&cluster).await?;
    let found: Vec<&Left> = all.objects.iter().filter(|object| object.session == *session).collect();
    if found.iter().any(|object| all.life(object) == Life::Living) {
        output::warning(format!("the gateway of session `{session}` still runs"));
    }
    let failures = delete(&cluster, *output, &found, *dry_run).await?;
    if !dry_run && failures.is_empty() {
        output.line("Session cleanup completed")?;
    }
    output.document(&json!({
        "dryRun": dry_run, "namespace": namespace, "session": session, "objects": found, "failures": failures,
    }))?;
    Ok(if failures.is_empty() { Status::Success } else { Status::Partial })
}

/// Deletes objects, or tells that it would, and returns what failed; that is told as well.
pub(super) async fn delete(
    cluster: &Cluster,
    output: Output,
    objects: &[&Left],
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let pods = objects.iter().filter(|object| object.kind == "pod").count();
    output.line(format!("Found {pods} pods to delete{}", if objects.is_empty() { "" } else { ":" }))?;
    let mut failures = Vec::new();
    for object in objects {
        let Left { kind, name, .. } = object;
        if dry_run {
            output.line(format!("Would delete {kind}: {name}"))?;
            continue;
        }
        output.line(format!("Deleting {kind}: {name}"))?;
        if let Err(error) = leftovers::delete(cluster, object).await {
            let message = crate::cli::message(&error);
            output::error(&message);
            failures.push(message);
        }
    }
    Ok(failures)
}
