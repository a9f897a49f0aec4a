//! `docker-mcp catalog add`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog that gets the server
    catalog: String,
    /// The server, by its name in the file
    server: String,
    /// The catalog file that has the server
    file: PathBuf,
    /// Replace the server if the catalog has it
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { catalog, server, file, force } = arguments;
    let files = user_files()?;
    let Some(source) = files.read(file)? else { bail!("there is no file `{}`", file.display()) };
    catalogs::add(&files, catalog, server, (&source, file), *force)?;
    eprintln!("added the server `{server}` to the catalog `{catalog}`");
    Ok(Status::Success)
}
