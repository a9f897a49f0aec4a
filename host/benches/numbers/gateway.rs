//! The built gateway as a process, with a home and a catalog of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::client::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the catalog.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) more: &'static str,
}

impl Server {
    /// A server whose name no other run uses, so that its containers can be told.
    pub(crate) fn new(name: &str, image: &str) -> Self {
        Self { name: format!("{name}-{}", std::process::id()), image: image.to_owned(), more: "" }
    }
}

/// A place for gateways to run in. All share one cache of compiled components, which is filled before anything is
/// measured.
pub(crate) struct Place {
    directory: TempDir,
    names: String,
}

impl Place {
    pub(crate) fn new(servers: &[Server]) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let mut catalog = "registry:\n".to_owned();
        for Server { name, image, more } in servers {
            // A prefix keeps tools of the same name apart.
            writeln!(catalog, "  {name}:\n    image: {image}\n    prefix: {name}\n    disableNetwork: true")?;
            if !more.is_empty() {
                writeln!(catalog, "    {more}")?;
            }
        }
        // In a directory of its own: the gateway follows changes there.
        std::fs::create_dir(directory.path().join("catalog"))?;
        std::fs::write(directory.path().join("catalog/catalog.yaml"), catalog)?;
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        Ok(Self { directory, names: names.join(",") })
    }

    /// The cache that runs share.
    pub(crate) fn cache() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-cache")
    }

    /// `gateway run` with these flags, keeping compiled components in `cache`.
    pub(crate) fn command(&self, cache: &Path, flags: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program());
        let log = std::fs::File::create(self.directory.path().join("log"))?;
        command
            .args(["gateway", "run", "--catalog"])
            .arg(self.directory.path().join("catalog/catalog.yaml"))
            .args(["--servers", &self.names])
            .args(flags)
            .env("HOME", self.directory.path())
            .env("DOCKER_MCP_CACHE", cache)
            .env_remove("DOCKER_MCP_LOG")
            .env_remove("MCP_GATEWAY_AUTH_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts a gateway on standard streams and greets it.
    pub(crate) async fn stdio(&self, flags: &[&str]) -> anyhow::Result<Gateway> {
        let mut gateway = Gateway::spawn(self.command(&Self::cache(), flags)?)?;
        let greeted = async {
            gateway.client.initialize().await?;
            gateway.client.initialized().await
        };
        greeted.await.with_context(|| self.log())?;
        Ok(gateway)
    }

    /// Starts a gateway on a free port of the loopback interface; returns it with its address.
    pub(crate) async fn http(&self, flags: &[&str]) -> anyhow::Result<(Gateway, String)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut all = vec!["--transport", "streaming", "--allow-unauthenticated", "--port", &port];
        all.extend(flags);
        let gateway = Gateway::spawn(self.command(&Self::cache(), &all)?)?;
        let started = std::time::Instant::now();
        while tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "the gateway does not listen: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok((gateway, format!("http://127.0.0.1:{port}/mcp")))
    }

    /// What the gateway said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// The binary that is measured: the one built with this driver, or another, such as that of an earlier version.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("DOCKER_MCP_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_docker-mcp").into(), PathBuf::from)
}

/// A gateway that runs.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) client: Client,
}

impl Gateway {
    pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().context("cannot start the gateway")?;
        let streams = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = streams.context("the gateway has no standard streams")?;
        Ok(Self { child, client: Client::over(stdin, stdout) })
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the gateway has ended")
    }

    /// Ends it as Ctrl-C does and waits until it has removed everything.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.id()?.to_string()]).status().await?;
        ensure!(sent.success(), "cannot signal the gateway");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the gateway does not end")??;
        ensure!(status.success(), "the gateway ended with {status}");
        Ok(())
    }
}
