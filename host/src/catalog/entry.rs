//! One catalog entry, as the rest of the gateway sees it, whatever shape of file it came from.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// A server of a catalog.
#[derive(Clone, Debug, Default, Deserialize)]
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
}

/// An environment variable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EnvironmentEntry {
    /// The variable's name.
    pub name: String,
    /// A template.
    pub value: String,
}

/// A secret.
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
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
