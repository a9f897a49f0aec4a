//! `docker-mcp server enable`.

use clap::Args;

use crate::catalog::user_files::{catalogs, registry};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The servers, by their names in the catalogs
    #[arg(value_name = "SERVER", required = true)]
    names: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    // All of them or none.
    let (catalog, _) = catalogs::load(&files)?;
    let servers = catalog.select(&arguments.names)?;
    let new = registry::enable(&files, &servers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
    for (name, entry) in &servers {
        if !new.contains(name) {
            eprintln!("`{name}` is enabled already");
            continue;
        }
        let secrets: Vec<&str> = entry.secrets.iter().map(|secret| secret.name.as_str()).collect();
        match secrets.as_slice() {
            [] => eprintln!("enabled `{name}`"),
            secrets => eprintln!("enabled `{name}`; it takes the secrets {}", secrets.join(", ")),
        }
    }
    Ok(Status::Success)
}
