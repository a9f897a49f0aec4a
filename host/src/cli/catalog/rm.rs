//! `docker-mcp catalog rm`.

use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog
    name: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    catalogs::remove(&user_files()?, &arguments.name)?;
    eprintln!("removed the catalog `{}`", arguments.name);
    Ok(Status::Success)
}
