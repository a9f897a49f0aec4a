//! `docker-mcp provisioner ls`: what can be named after `--provisioner`, and the mapping that comes with them.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::Status;
use super::super::assemble::{home, policies};
use super::{BUILT_IN, Format, built_in, short, store};
use crate::policy::effect::Effect;
use crate::policy::grants::Grants;
use crate::sandbox::contract::digest;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A policy besides the organisation's and the user's own; repeat it for several
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// How to show them
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let store = store()?;
    let lock = store.lock()?;
    let loaded = policies(&arguments.policy, home().as_deref())?;
    let effect = |grants: &Grants, digest: &str, builtin| Effect::of(grants, &loaded.policies, digest, builtin);
    let (mut rows, mut effects) = (Vec::new(), Vec::new());
    for name in BUILT_IN {
        let Some((bytes, grants)) = built_in(name) else { continue };
        let digest = digest(bytes);
        let effect = effect(&grants, &digest, Some(name));
        rows.push(json!({
            "name": name, "digest": digest, "bytes": bytes.len(), "from": "built in",
            "grants": grants.names(), "policies": effect,
        }));
        effects.push(effect);
    }
    for (name, installed) in &lock.provisioners {
        let effect = effect(&installed.grants, &installed.digest, None);
        rows.push(json!({
            "name": name, "digest": installed.digest, "bytes": installed.bytes, "from": installed.origin,
            "grants": installed.grants.names(), "policies": effect, "consent": installed.consent,
        }));
        effects.push(effect);
    }
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&json!({"provisioners": rows}))?),
        Format::Text => {
            let field = |row: &serde_json::Value, key: &str| {
                row.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
            };
            let width = rows.iter().map(|row| field(row, "name").len()).max().unwrap_or_default();
            for (row, effect) in rows.iter().zip(&effects) {
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
                effect.lines().iter().for_each(|line| println!("{:width$}  by a policy: {line}", ""));
                if let Some(consent) = row.get("consent") {
                    println!("{:width$}  agreed to by {} at {}", "", field(consent, "by"), field(consent, "at"));
                }
            }
        }
    }
    Ok(Status::Success)
}
