//! What a container shall be, before any secret has been read: the host's side of the WIT `container-spec`.

use serde::{Deserialize, Serialize};

use crate::value::Value;

/// Upper bounds on what one container may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Default for Resources {
    /// One core and 2 GiB, the defaults of `--cpus` and `--memory`.
    fn default() -> Self {
        Self { cpu_millis: 1000, memory_bytes: 2 << 30 }
    }
}

/// How much of the network a container may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nothing but its own loopback interface.
    None,
    /// What the entry declares and the operator allows.
    Declared,
}

/// Extra hardening; each field can only take rights away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecurityProfile {
    /// Mount the root file system read-only.
    pub read_only_root: bool,
    /// Drop every Linux capability.
    pub drop_capabilities: bool,
    /// Refuse to start if the process would run as user 0.
    pub run_as_non_root: bool,
}

/// A name that the container can resolve in addition to DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostAlias {
    /// The host name.
    pub name: String,
    /// The IP address, or `host-gateway`.
    pub address: String,
}

/// A volume, and whether to take its writing away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume string in Docker's short syntax.
    pub value: Value,
    /// Mount it read-only although the entry would allow writing.
    pub read_only: bool,
}

/// What a container shall be. Holds no secret text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The image reference.
    pub image: String,
    /// The arguments for the image's entry point.
    pub command: Vec<Value>,
    /// Environment variables in order; names are unique.
    pub environment: Vec<(String, Value)>,
    /// Volumes.
    pub volumes: Vec<VolumeMount>,
    /// The user, if not left to the image.
    pub user: Option<Value>,
    /// Network access.
    pub network: Network,
    /// Additional host names.
    pub hosts: Vec<HostAlias>,
    /// Labels besides the gateway's own.
    pub labels: Vec<(String, String)>,
    /// Limits.
    pub resources: Resources,
    /// Hardening.
    pub security: SecurityProfile,
}
