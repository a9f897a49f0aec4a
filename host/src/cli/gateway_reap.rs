//! `docker-mcp gateway reap`, and the same at the start of a gateway, in the background.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::cluster::ClusterPlace;
use super::options::Runtime;
use super::{Status, Verbosity, assemble};
use crate::capability::container_runtime::RuntimeError;
use crate::capability::container_runtime::docker::DockerRuntime;
use crate::capability::container_runtime::docker::reap::{DeadSession, Left, Report};
use crate::capability::container_runtime::kubernetes::{KubernetesRuntime, PodSettings};
use crate::lease::Reaper;
use crate::secrets::search_path::SearchPath;
use crate::session::{NOWHERE, Session, Sessions};

/// How long cleaning up in the background may take.
const BACKGROUND: Duration = Duration::from_secs(120);
/// The longest pause between two attempts in the background.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How the report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The Docker context to use. Default: DOCKER_HOST, DOCKER_CONTEXT, or the current context
    #[arg(long, value_name = "NAME")]
    docker_context: Option<String>,
    /// Where to look: in a container engine, or in the namespace of a cluster
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "docker")]
    runtime: Runtime,
    #[command(flatten)]
    cluster: ClusterPlace,
    #[command(flatten)]
    verbosity: Verbosity,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    super::log_to_stderr(arguments.verbosity, true);
    match arguments.runtime {
        Runtime::Kubernetes => return of_cluster(&arguments).await,
        Runtime::Docker if arguments.cluster.is_given() => {
            anyhow::bail!("what names a cluster has no effect here; add `--runtime kubernetes`")
        }
        Runtime::Docker => {}
    }
    let home = assemble::home();
    let sessions = assemble::sessions(home.as_deref()).context(
        "the sessions of this user cannot be told; see that XDG_STATE_HOME or HOME names a directory of yours",
    )?;
    // Nothing is created, so that no secret is read and no session is begun.
    let docker = DockerRuntime::new(
        assemble::surroundings(arguments.docker_context, home),
        Arc::new(SearchPath::new(Vec::new())),
        Arc::new(|volume: &str| Ok(volume.to_owned())),
        Reaper::new(),
        Arc::new(Session::without_lock(NOWHERE.to_owned())),
    );
    let report = docker.reap(&sessions, arguments.dry_run).await?;
    match arguments.format {
        Format::Text => print!("{}", text(&report, arguments.dry_run)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&document(&report, arguments.dry_run))?),
    }
    let failed = report.dead.iter().any(|dead| !dead.failures.is_empty());
    Ok(if failed { Status::Partial } else { Status::Success })
}

/// Removes what dead sessions left in a namespace.
async fn of_cluster(arguments: &Arguments) -> anyhow::Result<Status> {
    assemble::cluster::check_feature()?;
    // Nothing is created there.
    let settings = PodSettings::default();
    let secrets = Arc::new(SearchPath::new(Vec::new()));
    let place = arguments.cluster.place();
    let cluster = KubernetesRuntime::new(place, settings, secrets, Reaper::new(), NOWHERE.to_owned());
    let report = cluster.reap(arguments.dry_run).await?;
    let sessions = report.dead.into_iter().map(|dead| DeadSession {
        session: dead.session,
        containers: dead
            .pods
            .into_iter()
            .map(|pod| Left { id: pod.name.clone(), name: pod.name, server: pod.server })
            .collect(),
        networks: Vec::new(),
        failures: dead.failures,
    });
    let report = Report { dead: sessions.collect(), held: report.alive, foreign: 0 };
    match arguments.format {
        Format::Text => print!("{}", text(&report, arguments.dry_run).replace("  container ", "  pod ")),
        Format::Json => println!("{}", serde_json::to_string_pretty(&document(&report, arguments.dry_run))?),
    }
    let failed = report.dead.iter().any(|dead| !dead.failures.is_empty());
    Ok(if failed { Status::Partial } else { Status::Success })
}

/// Removes what dead sessions left in the namespace.
pub(super) async fn of_cluster_in_background(cluster: KubernetesRuntime) {
    let command = "docker-mcp gateway reap --runtime kubernetes";
    let Some(report) = once_it_is_there(command, || cluster.reap(false)).await else { return };
    for dead in report.dead {
        dead.failures.iter().for_each(|failure| tracing::warn!(session = dead.session, "{failure}"));
        let pods = dead.pods.len();
        tracing::info!(session = dead.session, pods, "removed what a dead session left in the cluster");
    }
}

/// Removes what dead sessions left.
pub(super) async fn in_background(docker: Arc<DockerRuntime>, sessions: Sessions) {
    let Some(report) = once_it_is_there("docker-mcp gateway reap", || docker.reap(&sessions, false)).await else {
        return;
    };
    for dead in report.dead {
        for failure in &dead.failures {
            tracing::warn!(session = dead.session, "{failure}");
        }
        if dead.failures.is_empty() && dead.containers.len() + dead.networks.len() > 0 {
            tracing::info!(
                session = dead.session,
                containers = dead.containers.len(),
                networks = dead.networks.len(),
                "removed what a dead session left"
            );
        }
    }
}

