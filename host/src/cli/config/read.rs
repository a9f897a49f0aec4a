//! `docker-mcp config read`.

use clap::Args;

use crate::catalog::configuration;
use crate::cli::output::{self, Format};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// How to show it; `text` is the file as it stands
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    let path = files.config();
    let text = files.read(&path)?.unwrap_or_default();
    match arguments.format {
        Format::Text => output::print(&text)?,
        Format::Json => output::print_json(&configuration::parse(&text, &path)?)?,
    }
    Ok(Status::Success)
}
