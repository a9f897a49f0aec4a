//! Puts the parts together as the flags say: catalog, configuration, secrets, engines, provisioner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::options::ServerOptions;
use super::{cache, provisioner};
use crate::builtin;
use crate::capability::container_runtime::docker::DockerRuntime;
use crate::capability::container_runtime::docker::connect::Surroundings;
use crate::capability::container_runtime::embedded::{EmbeddedRuntime, SAMPLE};
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::routed::{Routed, is_embedded};
use crate::capability::container_runtime::{ContainerRuntime, ImageProgress, RunLimits};
use crate::catalog::{Catalog, Entry, configuration};
use crate::gateway::{GatewayOptions, ServerDefinition};
use crate::lease::Reaper;
use crate::policy::bind_mounts::BindPolicy;
use crate::policy::grants::Grants;
use crate::provision::sandboxed::{SandboxedProvisioner, Setup};
use crate::resolve::ServerSettings;
use crate::sandbox::Limits;
use crate::sandbox::component::Source;
use crate::sandbox::engine::Engine;
use crate::secrets::SecretStore;
use crate::secrets::search_path::SearchPath;
use crate::session::{Session, Sessions};

/// The name of the catalog that is built in.
const SAMPLE_CATALOG: &str = "builtin:sample";
/// How long the end of the process waits for containers to be removed.
const DRAIN: Duration = Duration::from_secs(20);

