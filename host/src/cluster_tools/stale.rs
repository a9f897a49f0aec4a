//! `cluster-tools stale`: delete what dead sessions left.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::cluster::Cluster;
use super::leftovers::{self, Left, Leftovers, Life, age};
use super::options::ClusterOptions;
use super::output::{self, Output};
use super::{Status, session};

/// Delete what dead sessions left.
///
/// A session is dead if its gateway no longer renews its Lease, or the Lease is gone. What belongs to a living gateway is
/// never deleted, however old it is; neither is what has no Lease, for example the pods of another gateway.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How old it must be besides, such as `24h`, `2h30m` or `45m`. Default: any age
    #[arg(value_name = "AGE", value_parser = seconds, default_value = "0s", hide_default_value = true)]
    age: i64,
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
    let Arguments { age: least, namespace, dry_run, output, cluster } = arguments;
    let cluster = Cluster::connect(cluster, namespace.as_deref()).await?;
    let namespace = cluster.namespace();
    let older = if *least > 0 { format!(", if older than {},", age(*least)) } else { String::new() };
    output.line(format!("Cleaning up what dead sessions left{older} in namespace '{namespace}'..."))?;
    let all = Leftovers::find(&cluster).await?;
    let mut failures = Vec::new();
    let mut dead = Vec::new();
    for ((lease, _), objects) in by_lease(&all.objects) {
        let Some(first) = objects.first() else { continue };
        // A session is as old as the oldest that it made.
        let is_old = objects.iter().map(|object| object.age).max().unwrap_or(0) >= *least;
        let life = all.life(first);
        if !life.is_dead() || !is_old {
            continue;
        }
        if let Some(lease) = all.lease(lease).filter(|_| !dry_run && matches!(life, Life::Expired(_))) {
            // The Lease goes first, and only as it was seen: a gateway that renews it meanwhile keeps everything.
            match leftovers::end_lease(&cluster, lease).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    let message = crate::cli::message(&error);
                    output::error(&message);
                    failures.push(message);
                    continue;
                }
            }
        }
        output.line(format!("Dead session '{}': {life}", first.session))?;
        dead.extend(objects);
    }
    failures.extend(session::delete(&cluster, *output, &dead, *dry_run).await?);
    let unknown = all.objects.iter().filter(|object| all.life(object) == Life::Unknown).count();
    if unknown > 0 {
        output.line(format!(
            "Left alone: {unknown} without a Lease; delete them with `cluster-tools session SESSION` if nobody uses them"
        ))?;
    }
    if !dry_run && failures.is_empty() {
        output.line("Stale cleanup completed")?;
    }
    output.document(&json!({
        "dryRun": dry_run, "namespace": namespace, "objects": dead, "withoutLease": unknown, "failures": failures,
    }))?;
    Ok(if failures.is_empty() { Status::Success } else { Status::Partial })
}

/// The objects of each Lease. Those without one are left out.
fn by_lease(objects: &[Left]) -> BTreeMap<(&str, &str), Vec<&Left>> {
    let mut sessions: BTreeMap<(&str, &str), Vec<&Left>> = BTreeMap::new();
    for object in objects {
        if let Some((name, uid)) = &object.owner {
            sessions.entry((name, uid)).or_default().push(object);
        }
    }
    sessions
}

/// A duration such as `2h30m`, in seconds.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no age; write hours, minutes and seconds, such as `24h`, `2h30m` or `45m`");
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let unit = match after.chars().next() {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after.get(1..).unwrap_or_default();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_the_existing_tools_read_them() {
        for (text, expected) in [("24h", 86_400), ("2h30m", 9_000), ("45m", 2_700), ("0s", 0), ("1d1s", 86_401)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "24", "h", "1x", "-1h", "1h 2m", "99999999999999999h", "é"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
