//! `docker-mcp doctor`: looks at everything that the gateway needs on this machine and says what to fix.
//!
//! It changes nothing but the cache of compiled components and the directory of sessions, and shows no content of any
//! file.

mod access;
mod components;
mod engines;
mod files;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::cluster::ClusterPlace;
use super::{Status, cache};
use crate::capability::container_runtime::RuntimeError;
use crate::capability::container_runtime::kubernetes::permissions::Wanted;
use crate::capability::container_runtime::kubernetes::{Address, KubernetesRuntime, PodSettings};
use crate::catalog::user_files::features;
use crate::lease::Reaper;
use crate::secrets::search_path::SearchPath;
use crate::session::Sessions;

/// How the findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How to show the findings
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The Docker context to check. Default: DOCKER_HOST, DOCKER_CONTEXT, or the current context
    #[arg(long, value_name = "NAME")]
    docker_context: Option<String>,
    #[command(flatten)]
    cluster: ClusterPlace,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let place = Place {
        home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        root: PathBuf::from("/"),
        context: arguments.docker_context,
    };
    let mut findings = examine(&place).await;
    let is_enabled = super::user_files().and_then(|files| Ok(features::is_enabled(&files, features::KUBERNETES)?));
    if arguments.cluster.is_given() || is_enabled.unwrap_or(false) {
        findings.push(check_cluster(&arguments.cluster).await);
    }
    match arguments.format {
        Format::Text => print!("{}", text(&findings)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    let problem = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if problem { Status::Partial } else { Status::Success })
}

/// The machine as far as it is looked at.
struct Place {
    home: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    /// Where the file system begins, for sockets at fixed paths.
    root: PathBuf,
    context: Option<String>,
}

impl Place {
    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A program on the search path.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.variable("PATH")?;
        std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
    }
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// The gateway runs, and something may be missing.
    Warning,
    /// Something does not work.
    Problem,
}

/// What was found out about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Ok, detail: detail.into(), fix: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn problem(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, state: State::Problem, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// A problem whose message ends with what to do, after the last semicolon, as messages here do.
    fn of_message(check: &'static str, message: &str) -> Self {
        match message.rsplit_once("; ") {
            Some((detail, fix)) => Self::problem(check, detail, fix),
            None => Self { check, state: State::Problem, detail: message.to_owned(), fix: None },
        }
    }
}

/// Looks at everything.
async fn examine(place: &Place) -> Vec<Finding> {
    let mut findings = engines::check(place).await;
    findings.extend(files::docker_configuration(place));
    findings.push(files::secret_store(place));
    let (cache, finding) = check_cache(place);
    findings.push(finding);
    findings.push(check_sessions(place));
    findings.extend(components::built_in(cache.as_deref()).await);
    findings.extend(components::installed(place));
    findings.push(files::catalog(place));
    findings.push(files::configuration(place));
    findings
}

/// Whether the cluster answers, and lets the gateway do what it may have to.
async fn check_cluster(place: &ClusterPlace) -> Finding {
    const PATIENCE: Duration = Duration::from_secs(10);
    let secrets = Arc::new(SearchPath::new(Vec::new()));
    let cluster =
        KubernetesRuntime::new(place.place(), PodSettings::default(), secrets, Reaper::new(), "doctor".to_owned());
    let asked = async {
        let Address { server, namespace, .. } = cluster.place().await?;
        Ok::<_, RuntimeError>((server, namespace, cluster.check_permissions(&Wanted::everything()).await?))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok((server, namespace, report))) if report.missing.is_empty() => {
            Finding::ok("cluster", format!("{server} answers, and pods can be made in namespace `{namespace}`"))
        }
        Ok(Ok((server, namespace, report))) => {
            let missing: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
            let detail =
                format!("{server} answers, and in namespace `{namespace}` this is not allowed: {}", missing.join(", "));
            Finding::warning("cluster", detail, "have somebody make the Role that `cluster-tools rbac` prints")
        }
        Ok(Err(error)) => Finding::of_message("cluster", &error.to_string()),
        Err(_) => {
            let detail = format!("it does not answer within {} s", PATIENCE.as_secs());
            Finding::problem("cluster", detail, "check the kubeconfig and the network")
        }
    }
}

fn check_cache(place: &Place) -> (Option<PathBuf>, Finding) {
    let Some(directory) = cache::directory(place.home.as_deref(), |name| place.variable(name).map(Into::into)) else {
        let fix = "set `HOME`, or `DOCKER_MCP_CACHE` to a directory of your own";
        return (None, Finding::warning("cache", "there is no home directory: components are compiled anew", fix));
    };
    let shown = directory.display().to_string();
    match crate::private_directory::create(&directory) {
        Ok(()) => (Some(directory), Finding::ok("cache", format!("`{shown}` is private and can be written to"))),
        Err(error) => {
            let fix = format!("make `{shown}` a directory that only you can write to, or set `DOCKER_MCP_CACHE`");
            (None, Finding::warning("cache", format!("`{shown}` is not used: {error}"), fix))
        }
    }
}

/// Whether what a killed gateway leaves can be told from what a living one uses.
fn check_sessions(place: &Place) -> Finding {
    let directory = Sessions::directory(place.variable("XDG_STATE_HOME").map(Into::into), place.home.as_deref());
    let Some(directory) = directory else {
        let detail = "there is no home directory: nobody cleans up after a gateway that is killed";
        return Finding::warning("sessions", detail, "set `HOME`, or `XDG_STATE_HOME` to a directory of your own");
    };
    let shown = directory.display();
    // Begun and ended at once, which shows that lock files can be made, locked and removed.
    let tried = Sessions::open(directory.clone()).and_then(|sessions| {
        sessions.begin()?.end();
        sessions.ids()
    });
    match tried {
        Ok(ids) => Finding::ok("sessions", format!("`{shown}` is private and takes locks; it has {} now", ids.len())),
        Err(error) => {
            let fix = format!(
                "make `{shown}` a directory of a local file system that only you can write to, or set `XDG_STATE_HOME`"
            );
            let detail = format!("nobody cleans up after a gateway that is killed: `{shown}` is not used: {error}");
            Finding::warning("sessions", detail, fix)
        }
    }
}

/// One line per finding, and below it what to do.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut out = String::new();
    for Finding { check, state, detail, fix } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{state:<7}  {check:<width$}  {detail}");
        if let Some(fix) = fix {
            let _ = writeln!(out, "{:<7}  {:<width$}  fix: {fix}", "", "");
        }
    }
    out
}

#[cfg(test)]
mod tests;
