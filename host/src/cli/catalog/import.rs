//! `docker-mcp catalog import`.

use std::io::{IsTerminal as _, Write as _};

use anyhow::bail;
use clap::Args;
use provisioning_core::text::one_line;

use super::source::{self, Source};
use crate::catalog::Catalog;
use crate::catalog::user_files::UserFiles;
use crate::catalog::user_files::catalogs::{self, Listed};
use crate::cli::output::count;
use crate::cli::{Status, user_files};

/// How many oddities of a catalog are told one by one.
const TOLD: usize = 5;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// An `https://` address, a file, or `docker-mcp` for Docker's catalog
    #[arg(value_name = "ADDRESS|FILE|docker-mcp")]
    source: String,
    /// What to call the catalog. Default: the `name` in it
    #[arg(long)]
    name: Option<String>,
    /// Look at it and import nothing
    #[arg(long)]
    dry_run: bool,
    /// Fetch over plain HTTP from other machines, too
    #[arg(long)]
    allow_http: bool,
    /// An address at the MCP registry; not part of this version
    #[arg(long, value_name = "ADDRESS", hide = true)]
    mcp_registry: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    if arguments.mcp_registry.is_some() {
        bail!(
            "`--mcp-registry` is not part of this version; write an entry for the server into a file and add it with \
             `docker-mcp catalog add`"
        );
    }
    let files = user_files()?;
    if arguments.source == catalogs::DOCKER && arguments.name.is_none() {
        let source = source::read(&files, catalogs::DOCKER_URL, false).await?;
        return finish(&files, catalogs::DOCKER.to_owned(), source, arguments.dry_run);
    }
    let source = source::read(&files, &arguments.source, arguments.allow_http).await?;
    let (own, _) = catalogs::names_in(&source.text, &source.shown)?;
    let name = match arguments.name.or(own) {
        Some(name) => name,
        None => ask()?,
    };
    finish(&files, name, source, arguments.dry_run)
}

/// Takes a catalog in under a name.
pub(super) fn finish(files: &UserFiles, name: String, source: Source, dry_run: bool) -> anyhow::Result<Status> {
    catalogs::check_name(&name)?;
    let (own, title) = catalogs::names_in(&source.text, &source.shown)?;
    let (catalog, warnings) = Catalog::parse(&source.text, &source.shown)?;
    for warning in warnings.iter().take(TOLD) {
        eprintln!("warning: {}", one_line(&warning.to_string(), 500));
    }
    if warnings.len() > TOLD {
        eprintln!("warning: and {} more like these", warnings.len() - TOLD);
    }
    let what = format!("`{name}` with {} from {}", count(catalog.names().count(), "server"), source.shown.display());
    if dry_run {
        eprintln!("would import {what}");
        return Ok(Status::Success);
    }
    let text = match own.as_deref() == Some(name.as_str()) {
        true => source.text,
        false => catalogs::with_name(&source.text, &source.shown, &name)?,
    };
    let listed = Listed {
        display_name: title.unwrap_or_else(|| name.clone()),
        url: Some(source.origin),
        last_update: Some(super::update::now()),
    };
    let replaced = catalogs::put(files, &name, &listed, &text)?;
    eprintln!("{} {what}", if replaced { "replaced" } else { "imported" });
    Ok(Status::Success)
}

/// A catalog that says no name is given one by the user, if there is one.
fn ask() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!("the catalog says no `name`; give it one with `--name NAME`");
    }
    eprint!("The catalog says no name. Call it: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
