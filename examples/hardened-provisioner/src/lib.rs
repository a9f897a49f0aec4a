//! A policy around another provisioner: whatever that one asks for comes from an internal registry, carries labels, and
//! has a read-only root and no capabilities.
//!
//! It wraps one interface, `container-runtime`, and knows nothing of the provisioner that it is put around.

mod bindings;

use bindings::exports::mcp_gateway::provisioning::container_runtime as exported;
use bindings::mcp_gateway::provisioning::container_runtime as inner;
use bindings::mcp_gateway::provisioning::handles::{Completed, Container};
use bindings::mcp_gateway::provisioning::types::{Error, SecurityProfile};

/// Where all images come from. The gateway must grant it: `--grant rewrite-image=registry.example.internal`.
const REGISTRY: &str = match option_env!("REGISTRY") {
    Some(registry) => registry,
    None => "registry.example.internal",
};

/// What every container is labelled with. The gateway must grant it: `--grant add-label=com.example.`.
const LABELS: [(&str, &str); 2] = [("com.example.team", "platform"), ("com.example.policy", "hardened-1")];

struct Hardened;

impl exported::Guest for Hardened {
    fn name() -> String {
        inner::name()
    }

    fn run(spec: exported::ContainerSpec) -> Result<Completed, Error> {
        inner::run(harden(spec))
    }

    fn start(spec: exported::ContainerSpec) -> Result<Container, Error> {
        inner::start(harden(spec))
    }

    fn stop(container: Container) -> Result<(), Error> {
        inner::stop(container)
    }
}

fn harden(spec: exported::ContainerSpec) -> inner::ContainerSpec {
    let labels = spec.labels.into_iter().map(|label| (label.key, label.text));
    let own = LABELS.map(|(key, text)| (key.to_owned(), text.to_owned()));
    inner::ContainerSpec {
        image: mirrored(&spec.image),
        command: spec.command,
        environment: spec.environment,
        volumes: spec
            .volumes
            .into_iter()
            .map(|volume| inner::Volume { value: volume.value, read_only: volume.read_only })
            .collect(),
        user: spec.user,
        network: spec.network,
        hosts: spec.hosts,
        labels: labels.chain(own).map(|(key, text)| inner::Label { key, text }).collect(),
        resources: spec.resources,
        security: SecurityProfile { read_only_root: true, drop_capabilities: true, ..spec.security },
    }
}

/// The image in the internal registry: without the registry that it names, if it names one.
fn mirrored(image: &str) -> String {
    let repository = match image.split_once('/') {
        // The first part is a registry if it looks like a host; `mcp/time` is a repository.
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    };
    format!("{REGISTRY}/{repository}")
}

bindings::export!(Hardened with_types_in bindings);
