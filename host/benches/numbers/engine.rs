//! The Docker Engine without the gateway: the direct way to a server, which is the floor under every figure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CommitContainerOptionsBuilder, CreateContainerOptionsBuilder,
    ListContainersOptionsBuilder, PushImageOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
    StartContainerOptions, TagImageOptionsBuilder,
};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::io::StreamReader;

use super::client::Client;

/// The image of the smallest server there is.
pub(crate) const TINY: &str = "docker-mcp-bench/tiny:1";
/// The image of the smallest tool: it writes its arguments.
pub(crate) const ECHO: &str = "docker-mcp-bench/echo:1";
/// A real server.
pub(crate) const EVERYTHING: &str = "mcp-test/everything:1";
const BUSYBOX: &str = "mcp-test/busybox:1";

/// It answers from a shell's own commands, without starting a process.
const SERVER: &str = r#"while IFS= read -r line; do
  case $line in *'"id":'*) ;; *) continue ;; esac
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  case $line in
    *'"method":"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"tiny","version":"1"}}' ;;
    *'"method":"tools/list"'*) result='{"tools":[{"name":"ping","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*) result='{"content":[{"type":"text","text":"pong"}]}' ;;
    *) result='{}' ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done"#;

/// An engine with the images that the parts need.
pub(crate) struct Engine {
    docker: Docker,
}

/// How long each step took.
pub(crate) struct Steps {
    pub(crate) create: Duration,
    pub(crate) attach: Duration,
    pub(crate) start: Duration,
    pub(crate) greeting: Duration,
}

/// A container that runs, and a client that is connected to it.
pub(crate) struct Direct {
    name: String,
    pub(crate) client: Client,
    pub(crate) steps: Steps,
}

impl Engine {
    /// Connects and makes the images of the tiny server and the smallest tool.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let docker = Docker::connect_with_defaults().context("no Docker Engine")?;
        docker.ping().await.context("no Docker Engine answers; start one with `just engine`")?;
        for image in [EVERYTHING, BUSYBOX, "mcp-test/time:1", "mcp-test/memory:1", "mcp-test/filesystem:1"] {
            let found = docker.inspect_image(image).await;
            found.with_context(|| format!("image `{image}` is missing; make it with `just images`"))?;
        }
        let engine = Self { docker };
        engine.make(TINY, &["/bin/sh", "-c", SERVER]).await.context("cannot make the image of the tiny server")?;
        engine.make(ECHO, &["/bin/echo"]).await.context("cannot make the image of the smallest tool")?;
        Ok(engine)
    }

    async fn make(&self, image: &str, entrypoint: &[&str]) -> anyhow::Result<()> {
        let body = ContainerCreateBody { image: Some(BUSYBOX.to_owned()), ..ContainerCreateBody::default() };
        let name = format!("docker-mcp-bench-image-{}", std::process::id());
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        self.docker.create_container(Some(options), body).await?;
        let (repository, tag) = image.split_once(':').unwrap_or((image, "latest"));
        let options = CommitContainerOptionsBuilder::default().container(&name).repo(repository).tag(tag).build();
        let entrypoint = entrypoint.iter().map(|&text| text.to_owned()).collect();
        let config = ContainerConfig { entrypoint: Some(entrypoint), ..ContainerConfig::default() };
        let committed = self.docker.commit_container(options, config).await;
        self.remove(&name).await?;
        committed?;
        Ok(())
    }

    /// Pushes an image to a registry. Gives its reference there.
    pub(crate) async fn push(&self, image: &str, registry: &str) -> anyhow::Result<String> {
        let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
        let repository = format!("{registry}/{name}");
        let options = TagImageOptionsBuilder::default().repo(&repository).tag(tag).build();
        self.docker.tag_image(image, Some(options)).await?;
        let options = PushImageOptionsBuilder::default().tag(tag).build();
        let reference = format!("{repository}:{tag}");
        let nobody = DockerCredentials::default();
        let pushed =
            self.docker.push_image(&repository, Some(options), Some(nobody)).try_for_each(async |_| Ok(())).await;
        self.docker.remove_image(&reference, None::<RemoveImageOptions>, None).await?;
        pushed.with_context(|| format!("cannot push `{reference}`"))?;
        Ok(reference)
    }

    /// Creates, attaches, starts and greets with the limits and hardening that the gateway gives.
    pub(crate) async fn start(&self, image: &str) -> anyhow::Result<Direct> {
        let name = format!("docker-mcp-bench-{}-{}", std::process::id(), next());
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(HostConfig {
                auto_remove: Some(true),
                init: Some(true),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                nano_cpus: Some(1_000_000_000),
                memory: Some(2 << 30),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        self.docker.create_container(Some(options), body).await?;
        let create = lap();
        let options =
            AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = self.docker.attach_container(&name, Some(options)).await?;
        let attach = lap();
        self.docker.start_container(&name, None::<StartContainerOptions>).await?;
        let start = lap();
        let stdout = attached.output.filter_map(async |piece| match piece {
            Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
            Ok(_) => None,
            Err(error) => Some(Err(std::io::Error::other(error))),
        });
        let mut client = Client::over(attached.input, StreamReader::new(Box::pin(stdout)));
        client.initialize().await?;
        let greeting = lap();
        client.initialized().await?;
        Ok(Direct { name, client, steps: Steps { create, attach, start, greeting } })
    }

    /// Removes a container that may still run; how long that took.
    pub(crate) async fn end(&self, direct: Direct) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.remove(&direct.name).await?;
        Ok(started.elapsed())
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.docker.remove_container(name, Some(options)).await.with_context(|| format!("cannot remove `{name}`"))
    }

    /// Waits until the gateway has removed every container of a server.
    pub(crate) async fn wait_until_gone(&self, server: &str) -> anyhow::Result<()> {
        let labels = vec!["docker-mcp=true".to_owned(), format!("docker-mcp-name={server}")];
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let started = Instant::now();
        while !self.docker.list_containers(Some(options.clone())).await?.is_empty() {
            ensure!(started.elapsed() < Duration::from_secs(30), "containers of `{server}` remain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Removes what was made for the measurements.
    pub(crate) async fn finish(&self) {
        for image in [TINY, ECHO] {
            if let Err(error) = self.docker.remove_image(image, None::<RemoveImageOptions>, None).await {
                eprintln!("cannot remove the image `{image}`: {error}");
            }
        }
    }
}

fn next() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}
