//! The functions that components are linked with: each records the call in the audit log and delegates to the
//! capability behind it. The linker takes nothing else, so that there is no way around the log.

use provisioning_core::Value;
use wasmtime::component::{HasData, Resource};

use super::container_runtime::{Completed, Running};
use super::remote_endpoint::RemoteHandle;
use super::{Context, Failure};
use crate::audit::line::{Members, Texts, name};
use crate::audit::{Call, Ending, Operation};
use crate::sandbox::Stop;
use crate::sandbox::bindings::mcp_gateway::provisioning::types::{self, Error};
use crate::sandbox::bindings::mcp_gateway::provisioning::values::{self, Binding};
use crate::sandbox::bindings::mcp_gateway::provisioning::{
    cluster_objects, config_resolver, container_runtime as runtime, handles, log, remote_endpoint, secret_resolver,
};

/// A view of a [`Context`] that records.
pub(crate) struct Recorded<'a>(pub(crate) &'a mut Context);

/// Tells the linker of it.
pub(crate) struct Recording;

impl HasData for Recording {
    type Data<'a> = Recorded<'a>;
}

impl types::Host for Recorded<'_> {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error> {
        types::Host::convert_error(&mut *self.0, failure)
    }
}

impl secret_resolver::Host for Recorded<'_> {
    async fn resolve_secrets(&mut self) -> Result<Vec<Binding>, Failure> {
        self.enter("secret-resolver", "resolve-secrets");
        let result = secret_resolver::Host::resolve_secrets(&mut *self.0).await;
        self.leave(result, |context, given, gave| bindings(context, given, gave))
    }
}

impl config_resolver::Host for Recorded<'_> {
    async fn resolve_environment(&mut self) -> Result<Vec<Binding>, Failure> {
        self.enter("config-resolver", "resolve-environment");
        let result = config_resolver::Host::resolve_environment(&mut *self.0).await;
        self.leave(result, |context, given, gave| bindings(context, given, gave))
    }

    async fn resolve_command(&mut self) -> Result<Vec<Resource<Value>>, Failure> {
        self.enter("config-resolver", "resolve-command");
        let result = config_resolver::Host::resolve_command(&mut *self.0).await;
        self.leave(result, |context, values, gave| gave.extend(values.iter().map(|value| context.named(value))))
    }

    async fn resolve_volumes(&mut self) -> Result<Vec<Binding>, Failure> {
        self.enter("config-resolver", "resolve-volumes");
        let result = config_resolver::Host::resolve_volumes(&mut *self.0).await;
        // Their names are the same texts as templates.
        self.leave(result, |context, volumes, gave| {
            gave.extend(volumes.iter().map(|volume| context.named(&volume.value)));
        })
    }

    async fn resolve_user(&mut self) -> Result<Option<Resource<Value>>, Failure> {
        self.enter("config-resolver", "resolve-user");
        let result = config_resolver::Host::resolve_user(&mut *self.0).await;
        self.leave(result, |context, user, gave| gave.extend(user.iter().map(|value| context.named(value))))
    }
}

impl runtime::Host for Recorded<'_> {
    async fn name(&mut self) -> wasmtime::Result<String> {
        self.enter("container-runtime", "name");
        let result = runtime::Host::name(&mut *self.0).await;
        self.leave(result, |_, name, gave| gave.push(name))
    }

    async fn run(&mut self, spec: runtime::ContainerSpec) -> Result<Resource<Completed>, Failure> {
        self.ask("run", &spec);
        let result = runtime::Host::run(&mut *self.0, spec).await;
        self.leave(result, nothing)
    }

    async fn start(&mut self, spec: runtime::ContainerSpec) -> Result<Resource<Running>, Failure> {
        self.ask("start", &spec);
        let result = runtime::Host::start(&mut *self.0, spec).await;
        self.leave(result, handle)
    }

    async fn stop(&mut self, container: Resource<Running>) -> Result<(), Failure> {
        self.act_on("container-runtime", "stop", &container);
        let result = runtime::Host::stop(&mut *self.0, container).await;
        self.leave(result, nothing)
    }
}

impl cluster_objects::Host for Recorded<'_> {
    async fn store(&mut self, entries: Vec<cluster_objects::Entry>) -> Result<Vec<Resource<Value>>, Failure> {
        let copied = entries.iter().map(|entry| entry.key.len()).sum();
        let call = Call { interface: "cluster-objects", function: "store", acts: false };
        self.enter_with(call, copied, |context, arguments| {
            let kind = |kind| match kind {
                cluster_objects::ObjectKind::Automatic => "automatic ",
                cluster_objects::ObjectKind::Secret => "secret ",
                cluster_objects::ObjectKind::ConfigMap => "config-map ",
            };
            let entries = entries.iter();
            let pairs = entries.map(|entry| (entry.kind, Pair(&entry.key, "=", context.named(&entry.value))));
            arguments.texts(name::ENTRIES, pairs.map(|(of, pair)| Pair(kind(of), "", pair)));
        });
        let result = cluster_objects::Host::store(&mut *self.0, entries).await;
        self.leave(result, nothing)
    }
}

