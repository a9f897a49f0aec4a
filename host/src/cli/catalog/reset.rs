//! `docker-mcp catalog reset`.

use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, output, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<Status> {
    let removed = catalogs::reset(&user_files()?)?;
    let names = if removed.is_empty() { String::new() } else { format!(": {}", removed.join(", ")) };
    eprintln!("removed {}{names}", output::count(removed.len(), "catalog"));
    Ok(Status::Success)
}
