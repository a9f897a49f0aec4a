//! `docker-mcp catalog fork`.

use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog to copy
    source: String,
    /// The name of the new one
    name: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    catalogs::fork(&user_files()?, &arguments.source, &arguments.name)?;
    eprintln!("made the catalog `{}` from `{}`", arguments.name, arguments.source);
    Ok(Status::Success)
}