impl remote_endpoint::Host for Recorded<'_> {
    async fn connect(&mut self) -> Result<Resource<RemoteHandle>, Failure> {
        self.enter("remote-endpoint", "connect");
        let result = remote_endpoint::Host::connect(&mut *self.0).await;
        self.leave(result, |context, handle, gave| {
            if let Ok(remote) = context.table.get(handle) {
                gave.push(&remote.url);
                gave.extend(remote.headers.iter().map(|(name, value)| Pair(name, ": ", value)));
            }
        })
    }
}

impl log::Host for Recorded<'_> {
    async fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.0.audit.enter(message.len(), Call { interface: "log", function: "log", acts: false }, |arguments| {
            let level = match level {
                log::Level::Debug => "debug",
                log::Level::Info => "info",
                log::Level::Warn => "warn",
                log::Level::Error => "error",
            };
            arguments.word(name::LEVEL, level);
            arguments.text(name::MESSAGE, &message);
        });
        let result = log::Host::log(&mut *self.0, level, message).await;
        self.leave(result, nothing)
    }
}

impl values::Host for Recorded<'_> {}

/// Values are made and joined by the hundred, and it harms nobody: these calls are only counted. What becomes of a
/// value stands in the record of the call that uses it.
impl values::HostValue for Recorded<'_> {
    async fn new(&mut self, text: String) -> wasmtime::Result<Resource<Value>> {
        self.0.audit.count("values", "new", text.len());
        values::HostValue::new(&mut *self.0, text).await
    }

    async fn concat(&mut self, parts: Vec<Resource<Value>>) -> wasmtime::Result<Resource<Value>> {
        self.0.audit.count("values", "concat", 0);
        values::HostValue::concat(&mut *self.0, parts).await
    }

    async fn drop(&mut self, value: Resource<Value>) -> wasmtime::Result<()> {
        self.0.audit.count("values", "drop", 0);
        values::HostValue::drop(&mut *self.0, value).await
    }
}

impl handles::Host for Recorded<'_> {}

impl handles::HostContainer for Recorded<'_> {
    /// Removes the container.
    async fn drop(&mut self, container: Resource<Running>) -> wasmtime::Result<()> {
        self.act_on("handles", "drop-container", &container);
        let result = handles::HostContainer::drop(&mut *self.0, container).await;
        self.leave(result, nothing)
    }
}

impl handles::HostCompleted for Recorded<'_> {
    async fn drop(&mut self, completed: Resource<Completed>) -> wasmtime::Result<()> {
        self.0.audit.count("handles", "drop-completed", 0);
        handles::HostCompleted::drop(&mut *self.0, completed).await
    }
}

impl handles::HostRemote for Recorded<'_> {
    async fn drop(&mut self, remote: Resource<RemoteHandle>) -> wasmtime::Result<()> {
        self.0.audit.count("handles", "drop-remote", 0);
        handles::HostRemote::drop(&mut *self.0, remote).await
    }
}

