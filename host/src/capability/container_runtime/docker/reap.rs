//! Removing what dead sessions left on the engine: containers and networks whose gateway was killed, or whose
//! machine lost power.
//!
//! Only what carries the labels of a session is looked at, and only sessions whose lock this process can judge. What
//! other implementations of the gateway made has no such labels.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use bollard::models::{ContainerSummary, Network};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::DockerRuntime;
use super::client::Client;
use super::create::{LABEL, NAME_LABEL, SESSION_LABEL, SESSIONS_AT_LABEL};
use super::error::{self, Step};
use super::removal::{APPEAR, REMOVE};
use crate::capability::container_runtime::RuntimeError;
use crate::session::{Dead, Sessions, State, is_id};

/// How long a list may take.
const LIST: Duration = Duration::from_secs(30);
/// How long a container's removal is tried, where it is in progress already or a request got no answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many sessions, and how many containers of one, are worked on at once.
const AT_ONCE: usize = 8;
/// How long it takes until a container is looked for again that may still appear or go.
const PAUSE: Duration = Duration::from_millis(100);

/// What was found, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The dead sessions, in the order of their identifiers.
    pub dead: Vec<DeadSession>,
    /// The sessions that are alive, or that another process cleans up after.
    pub held: Vec<String>,
    /// How many containers of other sessions there are, whose locks are elsewhere: of other users, or of gateways in
    /// containers. They are left alone.
    pub foreign: usize,
}

/// A dead session and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSession {
    /// Its identifier.
    pub session: String,
    /// Its containers.
    pub containers: Vec<Left>,
    /// Its networks.
    pub networks: Vec<Left>,
    /// What could not be done, and why. Nothing is forgotten: the next time it is tried again.
    pub failures: Vec<String>,
}

/// A container or a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The engine's identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The server that it was made for, as far as known.
    pub server: String,
}

/// What one session has on the engine.
#[derive(Default)]
struct Holdings {
    containers: Vec<Left>,
    networks: Vec<Left>,
}

impl DockerRuntime {
    /// Removes what the dead ones of these sessions left, or with `dry_run` only says what it is. Safe to repeat, and
    /// beside others who do the same.
    ///
    /// # Errors
    /// If the engine is away or the locks cannot be read. What fails for one session is in the report.
    pub async fn reap(&self, sessions: &Sessions, dry_run: bool) -> Result<Report, RuntimeError> {
        let client = self.backend.engine.client().await?;
        // In this order: whatever is listed belongs to a session whose lock was there before.
        let (mut found, foreign) = holdings(client, sessions.at()).await?;
        let ids = sessions.ids().map_err(|error| unreadable(&error))?;
        for id in ids {
            found.entry(id).or_default();
        }
        let judged = futures::stream::iter(found.into_iter().map(async |(id, holdings)| {
            let dead = match sessions.state(&id) {
                Ok(State::Held) => return Err(id),
                Ok(State::Dead(dead)) => dead,
                Err(error) => {
                    let failures = vec![unreadable(&error).to_string()];
                    return Ok(DeadSession { session: id, failures, ..DeadSession::default() });
                }
            };
            let Holdings { containers, networks } = holdings;
            let left = DeadSession { session: id, containers, networks, failures: Vec::new() };
            Ok(if dry_run { left } else { clean(client, sessions.at(), dead, left).await })
        }));
        let mut report = Report { foreign, ..Report::default() };
        for judged in judged.buffered(AT_ONCE).collect::<Vec<_>>().await {
            match judged {
                Ok(dead) => report.dead.push(dead),
                Err(held) => report.held.push(held),
            }
        }
        Ok(report)
    }
}

fn unreadable(error: &std::io::Error) -> RuntimeError {
    RuntimeError::Engine(format!("the locks of the sessions cannot be read: {error}; see that the directory is yours"))
}

/// What is there, by session, and how many containers have other owners.
async fn holdings(client: &Client, at: &str) -> Result<(BTreeMap<String, Holdings>, usize), RuntimeError> {
    let (mut found, mut foreign) = (BTreeMap::<String, Holdings>::new(), 0);
    for container in containers(client, &[format!("{LABEL}=true")]).await? {
        let labels = container.labels.clone().unwrap_or_default();
        match owner(&labels, at) {
            Some(session) => found.entry(session).or_default().containers.push(container_left(container, &labels)),
            None if labels.contains_key(SESSION_LABEL) => foreign += 1,
            // Of another implementation, which knows no sessions.
            None => {}
        }
    }
    for network in networks(client, &[format!("{SESSIONS_AT_LABEL}={at}")]).await? {
        let labels = network.labels.clone().unwrap_or_default();
        if let Some(session) = owner(&labels, at) {
            found.entry(session).or_default().networks.push(network_left(network, &labels));
        }
    }
    Ok((found, foreign))
}

