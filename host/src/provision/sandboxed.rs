//! [`Provision`] by a WebAssembly component: loads it once, asks it in a fresh instance per operation, and turns
//! what it answers into endpoints.
//!
//! It decides nothing about containers itself and knows no engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use serde_json::{Map, Value as Json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Endpoint, Provision, ProvisionError, Remote};
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::{Completed, ContainerRuntime, ImageProgress, RuntimeError};
use crate::capability::remote_endpoint::RemoteHandle;
use crate::lease::Reaper;
use crate::policy::grants::Grants;
use crate::resolve::{ResolveError, ServerScope, ServerSettings, ToolCall};
use crate::sandbox::Limits;
use crate::sandbox::bindings::mcp_gateway::provisioning::types::{self, ServerSpec, Session};
use crate::sandbox::component::{Provisioner, Source};
use crate::sandbox::engine::Engine;
use crate::sandbox::operation::{Environment, OperationError, Outcome, Task, text};
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
    /// How long a tool of its own container may take.
    pub tool_timeout: Duration,
    /// What one operation of the guest may use.
    pub limits: Limits,
    /// Told how image pulls go on.
    pub progress: Arc<dyn ImageProgress>,
    /// True if this is a forecast: nothing is prepared, started or read.
    pub dry_run: bool,
}

/// Provisions servers through a component.
pub struct SandboxedProvisioner {
    engine: Engine,
    component: Source,
    grants: Grants,
    environment: Environment,
    servers: BTreeMap<String, Arc<ServerSettings>>,
    startup_timeout: Duration,
    tool_timeout: Duration,
    progress: Arc<dyn ImageProgress>,
    compiling: OnceLock<Compiling>,
    loaded: OnceCell<Result<Arc<Provisioner>, ProvisionError>>,
}

type Compiling = Shared<BoxFuture<'static, Result<Arc<Provisioner>, ProvisionError>>>;

