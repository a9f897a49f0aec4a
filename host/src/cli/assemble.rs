//! Puts the parts together as the flags say: catalog, configuration, secrets, engines, provisioner.

pub(super) mod cluster;
mod legacy;
pub(crate) mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use provisioning_core::policy::Policies;

use super::cluster::{Provider, Providers};
use super::options::ServerOptions;
use super::sources::{self, Loaded, Sources};
use super::{cache, provisioner};
use crate::audit::Audit;
use crate::builtin;
use crate::capability::container_runtime::docker::DockerRuntime;
use crate::capability::container_runtime::docker::connect::Surroundings;
use crate::capability::container_runtime::embedded::{EmbeddedRuntime, SAMPLE};
use crate::capability::container_runtime::kubernetes::Address;
use crate::capability::container_runtime::kubernetes::KubernetesRuntime;
use crate::capability::container_runtime::kubernetes::permissions::{self, Wanted};
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::routed::Routed;
use crate::capability::container_runtime::{ContainerRuntime, ImageProgress};
use crate::catalog::files::OwnFiles;
use crate::gateway::GatewayOptions;
use crate::intercept::Containers;
use crate::lease::Reaper;
use crate::policy::bind_mounts::BindPolicy;
use crate::policy::enforcement::{DecisionSink, Enforcement};
use crate::policy::grants::Grants;
use crate::policy::remote_hosts::RemoteHosts;
use crate::policy::sources as policy_files;
use crate::provision::sandboxed::{SandboxedProvisioner, Setup};
use crate::resolve::cluster::NoSecrets;
use crate::sandbox::Limits;
use crate::sandbox::component::Source;
use crate::sandbox::engine::Engine;
use crate::screen::{Screen, Screened};
use crate::secrets::search_path::SearchPath;
use crate::secrets::{Place, SecretStore};
use crate::session::{Session, Sessions};

/// How long the end of the process waits for containers to be removed.
const DRAIN: Duration = Duration::from_secs(20);
/// How long it waits for a cluster to delete the session.
const CLUSTER_END: Duration = Duration::from_secs(10);
/// How long it waits for the end of the audit log to be written.
const AUDIT_END: Duration = Duration::from_secs(2);

/// The session of a plan.
const PLANNED: &str = "planned";

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
    /// The cluster, if it is used.
    cluster: Option<InCluster>,
}

/// A cluster that is used.
struct InCluster {
    runtime: KubernetesRuntime,
    /// What will have to be done there.
    wanted: Wanted,
    /// Whether anything is.
    is_real: bool,
}

impl Assembled {
    /// Begins to remove what dead sessions left, in the background.
    pub(crate) fn reap(&mut self) {
        if let Some((docker, sessions)) = self.leftovers.take() {
            // Not waited for: if the process ends before, the next one goes on with it.
            drop(tokio::spawn(super::gateway_reap::in_background(docker, sessions)));
        }
        if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.is_real) {
            drop(tokio::spawn(super::gateway_reap::of_cluster_in_background(cluster.runtime.clone())));
        }
    }

    /// Which cluster is used, and which of what the gateway will have to do there it may; none if no cluster is asked.
    ///
    /// # Errors
    /// If the kubeconfig is wrong or the cluster does not answer.
    pub(crate) async fn rights(&self) -> anyhow::Result<Option<(Address, permissions::Report)>> {
        let Some(InCluster { runtime, wanted, .. }) = &self.cluster else { return Ok(None) };
        Ok(Some((runtime.place().await?, runtime.check_permissions(wanted).await?)))
    }

    /// Says in the log what the gateway may not do in the cluster, in the background: servers that need none of it start.
    pub(crate) fn check_rights(&self) {
        let Some(InCluster { runtime, wanted, is_real: true }) = &self.cluster else { return };
        let (runtime, wanted) = (runtime.clone(), wanted.clone());
        drop(tokio::spawn(async move {
            match runtime.check_permissions(&wanted).await {
                Ok(report) if report.missing.is_empty() => {}
                Ok(report) => tracing::error!("{}", rights_text(&report)),
                Err(error) => tracing::error!("the rights of the gateway in the cluster are not known: {error}"),
            }
        }));
    }

    /// Lets the component say good-bye and waits until everything is removed.
    pub(crate) async fn finish(self) {
        self.provisioner.shutdown().await;
        let is_drained = self.reaper.drain(DRAIN).await;
        if let Some(cluster) = self.cluster.filter(|cluster| cluster.is_real)
            && tokio::time::timeout(CLUSTER_END, cluster.runtime.end()).await.is_err()
        {
            tracing::warn!("the cluster does not answer; what is left there goes when the session's lease has expired");
        }
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
    Plan {
        /// Records them.
        recorder: Arc<PlanRuntime>,
        /// Whether a cluster is asked what it has.
        asks_cluster: bool,
    },
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
    let providers = cluster::providers(options)?;
    let own = OwnFiles::of_home(home.as_deref());
    let mut imported = None;
    if matches!(mode, Mode::Real(_)) && providers.is_none() && legacy::is_wanted(options, &own) {
        imported = legacy::import(options, &own, &reaper, home.clone(), &policies).await?;
    }
    let begun_early = imported.as_ref().map(|(_, audit)| audit.clone());
    let before = Before { home, policies, providers, own, imported };
    let assembled = assemble_after(before, options, mode, reaper, observers).await;
    // What was done is in the log, whatever comes to nothing afterwards.
    if let (Err(_), Some(audit)) = (&assembled, begun_early)
        && let Err(error) = audit.close(AUDIT_END).await
    {
        tracing::warn!("{error}");
    }
    assembled
}

