//! `docker-mcp feature enable` and `feature disable`.

use clap::Args;

use crate::catalog::user_files::features;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The feature
    #[arg(value_name = "FEATURE")]
    name: String,
}

pub(super) fn run(arguments: &Arguments, on: bool) -> anyhow::Result<Status> {
    let name = &arguments.name;
    let changed = features::switch(&user_files()?, name, on)?;
    let word = if on { "enabled" } else { "disabled" };
    eprintln!("`{name}` is {word}{}", if changed { "" } else { " already" });
    Ok(Status::Success)
}
