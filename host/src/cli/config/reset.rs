//! `docker-mcp config reset`.

use clap::Args;

use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    files.replace(&files.config(), "")?;
    eprintln!("the configuration is empty");
    Ok(Status::Success)
}
