//! A registry on loopback: a cluster's nodes pull from it, and the gateway asks it what an image runs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry that runs; it ends when this is dropped.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    _process: Child,
    _directory: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"{address}\"}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}/data\"}}}}\n",
            directory.path().display()
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.kill_on_drop(true).spawn().context("cannot run `docker-registry`")?;
        let started = Instant::now();
        while TcpStream::connect(&address).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "`docker-registry` does not answer on {address}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { address, _process: process, _directory: directory })
    }
}
