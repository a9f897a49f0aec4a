//! `docker-mcp demo`: the real thing from end to end on any machine. Starts this program as an MCP client would,
//! lists the tools of the sample server and calls one.

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Map, json};

use super::{Status, tools};
use crate::gateway::client::Client;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The text that the sample tool counts
    #[arg(default_value = "The quick brown fox jumps over the lazy dog.")]
    text: String,
}

/// How the demonstration starts the gateway, and how a reader could.
const COMMAND: [&str; 6] = ["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample"];

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    println!("$ docker-mcp {}", COMMAND.join(" "));
    let mut command = tokio::process::Command::new(program);
    command.args(COMMAND).env("DOCKER_MCP_LOG", "warn");
    let client = Client::spawn(command).await?;
    let server = client.server();
    let text = |pointer: &str| server.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
    println!(
        "connected to {} {} over MCP {}\n",
        text("/serverInfo/name"),
        text("/serverInfo/version"),
        text("/protocolVersion")
    );

    println!("> tools/list");
    let offered = client.list_tools().await?;
    ensure!(!offered.is_empty(), "the sample server offered no tool");
    tools::print_tools_text(&offered)?;

    let call = Map::from_iter([("text".to_owned(), json!(arguments.text))]);
    println!("\n> tools/call text_stats {}", serde_json::to_string(&call)?);
    let result = client.call_tool("text_stats", call, |_| {}).await?;
    for line in tools::content_lines(&result) {
        println!("{line}");
    }
    ensure!(result.get("isError") != Some(&json!(true)), "the tool failed");
    client.close().await;
    println!(
        "\nThe provisioner decided in a sandbox how to run the server; the server ran as WebAssembly inside the gateway.\n\
         Next: docker-mcp provisioner plan --catalog builtin:sample sample"
    );
    Ok(Status::Success)
}
