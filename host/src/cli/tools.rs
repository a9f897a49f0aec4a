//! `docker-mcp tools`: a gateway and a client in one process, for looking and trying, and which tools are offered.

mod arguments;
pub(super) mod gateway_arguments;
mod selection;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use provisioning_core::names::near;
use provisioning_core::text::one_line;
use serde_json::{Value as Json, json};

use super::assemble::{Assembled, Mode, assemble};
use super::options::ServerOptions;
use super::{Status, output, progress};
use crate::gateway::client::Client;
use crate::gateway::{Gateway, ServerStatus};
use crate::lease::Reaper;

#[derive(Args, Debug)]
#[command(after_help = "`--gateway-arg=--servers=time` is another way to write `--servers=time`.")]
pub(super) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tools of the enabled servers
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Count the tools of the enabled servers
    Count(Ls),
    /// Show all that is known of a tool
    Inspect(Inspect),
    /// Call a tool and print what it returns
    Call(Call),
    /// Offer tools of a server that were disabled
    Enable(selection::Arguments),
    /// Offer a server without some of its tools
    Disable(selection::Arguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For people, in the form of Docker's gateway
    List,
    /// For programs, with all that is known
    Json,
}

#[derive(Args, Debug)]
struct Ls {
    #[command(flatten)]
    servers: ServerOptions,
}

#[derive(Args, Debug)]
struct Inspect {
    /// The tool
    name: String,
    #[command(flatten)]
    servers: ServerOptions,
}

#[derive(Args, Debug)]
struct Call {
    /// The tool
    name: String,
    /// Its arguments: `name=text`, `name:=JSON`, or all as one JSON object. Text becomes what the tool's schema asks for
    #[arg(value_name = "ARGUMENT", value_parser = arguments::given)]
    arguments: Vec<arguments::Given>,
    #[command(flatten)]
    servers: ServerOptions,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let format = arguments.format;
    let servers = match &arguments.command {
        Command::Ls(Ls { servers }) | Command::Count(Ls { servers }) => servers,
        Command::Inspect(Inspect { servers, .. }) | Command::Call(Call { servers, .. }) => servers,
        Command::Enable(tools) | Command::Disable(tools) => {
            super::log_to_stderr(super::Verbosity::default(), true);
            return selection::run(tools, matches!(arguments.command, Command::Enable(_)), format);
        }
    };
    super::log_to_stderr(servers.verbosity, true);
    with_client(servers, async |client, gateway| match &arguments.command {
        Command::Ls(_) => {
            print_tools(&client.list_tools().await?, format)?;
            Ok(if report_failures(gateway) { Status::Partial } else { Status::Success })
        }
        Command::Count(_) => {
            let count = client.list_tools().await?.len();
            match format {
                Format::Json => output::print_json(&json!({ "count": count }))?,
                Format::Text | Format::List => output::print(&format!("{}\n", output::count(count, "tool")))?,
            }
            Ok(if report_failures(gateway) { Status::Partial } else { Status::Success })
        }
        Command::Inspect(inspect) => {
            let tools = client.list_tools().await?;
            let failed = report_failures(gateway);
            let tool = find(&tools, &inspect.name)?;
            match format {
                Format::Json => output::print_json(tool)?,
                Format::Text | Format::List => output::print(&description(tool)?)?,
            }
            Ok(if failed { Status::Partial } else { Status::Success })
        }
        Command::Call(call) => {
            gateway.ready().await;
            let tools = client.list_tools().await?;
            let tool = find(&tools, &call.name);
            if tool.is_err() {
                report_failures(gateway);
            }
            let given = arguments::arguments(&call.arguments, tool?.get("inputSchema")).map_err(anyhow::Error::msg)?;
            let show = |note: crate::gateway::client::Notification| {
                tracing::info!(method = note.method, "{}", note.params);
            };
            let result = client.call_tool(&call.name, given, show).await?;
            print_result(&result, format)?;
            Ok(if result.get("isError") == Some(&Json::Bool(true)) { Status::Partial } else { Status::Success })
        }
        Command::Enable(_) | Command::Disable(_) => Ok(Status::Success),
    })
    .await
}

/// A tool by its name.
fn find<'a>(tools: &'a [Json], name: &str) -> anyhow::Result<&'a Json> {
    let names = || tools.iter().filter_map(|tool| tool.get("name")?.as_str());
    if let Some(tool) = tools.iter().find(|tool| tool.get("name").and_then(Json::as_str) == Some(name)) {
        return Ok(tool);
    }
    match near(name, names()).first() {
        Some(near) => bail!("there is no tool `{name}`; did you mean `{near}`?"),
        None => bail!("there is no tool `{name}`; `docker-mcp tools ls` with the same flags shows what there is"),
    }
}

/// A tool for people.
fn description(tool: &Json) -> anyhow::Result<String> {
    let text = |key: &str| tool.get(key).and_then(Json::as_str).unwrap_or_default();
    // Line by line: a description is a server's text and must not drive the terminal.
    let lines = text("description").trim().lines().map(|line| format!("  {}\n", one_line(line, 2_000)));
    let mut out = format!("{}\n{}", one_line(text("name"), 200), lines.collect::<String>());
    for key in ["inputSchema", "outputSchema", "annotations"] {
        if let Some(value) = tool.get(key) {
            out.push_str(&format!("{key}: {}\n", serde_json::to_string_pretty(value)?));
        }
    }
    Ok(out)
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

/// Prints one line for each tool.
pub(super) fn print_tools_text(tools: &[Json]) -> anyhow::Result<()> {
    let width = tools.iter().map(|tool| summary(tool).0.chars().count()).max().unwrap_or_default().min(40);
    let lines =
        tools.iter().map(summary).map(|(name, text)| format!("{}\n", format!("{name:width$}  {text}").trim_end()));
    output::print(&lines.collect::<String>())
}

/// The name of a tool and the first line of its description. What a server says must not drive the terminal.
fn summary(tool: &Json) -> (String, String) {
    let text = |key: &str| tool.get(key).and_then(Json::as_str).unwrap_or_default();
    let first = text("description").trim().lines().next().unwrap_or_default();
    (one_line(text("name"), 200), one_line(first, 1_000))
}

fn print_tools(tools: &[Json], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(&tools)?,
        Format::List => {
            let lines = tools.iter().map(summary).map(|(name, text)| format!(" - {name} - {text}\n"));
            output::print(&format!("{} tools:\n{}", tools.len(), lines.collect::<String>()))?;
        }
        Format::Text => {
            print_tools_text(tools)?;
            eprintln!("{}", output::count(tools.len(), "tool"));
        }
    }
    Ok(())
}

fn print_result(result: &Json, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(result),
        Format::Text | Format::List => {
            output::print(&content_lines(result).into_iter().map(|line| line + "\n").collect::<String>())
        }
    }
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
