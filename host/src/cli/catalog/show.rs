//! `docker-mcp catalog show`.

use clap::{Args, ValueEnum};

use super::init;
use crate::catalog::Catalog;
use crate::catalog::user_files::{self, catalogs};
use crate::cli::{Status, output, user_files};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Names and descriptions
    Text,
    /// The whole catalog, as JSON
    Json,
    /// The whole catalog, as YAML
    Yaml,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog
    #[arg(default_value = catalogs::DOCKER)]
    name: String,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    if arguments.name == catalogs::DOCKER {
        init::ensure(&files).await?;
    }
    let (text, path) = catalogs::text(&files, &arguments.name)?;
    match arguments.format {
        Format::Text => {
            let (catalog, _) = Catalog::parse(&text, &path)?;
            let rows: Vec<Vec<String>> = catalog
                .names()
                .map(|name| {
                    let description = catalog.get(name).and_then(|entry| entry.description.clone()).unwrap_or_default();
                    vec![name.to_owned(), description.trim().lines().next().unwrap_or_default().to_owned()]
                })
                .collect();
            output::print_table(&["NAME", "DESCRIPTION"], &rows)?;
            eprintln!("{}", output::count(rows.len(), "server"));
        }
        Format::Json => output::print_json(&user_files::to_json(&text, &path)?)?,
        // A file that is JSON is rewritten, any other is YAML as it stands.
        Format::Yaml if text.trim_start().starts_with('{') => {
            output::print(&serde_saphyr::to_string(&user_files::to_json(&text, &path)?)?)?;
        }
        Format::Yaml => output::print(&text)?,
    }
    Ok(Status::Success)
}
