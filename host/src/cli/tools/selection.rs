//! `docker-mcp tools enable` and `tools disable`: which tools of a server are offered. No server is started; what
//! tools there are is what the catalogs say.

use anyhow::bail;
use clap::Args;
use provisioning_core::names::near;
use serde_json::json;

use super::Format;
use crate::catalog::Catalog;
use crate::catalog::user_files::{catalogs, tools};
use crate::cli::{Status, output, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The tools
    #[arg(value_name = "TOOL", required = true)]
    names: Vec<String>,
    /// The server that has them. Default: the one in whose catalog entry they are
    #[arg(long)]
    server: Option<String>,
}

pub(super) fn run(arguments: &Arguments, on: bool, format: Format) -> anyhow::Result<Status> {
    let files = user_files()?;
    let (catalog, _) = catalogs::load(&files)?;
    // All of them or none.
    let mut chosen: Vec<(&str, Vec<&str>)> = Vec::new();
    for tool in &arguments.names {
        let server = server_of(&catalog, tool, arguments.server.as_deref())?;
        match chosen.iter_mut().find(|(own, _)| *own == server) {
            Some((_, tools)) => tools.push(tool),
            None => chosen.push((server, vec![tool])),
        }
    }
    for (server, names) in &chosen {
        let all: Vec<String> = offered(&catalog, server).map(str::to_owned).collect();
        let changed = tools::update(&files, server, |now| {
            // A server that is not in the file has all of its tools.
            let mut list = match (now, on) {
                (Some(list), _) => list,
                (None, true) => return None,
                (None, false) => all,
            };
            if on {
                let new = names.iter().filter(|name| !list.iter().any(|own| own == *name));
                let new: Vec<String> = new.map(|name| (*name).to_owned()).collect();
                list.extend(new);
            } else {
                list.retain(|own| !names.contains(&own.as_str()));
            }
            Some(list)
        })?;
        let word = if on { "enabled" } else { "disabled" };
        let already = if changed { "" } else { " already" };
        eprintln!("{word}{already} for `{server}`: {}", names.join(", "));
    }
    if format == Format::Json {
        let enabled = tools::enabled(&files)?;
        let of = |server: &str| enabled.get(server).cloned();
        let all = |server: &str| offered(&catalog, server).map(str::to_owned).collect();
        let lists =
            chosen.iter().map(|(server, _)| ((*server).to_owned(), json!(of(server).unwrap_or_else(|| all(server)))));
        output::print_json(&lists.collect::<serde_json::Map<_, _>>())?;
    }
    Ok(Status::Success)
}

fn offered<'a>(catalog: &'a Catalog, server: &str) -> impl Iterator<Item = &'a str> {
    catalog.get(server).into_iter().flat_map(|entry| entry.tools.iter().map(|tool| tool.name.as_str()))
}

/// The server that has a tool.
fn server_of<'a>(catalog: &'a Catalog, tool: &str, server: Option<&str>) -> anyhow::Result<&'a str> {
    if let Some(server) = server {
        let Some(name) = catalog.names().find(|name| *name == server) else {
            // Says what is near.
            catalog.select(&[server.to_owned()])?;
            bail!("server `{server}` is in no catalog");
        };
        if !offered(catalog, server).any(|own| own == tool) {
            match near(tool, offered(catalog, server)).first() {
                Some(near) => bail!("the catalog has no tool `{tool}` of server `{server}`; did you mean `{near}`?"),
                None => bail!(
                    "the catalog has no tool `{tool}` of server `{server}`; see `docker-mcp server inspect {server}`"
                ),
            }
        }
        return Ok(name);
    }
    let having: Vec<&str> = catalog.names().filter(|name| offered(catalog, name).any(|own| own == tool)).collect();
    match having.as_slice() {
        [one] => Ok(*one),
        [] => {
            let all = catalog.names().flat_map(|name| offered(catalog, name));
            let near = near(tool, all).first().map(|near| format!("did you mean `{near}`?"));
            bail!(
                "no server of the catalogs has a tool `{tool}`; {}",
                near.unwrap_or_else(|| "name its server with `--server`".to_owned())
            )
        }
        many => bail!("the tool `{tool}` is in {}; name one with `--server`", many.join(", ")),
    }
}
