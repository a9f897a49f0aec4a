//! Flags that several commands share, and how their texts are read.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use provisioning_core::Resources;

use super::Verbosity;
use super::cluster::ClusterOptions;
use crate::audit::Retention;
use crate::capability::container_runtime::RunLimits;
use crate::policy::grants::Grants;
use crate::policy::remote_hosts::PrivateHost;

/// Which catalogs there are.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CatalogOptions {
    /// A catalog of servers: a YAML or JSON file, or `builtin:sample`. Repeat it for several; later ones win. A name
    /// without `./` is looked for in ~/.docker/mcp/catalogs first. Default: every catalog there
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) catalog: Vec<PathBuf>,
    /// A catalog in addition to those of `--catalog` or the default ones, over which it wins
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) additional_catalog: Vec<PathBuf>,
    /// Read the catalogs in ~/.docker/mcp/catalogs although `--catalog` names others
    #[arg(long, help_heading = "Servers")]
    pub(crate) use_configured_catalogs: bool,
}

/// Which servers, with which configuration, deployed by what.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    #[command(flatten)]
    pub(crate) catalogs: CatalogOptions,
    /// A file with a server of its own, which is enabled: a catalog entry with its `name`, or a `server.yaml` of the
    /// registry project
    #[arg(long, value_name = "file://PATH", help_heading = "Servers")]
    pub(crate) server: Vec<PathBuf>,
    /// The address of a `server.json` in an MCP registry, whose server is enabled too. Repeat it for several
    #[arg(long, value_name = "URL", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) mcp_registry: Vec<String>,
    /// The servers to enable, by their names in the catalog. Default: those that `--registry` lists
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) servers: Vec<String>,
    /// Enable every server of the catalog
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, conflicts_with = "servers", help_heading = "Servers")]
    pub(crate) enable_all_servers: bool,
    /// The list of enabled servers, if `--servers` names none. Default: ~/.docker/mcp/registry.yaml
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) registry: Vec<PathBuf>,
    /// A list of enabled servers in addition to `--registry` or the default one
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) additional_registry: Vec<PathBuf>,
    /// Configuration of the servers: a YAML map from server to its settings. Repeat it for several; a server's section
    /// in a later one wins. Default: ~/.docker/mcp/config.yaml
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) config: Vec<PathBuf>,
    /// Configuration in addition to `--config` or the default one
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) additional_config: Vec<PathBuf>,
    /// Which tools are enabled: a YAML map from server to a list of tools. A server that is not in it has all.
    /// Default: ~/.docker/mcp/tools.yaml
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) tools_config: Vec<PathBuf>,
    /// Whether all tools are enabled, whatever these files say: `--tools` of `gateway run` selects them instead.
    #[arg(skip)]
    pub(crate) all_tools: bool,
    /// How long a tool of its own container may run: `--call-timeout` of `gateway run`, if that is longer than usual.
    #[arg(skip = RunLimits::default().time)]
    pub(crate) tool_time: Duration,
    /// Enabled tools in addition to `--tools-config` or the default one
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) additional_tools_config: Vec<PathBuf>,
    /// Where secrets are looked up, in this order: `.env` files with lines `secret.name=text`, directories of files
    /// such as `/run/secrets`, `env=PREFIX`, `docker-desktop`, `helper=NAME`, `docker-config`, `keyring`,
    /// `encrypted-file`, and `default`: what `docker-mcp secret set` writes to
    #[arg(long, value_name = "SOURCE:...", default_value = "default", help_heading = "Servers")]
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
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, help_heading = "Limits")]
    pub(crate) long_lived: bool,
    /// Refuse servers whose catalog entry limits them to `allowHosts`, because that limit cannot be enforced yet. Servers
    /// without it keep their network, as in the existing gateway; `disableNetwork: true` cuts one off
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, help_heading = "Deployment")]
    pub(crate) block_network: bool,
    /// What deploys the servers: `docker`, `kubernetes` (or `k8s`; needs the feature `kubernetes-provisioning`), the name of
    /// an installed component, or the path of one (`.wasm`)
    #[arg(long, value_name = "NAME|FILE", default_value = "docker", help_heading = "Deployment")]
    pub(crate) provisioner: String,
    /// Where containers run. Default: in a cluster for the provisioner `kubernetes`, otherwise in a container engine
    #[arg(long, value_enum, value_name = "ENGINE", help_heading = "Deployment")]
    pub(crate) runtime: Option<Runtime>,
    /// What a component from a file may reach. Interfaces: secret-resolver, config-resolver, container-runtime,
    /// remote-endpoint, cluster-objects, log. Beyond what the catalog entry allows: rewrite-image=REGISTRY, rewrite-command,
    /// rewrite-user=USER, add-argument=PATTERN, add-env=PATTERN, add-mount=VOLUME, add-label=PREFIX,
    /// add-host=NAME:ADDRESS, remote-secrets. Nothing is granted without it
    #[arg(long, value_name = "GRANT,...", value_parser = grants, help_heading = "Deployment")]
    pub(crate) grant: Vec<Grants>,
    /// A policy that must allow what is done, besides the organisation's and the user's own; repeat it for several.
    /// DOCKER_MCP_POLICY names some too
    #[arg(long, value_name = "FILE", help_heading = "Deployment")]
    pub(crate) policy: Vec<PathBuf>,
    /// Where the audit log is kept. Default: ~/.local/state/docker-mcp/audit. A plan writes none
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "no_audit", help_heading = "Audit")]
    pub(crate) audit_dir: Option<PathBuf>,
    /// How much of the audit log is kept, over all gateways: beyond that the oldest files are deleted
    #[arg(long, value_name = "SIZE", default_value = "256m", value_parser = kept_bytes, help_heading = "Audit")]
    pub(crate) audit_keep: u64,
    /// Keep no audit log
    #[arg(long, help_heading = "Audit")]
    pub(crate) no_audit: bool,
    /// The Docker context to use. Default: DOCKER_HOST, DOCKER_CONTEXT, or the current context
    #[arg(long, value_name = "NAME", help_heading = "Deployment")]
    pub(crate) docker_context: Option<String>,
    /// Remote servers at these hosts may be on this machine or in a private network; all others must have public
    /// addresses
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',', help_heading = "Servers")]
    pub(crate) allow_private_remote: Vec<PrivateHost>,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

/// Where containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// In a container engine
    Docker,
    /// As pods of a Kubernetes cluster
    #[value(alias = "k8s")]
    Kubernetes,
}

impl ServerOptions {
    /// Whether servers run in a cluster.
    pub(crate) fn uses_cluster(&self) -> bool {
        let usual = matches!(self.provisioner.as_str(), "kubernetes" | "k8s");
        self.runtime.map_or(usual, |runtime| runtime == Runtime::Kubernetes)
    }

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

fn kept_bytes(text: &str) -> Result<u64, String> {
    match provisioning_core::quantity::bytes(text).map_err(|error| error.to_string())? {
        bytes if bytes < Retention::LEAST_BYTES => Err("keep `1m` or more, or nothing with `--no-audit`".to_owned()),
        bytes => Ok(bytes),
    }
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
