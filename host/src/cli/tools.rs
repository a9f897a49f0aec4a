//! `docker-mcp tools ls` and `tools call`: a gateway and a client in one process, for looking and trying.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json};

use super::assemble::{Assembled, Mode, assemble};
use super::options::ServerOptions;
use super::{Status, progress};
use crate::gateway::client::Client;
use crate::gateway::{Gateway, ServerStatus};
use crate::lease::Reaper;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tools of the enabled servers
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Call a tool and print what it returns
    Call(Call),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Ls {
    #[command(flatten)]
    servers: ServerOptions,
    /// How to show it; `json` has the input schemas
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Args, Debug)]
pub(super) struct Call {
    /// The tool
    name: String,
    /// Its arguments: `name=text`, or `name:=JSON` for anything that is not text
    #[arg(value_name = "ARGUMENT", value_parser = argument)]
    arguments: Vec<(String, Json)>,
    #[command(flatten)]
    servers: ServerOptions,
    /// How to show the result; `json` is the whole of it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// One argument of a call.
fn argument(text: &str) -> Result<(String, Json), String> {
    let bad = || format!("`{text}` is no argument; write `name=text` or `name:=JSON`");
    let (name, value) = text.split_once('=').ok_or_else(bad)?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, serde_json::from_str(value).map_err(|error| format!("`{name}`: not JSON: {error}"))?),
        None => (name, Json::String(value.to_owned())),
    };
    if name.is_empty() { Err(bad()) } else { Ok((name.to_owned(), value)) }
}

pub(super) async fn run(command: Command) -> anyhow::Result<Status> {
    match command {
        Command::Ls(arguments) => {
            super::log_to_stderr(arguments.servers.verbosity, true);
            with_client(&arguments.servers, async |client, gateway| {
                let tools = client.list_tools().await?;
                print_tools(&tools, arguments.format)?;
                Ok(if report_failures(gateway) { Status::Partial } else { Status::Success })
            })
            .await
        }
        Command::Call(arguments) => {
            super::log_to_stderr(arguments.servers.verbosity, true);
            let given: Map<String, Json> = arguments.arguments.iter().cloned().collect();
            with_client(&arguments.servers, async |client, gateway| {
                gateway.ready().await;
                let result = client
                    .call_tool(&arguments.name, given, |note| {
                        tracing::info!(method = note.method, "{}", note.params);
                    })
                    .await?;
                print_result(&result, arguments.format)?;
                Ok(if result.get("isError") == Some(&Json::Bool(true)) { Status::Partial } else { Status::Success })
            })
            .await
        }
    }
}

/// Runs something with a client of a gateway that lives as long.
async fn with_client(
    options: &ServerOptions,
    work: impl AsyncFnOnce(&Client, &Gateway) -> anyhow::Result<Status>,
) -> anyhow::Result<Status> {
    let assembled = assemble(options, Mode::Real(progress::on_stderr()), Reaper::new()).await?;
    let servers = assembled.loaded.servers.clone();
    let gateway = Gateway::start(servers, assembled.provisioner.clone(), assembled.gateway.clone());
    let result = tokio::select! {
        result = with_gateway(&assembled, &gateway, work) => result,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
    };
    gateway.shutdown().await;
    assembled.finish().await;
    result
}

async fn with_gateway(
    assembled: &Assembled,
    gateway: &Gateway,
    work: impl AsyncFnOnce(&Client, &Gateway) -> anyhow::Result<Status>,
) -> anyhow::Result<Status> {
    assembled.provisioner.ready().await?;
    let client = Client::to_gateway(gateway).await.context("the gateway does not answer")?;
    work(&client, gateway).await
}

/// Says on stderr which servers did not start. True if there are any.
fn report_failures(gateway: &Gateway) -> bool {
    let mut failed = false;
    for (name, status) in gateway.status() {
        match status {
            ServerStatus::Ready { .. } => {}
            ServerStatus::Failed(reason) => {
                failed = true;
                eprintln!("warning: {reason}");
            }
            ServerStatus::Pending => {
                failed = true;
                eprintln!("warning: server `{name}` has not answered yet; raise `--max-server-startup-timeout`");
            }
        }
    }
    failed
}

/// Prints one line for each tool, or all that is known.
pub(super) fn print_tools_text(tools: &[Json]) {
    let name = |tool: &Json| tool.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
    let width = tools.iter().map(|tool| name(tool).chars().count()).max().unwrap_or_default().min(40);
    for tool in tools {
        let description = tool.get("description").and_then(Json::as_str).unwrap_or_default();
        let first = description.lines().next().unwrap_or_default();
        println!("{:width$}  {}", printable(&name(tool)), printable(first));
    }
}

fn print_tools(tools: &[Json], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(tools)?),
        Format::Text => {
            print_tools_text(tools);
            eprintln!("{} tools", tools.len());
        }
    }
    Ok(())
}

fn print_result(result: &Json, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(result)?);
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    for line in content_lines(result) {
        writeln!(stdout, "{line}")?;
    }
    Ok(())
}

/// The content of a result as text; what is not text is named.
pub(super) fn content_lines(result: &Json) -> Vec<String> {
    let blocks = result.get("content").and_then(Json::as_array);
    blocks
        .into_iter()
        .flatten()
        .map(|block| match block.get("text").and_then(Json::as_str) {
            Some(text) => text.to_owned(),
            None => {
                let kind = block.get("type").and_then(Json::as_str).unwrap_or("content");
                format!("[{kind}; see it with --format json]")
            }
        })
        .collect()
}

/// What a server says must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_text_unless_marked_as_json() {
        assert_eq!(argument("a=1"), Ok(("a".to_owned(), json!("1"))));
        assert_eq!(argument("a:=1"), Ok(("a".to_owned(), json!(1))));
        assert_eq!(argument("a=b=c"), Ok(("a".to_owned(), json!("b=c"))));
        assert!(argument("a").is_err());
        assert!(argument("=x").is_err());
        assert!(argument("a:=nope").is_err());
    }
}
