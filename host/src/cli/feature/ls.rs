//! `docker-mcp feature ls`.

use clap::Args;
use serde_json::json;

use crate::catalog::user_files::features::{self, KNOWN};
use crate::cli::output::{self, Format};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let switched = features::switched(&user_files()?)?;
    let rows = KNOWN.iter().map(|feature| (feature, switched.get(feature.name).copied().unwrap_or(false)));
    if arguments.format == Format::Json {
        let list: Vec<_> = rows
            .map(|(feature, on)| json!({ "name": feature.name, "enabled": on, "summary": feature.summary }))
            .collect();
        output::print_json(&list)?;
        return Ok(Status::Success);
    }
    let word = |on: bool| if on { "enabled" } else { "disabled" }.to_owned();
    let cells: Vec<Vec<String>> =
        rows.map(|(feature, on)| vec![feature.name.to_owned(), word(on), feature.summary.to_owned()]).collect();
    output::print_table(&["NAME", "STATUS", "DESCRIPTION"], &cells)?;
    let others: Vec<&str> = switched
        .iter()
        .filter(|(name, on)| **on && KNOWN.iter().all(|feature| feature.name != name.as_str()))
        .map(|(name, _)| name.as_str())
        .collect();
    if !others.is_empty() {
        eprintln!("enabled in Docker's configuration and not part of this gateway: {}", others.join(", "));
    }
    Ok(Status::Success)
}
