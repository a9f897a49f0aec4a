//! `docker-mcp catalog ls`.

use clap::Args;
use provisioning_core::text::one_line;
use serde_json::json;

use crate::catalog::user_files::catalogs;
use crate::cli::output::{self, Format};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// How to show it; `json` also says where each came from
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let catalogs = catalogs::list(&user_files()?)?;
    if arguments.format == Format::Json {
        output::print_json(&json!({ "catalogs": catalogs }))?;
        return Ok(Status::Success);
    }
    let lines = catalogs.iter().map(|(name, listed)| {
        let title = if listed.display_name.is_empty() { name } else { &listed.display_name };
        format!("{}: {}\n", one_line(name, 200), one_line(title, 200))
    });
    output::print(&lines.collect::<String>())?;
    if catalogs.is_empty() {
        eprintln!("no catalogs; `docker-mcp catalog import docker-mcp` gets Docker's");
    }
    Ok(Status::Success)
}
