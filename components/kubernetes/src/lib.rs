//! The built-in provisioner for a Kubernetes cluster: turns a catalog entry into a pod or a remote endpoint.
//!
//! It keeps every variable and argument that is more than plain text in an object of the server's own, so that no such
//! text stands in the pod. Where values come from, this machine or the cluster, it cannot tell. It decides and asks;
//! everything it asks for is judged and done by the host. It holds no state, reads no secret and knows no cluster.

#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bindings;

use bindings::exports::mcp_gateway::provisioning::provisioner::{Endpoint, Guest};
use bindings::mcp_gateway::provisioning::cluster_objects::{self, Entry, ObjectKind};
use bindings::mcp_gateway::provisioning::config_resolver as config;
use bindings::mcp_gateway::provisioning::container_runtime::{self as runtime, ContainerSpec, Volume};
use bindings::mcp_gateway::provisioning::handles::Completed;
use bindings::mcp_gateway::provisioning::log::{self, Level};
use bindings::mcp_gateway::provisioning::types::{Error, SecurityProfile, ServerSpec, Session};
use bindings::mcp_gateway::provisioning::values::{Binding, Value};
use bindings::mcp_gateway::provisioning::{remote_endpoint, secret_resolver as secrets};

struct Kubernetes;

/// How a server is reached.
#[derive(Clone, Copy)]
enum Transport<'a> {
    /// Directly, at the address that the entry declares.
    Remote,
    /// Over the standard streams of a pod made from this image.
    Pod(&'a str),
}

impl Guest for Kubernetes {
    fn name() -> String {
        "kubernetes".to_owned()
    }

    fn initialize(_session: Session, _servers: Vec<ServerSpec>) -> Result<(), Error> {
        Ok(())
    }

    fn pre_validate_deployment(_session: Session, spec: ServerSpec) -> Result<(), Error> {
        transport(&spec).map(|_| ())
    }

    fn provision_server(_session: Session, spec: ServerSpec) -> Result<Endpoint, Error> {
        match transport(&spec)? {
            Transport::Remote => remote_endpoint::connect().map(Endpoint::Remote),
            Transport::Pod(image) => {
                let kept = Kept::for_this_instance()?;
                log::log(Level::Debug, &format!("starting `{image}` on {}", runtime::name()));
                runtime::start(kept.into_container(image, &spec)).map(Endpoint::Container)
            }
        }
    }

    fn apply_tool_providers(_session: Session, spec: ServerSpec, tool: String) -> Result<Completed, Error> {
        let Some(image) = spec.image.as_deref() else {
            return Err(Error::Invalid(format!("tool `{tool}` names no image; add `container.image` to it")));
        };
        let kept = Kept::for_this_instance()?;
        runtime::run(kept.into_container(image, &spec))
    }

    fn shutdown(_session: Session) -> Result<(), Error> {
        Ok(())
    }
}

/// Decides how to reach the server. An entry that has both an image and an address is a remote server.
fn transport(spec: &ServerSpec) -> Result<Transport<'_>, Error> {
    match (&spec.remote, spec.image.as_deref()) {
        (Some(_), _) => Ok(Transport::Remote),
        (None, Some(image)) if !image.trim().is_empty() => Ok(Transport::Pod(image)),
        (None, _) => Err(Error::Invalid(format!(
            "server `{}` has neither an image nor a remote address; add `image:` or `remote.url:` to its catalog entry",
            spec.name
        ))),
    }
}

/// What the resolvers give for the one server (or tool call) that this instance serves, kept where a pod may refer to
/// it.
struct Kept {
    environment: Vec<Binding>,
    command: Vec<Value>,
    volumes: Vec<Binding>,
    user: Option<Value>,
}

impl Kept {
    fn for_this_instance() -> Result<Self, Error> {
        let mut filled = secrets::resolve_secrets()?;
        // A variable that the entry sets explicitly wins over one of the same name that a secret fills.
        let explicit = config::resolve_environment()?;
        filled.retain(|secret| explicit.iter().all(|other| other.name != secret.name));
        let command = config::resolve_command()?;

        let names: Vec<String> = filled.iter().chain(&explicit).map(|bound| bound.name.clone()).collect();
        let secrets = filled.into_iter().map(|bound| entry(ObjectKind::Secret, bound.name, bound.value));
        let variables = explicit.into_iter().map(|bound| entry(ObjectKind::Automatic, bound.name, bound.value));
        // No variable has a name that begins with a digit.
        let arguments = command
            .into_iter()
            .enumerate()
            .map(|(index, value)| entry(ObjectKind::Automatic, format!("{index}.argument"), value));
        let mut kept = cluster_objects::store(secrets.chain(variables).chain(arguments).collect())?.into_iter();

        let environment = names.into_iter().zip(kept.by_ref()).map(|(name, value)| Binding { name, value }).collect();
        Ok(Self {
            environment,
            command: kept.collect(),
            volumes: config::resolve_volumes()?,
            user: config::resolve_user()?,
        })
    }

    fn into_container(self, image: &str, spec: &ServerSpec) -> ContainerSpec {
        ContainerSpec {
            image: image.to_owned(),
            command: self.command,
            environment: self.environment,
            volumes: self.volumes.into_iter().map(|bound| Volume { value: bound.value, read_only: false }).collect(),
            user: self.user,
            network: spec.network,
            hosts: spec.hosts.clone(),
            labels: Vec::new(),
            resources: spec.resources,
            security: SecurityProfile { read_only_root: false, drop_capabilities: false, run_as_non_root: false },
        }
    }
}

fn entry(kind: ObjectKind, key: String, value: Value) -> Entry {
    Entry { kind, key, value }
}

bindings::export!(Kubernetes with_types_in bindings);