impl SandboxedProvisioner {
    /// Takes the set-up. Loads nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            engine: setup.engine,
            component: setup.component,
            grants: setup.grants,
            environment: Environment {
                session: Session { id: setup.session, dry_run: setup.dry_run },
                runtime: setup.runtime,
                limits: setup.limits,
            },
            servers: setup.servers.into_iter().map(|server| (server.name.clone(), Arc::new(server))).collect(),
            startup_timeout: setup.startup_timeout,
            tool_timeout: setup.tool_timeout,
            progress: setup.progress,
            compiling: OnceLock::new(),
            loaded: OnceCell::new(),
        }
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

    /// Compiles the component. Once, whoever waits for it and however often they go away: nothing stops a compiler.
    fn compiled(&self) -> Compiling {
        let begin = || {
            let (engine, source, grants) = (self.engine.clone(), self.component.clone(), self.grants.clone());
            let (name, limit) = (self.component.to_string(), self.environment.limits.compile_time);
            let work = tokio::task::spawn_blocking(move || Provisioner::load(&engine, &source, grants));
            let compiling = async move {
                match tokio::time::timeout(limit, work).await {
                    Ok(Ok(loaded)) => {
                        loaded.map(Arc::new).map_err(|error| ProvisionError::Component(error.to_string()))
                    }
                    Ok(Err(panic)) => {
                        Err(ProvisionError::Component(format!("loading provisioner `{name}` failed: {panic}")))
                    }
                    Err(_) => Err(ProvisionError::Component(format!(
                        "provisioner `{name}` was not compiled within {} s; use a smaller component",
                        limit.as_secs()
                    ))),
                }
            };
            compiling.boxed().shared()
        };
        self.compiling.get_or_init(begin).clone()
    }

    async fn load(&self) -> Result<Arc<Provisioner>, ProvisionError> {
        let provisioner = self.compiled().await?;
        tracing::info!(component = provisioner.source, digest = provisioner.digest, "provisioner loaded");
        let specs = self.servers.values().filter_map(|server| {
            // An entry that is wrong fails its own server later, not the session.
            server_spec(&ServerScope::new(Arc::clone(server), None)).ok()
        });
        let task = Task::Initialize(specs.collect());
        self.run(&provisioner, None, task, self.startup_timeout, CancellationToken::new()).await?;
        Ok(provisioner)
    }

    /// Gives the component the advice that the session ends. Everything is released in any case.
    pub async fn shutdown(&self) {
        if let Some(Ok(provisioner)) = self.loaded.get() {
            let limit = Duration::from_secs(2);
            let done = self.run(provisioner, None, Task::Shutdown, limit, CancellationToken::new()).await;
            if let Err(error) = done {
                tracing::warn!(%error, "the provisioner's shutdown failed");
            }
        }
    }

    /// Asks whether a server could be provisioned, without creating anything.
    ///
    /// # Errors
    /// Why not.
    pub async fn pre_validate(&self, server: &str) -> Result<(), ProvisionError> {
        let scope = self.scope(server, None)?;
        let task = Task::PreValidate(server_spec(&scope).map_err(|error| ProvisionError::Invalid(error.to_string()))?);
        self.run(self.ready().await?, Some(scope), task, self.startup_timeout, CancellationToken::new()).await?;
        Ok(())
    }

    fn scope(&self, server: &str, call: Option<ToolCall>) -> Result<Arc<ServerScope>, ProvisionError> {
        let settings = self.servers.get(server).ok_or_else(|| ProvisionError::UnknownServer(server.to_owned()))?;
        Ok(Arc::new(ServerScope::new(Arc::clone(settings), call)))
    }

    /// Waits for the component, and for the image that it will ask for when it is given the task.
    async fn prepared(
        &self,
        scope: &Arc<ServerScope>,
        task: Task,
        cancel: &CancellationToken,
    ) -> Result<&Arc<Provisioner>, ProvisionError> {
        if self.environment.session.dry_run || matches!(scope.remote_transport(), Ok(Some(_))) {
            return self.ready().await;
        }
        if self.grants.bounds.rewrite_image.is_empty() {
            // The image may be fetched while the component is still being compiled.
            let image = scope.image().into_iter().map(str::to_owned).collect();
            let (provisioner, prepared) = tokio::join!(self.ready(), self.prepare(image, cancel));
            let provisioner = provisioner?;
            return prepared.map(|()| provisioner);
        }
        // It may take images from elsewhere, and then the entry's own must not be fetched from where the operator does
        // not want it. So it is asked first, with a runtime that only records.
        let provisioner = self.ready().await?;
        let recorder = Arc::new(PlanRuntime::new(self.environment.runtime.name(), Reaper::new()));
        let environment = Environment { runtime: Arc::clone(&recorder) as _, ..self.environment.clone() };
        let forecast = provisioner.run(environment, Some(Arc::clone(scope)), task, cancel.clone());
        self.within(self.startup_timeout, forecast, cancel).await?;
        let images = recorder.take().into_iter().map(|request| request.spec.image).collect();
        self.prepare(images, cancel).await?;
        Ok(provisioner)
    }

    /// Waits until images are there.
    async fn prepare(&self, images: BTreeSet<String>, cancel: &CancellationToken) -> Result<(), ProvisionError> {
        for image in images {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(ProvisionError::Cancelled),
                prepared = self.environment.runtime.prepare(&image, &*self.progress) => prepared?,
            }
        }
        Ok(())
    }

    async fn run(
        &self,
        provisioner: &Arc<Provisioner>,
        scope: Option<Arc<ServerScope>>,
        task: Task,
        limit: Duration,
        cancel: CancellationToken,
    ) -> Result<Outcome, ProvisionError> {
        let run = provisioner.run(self.environment.clone(), scope, task, cancel.clone());
        self.within(limit, run, &cancel).await
    }

    /// Waits for an operation, for a limited time.
    async fn within(
        &self,
        limit: Duration,
        run: impl Future<Output = Result<Outcome, OperationError>>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, ProvisionError> {
        match tokio::time::timeout(limit, run).await {
            Ok(Err(OperationError::Stopped { .. })) if cancel.is_cancelled() => Err(ProvisionError::Cancelled),
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(ProvisionError::TimedOut(format!(
                "it did not start within {} s; raise `--max-server-startup-timeout` if it needs longer",
                limit.as_secs()
            ))),
        }
    }

    /// Fills in what only the host may know. In a forecast secrets keep their names.
    async fn remote(&self, scope: &ServerScope, handle: RemoteHandle) -> Result<Remote, ProvisionError> {
        let settings =
            self.servers.get(scope.name()).ok_or_else(|| ProvisionError::UnknownServer(scope.name().to_owned()))?;
        let read = async |value: &provisioning_core::Value| {
            if self.environment.session.dry_run {
                return Ok(secrets::SecretText::new(value.to_string()));
            }
            secrets::materialise(value, &*settings.secrets)
                .await
                .map_err(|error| ProvisionError::Invalid(error.to_string()))
        };
        let mut headers = BTreeMap::new();
        for (name, value) in &handle.headers {
            headers.insert(name.clone(), read(value).await?);
        }
        Ok(Remote { url: read(&handle.url).await?, transport: handle.transport, headers })
    }
}

