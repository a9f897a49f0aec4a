//! `docker-mcp secret ls`.

use clap::{Args, ValueEnum};
use provisioning_core::text::one_line;
use serde_json::json;

use super::{Status, place, search_path};
use crate::secrets::own_stores::DEFAULT;

/// How the names are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Print as JSON
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    json: bool,
    /// How to show them
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Only names, one a line
    #[arg(long, short, conflicts_with = "format")]
    quiet: bool,
    /// Where to look, as for `gateway run`
    #[arg(long, value_name = "SOURCE:...", default_value = DEFAULT)]
    secrets: String,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let path = search_path(&arguments.secrets, &place()).await?;
    let mut found: Vec<(String, String)> = Vec::new();
    let mut failed = false;
    for source in path.sources() {
        match source.names().await {
            Ok(names) => found.extend(names.into_iter().map(|name| (name, source.label()))),
            Err(error) => {
                eprintln!("error: {error}");
                failed = true;
            }
        }
    }
    // Stable: of several with one name, the one that counts comes first.
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    if arguments.quiet {
        found.dedup_by(|(one, _), (other, _)| one == other);
        for (name, _) in &found {
            println!("{}", one_line(name, 300));
        }
    } else if arguments.json || arguments.format == Format::Json {
        let rows: Vec<_> = found.iter().map(|(name, source)| json!({"name": name, "provider": source})).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        let width = found.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, source) in &found {
            println!("{:<width$}  {source}", one_line(name, 300));
        }
    }
    Ok(if failed { Status::Partial } else { Status::Success })
}
