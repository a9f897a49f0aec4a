//! `docker-mcp version`.

use clap::Args;
use serde_json::json;

use super::Status;
use super::output::{self, Format};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let version = env!("CARGO_PKG_VERSION");
    match arguments.format {
        Format::Text => output::print(&format!("docker-mcp {version}\n"))?,
        Format::Json => output::print_json(&json!({
            "name": "docker-mcp",
            "version": version,
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        }))?,
    }
    Ok(Status::Success)
}