/// The session of something whose lock is here.
fn owner(labels: &HashMap<String, String>, at: &str) -> Option<String> {
    let here = labels.get(SESSIONS_AT_LABEL).is_some_and(|there| there == at);
    labels.get(SESSION_LABEL).filter(|session| here && is_id(session)).cloned()
}

fn container_left(container: ContainerSummary, labels: &HashMap<String, String>) -> Left {
    let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    left(container.id, name.trim_start_matches('/').to_owned(), labels)
}

fn network_left(network: Network, labels: &HashMap<String, String>) -> Left {
    left(network.id, network.name.unwrap_or_default(), labels)
}

fn left(id: Option<String>, name: String, labels: &HashMap<String, String>) -> Left {
    Left { id: id.unwrap_or_default(), name, server: labels.get(NAME_LABEL).cloned().unwrap_or_default() }
}

async fn containers(client: &Client, labels: &[String]) -> Result<Vec<ContainerSummary>, RuntimeError> {
    let filters = HashMap::from([("label", labels.to_vec())]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    client.call(Step::List, LIST, client.api().list_containers(Some(options))).await
}

async fn networks(client: &Client, labels: &[String]) -> Result<Vec<Network>, RuntimeError> {
    let filters = HashMap::from([("label", labels.to_vec())]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    client.call(Step::List, LIST, client.api().list_networks(Some(options))).await
}

/// Removes what a session left, and its lock file when nothing is left.
async fn clean(client: &Client, at: &str, dead: Dead, mut left: DeadSession) -> DeadSession {
    let mut failures = remove_all(client, &left).await;
    // The engine goes on with a request whose sender died.
    let until = dead.asked_at().map(|asked| asked + APPEAR);
    while until.is_some_and(|until| SystemTime::now() < until) && failures.is_empty() {
        tokio::time::sleep(PAUSE).await;
        let labels = [format!("{SESSIONS_AT_LABEL}={at}"), format!("{SESSION_LABEL}={}", left.session)];
        match containers(client, &labels).await {
            Ok(late) => {
                let late = late.into_iter().map(|late| {
                    let labels = late.labels.clone().unwrap_or_default();
                    container_left(late, &labels)
                });
                let late = DeadSession { containers: late.collect(), ..DeadSession::default() };
                failures.extend(remove_all(client, &late).await);
                left.containers.extend(late.containers);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty()
        && let Err(error) = dead.forget()
    {
        failures.push(format!("the lock file of session `{}` cannot be deleted: {error}", left.session));
    }
    left.failures = failures;
    left
}

/// Removes containers, and then the networks that they were in. Returns what failed.
async fn remove_all(client: &Client, left: &DeadSession) -> Vec<String> {
    let containers: Vec<_> = left.containers.iter().map(|container| remove_container(client, container)).collect();
    let results: Vec<_> = futures::stream::iter(containers).buffer_unordered(AT_ONCE).collect().await;
    let mut failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    for network in &left.networks {
        let removal = tokio::time::timeout(REMOVE, client.api().remove_network(&network.id));
        let error = match removal.await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) if error::status(&error) == Some(404) => continue,
            Ok(Err(error)) => error,
            Err(_) => bollard::errors::Error::RequestTimeoutError,
        };
        let error = client.error(error, Step::RemoveNetwork(&network.name));
        failures.push(format!("{error}; run `docker network rm {}`", network.name));
    }
    failures
}

async fn remove_container(client: &Client, container: &Left) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removal = tokio::time::timeout(REMOVE, client.api().remove_container(&container.id, Some(options)));
        let error = match removal.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error::status(&error) == Some(404) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => bollard::errors::Error::RequestTimeoutError,
        };
        // It is being removed already, because its process ended or somebody else cleans up; or nothing is known.
        let unknown = matches!(error, bollard::errors::Error::RequestTimeoutError);
        if (unknown || error::status(&error) == Some(409)) && began.elapsed() < PATIENCE {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let error = client.error(error, Step::Remove);
        return Err(format!("{error}; run `docker rm --force --volumes {}`", container.name));
    }
}
