//! Puts the parts together as the flags say: catalog, configuration, secrets, engines, provisioner.

mod legacy;
pub(super) mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::options::ServerOptions;
use super::sources::{self, Loaded, Sources};
use super::{cache, provisioner};
use crate::audit::Audit;
use crate::builtin;
use crate::capability::container_runtime::docker::DockerRuntime;
use crate::capability::container_runtime::docker::connect::Surroundings;
use crate::capability::container_runtime::embedded::{EmbeddedRuntime, SAMPLE};
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::routed::Routed;
use crate::capability::container_runtime::{ContainerRuntime, ImageProgress, RunLimits};
use crate::catalog::files::OwnFiles;
use crate::catalog::user_files::features;
use crate::gateway::GatewayOptions;
use crate::intercept::Containers;
use crate::lease::Reaper;
use crate::policy::bind_mounts::BindPolicy;
use crate::policy::enforcement::{DecisionSink, Enforcement};
use crate::policy::grants::Grants;
use crate::policy::remote_hosts::RemoteHosts;
use crate::policy::sources as policy_files;
use crate::provision::sandboxed::{SandboxedProvisioner, Setup};
use crate::sandbox::Limits;
use crate::sandbox::component::Source;
use crate::sandbox::engine::Engine;
use crate::screen::{Screen, Screened};
use crate::secrets::search_path::SearchPath;
use crate::secrets::{Place, SecretStore};
use crate::session::{Session, Sessions};

/// How long the end of the process waits for containers to be removed.
const DRAIN: Duration = Duration::from_secs(20);
/// How long it waits for the end of the audit log to be written.
const AUDIT_END: Duration = Duration::from_secs(2);

/// Everything that a command works with.
pub(crate) struct Assembled {
    /// What the files say.
    pub(crate) loaded: Loaded,
    /// Where that can be read again.
    pub(crate) sources: Sources,
    /// What deploys them.
    pub(crate) provisioner: Arc<SandboxedProvisioner>,
    /// How the gateway treats them.
    pub(crate) gateway: GatewayOptions,
    /// Runs containers for interceptors; none for a plan.
    pub(crate) containers: Option<Arc<Containers>>,
    /// Removes what is left.
    pub(crate) reaper: Reaper,
    /// The audit log; none for a plan.
    audit: Audit,
    /// What containers of this process belong to; none for a plan.
    session: Option<Arc<Session>>,
    /// What is needed to clean up after sessions that died.
    leftovers: Option<(Arc<DockerRuntime>, Sessions)>,
}

impl Assembled {
    /// Begins to remove what dead sessions left, in the background.
    pub(crate) fn reap(&mut self) {
        if let Some((docker, sessions)) = self.leftovers.take() {
            // Not waited for: if the process ends before, the next one goes on with it.
            drop(tokio::spawn(super::gateway_reap::in_background(docker, sessions)));
        }
    }

    /// Lets the component say good-bye and waits until everything is removed.
    pub(crate) async fn finish(self) {
        self.provisioner.shutdown().await;
        let is_drained = self.reaper.drain(DRAIN).await;
        match self.audit.close(AUDIT_END).await {
            // Kept elsewhere, it shows that nothing was cut off the end.
            Ok(Some(head)) => tracing::info!(%head, "the audit log ends"),
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}"),
        }
        if !is_drained {
            // The lock file stays, and the lock goes with the process: the next one removes the rest.
            return tracing::warn!(
                "not everything could be removed within {} s; `docker-mcp gateway reap` removes what is left",
                DRAIN.as_secs()
            );
        }
        if let Some(session) = self.session {
            session.end();
        }
    }
}

/// Whether things are to be done or only planned.
pub(crate) enum Mode {
    /// Containers are run.
    Real(Arc<dyn ImageProgress>),
    /// Requests are recorded.
    Plan(Arc<PlanRuntime>),
}

/// Who gets to know what of what is assembled.
#[derive(Default)]
pub(crate) struct Observers {
    /// Gets to know every secret that is read.
    pub(crate) screen: Option<Arc<Screen>>,
    /// Is told of every decision of the policies.
    pub(crate) decisions: Option<Arc<dyn DecisionSink>>,
}

/// As [`assemble_observed`], with nobody who observes.
///
/// # Errors
/// As there.
pub(crate) async fn assemble(options: &ServerOptions, mode: Mode, reaper: Reaper) -> anyhow::Result<Assembled> {
    assemble_observed(options, mode, reaper, Observers::default()).await
}

