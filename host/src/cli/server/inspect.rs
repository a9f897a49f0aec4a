//! `docker-mcp server inspect`.
//!
//! Shows what the catalog says and fetches nothing: addresses in an entry are not the user's.

use clap::Args;
use provisioning_core::text::one_line;
use serde_json::{Map, Value as Json, json};

use crate::catalog::user_files::{catalogs, registry, tools};
use crate::cli::output::{self, Format};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The server
    #[arg(value_name = "SERVER")]
    name: String,
    /// How to show it
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    let name = &arguments.name;
    let (catalog, _) = catalogs::load(&files)?;
    let fault = catalog.select(std::slice::from_ref(name)).err();
    if catalog.get(name).is_none() {
        return Err(fault.map_or_else(|| anyhow::anyhow!("server `{name}` is in no catalog"), Into::into));
    }
    let entry = catalogs::entry(&files, name)?;
    let of = tools::enabled(&files)?;
    let enabled = |tool: &str| of.get(name).is_none_or(|tools| tools.iter().any(|own| own == tool));
    let tools: Vec<Json> = entry
        .get("tools")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .map(|tool| {
            let mut shown = match tool {
                Json::Object(fields) => fields.clone(),
                other => Map::from_iter([("name".to_owned(), other.clone())]),
            };
            let on = shown.get("name").and_then(Json::as_str).is_some_and(&enabled);
            shown.insert("enabled".to_owned(), json!(on));
            Json::Object(shown)
        })
        .collect();
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(name));
    shown.insert("enabled".to_owned(), json!(registry::enabled(&files)?.contains(name)));
    if let Some(fault) = fault {
        shown.insert("fault".to_owned(), json!(fault.to_string()));
    }
    shown.insert("tools".to_owned(), json!(tools));
    shown.insert("readme".to_owned(), entry.get("readme").cloned().unwrap_or_default());
    shown.insert("entry".to_owned(), entry);
    match arguments.format {
        Format::Json => output::print_json(&shown)?,
        Format::Text => output::print(&text(&shown))?,
    }
    Ok(Status::Success)
}

/// The main things, a line each.
fn text(shown: &Map<String, Json>) -> String {
    let entry = |key: &str| shown.get("entry").and_then(|entry| entry.get(key)).and_then(Json::as_str);
    let names = |list: Option<&Json>| {
        let names = list.and_then(Json::as_array).into_iter().flatten();
        names.filter_map(|item| item.get("name")?.as_str()).collect::<Vec<_>>().join(", ")
    };
    let word = |key: &str| shown.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let enabled = shown.get("enabled") == Some(&Json::Bool(true));
    let tools = shown.get("tools").and_then(Json::as_array).cloned().unwrap_or_default();
    let off = tools.iter().filter(|tool| tool.get("enabled") == Some(&Json::Bool(false))).cloned().collect::<Vec<_>>();
    let remote = shown.get("entry").and_then(|entry| entry.get("remote")?.get("url")?.as_str());
    let rows = [
        ("name", word("name")),
        ("title", entry("title").unwrap_or_default().to_owned()),
        ("description", entry("description").unwrap_or_default().trim().to_owned()),
        ("enabled", if enabled { "yes" } else { "no" }.to_owned()),
        ("fault", word("fault")),
        ("image", entry("image").unwrap_or_default().to_owned()),
        ("remote", remote.unwrap_or_default().to_owned()),
        ("secrets", names(shown.get("entry").and_then(|entry| entry.get("secrets")))),
        ("tools", names(Some(&Json::Array(tools)))),
        ("disabled tools", names(Some(&Json::Array(off)))),
        ("readme", word("readme")),
    ];
    let rows = rows.iter().filter(|(_, value)| !value.is_empty());
    rows.map(|(key, value)| format!("{key:15} {}\n", one_line(value, 1_000))).collect()
}
