//! The real Docker Engine as the tests see it: what containers of one server there are, and what happened to them.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use futures::TryStreamExt;

/// How long the gateway may take to remove what it no longer needs.
const PATIENCE: Duration = Duration::from_secs(90);

/// An engine that answers and has the test images.
pub(crate) struct Engine {
    docker: Docker,
    since: u64,
}

impl Engine {
    /// The engine, or none if this machine has none. With `DOCKER_MCP_REQUIRE_ENGINE=1`, as the gate sets it, that
    /// is a failure: a test that did not run must not look as if it passed.
    pub(crate) async fn find() -> Option<Self> {
        match Self::connect().await {
            Ok(engine) => Some(engine),
            Err(reason) if std::env::var_os("DOCKER_MCP_REQUIRE_ENGINE").is_some() => panic!("{reason}"),
            Err(reason) => {
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    async fn connect() -> Result<Self, String> {
        let docker = Docker::connect_with_defaults().map_err(|error| format!("no Docker Engine: {error}"))?;
        docker
            .ping()
            .await
            .map_err(|error| format!("no Docker Engine answers: {error}; start one with `scripts/engine start`"))?;
        for image in ["mcp-test/everything:1", "mcp-test/time:1"] {
            let found = docker.inspect_image(image).await;
            found.map_err(|_| format!("image `{image}` is missing; make it with `scripts/test-images`"))?;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Ok(Self { docker, since })
    }

    /// The containers of a server, running or not.
    pub(crate) async fn containers(&self, server: &str) -> Vec<String> {
        let labels = vec!["docker-mcp=true".to_owned(), format!("docker-mcp-name={server}")];
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.unwrap();
        found.into_iter().filter_map(|container| container.id).collect()
    }

    /// What the engine knows of one container, which it may list a moment before it can be asked for it.
    pub(crate) async fn inspect(&self, id: &str) -> ContainerInspectResponse {
        let start = Instant::now();
        loop {
            match self.docker.inspect_container(id, None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) if start.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other.unwrap(),
            }
        }
    }

    /// Removes a container by force, as somebody else might.
    pub(crate) async fn remove(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.docker.remove_container(id, Some(options)).await.unwrap();
    }

    /// Removes a named volume. The engine no longer lists a container a moment before it lets its volumes go.
    #[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
    pub(crate) async fn remove_volume(&self, name: &str) {
        let start = Instant::now();
        loop {
            match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
                Err(Error::DockerResponseServerError { status_code: 409, .. }) if start.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other.unwrap(),
            }
        }
    }

    /// Waits until a server has this many containers.
    pub(crate) async fn wait_for(&self, server: &str, count: usize) -> Vec<String> {
        let start = Instant::now();
        loop {
            let containers = self.containers(server).await;
            if containers.len() == count {
                return containers;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "`{server}` should have {count} containers after {PATIENCE:?}, but has {containers:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many containers were created for a server, and how many destroyed, since this value was made.
    pub(crate) async fn history(&self, server: &str) -> History {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("docker-mcp-name={server}")]),
        ]);
        let options = EventsOptionsBuilder::default()
            .since(&self.since.to_string())
            .until(&now.to_string())
            .filters(&filters)
            .build();
        let events: Vec<EventMessage> = self.docker.events(Some(options)).try_collect().await.unwrap();
        let count = |action: &str| events.iter().filter(|event| event.action.as_deref() == Some(action)).count();
        History { created: count("create"), destroyed: count("destroy") }
    }
}

/// What happened to the containers of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// How many were created.
    pub(crate) created: usize,
    /// How many were removed.
    pub(crate) destroyed: usize,
}