/// Puts the parts together. Fast: nothing is compiled, connected or pulled here.
///
/// # Errors
/// If a file cannot be used, a server is unknown, or nothing is enabled.
pub(crate) async fn assemble_observed(
    options: &ServerOptions,
    mode: Mode,
    reaper: Reaper,
    observers: Observers,
) -> anyhow::Result<Assembled> {
    let home = home();
    // First of all: without a policy that can be trusted nothing may happen.
    let policies = Arc::new(policies(&options.policy, home.as_deref())?.policies);
    let own = OwnFiles::of_home(home.as_deref());
    let mut begun = None;
    if matches!(mode, Mode::Real(_)) && legacy::is_wanted(options, &own) {
        begun = legacy::import(options, &own, &reaper, home.clone()).await;
    }
    let mut secrets: Arc<dyn SecretStore> = {
        let place = Place::of_process(home.clone());
        Arc::new(SearchPath::from_flag(&options.secrets, &place).await.context("--secrets")?)
    };
    if let Some(screen) = observers.screen {
        secrets = Arc::new(Screened::new(secrets, screen));
    }
    let fetched = sources::fetch(options).await.context("--mcp-registry")?;
    let sources = Sources { options: options.clone(), own, secrets: Arc::clone(&secrets), fetched };
    let loaded = sources.load()?;
    let cache = cache::usable(home.as_deref());
    let engine = Engine::new(cache.as_deref()).map_err(no_wasm)?;
    let dry_run = matches!(mode, Mode::Plan(_));
    let (component, grants) = component(options)?;
    let enforcement = Enforcement {
        policies,
        sink: observers.decisions,
        binds: Some(Arc::new(BindPolicy::from_environment(|name| std::env::var(name).ok()))),
    };
    let (mut session, mut leftovers, mut containers, mut audit) = (None, None, None, Audit::off());
    let (runtime, progress): (Arc<dyn ContainerRuntime>, Arc<dyn ImageProgress>) = match mode {
        Mode::Plan(plan) => (plan, Arc::new(crate::capability::container_runtime::Quiet)),
        Mode::Real(progress) => {
            let (begun, sessions) = match begun {
                Some(begun) => begun,
                None => begin_session(home.as_deref())?,
            };
            audit = super::provisioner::audit::begin(options, home.as_deref(), begun.id())?;
            let embedding = Engine::for_servers(cache.as_deref()).map_err(no_wasm)?;
            let (docker, runtime) = runtimes(options, home, embedding, &secrets, &reaper, &begun)?;
            containers = Some(Arc::new(Containers {
                runtime: Arc::clone(&runtime),
                policies: Arc::clone(&enforcement.policies),
                session: begun.id().to_owned(),
                resources: options.resources(),
                progress: Arc::clone(&progress),
            }));
            session = Some(begun);
            leftovers = sessions.map(|sessions| (docker, sessions));
            (runtime, progress)
        }
    };
    let provisioner = SandboxedProvisioner::new(Setup {
        engine,
        component,
        grants,
        // A plan is the same for the same input.
        session: session.as_ref().map_or_else(|| "planned".to_owned(), |session| session.id().to_owned()),
        runtime,
        servers: loaded.settings.clone(),
        startup_timeout: options.max_server_startup_timeout,
        tool_timeout: RunLimits::default().time,
        limits: Limits::default(),
        progress,
        audit: audit.clone(),
        dry_run,
        enforcement,
    });
    let gateway = GatewayOptions {
        startup_timeout: options.max_server_startup_timeout,
        long_lived: options.long_lived,
        remote_hosts: Arc::new(RemoteHosts::new(options.allow_private_remote.clone(), |name| std::env::var(name).ok())),
        ..GatewayOptions::default()
    };
    let provisioner = Arc::new(provisioner);
    Ok(Assembled { loaded, sources, provisioner, gateway, containers, reaper, audit, session, leftovers })
}

fn no_wasm(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("cannot run WebAssembly here: {error:#}")
}

/// A session, and where its lock is, if that can be used.
type Begun = (Arc<Session>, Option<Sessions>);

