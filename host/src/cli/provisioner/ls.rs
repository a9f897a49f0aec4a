//! `docker-mcp provisioner ls`: what can be named after `--provisioner`, and the mapping that comes with them.

use clap::Args;
use serde_json::json;

use super::super::Status;
use super::{BUILT_IN, Format, built_in, short, store};
use crate::sandbox::component::digest;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How to show them
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let store = store()?;
    let lock = store.lock()?;
    let mut rows = Vec::new();
    rows.extend(BUILT_IN.iter().filter_map(|name| {
        let (bytes, grants) = built_in(name)?;
        Some(json!({
            "name": name, "digest": digest(bytes), "bytes": bytes.len(), "from": "built in",
            "grants": grants.names(),
        }))
    }));
    rows.extend(lock.provisioners.iter().map(|(name, installed)| {
        json!({
            "name": name, "digest": installed.digest, "bytes": installed.bytes, "from": installed.origin,
            "grants": installed.grants.names(), "consent": installed.consent,
        })
    }));
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&json!({"provisioners": rows}))?),
        Format::Text => {
            let field = |row: &serde_json::Value, key: &str| {
                row.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
            };
            let width = rows.iter().map(|row| field(row, "name").len()).max().unwrap_or_default();
            for row in &rows {
                let grants = row.get("grants").and_then(serde_json::Value::as_array);
                let grants: Vec<&str> = grants.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
                println!(
                    "{:width$}  sha256:{}  {}",
                    field(row, "name"),
                    short(&field(row, "digest")),
                    field(row, "from")
                );
                println!(
                    "{:width$}  grants: {}",
                    "",
                    if grants.is_empty() { "none".to_owned() } else { grants.join(", ") }
                );
                if let Some(consent) = row.get("consent") {
                    println!("{:width$}  agreed to by {} at {}", "", field(consent, "by"), field(consent, "at"));
                }
            }
        }
    }
    Ok(Status::Success)
}
