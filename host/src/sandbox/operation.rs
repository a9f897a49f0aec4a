//! One operation: a fresh instance, scoped to one server, with its limits; run to completion in a task of its own.
//!
//! Whoever waits for an operation may go away at any time: the guest is then stopped by its next tick or host call,
//! and what it had acquired is released with its store.

use std::collections::BTreeSet;
use std::sync::Arc;

use provisioning_core::policy::Limit;
use provisioning_core::text::one_line;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::exports::mcp_gateway::provisioning::provisioner as exported;
use super::bindings::mcp_gateway::provisioning::types::{Error, ServerSpec, Session};
use super::component::Provisioner;
use super::engine::{STACK_BYTES, TICK};
use super::limiter::Growth;
use super::reached::{describe, limit_behind};
use super::waiting::Waiting;
use super::{Limits, Stop};
use crate::audit::record::Used;
use crate::audit::{Audit, Ending, Operation, Subject};
use crate::capability::container_runtime::{Completed, ContainerRuntime, Running};
use crate::capability::recorded::case;
use crate::capability::remote_endpoint::RemoteHandle;
use crate::capability::{Allowance, Context, Reasons, Times};
use crate::policy::enforcement::Enforcement;
use crate::resolve::ServerScope;

/// What a store holds.
pub struct State {
    pub(super) context: Context,
    growth: Growth,
    /// Empty: no files, no sockets, no environment. Made when it is reached, which only components with a WASI grant
    /// can.
    wasi: Option<WasiCtx>,
    guest_ticks_left: u64,
}

impl State {
    /// What the guest waits with, if it has WASI.
    pub(super) fn waiting(&mut self) -> Waiting<'_> {
        Waiting { table: &mut self.context.table, stop: &self.context.cancel }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(no_world), table: &mut self.context.table }
    }
}

/// What a component is asked to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Its name.
    Name,
    /// The check at the start of a session.
    Initialize(Vec<ServerSpec>),
    /// Whether a server could be provisioned.
    PreValidate(ServerSpec),
    /// Provision a server.
    Provision(ServerSpec),
    /// Run an ephemeral tool.
    RunTool(ServerSpec, String),
    /// The advice at the end of a session.
    Shutdown,
}

impl Task {
    /// What it is called in the audit log.
    fn name(&self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Initialize(_) => "initialize",
            Self::PreValidate(_) => "pre-validate",
            Self::Provision(_) => "provision",
            Self::RunTool(..) => "run-tool",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing but success.
    Done,
    /// A name.
    Name(String),
    /// A container.
    Container(Running),
    /// A remote server.
    Remote(RemoteHandle),
    /// A tool that ran.
    Completed(Completed),
}

/// Why an operation failed.
#[derive(Debug, Error)]
pub enum OperationError {
    /// The component says so.
    #[error("{}", text(.0))]
    Refused(Error),
    /// The host ended it.
    #[error("provisioner `{component}` was stopped: {stop}{}", reached(.limit.as_deref()))]
    Stopped {
        /// Which component.
        component: String,
        /// Why.
        stop: Stop,
        /// The limit that it reached: its name, its value, and what sets it.
        limit: Option<String>,
    },
    /// It trapped, or broke the rules of the contract.
    #[error("provisioner `{component}` failed: {reason}{}", reached(.limit.as_deref()))]
    Trapped {
        /// Which component.
        component: String,
        /// What wasmtime says.
        reason: String,
        /// The limit that it had reached, likewise.
        limit: Option<String>,
    },
}

fn reached(limit: Option<&str>) -> String {
    limit.map(|limit| format!(" ({limit})")).unwrap_or_default()
}

/// The text of an error of the contract.
pub fn text(error: &Error) -> &str {
    match error {
        Error::AccessDenied(text)
        | Error::NotFound(text)
        | Error::Conflict(text)
        | Error::Invalid(text)
        | Error::Unavailable(text)
        | Error::TimedOut(text)
        | Error::Other(text) => text,
    }
}

/// What an operation runs with.
#[derive(Clone)]
pub struct Environment {
    /// The session, as the component is told.
    pub session: Session,
    /// The session that what is created belongs to.
    pub labelled: String,
    /// Where containers run.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The limits.
    pub limits: Limits,
    /// Where operations and their calls are recorded.
    pub audit: Audit,
    /// The policies, and who is told of decisions.
    pub enforcement: Enforcement,
    /// How long containers may take.
    pub times: Times,
    /// True if the component is only asked what it would do, before it is asked to do it.
    pub rehearsal: bool,
}

impl Provisioner {
    /// Runs one operation in the scope of a server, or of none.
    ///
    /// Dropping the future cancels the operation. It then ends by itself and leaves nothing behind.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn run(
        self: &Arc<Self>,
        environment: Environment,
        scope: Option<Arc<ServerScope>>,
        task: Task,
        cancel: CancellationToken,
    ) -> Result<Outcome, OperationError> {
        let cancel = cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let this = Arc::clone(self);
        // A task of its own, because a call into a guest must not be dropped in the middle.
        let work = tokio::spawn(tracing::Instrument::in_current_span(async move {
            this.run_to_completion(environment, scope, task, cancel).await
        }));
        work.await.unwrap_or_else(|panic| {
            let reason = format!("the host failed: {panic}");
            Err(OperationError::Trapped { component: self.source.clone(), reason, limit: None })
        })
    }

