//! `docker-mcp config`: the configuration of the servers, as a whole.

mod read;
mod reset;
mod write;

use clap::Subcommand;

use super::Status;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the configuration
    Read(read::Arguments),
    /// Replace the configuration
    Write(write::Arguments),
    /// Empty the configuration
    Reset(reset::Arguments),
}

pub(super) fn run(command: Command) -> anyhow::Result<Status> {
    super::log_to_stderr(super::Verbosity::default(), true);
    match command {
        Command::Read(arguments) => read::run(&arguments),
        Command::Write(arguments) => write::run(&arguments),
        Command::Reset(arguments) => reset::run(&arguments),
    }
}
