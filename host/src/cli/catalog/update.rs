//! `docker-mcp catalog update`.

use anyhow::{Context as _, bail};
use clap::Args;

use super::source;
use crate::catalog::Catalog;
use crate::catalog::user_files::UserFiles;
use crate::catalog::user_files::catalogs::{self, Listed};
use crate::cli::output::count;
use crate::cli::{Status, message, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog. Default: all that came from an address or a file
    name: Option<String>,
    /// Fetch over plain HTTP from other machines, too
    #[arg(long)]
    allow_http: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    if let Some(name) = arguments.name {
        let listed = catalogs::get(&files, &name)?;
        update(&files, &name, listed, arguments.allow_http).await?;
        return Ok(Status::Success);
    }
    let catalogs: Vec<(String, Listed)> =
        catalogs::list(&files)?.into_iter().filter(|(_, listed)| listed.url.is_some()).collect();
    let (all, mut failed) = (catalogs.len(), 0);
    for (name, listed) in catalogs {
        if let Err(error) = update(&files, &name, listed, arguments.allow_http).await {
            eprintln!("warning: {}", message(&error));
            failed += 1;
        }
    }
    match (all, failed) {
        (0, _) => eprintln!("no catalog came from elsewhere, so there is nothing to update"),
        (_, 0) => {}
        (all, failed) if all == failed => bail!("no catalog could be updated; see the warnings above"),
        _ => return Ok(Status::Partial),
    }
    Ok(Status::Success)
}

async fn update(files: &UserFiles, name: &str, listed: Listed, allow_http: bool) -> anyhow::Result<()> {
    let failed = || format!("catalog `{name}` stays as it is");
    let Some(url) = listed.url.clone().filter(|url| !url.is_empty()) else {
        bail!("the catalog `{name}` was made here; there is nothing to update it from");
    };
    let source = source::read(files, &url, allow_http).await.with_context(failed)?;
    // What is no catalog must not replace one.
    let (catalog, _) = Catalog::parse(&source.text, &source.shown).with_context(failed)?;
    catalogs::put(files, name, &Listed { last_update: Some(now()), ..listed }, &source.text)?;
    eprintln!("updated `{name}`: {}", count(catalog.names().count(), "server"));
    Ok(())
}

/// The time in the form of the existing gateway, RFC 3339.
pub(super) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
