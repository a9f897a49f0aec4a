//! `docker-mcp config write`.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::catalog::{MAX_FILE_BYTES, configuration};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The whole of it, as YAML or JSON; `-` reads it from standard input, where other users of the machine cannot see
    /// it
    #[arg(value_name = "YAML|-", allow_hyphen_values = true)]
    content: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (text, from) = match arguments.content.as_str() {
        "-" => {
            let mut text = String::new();
            let mut stdin = std::io::stdin().lock().take(MAX_FILE_BYTES + 1);
            stdin.read_to_string(&mut text).context("cannot read standard input")?;
            ensure!(
                text.len() as u64 <= MAX_FILE_BYTES,
                "the configuration is larger than {} MiB",
                MAX_FILE_BYTES >> 20
            );
            (text, "standard input")
        }
        given => (given.to_owned(), "the argument"),
    };
    // What the gateway could not read is not written.
    let sections = configuration::parse(&text, Path::new(from))?;
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let files = user_files()?;
    files.replace(&files.config(), &format!("{text}{end}"))?;
    let names: Vec<&str> = sections.keys().map(String::as_str).collect();
    eprintln!(
        "wrote the configuration of: {}",
        if names.is_empty() { "no server".to_owned() } else { names.join(", ") }
    );
    Ok(Status::Success)
}
