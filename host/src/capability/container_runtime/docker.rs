//! The Docker Engine as a container runtime, over its HTTP API.
//!
//! Owns everything that speaks to an engine; `bollard` is used nowhere else. It decides nothing: requests come
//! judged, and it never calls the `docker` command line.

pub mod connect;
pub mod create;
pub mod legacy_volume;
pub mod reap;

mod client;
mod credentials;
mod error;
mod images;
mod names;
mod own_networks;
mod reference;
mod removal;
mod run;
mod start;
mod streams;
mod texts;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use self::client::{Client, Engine};
use self::connect::{EngineAddress, Surroundings};
use self::create::VolumeCheck;
use self::own_networks::Evidence;
use super::{Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError};
use crate::lease::Reaper;
use crate::secrets::SecretStore;
use crate::session::Session;

/// Runs containers on a Docker Engine.
pub struct DockerRuntime {
    backend: Arc<Backend>,
}

/// What the steps of starting a container share.
struct Backend {
    engine: Engine,
    images: images::Images,
    networks: OnceCell<Vec<String>>,
    secrets: Arc<dyn SecretStore>,
    volume_check: Arc<VolumeCheck>,
    reaper: Reaper,
    session: Arc<Session>,
}

impl DockerRuntime {
    /// A runtime on the engine that the surroundings name. The engine is looked for on first use: if it is away,
    /// the operations say so, not this.
    ///
    /// `volume_check` normalises a volume, or says why it is refused. `session` is the one that the requests are of:
    /// containers are marked with the place of its lock.
    pub fn new(
        surroundings: Surroundings,
        secrets: Arc<dyn SecretStore>,
        volume_check: Arc<VolumeCheck>,
        reaper: Reaper,
        session: Arc<Session>,
    ) -> Self {
        let engine = Engine::new(surroundings);
        let images = images::Images::default();
        let networks = OnceCell::new();
        Self { backend: Arc::new(Backend { engine, images, networks, secrets, volume_check, reaper, session }) }
    }
}

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Where it is and what named it.
    pub address: EngineAddress,
    /// What it calls itself, with its version.
    pub product: String,
    /// The version of the API that is spoken with it.
    pub api: String,
}

/// Finds the engine that the surroundings name and asks it who it is.
///
/// # Errors
/// As the operations of [`DockerRuntime`] would fail, with what to do.
pub async fn greet(surroundings: &Surroundings) -> Result<Greeting, RuntimeError> {
    Client::connect(surroundings).await?.greeting().await
}

impl std::fmt::Debug for DockerRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerRuntime").finish_non_exhaustive()
    }
}

impl Backend {
    /// The gateway's own networks, found out once.
    async fn networks(&self, client: &Client) -> &[String] {
        let detect = || async {
            let evidence = tokio::task::spawn_blocking(|| Evidence::read(Path::new("/"))).await.unwrap_or_default();
            own_networks::detect(client, &evidence).await
        };
        self.networks.get_or_init(detect).await
    }
}

#[async_trait]
impl ContainerRuntime for DockerRuntime {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn prepare(&self, image: &str, progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        let backend = &self.backend;
        let client = backend.engine.client().await?;
        let config_directory = backend.engine.surroundings().config_directory();
        backend.images.prepare(client, config_directory, image, progress).await
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        start::start(Arc::clone(&self.backend), request).await
    }

    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        run::run(Arc::clone(&self.backend), request, input, limits).await
    }
}
