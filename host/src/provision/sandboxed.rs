//! [`Provision`] by a WebAssembly component: loads it once, asks it in a fresh instance per operation, and turns
//! what it answers into endpoints.
//!
//! It decides nothing about containers itself and knows no engine.

mod enabled;
mod errors;
mod loading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use provisioning_core::Segment;
use provisioning_core::policy::Decision;
use provisioning_core::value::ObjectKind;
use serde_json::{Map, Value as Json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::enabled::{Enabled, Servers, by_name};
use self::loading::{Compiling, Rejection};
use super::{Endpoint, Provision, ProvisionError, Remote};
use crate::audit::Audit;
use crate::capability::Times;
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::{Completed, ContainerRuntime, ImageProgress, RuntimeError};
use crate::capability::remote_endpoint::RemoteHandle;
use crate::lease::Reaper;
use crate::policy::enforcement::Enforcement;
use crate::policy::grants::Grants;
use crate::resolve::{ResolveError, ServerScope, ServerSettings, ToolCall};
use crate::sandbox::Limits;
use crate::sandbox::bindings::mcp_gateway::provisioning::types::{ServerSpec, Session};
use crate::sandbox::component::{Provisioner, Source};
use crate::sandbox::engine::Engine;
use crate::sandbox::operation::{Environment, OperationError, Outcome, Task};
use crate::secrets;

/// What a [`SandboxedProvisioner`] works with.
pub struct Setup {
    /// What components run on.
    pub engine: Engine,
    /// The component.
    pub component: Source,
    /// What it is granted.
    pub grants: Grants,
    /// The session, which goes into the labels of everything that is created.
    pub session: String,
    /// Where containers run.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The enabled servers.
    pub servers: Vec<ServerSettings>,
    /// How long an operation may take, image pulls apart.
    pub startup_timeout: Duration,
    /// How long a tool of its own container may run.
    pub tool_timeout: Duration,
    /// What one operation of the guest may use.
    pub limits: Limits,
    /// Told how image pulls go on.
    pub progress: Arc<dyn ImageProgress>,
    /// Where operations and their calls are recorded.
    pub audit: Audit,
    /// True if this is a forecast: no secret's text is read. The component cannot tell.
    pub dry_run: bool,
    /// The policies, and who is told of decisions.
    pub enforcement: Enforcement,
}

/// Provisions servers through a component.
pub struct SandboxedProvisioner {
    engine: Engine,
    component: Source,
    grants: Grants,
    environment: Environment,
    servers: RwLock<Servers>,
    startup_timeout: Duration,
    progress: Arc<dyn ImageProgress>,
    dry_run: bool,
    compiling: OnceLock<Compiling>,
    loaded: OnceCell<Result<Arc<Provisioner>, ProvisionError>>,
    /// The keys of catalog entries that were warned about, each once.
    warned: Mutex<BTreeSet<String>>,
    /// The servers of which the audit log says that a policy refuses them, each once.
    refused: Mutex<BTreeSet<String>>,
    /// Which component was not loaded, for the audit log.
    rejected: Arc<OnceLock<Rejection>>,
}

/// How long an operation may take, and what is said when that is over.
#[derive(Clone, Copy)]
struct Limit {
    what: &'static str,
    time: Duration,
    advice: &'static str,
}

impl Limit {
    /// Until something starts.
    fn start(time: Duration) -> Self {
        Self { what: "start", time, advice: RuntimeError::RAISE_STARTUP_TIMEOUT }
    }
}

impl SandboxedProvisioner {
    /// Takes the set-up. Loads nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            engine: setup.engine,
            component: setup.component,
            grants: setup.grants,
            environment: Environment {
                // The session of a forecast is the same each time, by which a component would know it.
                session: Session { id: if setup.dry_run { some_session() } else { setup.session.clone() } },
                labelled: setup.session,
                runtime: setup.runtime,
                limits: setup.limits,
                audit: setup.audit,
                enforcement: setup.enforcement,
                times: Times { start: setup.startup_timeout, run: setup.tool_timeout },
                rehearsal: false,
            },
            servers: RwLock::new(by_name(setup.servers)),
            startup_timeout: setup.startup_timeout,
            progress: setup.progress,
            dry_run: setup.dry_run,
            compiling: OnceLock::new(),
            loaded: OnceCell::new(),
            warned: Mutex::default(),
            refused: Mutex::default(),
            rejected: Arc::default(),
        }
    }

    /// Makes these the enabled servers. What runs already goes on.
    pub fn replace(&self, servers: Vec<ServerSettings>) {
        let mut servers = by_name(servers);
        let mut known = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        for (name, server) in &mut servers {
            if let Some(before) = known.get(name).filter(|before| before.is_same(server)) {
                server.validated = Arc::clone(&before.validated);
            }
        }
        *known = servers;
    }

    fn enabled(&self, server: &str) -> Result<Enabled, ProvisionError> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.get(server).cloned().ok_or_else(|| ProvisionError::UnknownServer(server.to_owned()))
    }

    fn settings(&self, server: &str) -> Result<Arc<ServerSettings>, ProvisionError> {
        self.enabled(server).map(|enabled| enabled.settings)
    }

    /// Loads the component and lets it check the session, once; later calls give the same answer.
    ///
    /// # Errors
    /// If the component cannot be used or refuses the session.
    pub async fn ready(&self) -> Result<&Arc<Provisioner>, ProvisionError> {
        self.loaded.get_or_init(async || self.load().await).await.as_ref().map_err(Clone::clone)
    }

    /// Why the component cannot be used, if that has turned out already.
    pub fn failure(&self) -> Option<&ProvisionError> {
        self.loaded.get().and_then(|loaded| loaded.as_ref().err())
    }

    async fn load(&self) -> Result<Arc<Provisioner>, ProvisionError> {
        let compiled = self.compiled().await;
        self.record_load(&compiled);
        let provisioner = compiled?;
        tracing::info!(component = provisioner.source, digest = provisioner.digest, "provisioner loaded");
        // Told once; what refuses it was an error before.
        drop(self.environment.enforcement.all(None, provisioner.decisions.clone()));
        let servers: Vec<Arc<ServerSettings>> = {
            let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
            servers.values().map(|enabled| Arc::clone(&enabled.settings)).collect()
        };
        let policies = &self.environment.enforcement.policies;
        let permitted = servers.into_iter().filter(|server| policies.server(&server.name).is_allowed());
        // An entry that is wrong fails its own server later, not the session.
        let specs = permitted.filter_map(|server| self.spec(&provisioner, &ServerScope::new(server, None)).ok());
        let task = Task::Initialize(specs.collect());
        self.run(&provisioner, None, task, Limit::start(self.startup_timeout), CancellationToken::new()).await?;
        Ok(provisioner)
    }

    /// Gives the component the advice that the session ends. Everything is released in any case.
    pub async fn shutdown(&self) {
        if let Some(Ok(provisioner)) = self.loaded.get() {
            let limit = Limit { what: "end", time: Duration::from_secs(2), advice: "the session ends without it" };
            let done = self.run(provisioner, None, Task::Shutdown, limit, CancellationToken::new()).await;
            if let Err(error) = done {
                tracing::warn!(%error, "the provisioner's shutdown failed");
            }
        }
    }

    /// Asks whether a server could be provisioned, without creating anything. The component is asked once in a session, at
    /// the latest when the server is first provisioned, and again only after it said no.
    ///
    /// # Errors
    /// Why not.
    pub async fn pre_validate(&self, server: &str) -> Result<(), ProvisionError> {
        let scope = self.scope(server, None)?;
        self.permit(&scope)?;
        let provisioner = self.ready().await?;
        self.validate(provisioner, &scope, &CancellationToken::new()).await
    }

    /// Lets the component say whether it can provision the server, unless it has.
    async fn validate(
        &self,
        provisioner: &Arc<Provisioner>,
        scope: &Arc<ServerScope>,
        cancel: &CancellationToken,
    ) -> Result<(), ProvisionError> {
        let enabled = self.enabled(scope.name())?;
        let ask = async || {
            let task = Task::PreValidate(self.spec(provisioner, scope)?);
            let scope = Some(Arc::clone(scope));
            self.run(provisioner, scope, task, Limit::start(self.startup_timeout), cancel.clone()).await.map(drop)
        };
        enabled.validated.get_or_try_init(ask).await.copied()
    }

    /// The component, which has agreed to provision the server. One whose tools have containers of their own has nothing
    /// that could be asked about.
    async fn agreed(
        &self,
        scope: &Arc<ServerScope>,
        cancel: &CancellationToken,
    ) -> Result<&Arc<Provisioner>, ProvisionError> {
        let provisioner = self.ready().await?;
        if scope.tool().is_none() {
            self.validate(provisioner, scope, cancel).await?;
        }
        Ok(provisioner)
    }

    fn scope(&self, server: &str, call: Option<ToolCall>) -> Result<Arc<ServerScope>, ProvisionError> {
        Ok(Arc::new(ServerScope::new(self.settings(server)?, call)))
    }

    /// What the component is told of a server, with the ceilings that the policies leave.
    fn spec(&self, provisioner: &Provisioner, scope: &ServerScope) -> Result<ServerSpec, ResolveError> {
        let who = provisioner.who(Some(scope.name()), Some(scope.kind()));
        scope.lower(&self.environment.enforcement.policies, who);
        server_spec(scope)
    }

    /// Whether the policies let the server run. Its component is not even asked otherwise.
    fn permit(&self, scope: &ServerScope) -> Result<(), ProvisionError> {
        let enforcement = &self.environment.enforcement;
        enforcement
            .all(Some(scope.name()), vec![enforcement.policies.server(scope.name())])
            .map_err(|denied| self.denied(scope.name(), &denied))
    }

    /// A policy refuses a server, which the audit log tells once.
    fn denied(&self, server: &str, denied: &Decision) -> ProvisionError {
        if self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned()) {
            self.environment.audit.refused(server, denied);
        }
        ProvisionError::Denied(denied.to_string())
    }

    /// Makes the component ready, and the image that it will ask for when it is given the task, which comes back.
    async fn both_ready(
        &self,
        scope: &Arc<ServerScope>,
        task: impl FnOnce(ServerSpec) -> Task + Send,
        cancel: &CancellationToken,
    ) -> Result<(&Arc<Provisioner>, Task), ProvisionError> {
        self.permit(scope)?;
        // The image may be fetched while the component is still being compiled.
        let (provisioner, fetched) = tokio::join!(self.agreed(scope, cancel), self.fetch(scope, cancel));
        let provisioner = provisioner?;
        fetched?;
        let task = task(self.spec(provisioner, scope)?);
        if self.rewrites_images() && !self.dry_run && !matches!(scope.remote_transport(), Ok(Some(_))) {
            self.rehearse(provisioner, scope, task.clone(), cancel).await?;
        }
        Ok((provisioner, task))
    }

    /// Whether the component may take images from elsewhere than the catalog says.
    fn rewrites_images(&self) -> bool {
        !self.grants.bounds.rewrite_image.is_empty()
    }

    /// Waits for the image of a server or tool that runs in a container. One that must not run is not fetched either;
    /// the component may ask for another one.
    async fn fetch(&self, scope: &ServerScope, cancel: &CancellationToken) -> Result<(), ProvisionError> {
        let Some(image) = scope.image() else { return Ok(()) };
        // What may be taken from elsewhere must not be fetched from where the operator does not want it.
        if self.rewrites_images() || matches!(scope.remote_transport(), Ok(Some(_))) {
            return Ok(());
        }
        let policies = &self.environment.enforcement.policies;
        // Which rules hold depends on the component, so that it must be known before.
        if !policies.is_empty() {
            let who = self.ready().await?.who(Some(scope.name()), Some(scope.kind()));
            if !policies.holding(who).image(image).is_allowed() {
                return Ok(());
            }
        }
        self.pull(image, cancel).await
    }

    /// Fetches the images that a component which may take them from elsewhere asks for. It is given the task with a
    /// runtime that only records; what it does then is judged as always.
    async fn rehearse(
        &self,
        provisioner: &Arc<Provisioner>,
        scope: &Arc<ServerScope>,
        task: Task,
        cancel: &CancellationToken,
    ) -> Result<(), ProvisionError> {
        let recorder = Arc::new(PlanRuntime::new(self.environment.runtime.name(), Reaper::new()));
        let environment =
            Environment { runtime: Arc::clone(&recorder) as _, rehearsal: true, ..self.environment.clone() };
        let run = provisioner.run(environment, Some(Arc::clone(scope)), task, cancel.clone());
        self.within(Limit::start(self.startup_timeout), run, cancel).await?;
        let images: BTreeSet<String> = recorder.take().into_iter().map(|request| request.spec.image).collect();
        for image in images {
            self.pull(&image, cancel).await?;
        }
        Ok(())
    }

    /// Waits until an image is there.
    async fn pull(&self, image: &str, cancel: &CancellationToken) -> Result<(), ProvisionError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ProvisionError::Cancelled),
            prepared = self.environment.runtime.prepare(image, &*self.progress) => Ok(prepared?),
        }
    }

    async fn run(
        &self,
        provisioner: &Arc<Provisioner>,
        scope: Option<Arc<ServerScope>>,
        task: Task,
        limit: Limit,
        cancel: CancellationToken,
    ) -> Result<Outcome, ProvisionError> {
        // What concerns no server does nothing outside of the gateway.
        if let Some(missing) = scope.as_ref().and_then(|_| self.environment.audit.missing()) {
            return Err(ProvisionError::Unavailable(missing.to_owned()));
        }
        let run = provisioner.run(self.environment.clone(), scope, task, cancel.clone());
        self.within(limit, run, &cancel).await
    }

    /// Waits for an operation, for a limited time.
    async fn within(
        &self,
        limit: Limit,
        run: impl Future<Output = Result<Outcome, OperationError>>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, ProvisionError> {
        match tokio::time::timeout(limit.time, run).await {
            Ok(Err(OperationError::Stopped { .. })) if cancel.is_cancelled() => Err(ProvisionError::Cancelled),
            Ok(outcome) => Ok(outcome?),
            Err(_) => {
                let Limit { what, time, advice } = limit;
                Err(ProvisionError::TimedOut(format!("it did not {what} within {} s; {advice}", time.as_secs())))
            }
        }
    }

    /// How long it may take until the server's container runs, or the tool's.
    fn start_limit(&self, scope: &ServerScope) -> Duration {
        // What image a component takes from elsewhere nobody knows yet.
        let image = scope.image().filter(|_| !self.rewrites_images()).unwrap_or_default();
        self.environment.runtime.start_limit(image, self.startup_timeout)
    }

    /// Says so if an entry puts a secret into a container's arguments, where it is hidden from nobody.
    async fn warn_of_arguments(&self, scope: &ServerScope) {
        let Ok(envelope) = scope.envelope().await else { return };
        let secrets = envelope.command.iter().flat_map(|value| value.segments()).filter_map(|segment| match segment {
            Segment::Secret(name) | Segment::ClusterKey { kind: ObjectKind::Secret, key: name, .. } => {
                Some(format!("`{name}`"))
            }
            _ => None,
        });
        let secrets: BTreeSet<String> = secrets.collect();
        if secrets.is_empty() {
            return;
        }
        let key = match scope.tool() {
            Some(tool) => format!("registry.{}.tools.{tool}.container.command", scope.name()),
            None => format!("registry.{}.command", scope.name()),
        };
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            let secrets = secrets.into_iter().collect::<Vec<_>>().join(", ");
            let who = match self.environment.runtime.name() {
                "kubernetes" => "the node's container runtime",
                _ => "`docker inspect`",
            };
            tracing::warn!(
                "`{key}` of the catalog puts secret {secrets} into the container's arguments, where {who} and the list of \
                 processes show it; use `env` if the server can read it there"
            );
        }
    }

    /// Fills in what only the host may know. In a forecast secrets keep their names.
    async fn remote(&self, scope: &ServerScope, handle: RemoteHandle) -> Result<Remote, ProvisionError> {
        let settings = self.settings(scope.name())?;
        let read = async |value: &provisioning_core::Value| {
            if self.dry_run {
                return Ok(secrets::SecretText::new(value.to_string()));
            }
            settings.read(value).await.map_err(|error| ProvisionError::Invalid(error.to_string()))
        };
        let mut headers = BTreeMap::new();
        for (name, value) in &handle.headers {
            headers.insert(name.clone(), read(value).await?);
        }
        let provisioner = self.ready().await?;
        let who = provisioner.who(Some(scope.name()), Some(scope.kind()));
        let denied = self.environment.enforcement.policies.holding(who).denied_addresses();
        Ok(Remote { url: read(&handle.url).await?, transport: handle.transport, headers, denied })
    }
}

