//! `cluster-tools extract-data`: what a server needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value as Json, json};

use super::Status;
use super::needs::{Needs, Use, config_uses, static_environment};
use super::options::{Catalogs, select};
use super::output::{self, Output};
use crate::catalog::Entry;

/// What stands for a value here, and for a secret.
const ACTUAL_VALUE: &str = "<REPLACE_WITH_ACTUAL_VALUE>";
const ACTUAL_SECRET: &str = "<REPLACE_WITH_ACTUAL_SECRET>";

/// Show what a server needs: its variables, and where their values come from.
///
/// Variables with a fixed value go into the pod as they are. All others are filled from a key of the ConfigMap or of the
/// Secret: the lines `PLACE -> KEY` say which.
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
    let selected = select(&catalog, std::slice::from_ref(server))?;
    let Some((server, entry)) = selected.first() else { return Ok(Status::Success) };
    let needs = Needs::of([(server.as_str(), *entry)])?;
    if let Err(error) = needs.check_keys() {
        output::warning(crate::cli::message(&error));
    }
    let uses = config_uses(server, entry)?;
    output.line(text(server, entry, &needs, &uses)?)?;
    output.document(&document(server, entry, &needs, &uses))?;
    Ok(Status::Success)
}

fn text(server: &str, entry: &Entry, needs: &Needs, uses: &[Use]) -> anyhow::Result<String> {
    let variables = entry.secrets.iter().map(|secret| secret.env.as_str()).filter(|name| !name.is_empty());
    let of_secrets: BTreeMap<&str, &str> = variables.map(|name| (name, ACTUAL_SECRET)).collect();
    let config: BTreeMap<&str, &str> = needs
        .config
        .iter()
        .map(|(key, need)| (key.as_str(), need.default.as_deref().unwrap_or(ACTUAL_VALUE)))
        .collect();
    let secrets: BTreeMap<&str, &str> = needs.secrets.keys().map(|name| (name.as_str(), ACTUAL_SECRET)).collect();
    let mut text = format!(
        "Extracting real data for server '{server}' from Docker MCP catalog...\n
ConfigMap data (static environment variables):
{}\n
Secret data (templated variables + secrets that need actual values):
{}\n\n",
        pretty(&static_environment(entry))?,
        pretty(&of_secrets)?,
    );
    // Writing to a string cannot fail.
    if !uses.is_empty() || !entry.secrets.is_empty() {
        let _ = writeln!(text, "Template variable names to configure (these are the keys you need to set):");
        for Use { place, path, .. } in uses {
            let _ = writeln!(text, "  {place} -> {path}");
        }
        for secret in &entry.secrets {
            let place = if secret.env.is_empty() { "secrets" } else { secret.env.as_str() };
            let _ = writeln!(text, "  {place} -> {} (secret)", secret.name);
        }
        text.push('\n');
    }
    if !entry.secrets.is_empty() {
        let _ = writeln!(text, ".env file format (for use with --secrets flag):");
        let _ = writeln!(text, "# Create a .env file with these template variable assignments:");
        for secret in &entry.secrets {
            let _ = writeln!(text, "{}={ACTUAL_SECRET}", secret.name);
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "Commands to create resources:
  ConfigMap: ./cluster-tools create-configmap my-mcp-config {} default
  Secret:    ./cluster-tools create-secret my-mcp-secrets {} default

Usage with MCP Gateway:
  Cluster provider mode:
    docker-mcp gateway run \\
      --provisioner=kubernetes \\
      --cluster-config-provider cluster \\
      --cluster-secret-provider cluster \\
      --cluster-config-name my-mcp-config \\
      --cluster-secret-name my-mcp-secrets

  .env file mode:
    docker-mcp gateway run \\
      --secrets /path/to/your/.env",
        quoted(&config)?,
        quoted(&secrets)?,
    );
    Ok(text)
}

fn pretty(map: &BTreeMap<&str, &str>) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(map)?)
}

/// A map as one word of a shell.
pub(super) fn quoted(map: &BTreeMap<&str, &str>) -> anyhow::Result<String> {
    Ok(format!("'{}'", serde_json::to_string(map)?.replace('\'', "'\\''")))
}

fn document(server: &str, entry: &Entry, needs: &Needs, uses: &[Use]) -> Json {
    let config = needs.config.iter().map(|(key, need)| {
        let places: Vec<&str> =
            uses.iter().filter(|found| found.path == *key).map(|found| found.place.as_str()).collect();
        json!({ "key": key, "places": places, "default": need.default, "required": need.is_required })
    });
    let secrets = entry.secrets.iter().map(
        |secret| json!({ "key": secret.name, "variable": secret.env, "required": secret.required != Some(false) }),
    );
    json!({
        "server": server,
        "static": static_environment(entry),
        "config": config.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(),
    })
}
