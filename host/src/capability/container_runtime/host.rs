//! The `container-runtime` interface as guests see it: converts a specification, judges it against the server's
//! envelope and hands it to the backend.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use provisioning_core::policy::{Case, Decision, Subject, SubjectKind, judge, known_text};
use provisioning_core::volume::{BindError, Volume};
use provisioning_core::{ContainerSpec, HostAlias, Network, Resources, SecurityProfile, Segment, Value, VolumeMount};
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::{Completed, Identity, Quiet, Request, RunLimits, Running, RuntimeError};
use crate::audit::record::{self, Verdict};
use crate::capability::{Context, Failure, guarded};
use crate::policy::bind_mounts::BindPolicy;
use crate::sandbox::bindings::mcp_gateway::provisioning::container_runtime::{self as wit, Host};
use crate::sandbox::bindings::mcp_gateway::provisioning::types::{self, Error};

/// How long a backend may take to fetch an image that nobody could know before.
const FETCH_TIME: Duration = Duration::from_secs(300);
/// How long a backend may take to stop one; it goes on trying in the background.
const STOP_TIME: Duration = Duration::from_secs(30);

impl Host for Context {
    async fn name(&mut self) -> wasmtime::Result<String> {
        self.count_call()?;
        let image = self.scope.as_ref().and_then(|scope| scope.image());
        Ok(image.map_or_else(|| self.runtime.name(), |image| self.runtime.name_for(image)).to_owned())
    }

    async fn run(&mut self, spec: wit::ContainerSpec) -> Result<Resource<Completed>, Failure> {
        let request = self.judge(spec).await?;
        let limits = RunLimits { time: self.times.run, ..RunLimits::default() };
        // The backend keeps the time limit itself; a little more here, so that its own message wins.
        let patience = limits.time + self.start_limit(&request) + STOP_TIME;
        let completed = guarded(&self.cancel, "the tool", patience, self.runtime.run(request, limits)).await?;
        Ok(self.hold(completed)?)
    }

    async fn start(&mut self, spec: wit::ContainerSpec) -> Result<Resource<Running>, Failure> {
        let request = self.judge(spec).await?;
        let patience = self.start_limit(&request) + STOP_TIME;
        let running = guarded(&self.cancel, "starting the container", patience, self.runtime.start(request)).await?;
        Ok(self.hold(running)?)
    }

    async fn stop(&mut self, container: Resource<Running>) -> Result<(), Failure> {
        self.count_call()?;
        let Running { lease, streams } = self.table.delete(container)?;
        drop(streams);
        guarded(&self.cancel, "stopping the container", STOP_TIME, async {
            lease.release().await;
            Ok::<_, Failure>(())
        })
        .await
    }
}

impl Context {
    /// How long a backend may take to start a container. The operation's own time limit is usually the same.
    fn start_limit(&self, request: &Request) -> Duration {
        self.runtime.start_limit(&request.spec.image, self.times.start)
    }

    /// Takes a specification from a guest and returns it as a request that lies inside the envelope.
    async fn judge(&mut self, spec: wit::ContainerSpec) -> Result<Request, Failure> {
        let scope = self.enter()?.clone();
        self.count_container()?;
        let spec = self.lift(spec)?;
        let envelope =
            guarded(&self.cancel, "resolving the envelope", crate::capability::RESOLVE_TIME, scope.envelope()).await?;
        // No directory is looked at for what the envelope refuses: the guest could find out what is there.
        let content = content(&spec);
        let is_inside = || !content.volumes.is_empty() && envelope.check(&content, &self.bounds).is_ok();
        let binds = self.enforcement.binds.as_ref().filter(|_| is_inside());
        let mounted = match mounted(binds, &content).await? {
            Ok(mounted) => mounted,
            Err(refusal) => {
                self.require(vec![refusal])?;
                Vec::new()
            }
        };
        let case = Case {
            who: self.who(),
            envelope,
            bounds: &self.bounds,
            policies: &self.enforcement.policies,
            mounted: &mounted,
        };
        let mut decisions = judge(&case, &content);
        let policies = &self.enforcement.policies;
        // Not of what runs in this process.
        let namespace = self.enforcement.namespace.as_deref();
        let is_there = self.runtime.name_for(&spec.image) == self.runtime.name();
        if let Some(namespace) = namespace.filter(|_| is_there && !policies.is_empty()) {
            decisions.push(policies.holding(self.who()).namespace(namespace));
        }
        self.decision = Some(record::Decision::new(Verdict::Allowed, "envelope"));
        self.require(decisions)?;
        if scope.image() != Some(spec.image.as_str()) {
            // The entry's own image was made ready before; this one nobody could know.
            guarded(&self.cancel, "fetching the image", FETCH_TIME, self.runtime.prepare(&spec.image, &Quiet)).await?;
        }
        Ok(Request {
            identity: Identity {
                session: self.session.clone(),
                server: scope.name().to_owned(),
                tool: scope.tool().map(str::to_owned),
            },
            spec,
        })
    }