    async fn run_to_completion(
        &self,
        environment: Environment,
        scope: Option<Arc<ServerScope>>,
        task: Task,
        cancel: CancellationToken,
    ) -> Result<Outcome, OperationError> {
        let (session, limits) = (environment.session.clone(), self.limits(environment.limits));
        let mut audit = environment.audit.operation(|| {
            let name = if environment.rehearsal { "rehearse" } else { task.name() };
            self.subject(name, scope.as_deref())
        });
        let room = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Stop::Cancelled.into()),
            room = self.engine.room_for(self.instances.all) => room,
        };
        let _room = match room {
            Ok(room) => room,
            Err(error) => {
                let result = Err(self.explain(&error, &limits, None));
                audit.end(|| ending(&result), Used::default);
                return result;
            }
        };
        let _ticking = self.engine.ticking();
        let mut store = self.store(environment, scope, cancel, audit);
        let result = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            let guest = instance.mcp_gateway_provisioning_provisioner();
            call(guest, &mut store, &session, task).await
        }
        .await;
        let left = &store.data().context.allowance;
        tracing::debug!(
            component = self.source,
            host_calls_left = left.host_calls,
            guest_ticks_left = store.data().guest_ticks_left,
            "operation ended"
        );
        let refused = store.data().growth.refused;
        let result = match result.unwrap_or_else(|error| Err(self.explain(&error, &limits, refused))) {
            Err(OperationError::Refused(error)) => {
                Err(OperationError::Refused(shown(error, &store.data().context.reasons)))
            }
            other => other,
        };
        let used = self.used(store.data(), &limits);
        store.data_mut().context.audit.end(|| ending(&result), || used);
        result
    }

    /// What the audit log says of an operation.
    fn subject<'a>(&'a self, task: &'static str, scope: Option<&'a ServerScope>) -> Subject<'a> {
        Subject {
            task,
            server: scope.map(ServerScope::name),
            tool: scope.and_then(ServerScope::tool),
            component: &self.source,
            digest: &self.digest,
        }
    }

    /// What the guest used of its limits.
    fn used(&self, state: &State, limits: &Limits) -> Used {
        let left = &state.context.allowance;
        let of = |limit: usize, left: usize| (limit - left.min(limit)) as u64;
        Used {
            memory_bytes: of(limits.memory_bytes, state.growth.memory_bytes),
            table_elements: of(limits.table_elements, state.growth.table_elements),
            instances: self.instances.core,
            handles: state.context.most_handles as u64,
            guest_ms: (ticks(limits) - state.guest_ticks_left) * TICK_MILLISECONDS,
            host_calls: u64::from(limits.host_calls - left.host_calls),
            copied_bytes: 0,
            value_bytes: of(limits.value_bytes, left.least_value_bytes),
            containers: u64::from(limits.containers - left.containers),
            log_lines: u64::from(limits.log_lines - left.log_lines),
        }
    }

    fn store(
        &self,
        environment: Environment,
        scope: Option<Arc<ServerScope>>,
        cancel: CancellationToken,
        audit: Operation,
    ) -> Store<State> {
        use crate::policy::grants::Interface::SecretResolver;
        let limits = self.limits(environment.limits);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let context = Context {
            table,
            scope,
            runtime: environment.runtime,
            component: (self.digest.clone(), self.builtin.clone()),
            bounds: self.grants.bounds.clone(),
            enforcement: environment.enforcement,
            secrets_granted: self.grants.interfaces.contains(&SecretResolver),
            stored_keys: BTreeSet::new(),
            session: environment.labelled,
            times: environment.times,
            cancel,
            allowance: Allowance {
                host_calls: limits.host_calls,
                log_lines: limits.log_lines,
                value_bytes: limits.value_bytes,
                least_value_bytes: limits.value_bytes,
                containers: limits.containers,
            },
            most_handles: 0,
            audit,
            decision: None,
            reasons: Reasons::default(),
        };
        let state = State { context, growth: Growth::new(&limits), wasi: None, guest_ticks_left: ticks(&limits) };
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.growth);
        store.set_hostcall_fuel(limits.copied_bytes);
        // Called when the guest computes past a tick: time in which it waits for the host costs it one tick at most.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if state.context.cancel.is_cancelled() {
                return Err(Stop::Cancelled.into());
            }
            state.guest_ticks_left = state.guest_ticks_left.checked_sub(1).ok_or(Stop::GuestTime)?;
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// The one place where the end of a guest becomes a message.
    fn explain(&self, error: &wasmtime::Error, limits: &Limits, refused: Option<Limit>) -> OperationError {
        let component = self.source.clone();
        let limit = limit_behind(error, refused).map(|limit| describe(limit, limits, &self.ceilings));
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return OperationError::Stopped { component, stop: *stop, limit };
        }
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(trap @ wasmtime::Trap::StackOverflow) => {
                let reason = format!("{trap}; a stack has {} KiB, which nothing changes", STACK_BYTES >> 10);
                OperationError::Trapped { component, reason, limit: None }
            }
            Some(trap) => OperationError::Trapped { component, reason: trap.to_string(), limit },
            None => {
                // Without the backtrace, which is for developers of the component.
                tracing::debug!(component, "{error:?}");
                OperationError::Trapped {
                    component,
                    reason: one_line(&error.root_cause().to_string(), MAX_TEXT),
                    limit,
                }
            }
        }
    }
}

