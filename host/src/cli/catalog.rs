//! `docker-mcp catalog`: the catalogs that a user has.

mod add;
mod bootstrap;
mod create;
mod export;
mod fork;
mod import;
mod init;
mod ls;
mod reset;
mod rm;
mod show;
mod source;
mod update;

use clap::Subcommand;

use super::Status;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the catalogs
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    /// Show the servers of a catalog
    Show(show::Arguments),
    /// Make an empty catalog
    Create(create::Arguments),
    /// Take in a catalog from an address or a file
    Import(import::Arguments),
    /// Write a catalog to a file
    Export(export::Arguments),
    /// Copy a server from a catalog file into a catalog
    Add(add::Arguments),
    /// Remove a catalog
    #[command(visible_alias = "remove")]
    Rm(rm::Arguments),
    /// Make a catalog with the content of another
    Fork(fork::Arguments),
    /// Fetch catalogs again from where they came
    Update(update::Arguments),
    /// Remove all catalogs but Docker's
    #[command(visible_alias = "empty")]
    Reset(reset::Arguments),
    /// Get Docker's catalog if it is not there
    Init(init::Arguments),
    /// Write a file with two of Docker's servers as examples
    Bootstrap(bootstrap::Arguments),
}

pub(super) async fn run(command: Command) -> anyhow::Result<Status> {
    super::log_to_stderr(super::Verbosity::default(), true);
    match command {
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Show(arguments) => show::run(arguments).await,
        Command::Create(arguments) => create::run(&arguments),
        Command::Import(arguments) => import::run(arguments).await,
        Command::Export(arguments) => export::run(&arguments),
        Command::Add(arguments) => add::run(&arguments),
        Command::Rm(arguments) => rm::run(&arguments),
        Command::Fork(arguments) => fork::run(&arguments),
        Command::Update(arguments) => update::run(arguments).await,
        Command::Reset(arguments) => reset::run(&arguments),
        Command::Init(arguments) => init::run(&arguments).await,
        Command::Bootstrap(arguments) => bootstrap::run(&arguments).await,
    }
}