/// Begins the session of this process. Without a usable place for its lock nothing cleans up after it if it is
/// killed, which is said and no reason to stop.
fn begin_session(home: Option<&Path>) -> anyhow::Result<Begun> {
    match sessions(home).and_then(|sessions| Ok((Arc::new(sessions.begin()?), Some(sessions)))) {
        Ok(begun) => Ok(begun),
        Err(error) => {
            tracing::warn!(
                "containers will remain if this process is killed, because it cannot be marked as alive: {error:#}"
            );
            Ok((Arc::new(Session::without_lock(super::random_hex(8)?)), None))
        }
    }
}

/// Where the locks of this user's sessions are.
///
/// # Errors
/// If there is no place for them or it cannot be used.
pub(super) fn sessions(home: Option<&Path>) -> anyhow::Result<Sessions> {
    let directory = Sessions::directory(std::env::var_os("XDG_STATE_HOME"), home)
        .context("there is no home directory; set XDG_STATE_HOME")?;
    let shown = directory.display().to_string();
    Sessions::open(directory).with_context(|| format!("`{shown}` cannot be used"))
}

/// Where the engine is looked for.
pub(super) fn surroundings(context: Option<String>, home: Option<PathBuf>) -> Surroundings {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("DOCKER_")).collect();
    Surroundings { context, variables, home }
}

/// The engines, side by side: Docker alone, and all of them as one.
fn runtimes(
    options: &ServerOptions,
    home: Option<PathBuf>,
    embedding: Engine,
    secrets: &Arc<dyn SecretStore>,
    reaper: &Reaper,
    session: &Arc<Session>,
) -> anyhow::Result<(Arc<DockerRuntime>, Arc<dyn ContainerRuntime>)> {
    let surroundings = surroundings(options.docker_context.clone(), home);
    let binds = BindPolicy::from_environment(|name| std::env::var(name).ok());
    let volume_check = Arc::new(move |volume: &str| binds.check(volume).map_err(|error| error.to_string()));
    let docker =
        DockerRuntime::new(surroundings, Arc::clone(secrets), volume_check, reaper.clone(), Arc::clone(session));
    let docker = Arc::new(docker);
    let embedded = EmbeddedRuntime::new(
        embedding,
        reaper.clone(),
        Arc::clone(secrets),
        std::env::current_dir().context("cannot tell the current directory")?,
        BTreeMap::from([(SAMPLE.trim_start_matches("embedded:"), builtin::SAMPLE_SERVER)]),
    )?;
    let both = Routed { engine: Arc::clone(&docker) as _, embedded: Arc::new(embedded) };
    Ok((docker, Arc::new(both)))
}

/// Where policies may be: the organisation's, those that are named, the user's own.
pub(super) fn policy_sources(named: &[PathBuf], home: Option<&Path>) -> policy_files::Sources {
    policy_files::Sources::new(named, std::env::var_os(policy_files::VARIABLE).as_deref(), home)
}

/// The policies that hold. One that cannot be used stops whoever asks.
///
/// # Errors
/// If there is such a one.
pub(super) fn policies(named: &[PathBuf], home: Option<&Path>) -> anyhow::Result<policy_files::Loaded> {
    Ok(policy_files::load(&policy_sources(named, home))?)
}

/// The component that deploys, and what it is granted: the default of a built-in one or what was agreed to when it was
/// installed, and what `--grant` adds. Every policy file takes away from that as soon as the digest is known
/// (`Grants::within`), and nothing adds to it any more.
fn component(options: &ServerOptions) -> anyhow::Result<(Source, Grants)> {
    let (source, mut grants) = match options.provisioner.as_str() {
        "docker" => (Source::BuiltIn { name: "docker", bytes: builtin::DOCKER }, Grants::builtin_docker()),
        "kubernetes" | "k8s" => {
            if !features::is_enabled(&super::user_files()?, features::KUBERNETES)? {
                bail!(
                    "kubernetes provisioner feature is not enabled; enable it with `docker mcp feature enable {}`",
                    features::KUBERNETES
                );
            }
            bail!("the provisioner `kubernetes` is not part of this version; use `docker` or the path of a component")
        }
        name if provisioner::is_path(name) => (Source::File(name.into()), Grants::default()),
        name => provisioner::installed(name)?.with_context(|| {
            format!(
                "there is no provisioner `{name}`; use `docker`, one that is installed (`docker-mcp provisioner ls`), or \
                 the path of a component (`./{name}.wasm`)"
            )
        })?,
    };
    for more in &options.grant {
        grants.extend(more.clone());
    }
    Ok((source, grants))
}

/// The user's home directory.
pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}
