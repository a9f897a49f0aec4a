//! `docker-mcp catalog create`.

use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Its name
    name: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    catalogs::create(&user_files()?, &arguments.name)?;
    eprintln!(
        "created the empty catalog `{0}`; add servers with `docker-mcp catalog add {0} SERVER FILE`",
        arguments.name
    );
    Ok(Status::Success)
}
