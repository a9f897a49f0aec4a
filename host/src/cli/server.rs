//! `docker-mcp server`: which servers of the user's catalogs are enabled.

mod disable;
mod enable;
mod inspect;
mod ls;
mod reset;
mod state;

use clap::Subcommand;

use super::Status;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the enabled servers and whether their secrets and configuration are set
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    /// Enable servers
    #[command(visible_alias = "add")]
    Enable(enable::Arguments),
    /// Disable servers
    #[command(visible_aliases = ["remove", "rm"])]
    Disable(disable::Arguments),
    /// Show what the catalog says about a server
    Inspect(inspect::Arguments),
    /// Disable all servers
    Reset(reset::Arguments),
}

pub(super) async fn run(command: Command) -> anyhow::Result<Status> {
    super::log_to_stderr(super::Verbosity::default(), true);
    match command {
        Command::Ls(arguments) => ls::run(&arguments).await,
        Command::Enable(arguments) => enable::run(&arguments),
        Command::Disable(arguments) => disable::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Reset(arguments) => reset::run(&arguments),
    }
}
