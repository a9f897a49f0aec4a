//! `docker-mcp feature`: parts of the gateway that can be switched on.

mod ls;
mod switch;

use clap::Subcommand;

use super::Status;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the features and whether they are on
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    /// Switch a feature on
    Enable(switch::Arguments),
    /// Switch a feature off
    Disable(switch::Arguments),
}

pub(super) fn run(command: Command) -> anyhow::Result<Status> {
    super::log_to_stderr(super::Verbosity::default(), true);
    match command {
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Enable(arguments) => switch::run(&arguments, true),
        Command::Disable(arguments) => switch::run(&arguments, false),
    }
}
