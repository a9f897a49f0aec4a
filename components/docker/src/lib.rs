//! The built-in provisioner for a container engine: turns a catalog entry into a container or a remote endpoint.
//!
//! It decides and asks; everything it asks for is judged and done by the host. It holds no state, reads no secret
//! and knows no engine.

#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bindings;

use bindings::exports::mcp_gateway::provisioning::provisioner::{Endpoint, Guest};
use bindings::mcp_gateway::provisioning::config_resolver as config;
use bindings::mcp_gateway::provisioning::container_runtime::{self as runtime, ContainerSpec, Volume};
use bindings::mcp_gateway::provisioning::handles::Completed;
use bindings::mcp_gateway::provisioning::log::{self, Level};
use bindings::mcp_gateway::provisioning::types::{Error, SecurityProfile, ServerSpec, Session};
use bindings::mcp_gateway::provisioning::values::{Binding, Value};
use bindings::mcp_gateway::provisioning::{remote_endpoint, secret_resolver as secrets};

struct Docker;

/// How a server is reached.
#[derive(Clone, Copy)]
enum Transport<'a> {
    /// Directly, at the address that the entry declares.
    Remote,
    /// Over the standard streams of a container made from this image.
    Container(&'a str),
}

impl Guest for Docker {
    fn name() -> String {
        "docker".to_owned()
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
            Transport::Container(image) => {
                let resolved = Resolved::for_this_instance()?;
                log::log(Level::Debug, &format!("starting `{image}` on {}", runtime::name()));
                runtime::start(resolved.into_container(image, &spec)).map(Endpoint::Container)
            }
        }
    }

    fn apply_tool_providers(_session: Session, spec: ServerSpec, tool: String) -> Result<Completed, Error> {
        let Some(image) = spec.image.as_deref() else {
            return Err(Error::Invalid(format!("tool `{tool}` names no image; add `container.image` to it")));
        };
        let resolved = Resolved::for_this_instance()?;
        runtime::run(resolved.into_container(image, &spec))
    }

    fn shutdown(_session: Session) -> Result<(), Error> {
        Ok(())
    }
}

/// Decides how to reach the server. An entry that has both an image and an address is a remote server.
fn transport(spec: &ServerSpec) -> Result<Transport<'_>, Error> {
    match (&spec.remote, spec.image.as_deref()) {
        (Some(_), _) => Ok(Transport::Remote),
        (None, Some(image)) if !image.trim().is_empty() => Ok(Transport::Container(image)),
        (None, _) => Err(Error::Invalid(format!(
            "server `{}` has neither an image nor a remote address; add `image:` or `remote.url:` to its catalog entry",
            spec.name
        ))),
    }
}

/// What the resolvers give for the one server (or tool call) that this instance serves.
struct Resolved {
    environment: Vec<Binding>,
    command: Vec<Value>,
    volumes: Vec<Binding>,
    user: Option<Value>,
}

impl Resolved {
    fn for_this_instance() -> Result<Self, Error> {
        let mut environment = secrets::resolve_secrets()?;
        // A variable that the entry sets explicitly wins over one of the same name that a secret fills.
        let explicit = config::resolve_environment()?;
        environment.retain(|secret| explicit.iter().all(|other| other.name != secret.name));
        environment.extend(explicit);
        Ok(Self {
            environment,
            command: config::resolve_command()?,
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

bindings::export!(Docker with_types_in bindings);