    /// Takes the handles out of the table. What is taken is gone for the guest even if a later step fails.
    fn lift(&mut self, spec: wit::ContainerSpec) -> Result<ContainerSpec, Failure> {
        let mut take = |handle| self.table.delete(handle);
        Ok(ContainerSpec {
            image: spec.image,
            command: spec.command.into_iter().map(&mut take).collect::<Result<_, _>>()?,
            environment: spec
                .environment
                .into_iter()
                .map(|binding| Ok((binding.name, take(binding.value)?)))
                .collect::<Result<_, Failure>>()?,
            volumes: spec
                .volumes
                .into_iter()
                .map(|volume| Ok(VolumeMount { value: take(volume.value)?, read_only: volume.read_only }))
                .collect::<Result<_, Failure>>()?,
            user: spec.user.map(take).transpose()?,
            network: spec.network.into(),
            hosts: spec.hosts.into_iter().map(Into::into).collect(),
            labels: unique_labels(spec.labels)?,
            resources: spec.resources.into(),
            security: SecurityProfile {
                read_only_root: spec.security.read_only_root,
                drop_capabilities: spec.security.drop_capabilities,
                run_as_non_root: spec.security.run_as_non_root,
            },
        })
    }
}

/// The specification with everything in its place that is kept in objects: what it will be for the server.
fn content(spec: &ContainerSpec) -> Cow<'_, ContainerSpec> {
    let is_stored = |value: &Value| value.segments().iter().any(|segment| matches!(segment, Segment::Stored { .. }));
    let environment = spec.environment.iter().map(|(_, value)| value);
    let volumes = spec.volumes.iter().map(|mount| &mount.value);
    if !spec.command.iter().chain(environment).chain(volumes).chain(&spec.user).any(is_stored) {
        return Cow::Borrowed(spec);
    }
    let mut content = spec.clone();
    let environment = content.environment.iter_mut().map(|(_, value)| value);
    let volumes = content.volumes.iter_mut().map(|mount| &mut mount.value);
    for value in content.command.iter_mut().chain(environment).chain(volumes).chain(&mut content.user) {
        *value = value.content();
    }
    Cow::Owned(content)
}

/// The volumes as they will be mounted, where that can be told: the same rules for directories of the host hold for
/// every runtime, and for a plan. The inner error is the refusal of one.
async fn mounted(
    binds: Option<&Arc<BindPolicy>>,
    spec: &ContainerSpec,
) -> Result<Result<Vec<Option<Volume>>, Decision>, Failure> {
    let (Some(binds), false) = (binds, spec.volumes.is_empty()) else { return Ok(Ok(Vec::new())) };
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .map(|mount| (mount.value.to_string(), known_text(&mount.value).map(Zeroizing::new)))
        .collect();
    let binds = Arc::clone(binds);
    // Following links reads directories.
    let check = move || {
        let check = |(shown, text): (String, Option<Zeroizing<String>>)| {
            let Some(text) = text else { return Ok(None) };
            let subject = Subject::new(SubjectKind::Mount, shown);
            let refused = |error: BindError| Decision::denied(subject, None, format!("is not mounted: {error}"));
            binds.check(&text).map(|checked| Volume::parse(&checked).ok()).map_err(refused)
        };
        volumes.into_iter().map(check).collect()
    };
    let ended = |_| Failure::from(RuntimeError::Unavailable("the process is about to end".to_owned()));
    tokio::task::spawn_blocking(check).await.map_err(ended)
}

fn unique_labels(labels: Vec<wit::Label>) -> Result<Vec<(String, String)>, Failure> {
    let mut keys = BTreeSet::new();
    if let Some(twice) = labels.iter().find(|label| !keys.insert(label.key.clone())) {
        return Err(Failure::Guest(Error::Invalid(format!("label `{}` is set twice", twice.key))));
    }
    Ok(labels.into_iter().map(|label| (label.key, label.text)).collect())
}

/// The one place where a backend's error becomes a guest's.
impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let text = error.to_string();
        Self::Kept(match error {
            RuntimeError::Image { .. } => Error::NotFound(text),
            RuntimeError::Invalid(_) => Error::Invalid(text),
            RuntimeError::Denied(_) => Error::AccessDenied(text),
            RuntimeError::Conflict(_) => Error::Conflict(text),
            RuntimeError::Unavailable(_) => Error::Unavailable(text),
            RuntimeError::TimedOut { .. } => Error::TimedOut(text),
            RuntimeError::Secret(crate::secrets::SecretError::Missing { .. }) => Error::NotFound(text),
            RuntimeError::Secret(crate::secrets::SecretError::Unavailable { .. }) => Error::Unavailable(text),
            RuntimeError::Engine(_) => Error::Other(text),
        })
    }
}

impl From<types::Network> for Network {
    fn from(network: types::Network) -> Self {
        match network {
            types::Network::None => Self::None,
            types::Network::Declared => Self::Declared,
        }
    }
}

impl From<Network> for types::Network {
    fn from(network: Network) -> Self {
        match network {
            Network::None => Self::None,
            Network::Declared => Self::Declared,
        }
    }
}

impl From<types::HostAlias> for HostAlias {
    fn from(host: types::HostAlias) -> Self {
        Self { name: host.name, address: host.address }
    }
}

impl From<HostAlias> for types::HostAlias {
    fn from(host: HostAlias) -> Self {
        Self { name: host.name, address: host.address }
    }
}

impl From<types::Resources> for Resources {
    fn from(resources: types::Resources) -> Self {
        Self { cpu_millis: resources.cpu_millis, memory_bytes: resources.memory_bytes }
    }
}

impl From<Resources> for types::Resources {
    fn from(resources: Resources) -> Self {
        Self { cpu_millis: resources.cpu_millis, memory_bytes: resources.memory_bytes }
    }
}