/// Everything that a command works with.
pub(crate) struct Assembled {
    /// The enabled servers, in order.
    pub(crate) servers: Vec<ServerDefinition>,
    /// What deploys them.
    pub(crate) provisioner: Arc<SandboxedProvisioner>,
    /// How the gateway treats them.
    pub(crate) gateway: GatewayOptions,
    /// Removes what is left.
    pub(crate) reaper: Reaper,
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
        if !self.reaper.drain(DRAIN).await {
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

/// Puts the parts together. Fast: nothing is compiled, connected or pulled here.
///
/// # Errors
/// If a file cannot be used, a server is unknown, or nothing is enabled.
pub(crate) async fn assemble(options: &ServerOptions, mode: Mode, reaper: Reaper) -> anyhow::Result<Assembled> {
    let home = home();
    let entries = enabled(options, home.as_deref())?;
    let config = load_configuration(options, home.as_deref())?;
    let secrets: Arc<dyn SecretStore> = Arc::new(SearchPath::from_flag(&options.secrets).await.context("--secrets")?);
    let engine = Engine::new(cache::usable(home.as_deref()).as_deref())
        .map_err(|error| anyhow::anyhow!("cannot run WebAssembly here: {error:#}"))?;
    let dry_run = matches!(mode, Mode::Plan(_));
    let (component, grants) = component(options)?;
    let (mut session, mut leftovers) = (None, None);
    let (runtime, progress): (Arc<dyn ContainerRuntime>, Arc<dyn ImageProgress>) = match mode {
        Mode::Plan(plan) => (plan, Arc::new(crate::capability::container_runtime::Quiet)),
        Mode::Real(progress) => {
            let (begun, sessions) = begin_session(home.as_deref())?;
            let (docker, runtime) = runtimes(options, home, &engine, &secrets, &reaper, &begun)?;
            session = Some(begun);
            leftovers = sessions.map(|sessions| (docker, sessions));
            (runtime, progress)
        }
    };
    let servers: Vec<ServerDefinition> =
        entries.into_iter().map(|(name, entry)| ServerDefinition { name, entry: Arc::new(entry) }).collect();
    let settings = servers.iter().map(|server| ServerSettings {
        name: server.name.clone(),
        entry: Arc::clone(&server.entry),
        config: Arc::new(configuration::scope(&config, &server.name)),
        secrets: Arc::clone(&secrets),
        resources: options.resources(),
        long_lived: options.long_lived || server.entry.long_lived,
    });
    let provisioner = SandboxedProvisioner::new(Setup {
        engine,
        component,
        grants,
        // A plan is the same for the same input.
        session: session.as_ref().map_or_else(|| "planned".to_owned(), |session| session.id().to_owned()),
        runtime,
        servers: settings.collect(),
        startup_timeout: options.max_server_startup_timeout,
        tool_timeout: RunLimits::default().time,
        limits: Limits::default(),
        progress,
        dry_run,
    });
    let gateway = GatewayOptions {
        startup_timeout: options.max_server_startup_timeout,
        long_lived: options.long_lived,
        ..GatewayOptions::default()
    };
    Ok(Assembled { servers, provisioner: Arc::new(provisioner), gateway, reaper, session, leftovers })
}

/// Begins the session of this process. Without a usable place for its lock nothing cleans up after it if it is
/// killed, which is said and no reason to stop.
fn begin_session(home: Option<&Path>) -> anyhow::Result<(Arc<Session>, Option<Sessions>)> {
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
    engine: &Engine,
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
        engine.clone(),
        reaper.clone(),
        Arc::clone(secrets),
        std::env::current_dir().context("cannot tell the current directory")?,
        BTreeMap::from([(SAMPLE.trim_start_matches("embedded:"), builtin::SAMPLE_SERVER)]),
    )?;
    let both = Routed { engine: Arc::clone(&docker) as _, embedded: Arc::new(embedded) };
    Ok((docker, Arc::new(both)))
}

/// The enabled entries, in the order of the flag or of the catalog.
fn enabled(options: &ServerOptions, home: Option<&Path>) -> anyhow::Result<Vec<(String, Entry)>> {
    let catalog = load_catalogs(options, home)?;
    if options.servers.is_empty() && !options.enable_all_servers {
        let names: Vec<&str> = catalog.names().take(10).collect();
        bail!(
            "no server is enabled; name some with `--servers` or take all with `--enable-all-servers` (the catalog has {})",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    }
    let names: Vec<String> = if options.enable_all_servers {
        catalog.names().map(str::to_owned).collect()
    } else {
        options.servers.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let entries = catalog.select(&names)?;
    for (name, entry) in &entries {
        if !entry.allow_hosts.is_empty() {
            tracing::warn!(
                server = name,
                "`allowHosts` is not enforced yet: this server can reach every host; set `disableNetwork: true` to cut it off"
            );
        }
    }
    Ok(entries)
}

fn load_catalogs(options: &ServerOptions, home: Option<&Path>) -> anyhow::Result<Catalog> {
    let mut paths = options.catalog.clone();
    if paths.is_empty() {
        let default = home.map(|home| home.join(".docker/mcp/catalogs/docker-mcp.yaml")).filter(|path| path.exists());
        let Some(default) = default else {
            bail!("no catalog; pass one with `--catalog FILE` (`--catalog {SAMPLE_CATALOG}` to try it out)");
        };
        paths.push(default);
    }
    let mut catalogs = Vec::with_capacity(paths.len());
    for path in &paths {
        let (mut catalog, warnings) = if path.as_os_str() == SAMPLE_CATALOG {
            Catalog::parse(include_str!("../../assets/sample-catalog.yaml"), Path::new(SAMPLE_CATALOG))?
        } else {
            Catalog::load(path)?
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        // A component beside its catalog is found from wherever the gateway is started.
        let base = path.parent().unwrap_or(Path::new(""));
        catalog.for_each_image(|image| {
            if is_embedded(image) && !image.starts_with("embedded:") && Path::new(image).is_relative() {
                *image = base.join(&*image).to_string_lossy().into_owned();
            }
        });
        catalogs.push(catalog);
    }
    Ok(Catalog::merge(catalogs))
}

fn load_configuration(
    options: &ServerOptions,
    home: Option<&Path>,
) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let mut paths = options.config.clone();
    if paths.is_empty() {
        paths.extend(home.map(|home| home.join(".docker/mcp/config.yaml")).filter(|path| path.exists()));
    }
    Ok(configuration::load(&paths)?)
}

/// The component that deploys, and what it is granted.
fn component(options: &ServerOptions) -> anyhow::Result<(Source, Grants)> {
    let mut granted = Grants::default();
    for grants in &options.grant {
        granted.extend(grants.clone());
    }
    match options.provisioner.as_str() {
        "docker" => {
            let mut grants = Grants::builtin_docker();
            grants.extend(granted);
            Ok((Source::BuiltIn { name: "docker", bytes: builtin::DOCKER }, grants))
        }
        "kubernetes" | "k8s" => {
            bail!("the provisioner `kubernetes` is not part of this version; use `docker` or the path of a component")
        }
        name if provisioner::is_path(name) => Ok((Source::File(name.into()), granted)),
        name => {
            let Some((source, mut grants)) = provisioner::installed(name)? else {
                bail!(
                    "there is no provisioner `{name}`; use `docker`, one that is installed (`docker-mcp provisioner ls`), \
                     or the path of a component (`./{name}.wasm`)"
                )
            };
            grants.extend(granted);
            Ok((source, grants))
        }
    }
}

/// The user's home directory.
pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}
