//! `docker-mcp secret`: names, sets and removes secrets, and what these commands share. Texts of secrets are only ever
//! printed by `export`, whose purpose that is.

mod export;
mod hidden;
mod ls;
mod rm;
mod set;

use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::Subcommand;
use zeroize::Zeroizing;

use super::{Status, assemble};
use crate::secrets::own_stores::DEFAULT;
use crate::secrets::search_path::{self, SearchPath};
use crate::secrets::{Place, Question, SecretSource};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a secret, to the text on standard input
    Set(set::Arguments),
    /// List the names of the secrets that are set
    #[command(alias = "list")]
    Ls(ls::Arguments),
    /// Remove secrets
    #[command(alias = "remove")]
    Rm(rm::Arguments),
    /// Print the secrets of servers, readable, as a `.env` file
    Export(export::Arguments),
}

pub(super) async fn run(command: Command) -> anyhow::Result<Status> {
    match command {
        Command::Set(arguments) => set::run(arguments).await,
        Command::Ls(arguments) => ls::run(arguments).await,
        Command::Rm(arguments) => rm::run(arguments).await,
        Command::Export(arguments) => export::run(arguments).await,
    }
}

/// This process and its user, who is asked for the passphrase of the encrypted file.
fn place() -> Place {
    Place { ask: Arc::new(ask), ..Place::of_process(assemble::home()) }
}

fn ask(question: Question) -> std::io::Result<Option<Zeroizing<String>>> {
    if !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    let passphrase = match question {
        Question::Passphrase => hidden::ask("Passphrase of the encrypted file of secrets: ")?,
        Question::NewPassphrase => {
            let first = hidden::ask("Passphrase for a new encrypted file of secrets: ")?;
            if first != hidden::ask("The same again: ")? {
                return Err(std::io::Error::other("the two are not the same"));
            }
            first
        }
    };
    if passphrase.is_empty() {
        return Err(std::io::Error::other("it is empty"));
    }
    Ok(Some(passphrase))
}

/// The store that a command names, or else those of the default search path.
async fn stores(named: Option<&str>, place: &Place) -> anyhow::Result<Vec<Box<dyn SecretSource>>> {
    match named {
        Some(DEFAULT) | None => Ok(crate::secrets::own_stores::in_use(place)?),
        Some(word) => Ok(vec![search_path::source(word, place).await?]),
    }
}

/// What is looked through.
async fn search_path(flag: &str, place: &Place) -> anyhow::Result<SearchPath> {
    SearchPath::from_flag(flag, place).await.map_err(|error| anyhow::Error::new(error).context("--secrets"))
}