/// How many ticks a guest may compute.
fn ticks(limits: &Limits) -> u64 {
    u64::try_from(limits.guest_time.as_millis()).unwrap_or(u64::MAX) / TICK_MILLISECONDS
}

const TICK_MILLISECONDS: u64 = TICK.as_millis() as u64;

/// How an operation ended, for the audit log.
fn ending(result: &Result<Outcome, OperationError>) -> Ending {
    match result {
        Ok(_) => Ending::ok(),
        Err(OperationError::Refused(error)) => Ending::failed(case(error), text(error)),
        Err(error @ OperationError::Stopped { .. }) => Ending::failed("stopped", error.to_string()),
        Err(error @ OperationError::Trapped { .. }) => Ending::failed("trapped", error.to_string()),
    }
}

/// WASI without anything behind it, for components that are granted its interfaces.
fn no_world() -> WasiCtx {
    const RANDOM_BYTES: u64 = 1 << 20;
    WasiCtx::builder()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_BYTES)
        .build()
}

/// An error of the contract with another text.
pub(crate) fn with_text(error: Error, text: impl FnOnce(String) -> String) -> Error {
    match error {
        Error::AccessDenied(old) => Error::AccessDenied(text(old)),
        Error::NotFound(old) => Error::NotFound(text(old)),
        Error::Conflict(old) => Error::Conflict(text(old)),
        Error::Invalid(old) => Error::Invalid(text(old)),
        Error::Unavailable(old) => Error::Unavailable(text(old)),
        Error::TimedOut(old) => Error::TimedOut(text(old)),
        Error::Other(old) => Error::Other(text(old)),
    }
}

/// An error of the component with its text as it may be shown, and with the reasons that the component was not told.
fn shown(error: Error, reasons: &Reasons) -> Error {
    // Cut first: a text without end would have room for a reason many times.
    with_text(error, |text| one_line(&reasons.put_into(&one_line(&text, MAX_TEXT)), 2 * MAX_TEXT))
}

/// How many characters of a text of the component are kept.
const MAX_TEXT: usize = 2000;

/// Calls the export. The outer error ends the guest, the inner one is the guest's own.
async fn call(
    guest: &exported::Guest,
    store: &mut Store<State>,
    session: &Session,
    task: Task,
) -> wasmtime::Result<Result<Outcome, OperationError>> {
    let refused = |error| Ok(Err(OperationError::Refused(error)));
    match task {
        Task::Name => Ok(Ok(Outcome::Name(one_line(&guest.call_name(store).await?, MAX_TEXT)))),
        Task::Initialize(servers) => match guest.call_initialize(store, session, &servers).await? {
            Ok(()) => Ok(Ok(Outcome::Done)),
            Err(error) => refused(error),
        },
        Task::PreValidate(spec) => match guest.call_pre_validate_deployment(store, session, &spec).await? {
            Ok(()) => Ok(Ok(Outcome::Done)),
            Err(error) => refused(error),
        },
        Task::Provision(spec) => match guest.call_provision_server(&mut *store, session, &spec).await? {
            // Taken from the table, it outlives the store.
            Ok(exported::Endpoint::Container(container)) => {
                Ok(Ok(Outcome::Container(store.data_mut().context.table.delete(container)?)))
            }
            Ok(exported::Endpoint::Remote(remote)) => {
                Ok(Ok(Outcome::Remote(store.data_mut().context.table.delete(remote)?)))
            }
            Err(error) => refused(error),
        },
        Task::RunTool(spec, tool) => match guest.call_apply_tool_providers(&mut *store, session, &spec, &tool).await? {
            Ok(completed) => Ok(Ok(Outcome::Completed(store.data_mut().context.table.delete(completed)?))),
            Err(error) => refused(error),
        },
        Task::Shutdown => match guest.call_shutdown(store, session).await? {
            Ok(()) => Ok(Ok(Outcome::Done)),
            Err(error) => refused(error),
        },
    }
}
