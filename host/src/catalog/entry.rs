//! One catalog entry, as the rest of the gateway sees it, whatever shape of file it came from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use provisioning_core::HostAlias;
use provisioning_core::names::is_env_name;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// A server of a catalog.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// `server`, `remote` or `poci`; entries without it are servers.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A title for people.
    pub title: Option<String>,
    /// A description for people.
    pub description: Option<String>,
    /// The image, or the path of a `.wasm` file.
    pub image: Option<String>,
    /// Arguments for the entry point; templates.
    pub command: Vec<String>,
    /// Environment variables; templates.
    pub env: Vec<EnvironmentEntry>,
    /// Secrets.
    pub secrets: Vec<SecretEntry>,
    /// Schemas of the configuration.
    pub config: Vec<Json>,
    /// Volumes; templates.
    pub volumes: Vec<String>,
    /// The user; a template.
    pub user: Option<String>,
    /// No network at all.
    pub disable_network: bool,
    /// The only hosts that may be reached.
    pub allow_hosts: Vec<String>,
    /// Host names as `name:address`.
    pub extra_hosts: Vec<String>,
    /// One instance serves a whole client session.
    pub long_lived: bool,
    /// Put before the names of tools.
    pub prefix: Option<String>,
    /// A remote server.
    pub remote: Option<RemoteEntry>,
    /// The older way to write a remote SSE server.
    pub sse_endpoint: Option<String>,
    /// Tools: names for servers, whole definitions for `poci`.
    pub tools: Vec<ToolEntry>,
    /// How to authorise at a remote server, in whatever shape the catalog has it.
    pub oauth: Option<Json>,
    /// Facts for people: category, licence, tags.
    pub metadata: Option<Map<String, Json>>,
}

impl Entry {
    /// True if the entry is a set of ephemeral tools, so that there is no server to start.
    pub fn is_poci(&self) -> bool {
        let has_server = self.image.is_some() || self.remote.is_some() || self.sse_endpoint.is_some();
        self.kind.as_deref() == Some("poci") || (!has_server && self.tools.iter().any(|tool| tool.container.is_some()))
    }

    /// The names of the secrets that the entry declares.
    pub fn secret_names(&self) -> BTreeSet<String> {
        self.secrets.iter().map(|secret| secret.name.clone()).collect()
    }

    /// The additional host names.
    ///
    /// # Errors
    /// What is wrong with the first that is not `name:address`, and what to write.
    pub fn host_aliases(&self) -> Result<Vec<HostAlias>, String> {
        let read = |text: &String| {
            let wrong =
                || format!("`extraHosts`: `{text}` is not `name:address`; write an IP address or `host-gateway`");
            let (name, address) = text.split_once(':').ok_or_else(wrong)?;
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            let label = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            };
            if !name.split('.').all(label) || (address != "host-gateway" && address.parse::<IpAddr>().is_err()) {
                return Err(wrong());
            }
            Ok(HostAlias { name: name.to_owned(), address: address.to_owned() })
        };
        self.extra_hosts.iter().map(read).collect()
    }

    /// Why the entry cannot work, and what to change; none if it may.
    pub fn fault(&self) -> Option<String> {
        self.check().err()
    }

    fn check(&self) -> Result<(), String> {
        match self.kind.as_deref() {
            None | Some("server" | "remote") => self.check_source()?,
            Some("poci") => self.check_tools()?,
            Some(other) => return Err(format!("there is no `type: {other}`; use `server`, `remote` or `poci`")),
        }
        for name in self.env.iter().map(|variable| &variable.name) {
            check_env_name("env", name)?;
        }
        for secret in &self.secrets {
            if secret.name.is_empty() {
                return Err("`secrets`: a secret has no `name`; add it".to_owned());
            }
            if !secret.env.is_empty() {
                check_env_name("secrets", &secret.env)?;
            }
        }
        self.host_aliases().map(drop)
    }

    fn check_source(&self) -> Result<(), String> {
        let sources = [
            ("image", self.image.is_some()),
            ("remote", self.remote.is_some()),
            ("sseEndpoint", self.sse_endpoint.is_some()),
        ];
        let given: Vec<&str> = sources.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        match given.as_slice() {
            [_] => {}
            [] => return Err("nothing says where the server is; add `image`, `remote` or `sseEndpoint`".to_owned()),
            many => return Err(format!("`{}` are set together; keep one", many.join("` and `"))),
        }
        match self.remote.as_ref().and_then(|remote| remote.transport_type.as_deref()) {
            None | Some("streamable-http" | "streaming" | "http" | "sse") => Ok(()),
            Some(other) => {
                Err(format!("`remote.transport_type`: there is no `{other}`; use `streamable-http` or `sse`"))
            }
        }
    }

    fn check_tools(&self) -> Result<(), String> {
        if self.tools.is_empty() {
            return Err("an entry of `type: poci` needs `tools`; add at least one with `container.image`".to_owned());
        }
        let without = |tool: &&ToolEntry| tool.container.as_ref().is_none_or(|container| container.image.is_empty());
        match self.tools.iter().find(without) {
            Some(tool) => Err(format!("tool `{}` has no `container.image`; add it", tool.name)),
            None => Ok(()),
        }
    }
}

fn check_env_name(key: &str, name: &str) -> Result<(), String> {
    if is_env_name(name) {
        return Ok(());
    }
    Err(format!("`{key}`: `{name}` cannot name an environment variable; use letters, digits and `_`, first no digit"))
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EnvironmentEntry {
    /// The variable's name.
    pub name: String,
    /// A template.
    pub value: String,
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SecretEntry {
    /// The secret's name, such as `github.token`.
    pub name: String,
    /// The environment variable it goes into.
    pub env: String,
    /// False if the server works without it. Absent means required.
    pub required: Option<bool>,
}

/// A remote server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RemoteEntry {
    /// The address; a template.
    pub url: String,
    /// `streamable-http`, `streaming`, `http` or `sse`.
    pub transport_type: Option<String>,
    /// Headers; templates.
    pub headers: std::collections::BTreeMap<String, String>,
}

/// A tool. For `poci` entries `container` says how to run it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ToolEntry {
    /// The tool's name.
    pub name: String,
    /// A description for the model.
    pub description: Option<String>,
    /// How to run it; only for ephemeral tools.
    pub container: Option<ToolContainer>,
    /// The input schema: an object with `type`, `properties` and `required`.
    pub parameters: Map<String, Json>,
    /// MCP tool annotations.
    pub annotations: Option<Map<String, Json>>,
}

/// How an ephemeral tool is run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ToolContainer {
    /// The image.
    pub image: String,
    /// Arguments for the entry point; templates over the call's arguments.
    pub command: Vec<String>,
    /// Volumes; templates.
    pub volumes: Vec<String>,
    /// The user; a template.
    pub user: Option<String>,
}
