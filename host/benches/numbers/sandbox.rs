//! What the sandbox costs: one provisioning through the built-in component, beside the same steps in plain Rust over
//! the same resolvers, envelope and runtime. The runtime is in memory, so nothing but the sandbox differs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use docker_mcp::audit::Audit;
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::fake::FakeRuntime;
use docker_mcp::capability::container_runtime::{ContainerRuntime, Identity, Quiet, Request, RunLimits, Running};
use docker_mcp::catalog::Catalog;
use docker_mcp::lease::Reaper;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision};
use docker_mcp::resolve::{ServerScope, ServerSettings};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use provisioning_core::{Bounds, ContainerSpec, Resources, SecurityProfile, VolumeMount};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::Effort;
use super::gateway::Place;
use super::report::{Series, end, row, title, verdict};

/// More than most entries of real catalogs have.
const CATALOG: &str = r"
registry:
  github:
    image: mcp/github
    command: ['--path={{github.path}}', '{{github.more}}']
    env:
      - {name: URL, value: 'https://{{github.user}}@host'}
      - {name: HEADER, value: 'Bearer $TOKEN'}
      - {name: MODE, value: fast}
    secrets:
      - {name: github.token, env: TOKEN}
    volumes: ['data:/data', '{{github.path|volume}}']
    user: '{{github.uid}}'
    extraHosts: ['db:10.0.0.1']
";

struct Secrets;

#[async_trait]
impl SecretStore for Secrets {
    async fn get(&self, _name: &str) -> Result<SecretText, SecretError> {
        Ok(SecretText::new("secret".to_owned()))
    }
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<()> {
    let (provisioner, runtime, settings) = world(Audit::off())?;
    provisioner.ready().await?;
    let (mut native, mut sandboxed) = (Series::default(), Series::default());
    // The first ones fill caches of the processor and the allocator.
    let warm_up = effort.samples(200);
    for sample in 0..warm_up + effort.samples(5000) {
        let started = Instant::now();
        let direct = natively(&settings, &*runtime).await?;
        let native_time = started.elapsed();
        let started = Instant::now();
        let endpoint = provisioner.provision("github", CancellationToken::new()).await?;
        let sandboxed_time = started.elapsed();
        let Endpoint::Container(container) = endpoint else { anyhow::bail!("no container was provisioned") };
        if sample >= warm_up {
            native.push(native_time);
            sandboxed.push(sandboxed_time);
        }
        release(direct).await;
        release(container).await;
    }
    let requests = runtime.requests();
    let specs: Option<(&ContainerSpec, &ContainerSpec)> =
        requests.first().zip(requests.last()).map(|(first, last)| (&first.spec, &last.spec));
    let (first, last) = specs.context("nothing was started")?;
    ensure!(first == last, "the component asked for {last:?}, and plain Rust for {first:?}");

    title("sandbox: one provisioning with a fresh instance, on a runtime in memory");
    row("plain Rust", &native, "");
    row("built-in component", &sandboxed, "");
    verdict("the sandbox adds at p50", sandboxed.adds(&native, 50), 0.3, "ms");
    verdict("the sandbox adds at p99", sandboxed.adds(&native, 99), 0.3, "ms");
    end();
    Ok(())
}

pub(crate) async fn release(running: Running) {
    drop(running.streams);
    running.lease.release().await;
}

/// A server behind the built-in component, on a runtime in memory.
pub(crate) fn world(audit: Audit) -> anyhow::Result<(SandboxedProvisioner, Arc<FakeRuntime>, Arc<ServerSettings>)> {
    let (catalog, _) = Catalog::parse(CATALOG, Path::new("bench.yaml"))?;
    let (name, entry) = catalog.select(&["github".to_owned()])?.remove(0);
    let entry = Arc::new(entry);
    let secrets: Arc<dyn SecretStore> = Arc::new(Secrets);
    let runtime = FakeRuntime::new(Reaper::new(), Arc::clone(&secrets));
    let runtime = Arc::new(runtime.image("mcp/github", |process| async move {
        drop(process);
        std::future::pending().await
    }));
    let section = json!({"path": "/tmp/path", "more": "x y", "user": "octo", "uid": "1000"});
    let config = Arc::new(Map::from_iter([("github".to_owned(), section)]));
    let settings = || ServerSettings {
        name: name.clone(),
        entry: Arc::clone(&entry),
        config: Arc::clone(&config),
        secrets: Arc::clone(&secrets),
        resources: Resources::default(),
        long_lived: false,
        cluster: None,
        refused: None,
    };
    let cache = Place::cache().join("components");
    std::fs::create_dir_all(&cache)?;
    let provisioner = SandboxedProvisioner::new(Setup {
        engine: Engine::new(Some(&cache)).map_err(|error| anyhow::anyhow!("{error:#}"))?,
        component: Source::BuiltIn { name: "docker", bytes: builtin::DOCKER },
        grants: Grants::builtin_docker(),
        session: "bench".to_owned(),
        runtime: runtime.clone(),
        servers: vec![settings()],
        startup_timeout: Duration::from_secs(10),
        tool_timeout: RunLimits::default().time,
        limits: Limits::default(),
        progress: Arc::new(Quiet),
        audit,
        dry_run: false,
        enforcement: Enforcement::default(),
    });
    Ok((provisioner, runtime, Arc::new(settings())))
}

/// What the built-in component and the host around it do, without the sandbox between them.
async fn natively(settings: &Arc<ServerSettings>, runtime: &dyn ContainerRuntime) -> anyhow::Result<Running> {
    let scope = ServerScope::new(Arc::clone(settings), None);
    let image = scope.image().context("no image")?.to_owned();
    runtime.prepare(&image, &Quiet).await?;
    let mut environment = scope.secrets().await?;
    let explicit = scope.environment().await?;
    environment.retain(|(name, _)| explicit.iter().all(|(other, _)| other != name));
    environment.extend(explicit);
    let volumes = scope.volumes().await?;
    let spec = ContainerSpec {
        image,
        command: scope.command().await?,
        environment,
        volumes: volumes.into_iter().map(|(_, value)| VolumeMount { value, read_only: false }).collect(),
        user: scope.user().await?,
        network: scope.network(),
        hosts: scope.hosts()?,
        labels: Vec::new(),
        resources: scope.resources(),
        security: SecurityProfile::default(),
    };
    scope.envelope().await?.check(&spec, &Bounds::default())?;
    let identity = Identity { session: "bench".to_owned(), server: scope.name().to_owned(), tool: None };
    Ok(runtime.start(Request { identity, spec }).await?)
}