impl Recorded<'_> {
    /// A call without arguments begins.
    fn enter(&mut self, interface: &'static str, function: &'static str) {
        self.0.audit.enter(0, Call { interface, function, acts: false }, |_| {});
    }

    /// A call begins that is recorded with the values in it by their names.
    fn enter_with(&mut self, call: Call, copied: usize, arguments: impl FnOnce(&Context, &mut Members<'_>)) {
        let context = &mut *self.0;
        let mut audit = std::mem::replace(&mut context.audit, Operation::unrecorded());
        audit.enter(copied, call, |members| arguments(context, members));
        context.audit = audit;
    }

    /// A call that asks for a container begins.
    fn ask(&mut self, function: &'static str, spec: &runtime::ContainerSpec) {
        let call = Call { interface: "container-runtime", function, acts: true };
        self.enter_with(call, copied(spec), |context, arguments| context.describe(spec, arguments));
    }

    /// A call that ends a container begins.
    fn act_on(&mut self, interface: &'static str, function: &'static str, container: &Resource<Running>) {
        let call = Call { interface, function, acts: true };
        self.0.audit.enter(0, call, |arguments| arguments.number(name::CONTAINER, container.rep().into()));
    }

    /// The call ended. What it gave is only asked for if it is recorded.
    fn leave<T, E: Told>(
        &mut self,
        result: Result<T, E>,
        given: impl FnOnce(&Context, &T, &mut Texts<'_>),
    ) -> Result<T, E> {
        let context = &mut *self.0;
        let decision = context.decision.take();
        let mut audit = std::mem::replace(&mut context.audit, Operation::unrecorded());
        audit.leave(decision, |gave| match &result {
            Ok(result) => {
                given(context, result, gave);
                Ending::ok()
            }
            Err(error) => error.told(),
        });
        context.audit = audit;
        result
    }
}

fn nothing<T>(_: &Context, _: &T, _: &mut Texts<'_>) {}

/// The handle by which later calls name the container.
fn handle(_: &Context, container: &Resource<Running>, gave: &mut Texts<'_>) {
    gave.push(format_args!("container {}", container.rep()));
}

fn bindings(context: &Context, bindings: &[Binding], gave: &mut Texts<'_>) {
    gave.extend(bindings.iter().map(|binding| Pair(&binding.name, "=", context.named(&binding.value))));
}

/// How many bytes of text a specification has.
fn copied(spec: &runtime::ContainerSpec) -> usize {
    let names = spec.environment.iter().map(|binding| binding.name.len());
    let hosts = spec.hosts.iter().map(|host| host.name.len() + host.address.len());
    let labels = spec.labels.iter().map(|label| label.key.len() + label.text.len());
    spec.image.len() + names.chain(hosts).chain(labels).sum::<usize>()
}

/// A value by the names of what is in it.
struct Named<'a>(Option<&'a Value>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("<no such value>"),
        }
    }
}

impl Context {
    fn named(&self, value: &Resource<Value>) -> Named<'_> {
        Named(self.table.get(value).ok())
    }

    /// A specification as it is recorded: private values by their names, all of it bounded.
    fn describe(&self, spec: &runtime::ContainerSpec, members: &mut Members<'_>) {
        members.text(name::IMAGE, &spec.image);
        members.texts(name::USER, spec.user.iter().map(|user| self.named(user)));
        members.texts(name::COMMAND, spec.command.iter().map(|value| self.named(value)));
        let environment = spec.environment.iter();
        members
            .texts(name::ENVIRONMENT, environment.map(|binding| Pair(&binding.name, "=", self.named(&binding.value))));
        let read_only = |volume: &runtime::Volume| if volume.read_only { "read-only " } else { "" };
        let volumes = spec.volumes.iter();
        members.texts(name::VOLUMES, volumes.map(|volume| Pair(read_only(volume), "", self.named(&volume.value))));
        members.texts(name::HOSTS, spec.hosts.iter().map(|host| Pair(&host.name, "=", &host.address)));
        members.texts(name::LABELS, spec.labels.iter().map(|label| Pair(&label.key, "=", &label.text)));
        let security = spec.security;
        let hardening = [
            (security.read_only_root, "read-only-root"),
            (security.drop_capabilities, "drop-capabilities"),
            (security.run_as_non_root, "run-as-non-root"),
        ];
        members.texts(name::SECURITY, hardening.iter().filter(|(set, _)| *set).map(|(_, name)| name));
        let network = match spec.network {
            types::Network::None => "none",
            types::Network::Declared => "declared",
        };
        members.word(name::NETWORK, network);
        members.json(name::CPU_MILLIS, spec.resources.cpu_millis);
        members.json(name::MEMORY_BYTES, spec.resources.memory_bytes);
    }
}

/// Two texts with something between, put together only as far as there is room.
struct Pair<'a, T>(&'a str, &'a str, T);

impl<T: std::fmt::Display> std::fmt::Display for Pair<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)?;
        f.write_str(self.1)?;
        self.2.fmt(f)
    }
}

/// How a failure of a call is recorded.
trait Told {
    fn told(&self) -> Ending;
}

impl Told for Failure {
    fn told(&self) -> Ending {
        match self {
            Self::Guest(error) | Self::Kept(error) => {
                Ending::failed(case(error), crate::sandbox::operation::text(error))
            }
            Self::Trap(error) => error.told(),
        }
    }
}

impl Told for wasmtime::Error {
    fn told(&self) -> Ending {
        match self.downcast_ref::<Stop>() {
            Some(stop) => Ending::failed("stopped", stop.to_string()),
            None => Ending::failed("trapped", self.root_cause().to_string()),
        }
    }
}

/// The name of an error's case in WIT.
pub(crate) fn case(error: &Error) -> &'static str {
    match error {
        Error::AccessDenied(_) => "access-denied",
        Error::NotFound(_) => "not-found",
        Error::Conflict(_) => "conflict",
        Error::Invalid(_) => "invalid",
        Error::Unavailable(_) => "unavailable",
        Error::TimedOut(_) => "timed-out",
        Error::Other(_) => "other",
    }
}
