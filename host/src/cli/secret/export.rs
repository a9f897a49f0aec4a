//! `docker-mcp secret export`: the one command that prints texts of secrets.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use provisioning_core::env_file;
use zeroize::Zeroizing;

use super::{Status, place, search_path};
use crate::catalog::files::OwnFiles;
use crate::cli::assemble;
use crate::secrets::own_stores::DEFAULT;
use crate::secrets::{SecretError, SecretStore as _, SecretText};

/// How the secrets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines `NAME=text`, as `--secrets` reads them
    Env,
    Json,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The servers whose secrets are printed
    #[arg(value_name = "SERVER", required = true)]
    servers: Vec<String>,
    /// A catalog that has the servers, as for `gateway run`
    #[arg(long, value_name = "FILE")]
    catalog: Vec<PathBuf>,
    /// Where to look, as for `gateway run`
    #[arg(long, value_name = "SOURCE:...", default_value = DEFAULT)]
    secrets: String,
    /// How to write them
    #[arg(long, value_enum, default_value = "env")]
    format: Format,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let own = OwnFiles::of_home(assemble::home().as_deref());
    let catalog = assemble::servers::of_files(&arguments.catalog, &own)?;
    let names: Vec<String> = arguments.servers.iter().map(|name| name.trim().to_owned()).collect();
    let entries = catalog.select(&names)?;
    let path = search_path(&arguments.secrets, &place()).await?;
    let mut found: BTreeMap<&str, SecretText> = BTreeMap::new();
    let mut missing = Vec::new();
    for secret in entries.iter().flat_map(|(_, entry)| &entry.secrets) {
        match path.get(&secret.name).await {
            Ok(text) => drop(found.insert(&secret.name, text)),
            Err(SecretError::Missing { .. }) if secret.required == Some(false) => {}
            Err(error @ SecretError::Missing { .. }) => missing.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    // All or nothing: a file that lacks a secret looks like one that has them all.
    if let Some(last) = missing.pop() {
        missing.iter().for_each(|message| eprintln!("error: {message}"));
        bail!("{last}");
    }
    let mut output = Zeroizing::new(Vec::with_capacity(64 << 10));
    match arguments.format {
        Format::Env => {
            for (name, text) in &found {
                let line = env_file::line(name, text.expose()).with_context(|| format!("secret `{name}`"))?;
                output.extend_from_slice(line.as_bytes());
            }
        }
        Format::Json => {
            let texts: BTreeMap<&str, &str> = found.iter().map(|(name, text)| (*name, text.expose())).collect();
            serde_json::to_writer_pretty(&mut *output, &texts)?;
            output.push(b'\n');
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&output).and_then(|()| stdout.flush()).context("cannot write to standard output")?;
    Ok(Status::Success)
}
