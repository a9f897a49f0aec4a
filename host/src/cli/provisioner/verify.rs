//! `docker-mcp provisioner verify`: installed components are what was agreed to.

use anyhow::ensure;
use clap::Args;
use serde_json::json;

use super::super::Status;
use super::{Format, holds, short, store};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to show the result
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let store = store()?;
    let lock = store.lock()?;
    for name in &arguments.names {
        ensure!(
            lock.provisioners.contains_key(name),
            "no provisioner `{name}` is installed; `docker-mcp provisioner ls` shows those that are"
        );
    }
    let mut rows = Vec::new();
    let mut good = true;
    for (name, installed) in &lock.provisioners {
        if !arguments.names.is_empty() && !arguments.names.contains(name) {
            continue;
        }
        let result = holds(&store, name, installed);
        good &= result.is_ok();
        if arguments.format == Format::Text {
            match &result {
                Ok(()) => println!("{name}  sha256:{}  as agreed to", short(&installed.digest)),
                Err(reason) => println!("{name}  CHANGED  {reason}"),
            }
        }
        rows.push(
            json!({"name": name, "digest": installed.digest, "asAgreed": result.is_ok(), "reason": result.err()}),
        );
    }
    if arguments.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&json!({"provisioners": rows}))?);
    }
    Ok(if good { Status::Success } else { Status::Partial })
}
