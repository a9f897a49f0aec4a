//! `cluster-tools show-example`: the two objects that a server needs.

#![allow(clippy::indexing_slicing, reason = "fields of JSON objects that are made here are set; that cannot fail")]

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::Status;
use super::apply::manifest;
use super::extract_data::quoted;
use super::needs::{Needs, SECRET_PLACEHOLDER, VALUE_PLACEHOLDER};
use super::options::{Catalogs, select};
use super::output::Output;
use provisioning_core::value::ObjectKind;

/// Show the ConfigMap and the Secret that a server needs, with values to replace.
///
/// With `--format json` they are objects for `kubectl apply`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The server, by its name in the catalog
    server: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    catalogs: Catalogs,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { server, output, catalogs } = arguments;
    let catalog = catalogs.load()?;
    let selected = select(&catalog, &[server.trim().to_owned()])?;
    let needs = Needs::of(selected.iter().map(|(name, entry)| (name.as_str(), *entry)))?;
    needs.check_keys()?;
    let config: BTreeMap<&str, &str> = needs
        .config
        .iter()
        .map(|(key, need)| (key.as_str(), need.default.as_deref().unwrap_or(VALUE_PLACEHOLDER)))
        .collect();
    let secrets: BTreeMap<&str, &str> = needs.secrets.keys().map(|key| (key.as_str(), SECRET_PLACEHOLDER)).collect();
    output.line(format!(
        "Example data for server '{}':

ConfigMap data:
{}

Secret data:
{}

Commands to create resources:
  ./cluster-tools create-configmap my-mcp-config {} default
  ./cluster-tools create-secret my-mcp-secrets {} default",
        server.trim(),
        serde_json::to_string_pretty(&config)?,
        serde_json::to_string_pretty(&secrets)?,
        quoted(&config)?,
        quoted(&secrets)?,
    ))?;
    output.document(&json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            manifest(ObjectKind::ConfigMap, "my-mcp-config", "data", json!(config)),
            manifest(ObjectKind::Secret, "my-mcp-secrets", "stringData", json!(secrets)),
        ],
    }))?;
    Ok(Status::Success)
}
