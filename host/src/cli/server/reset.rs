//! `docker-mcp server reset`.

use clap::Args;

use crate::catalog::user_files::registry;
use crate::cli::{Status, output, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<Status> {
    let gone = registry::reset(&user_files()?)?;
    eprintln!("disabled {}", output::count(gone.len(), "server"));
    Ok(Status::Success)
}