#[async_trait]
impl Provision for SandboxedProvisioner {
    fn admit(&self, server: &str) -> Result<(), ProvisionError> {
        self.scope(server, None)?.admitted()?;
        // Asked often, so that nobody is told; `permit` tells when it comes to it.
        match self.environment.enforcement.policies.server(server) {
            decision if decision.is_allowed() => Ok(()),
            denied => Err(self.denied(server, &denied)),
        }
    }

    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        let span = tracing::info_span!("provision", server);
        async {
            let scope = self.scope(server, None)?;
            // What is wrong with the entry is said at once.
            server_spec(&scope)?;
            let (provisioner, task) = self.both_ready(&scope, Task::Provision, &cancel).await?;
            let limit = Limit::start(self.start_limit(&scope));
            match self.run(provisioner, Some(Arc::clone(&scope)), task, limit, cancel).await? {
                Outcome::Container(running) => {
                    self.warn_of_arguments(&scope).await;
                    Ok(Endpoint::Container(running))
                }
                Outcome::Remote(handle) => Ok(Endpoint::Remote(self.remote(&scope, handle).await?)),
                Outcome::Done | Outcome::Name(_) | Outcome::Completed(_) => Err(no_such_outcome()),
            }
        }
        .instrument(span)
        .await
    }

    async fn prepare(&self, server: &str, cancel: CancellationToken) -> Result<(), ProvisionError> {
        self.admit(server)?;
        let settings = self.settings(server)?;
        let tools = settings.entry.tools.iter().filter(|tool| tool.container.is_some());
        let calls = tools.map(|tool| Some(ToolCall { tool: tool.clone(), arguments: Map::new() }));
        let server_itself = (!settings.entry.is_poci()).then_some(None);
        let scopes: Vec<ServerScope> =
            server_itself.into_iter().chain(calls).map(|call| ServerScope::new(Arc::clone(&settings), call)).collect();
        let fetches = scopes.iter().map(|scope| self.fetch(scope, &cancel));
        futures::future::try_join_all(fetches).await.map(drop)
    }

    async fn run_tool(
        &self,
        server: &str,
        tool: &str,
        arguments: Map<String, Json>,
        cancel: CancellationToken,
    ) -> Result<Completed, ProvisionError> {
        let span = tracing::info_span!("tool", server, tool);
        async {
            let settings = self.settings(server)?;
            let definition = settings.entry.tools.iter().find(|known| known.name == tool && known.container.is_some());
            let Some(definition) = definition.cloned() else {
                return Err(ProvisionError::Invalid(format!(
                    "server `{server}` has no tool `{tool}` with a container"
                )));
            };
            let scope = self.scope(server, Some(ToolCall { tool: definition, arguments }))?;
            let (provisioner, task) =
                self.both_ready(&scope, |spec| Task::RunTool(spec, tool.to_owned()), &cancel).await?;
            // The runtime keeps the time of the tool itself, and says more about it.
            let time = self.start_limit(&scope) + self.environment.times.run;
            let limit = Limit { what: "end", time, advice: RuntimeError::RAISE_CALL_TIMEOUT };
            match self.run(provisioner, Some(Arc::clone(&scope)), task, limit, cancel).await? {
                Outcome::Completed(completed) => {
                    self.warn_of_arguments(&scope).await;
                    Ok(completed)
                }
                Outcome::Done | Outcome::Name(_) | Outcome::Container(_) | Outcome::Remote(_) => Err(no_such_outcome()),
            }
        }
        .instrument(span)
        .await
    }
}

/// An identifier as real sessions have it.
fn some_session() -> String {
    use std::fmt::Write as _;
    let mut random = [0_u8; 8];
    // Without randomness it is as good as any.
    let _ = getrandom::fill(&mut random);
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn no_such_outcome() -> ProvisionError {
    ProvisionError::Other("the provisioner answered another question than was asked".to_owned())
}

/// What a component is told of a server.
fn server_spec(scope: &ServerScope) -> Result<ServerSpec, ResolveError> {
    scope.admitted()?;
    Ok(ServerSpec {
        name: scope.name().to_owned(),
        image: scope.image().map(str::to_owned),
        remote: scope.remote_transport()?.map(Into::into),
        resources: scope.resources().into(),
        network: scope.network().into(),
        hosts: scope.hosts()?.into_iter().map(Into::into).collect(),
        long_lived: scope.long_lived(),
    })
}