/// What is known before anything is read that an import may have made.
struct Before {
    home: Option<PathBuf>,
    policies: Arc<Policies>,
    providers: Option<Providers>,
    own: OwnFiles,
    imported: Option<(Begun, Audit)>,
}

async fn assemble_after(
    before: Before,
    options: &ServerOptions,
    mode: Mode,
    reaper: Reaper,
    observers: Observers,
) -> anyhow::Result<Assembled> {
    let Before { home, policies, providers, own, imported } = before;
    let in_cluster = |provider: fn(&Providers) -> Provider| {
        providers.as_ref().is_some_and(|providers| provider(providers) == Provider::Cluster)
    };
    let mut secrets: Arc<dyn SecretStore> = match in_cluster(|providers| providers.secrets) {
        true => Arc::new(NoSecrets),
        false => {
            let place = Place::of_process(home.clone());
            Arc::new(SearchPath::from_flag(&options.secrets, &place).await.context("--secrets")?)
        }
    };
    if let Some(screen) = &observers.screen {
        secrets = Arc::new(Screened::new(secrets, Arc::clone(screen)));
    }
    let fetched = sources::fetch(options).await.context("--mcp-registry")?;
    let mut sources = Sources {
        options: options.clone(),
        own,
        secrets: Arc::clone(&secrets),
        config_is_elsewhere: in_cluster(|providers| providers.config),
        cluster: None,
        fetched,
    };
    let mut loaded = sources.load()?;
    let cache = cache::usable(home.as_deref());
    let engine = Engine::new(cache.as_deref()).map_err(no_wasm)?;
    let dry_run = matches!(mode, Mode::Plan { .. });
    let (component, grants) = component(options)?;
    let (mut session, mut leftovers, mut containers, mut audit) = (None, None, None, Audit::off());
    let cluster_of = |session: &str| {
        let settings = options.cluster.pods(options.max_server_startup_timeout);
        let secrets = Arc::clone(&secrets);
        KubernetesRuntime::new(options.cluster.place(), settings, secrets, reaper.clone(), session.to_owned())
    };
    let kubernetes;
    let (runtime, progress): (Arc<dyn ContainerRuntime>, Arc<dyn ImageProgress>) = match mode {
        Mode::Plan { recorder, asks_cluster } => {
            kubernetes = providers.as_ref().filter(|_| asks_cluster).map(|_| cluster_of(PLANNED));
            (recorder, Arc::new(crate::capability::container_runtime::Quiet))
        }
        Mode::Real(progress) => {
            let (begun, sessions);
            ((begun, sessions), audit) = match imported {
                Some(begun) => begun,
                None => begin_recorded(options, home.as_deref(), &policies)?,
            };
            let embedding = Engine::for_servers(cache.as_deref()).map_err(no_wasm)?;
            kubernetes = providers.as_ref().map(|_| cluster_of(begun.id()));
            let (docker, engine) = match &kubernetes {
                Some(kubernetes) => (None, Arc::new(kubernetes.clone()) as Arc<dyn ContainerRuntime>),
                None => {
                    let docker = Arc::new(docker(options, home, &secrets, &reaper, &begun));
                    (Some(Arc::clone(&docker)), docker as Arc<dyn ContainerRuntime>)
                }
            };
            let runtime = beside_embedded(engine, embedding, &secrets, &reaper)?;
            containers = Some(Arc::new(Containers {
                runtime: Arc::clone(&runtime),
                audit: audit.clone(),
                policies: Arc::clone(&policies),
                session: begun.id().to_owned(),
                resources: options.resources(),
                progress: Arc::clone(&progress),
            }));
            session = Some(begun);
            leftovers = docker.zip(sessions);
            (runtime, progress)
        }
    };
    if let Some(providers) = &providers {
        let asking =
            cluster::Asking { engine: &engine, policies: &policies, audit: &audit, screen: observers.screen.as_ref() };
        sources.cluster = cluster::values(options, providers, kubernetes.as_ref(), &asking);
        loaded.settings.iter_mut().for_each(|settings| settings.cluster.clone_from(&sources.cluster));
    }
    let namespace = match (&kubernetes, &providers) {
        (_, None) => None,
        // Only policies ask for it.
        (Some(kubernetes), Some(_)) if !policies.is_empty() => Some(kubernetes.place().await?.namespace),
        (_, Some(_)) => Some(options.cluster.namespace().unwrap_or("default").to_owned()),
    };
    let enforcement = Enforcement {
        policies,
        sink: observers.decisions,
        binds: Some(Arc::new(BindPolicy::from_environment(|name| std::env::var(name).ok()))),
        namespace,
    };
    let cluster = kubernetes.zip(providers).map(|(runtime, providers)| InCluster {
        runtime,
        wanted: cluster::wanted(options, &providers, &grants, &loaded.servers),
        is_real: !dry_run,
    });
    let provisioner = SandboxedProvisioner::new(Setup {
        engine,
        component,
        grants,
        // A plan is the same for the same input.
        session: session.as_ref().map_or_else(|| PLANNED.to_owned(), |session| session.id().to_owned()),
        runtime,
        servers: loaded.settings.clone(),
        startup_timeout: options.max_server_startup_timeout,
        tool_timeout: options.tool_time,
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
    Ok(Assembled { loaded, sources, provisioner, gateway, containers, reaper, audit, session, leftovers, cluster })
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

/// The same with the log of what is done in it.
fn begin_recorded(options: &ServerOptions, home: Option<&Path>, policies: &Policies) -> anyhow::Result<(Begun, Audit)> {
    let demands = policies.audit().map_err(anyhow::Error::msg)?;
    let begun = begin_session(home)?;
    let audit = super::provisioner::audit::begin(options, &demands, home, begun.0.id())?;
    Ok((begun, audit))
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

/// The container engine.
fn docker(
    options: &ServerOptions,
    home: Option<PathBuf>,
    secrets: &Arc<dyn SecretStore>,
    reaper: &Reaper,
    session: &Arc<Session>,
) -> DockerRuntime {
    let surroundings = surroundings(options.docker_context.clone(), home);
    let binds = BindPolicy::from_environment(|name| std::env::var(name).ok());
    let volume_check = Arc::new(move |volume: &str| binds.check(volume).map_err(|error| error.to_string()));
    DockerRuntime::new(surroundings, Arc::clone(secrets), volume_check, reaper.clone(), Arc::clone(session))
}

/// An engine, and beside it servers that are embedded in this process.
fn beside_embedded(
    engine: Arc<dyn ContainerRuntime>,
    embedding: Engine,
    secrets: &Arc<dyn SecretStore>,
    reaper: &Reaper,
) -> anyhow::Result<Arc<dyn ContainerRuntime>> {
    let embedded = EmbeddedRuntime::new(
        embedding,
        reaper.clone(),
        Arc::clone(secrets),
        std::env::current_dir().context("cannot tell the current directory")?,
        BTreeMap::from([(SAMPLE.trim_start_matches("embedded:"), builtin::SAMPLE_SERVER)]),
    )?;
    Ok(Arc::new(Routed { engine, embedded: Arc::new(embedded) }))
}

/// What the gateway may not do in a cluster, and the Role that would allow it.
pub(super) fn rights_text(report: &permissions::Report) -> String {
    let missing: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
    format!(
        "the gateway may not do in namespace `{}` what it will have to: {}; this Role has all that it needs:\n{}",
        report.namespace,
        missing.join(", "),
        report.role
    )
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
            cluster::check_feature()?;
            (Source::BuiltIn { name: "kubernetes", bytes: builtin::KUBERNETES }, Grants::builtin_kubernetes())
        }
        name if provisioner::is_path(name) => (Source::File(name.into()), Grants::default()),
        name => provisioner::installed(name)?.with_context(|| {
            format!(
                "there is no provisioner `{name}`; use `docker` or `kubernetes`, one that is installed (`docker-mcp provisioner ls`), or \
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
pub(crate) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}
