//! `docker-mcp server disable`.

use clap::Args;

use crate::catalog::user_files::registry;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The servers
    #[arg(value_name = "SERVER", required = true)]
    names: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let gone = registry::disable(&user_files()?, &arguments.names)?;
    for name in &arguments.names {
        if gone.contains(name) {
            eprintln!("disabled `{name}`");
        } else {
            eprintln!("`{name}` is not enabled");
        }
    }
    Ok(Status::Success)
}
