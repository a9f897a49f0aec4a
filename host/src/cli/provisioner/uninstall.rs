//! `docker-mcp provisioner uninstall`.

use clap::Args;

use super::super::Status;
use super::store;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The name that it was installed under
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let store = store()?;
    for name in &arguments.names {
        store.remove(name)?;
        println!("removed `{name}`");
    }
    Ok(Status::Success)
}