#[async_trait]
impl Provision for SandboxedProvisioner {
    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        let span = tracing::info_span!("provision", server);
        async {
            let scope = self.scope(server, None)?;
            let spec = server_spec(&scope)?;
            let provisioner = self.prepared(&scope, Task::Provision(spec.clone()), &cancel).await?;
            let task = Task::Provision(spec);
            match self.run(provisioner, Some(Arc::clone(&scope)), task, self.startup_timeout, cancel).await? {
                Outcome::Container(running) => Ok(Endpoint::Container(running)),
                Outcome::Remote(handle) => Ok(Endpoint::Remote(self.remote(&scope, handle).await?)),
                Outcome::Done | Outcome::Name(_) | Outcome::Completed(_) => Err(no_such_outcome()),
            }
        }
        .instrument(span)
        .await
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
            let settings = self.servers.get(server).ok_or_else(|| ProvisionError::UnknownServer(server.to_owned()))?;
            let definition = settings.entry.tools.iter().find(|known| known.name == tool && known.container.is_some());
            let Some(definition) = definition.cloned() else {
                return Err(ProvisionError::Invalid(format!(
                    "server `{server}` has no tool `{tool}` with a container"
                )));
            };
            let scope = self.scope(server, Some(ToolCall { tool: definition, arguments }))?;
            let spec = server_spec(&scope)?;
            let task = Task::RunTool(spec, tool.to_owned());
            let provisioner = self.prepared(&scope, task.clone(), &cancel).await?;
            match self.run(provisioner, Some(scope), task, self.tool_timeout, cancel).await? {
                Outcome::Completed(completed) => Ok(completed),
                Outcome::Done | Outcome::Name(_) | Outcome::Container(_) | Outcome::Remote(_) => Err(no_such_outcome()),
            }
        }
        .instrument(span)
        .await
    }
}

fn no_such_outcome() -> ProvisionError {
    ProvisionError::Other("the provisioner answered another question than was asked".to_owned())
}

/// What a component is told of a server.
fn server_spec(scope: &ServerScope) -> Result<ServerSpec, ResolveError> {
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

impl From<ResolveError> for ProvisionError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::SecretStore(text) => Self::Unavailable(text),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<RuntimeError> for ProvisionError {
    fn from(error: RuntimeError) -> Self {
        let text = error.to_string();
        match error {
            RuntimeError::Image { .. }
            | RuntimeError::Invalid(_)
            | RuntimeError::Conflict(_)
            | RuntimeError::Secret(_) => Self::Invalid(text),
            RuntimeError::Denied(_) => Self::Denied(text),
            RuntimeError::Unavailable(_) => Self::Unavailable(text),
            RuntimeError::TimedOut { .. } => Self::TimedOut(text),
            RuntimeError::Engine(_) => Self::Other(text),
        }
    }
}

impl From<OperationError> for ProvisionError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Refused(refusal) => {
                let text = text(&refusal).to_owned();
                match refusal {
                    types::Error::AccessDenied(_) => Self::Denied(text),
                    types::Error::NotFound(_) | types::Error::Invalid(_) | types::Error::Conflict(_) => {
                        Self::Invalid(text)
                    }
                    types::Error::Unavailable(_) => Self::Unavailable(text),
                    types::Error::TimedOut(_) => Self::TimedOut(text),
                    types::Error::Other(_) => Self::Other(text),
                }
            }
            stopped @ (OperationError::Stopped { .. } | OperationError::Trapped { .. }) => {
                Self::Component(stopped.to_string())
            }
        }
    }
}
