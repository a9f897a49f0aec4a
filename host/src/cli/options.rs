//! Flags that several commands share, and how their texts are read.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use provisioning_core::Resources;

use super::Verbosity;
use crate::policy::grants::Grants;

/// Which servers, with which configuration, deployed by what.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// A catalog of servers: a YAML or JSON file, or `builtin:sample`. Repeat it for several; later ones win.
    /// Default: ~/.docker/mcp/catalogs/docker-mcp.yaml
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    pub(crate) catalog: Vec<PathBuf>,
    /// The servers to enable, by their names in the catalog
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) servers: Vec<String>,
    /// Enable every server of the catalog
    #[arg(long, conflicts_with = "servers", help_heading = "Servers")]
    pub(crate) enable_all_servers: bool,
    /// Configuration of the servers: a YAML map from server to its settings. Repeat it for several; later ones win.
    /// Default: ~/.docker/mcp/config.yaml if it is there
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    pub(crate) config: Vec<PathBuf>,
    /// Where secrets are looked up: `.env` files with lines `secret.name=text`, and `docker-desktop`, in this order
    #[arg(long, value_name = "SOURCE:...", default_value = "docker-desktop", help_heading = "Servers")]
    pub(crate) secrets: String,
    /// Processors that one server may use
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = cpu_millis, help_heading = "Limits")]
    pub(crate) cpus: u32,
    /// Memory that one server may use, such as `512m` or `2Gb`
    #[arg(long, value_name = "SIZE", default_value = "2Gb", value_parser = memory_bytes, help_heading = "Limits")]
    pub(crate) memory: u64,
    /// Seconds that a server may take to start and to list its tools. Image pulls do not count
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    pub(crate) max_server_startup_timeout: Duration,
    /// Keep every server running for the whole client session. Without it a server runs for one call, unless its
    /// catalog entry says `longLived`
    #[arg(long, help_heading = "Limits")]
    pub(crate) long_lived: bool,
    /// What deploys the servers: `docker`, the name of an installed component, or the path of one (`.wasm`)
    #[arg(long, value_name = "NAME|FILE", default_value = "docker", help_heading = "Deployment")]
    pub(crate) provisioner: String,
    /// What a component from a file may reach. Interfaces: secret-resolver, config-resolver, container-runtime,
    /// remote-endpoint, log. Beyond what the catalog entry allows: rewrite-image=REGISTRY, rewrite-command,
    /// add-env=NAME, add-mount=VOLUME, add-label=PREFIX. Nothing is granted without it
    #[arg(long, value_name = "GRANT,...", value_parser = grants, help_heading = "Deployment")]
    pub(crate) grant: Vec<Grants>,
    /// The Docker context to use. Default: DOCKER_HOST, DOCKER_CONTEXT, or the current context
    #[arg(long, value_name = "NAME", help_heading = "Deployment")]
    pub(crate) docker_context: Option<String>,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

impl ServerOptions {
    /// The ceilings for each server.
    pub(crate) fn resources(&self) -> Resources {
        Resources { cpu_millis: self.cpus, memory_bytes: self.memory }
    }
}

fn cpu_millis(text: &str) -> Result<u32, String> {
    provisioning_core::quantity::cpu_millis(text).map_err(|error| error.to_string())
}

fn memory_bytes(text: &str) -> Result<u64, String> {
    provisioning_core::quantity::memory_bytes(text).map_err(|error| error.to_string())
}

pub(super) fn grants(text: &str) -> Result<Grants, String> {
    text.parse().map_err(|error: crate::policy::grants::GrantError| error.to_string())
}

/// A number of seconds, at least one.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<u64>() {
        Ok(number) if (1..=86_400).contains(&number) => Ok(Duration::from_secs(number)),
        _ => Err("write a number of seconds from 1 to 86400".to_owned()),
    }
}