/// Cleans up. An engine or a cluster that is away is no news, since whatever needs it says so; it is asked again after one
/// second, then after twice as long each time, up to [`LONGEST_PAUSE`]. What else fails would fail again: it is said, with the
/// command to try by hand.
async fn once_it_is_there<T, F>(command: &str, attempt: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, RuntimeError>>,
{
    let mut pause = Duration::from_secs(1);
    loop {
        match tokio::time::timeout(BACKGROUND, attempt()).await {
            Ok(Ok(report)) => return Some(report),
            Ok(Err(error @ RuntimeError::Unavailable(_))) => {
                tracing::debug!(%error, "what dead sessions left was not looked for");
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "what dead sessions left was not removed; once that is mended, run `{command}`");
                return None;
            }
            Err(_) => {
                tracing::warn!("removing what dead sessions left takes too long; run `{command}`");
                return None;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn text(report: &Report, dry_run: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for dead in &report.dead {
        let verb = match (dry_run, dead.failures.is_empty()) {
            (true, _) => "would remove",
            (false, true) => "removed",
            (false, false) => "tried to remove",
        };
        let nothing = if dead.containers.is_empty() && dead.networks.is_empty() { ", which left nothing" } else { "" };
        let _ = writeln!(out, "{verb} dead session {}{nothing}", dead.session);
        for (kind, left) in all(dead) {
            let server = if left.server.is_empty() { String::new() } else { format!(" of server `{}`", left.server) };
            let _ = writeln!(out, "  {kind} {}{}", left.name, printable(&server));
        }
        for failure in &dead.failures {
            let _ = writeln!(out, "  failed: {}", printable(failure));
        }
    }
    if report.dead.is_empty() {
        let _ = writeln!(out, "no dead session");
    }
    for held in &report.held {
        let _ = writeln!(out, "living session {held}");
    }
    if report.foreign > 0 {
        let _ = writeln!(out, "left alone: {} containers of gateways whose locks are not here", report.foreign);
    }
    out
}

fn all(dead: &DeadSession) -> impl Iterator<Item = (&'static str, &Left)> {
    let containers = dead.containers.iter().map(|left| ("container", left));
    containers.chain(dead.networks.iter().map(|left| ("network", left)))
}

/// A label is anybody's text: it must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn document(report: &Report, dry_run: bool) -> Json {
    let left = |left: &Left| json!({ "id": left.id, "name": left.name, "server": left.server });
    let dead = report.dead.iter().map(|dead| {
        json!({
            "session": dead.session,
            "containers": dead.containers.iter().map(left).collect::<Vec<_>>(),
            "networks": dead.networks.iter().map(left).collect::<Vec<_>>(),
            "failures": dead.failures,
        })
    });
    json!({
        "dryRun": dry_run,
        "dead": dead.collect::<Vec<_>>(),
        "living": report.held,
        "foreignContainers": report.foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let left =
            |name: &str, server: &str| Left { id: "1".to_owned(), name: name.to_owned(), server: server.to_owned() };
        let dead = DeadSession {
            session: "d1".to_owned(),
            containers: vec![left("docker-mcp-time-1", "time\u{1b}[2J")],
            networks: vec![left("n", "")],
            failures: Vec::new(),
        };
        let failed = DeadSession {
            session: "d2".to_owned(),
            failures: vec!["the engine is away".to_owned()],
            ..DeadSession::default()
        };
        Report { dead: vec![dead, failed], held: vec!["a1".to_owned()], foreign: 2 }
    }

    #[test]
    fn the_report_says_what_was_removed_what_failed_and_what_lives() {
        assert_eq!(
            text(&report(), false),
            "removed dead session d1\n  container docker-mcp-time-1 of server `time [2J`\n  network n\n\
             tried to remove dead session d2, which left nothing\n  failed: the engine is away\n\
             living session a1\nleft alone: 2 containers of gateways whose locks are not here\n"
        );
        assert!(text(&report(), true).starts_with("would remove dead session d1\n"));
        assert_eq!(text(&Report::default(), false), "no dead session\n");
    }

    #[test]
    fn the_report_as_data_has_all_of_it() {
        let data = document(&report(), true);
        assert_eq!(data["dryRun"], true);
        assert_eq!(data["dead"][0]["containers"][0]["name"], "docker-mcp-time-1");
        assert_eq!(data["dead"][1]["failures"][0], "the engine is away");
        assert_eq!((&data["living"], &data["foreignContainers"]), (&json!(["a1"]), &json!(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_away_is_asked_again_and_what_is_refused_is_not() {
        let (asked, began) = (std::cell::Cell::new(0), tokio::time::Instant::now());
        let ask = || asked.replace(asked.get() + 1);
        let comes_late = || {
            std::future::ready(match ask() {
                0..8 => Err(RuntimeError::Unavailable("away".to_owned())),
                _ => Ok(()),
            })
        };
        assert_eq!(once_it_is_there("reap", comes_late).await, Some(()));
        // 1, 2, 4, 8, 16, 32, 60 and 60 seconds.
        assert_eq!((asked.get(), began.elapsed().as_secs()), (9, 183));
        asked.set(0);
        let refused = || {
            ask();
            std::future::ready(Err::<(), _>(RuntimeError::Denied("you may not `list` `leases`".to_owned())))
        };
        assert_eq!((once_it_is_there("reap", refused).await, asked.get()), (None, 1));
    }
}
