//! `docker-mcp server ls`.

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::state::{self, State};
use crate::catalog::configuration;
use crate::catalog::user_files::{catalogs, registry};
use crate::cli::output::{self, Format};
use crate::cli::{Status, assemble, user_files};
use crate::secrets::Place;
use crate::secrets::search_path::SearchPath;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Where secrets are looked up, as for `gateway run`
    #[arg(long, value_name = "SOURCE:...", default_value = "docker-desktop")]
    secrets: String,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    description: String,
    secrets: State,
    config: State,
    oauth: State,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    let enabled = registry::enabled(&files)?;
    let (catalog, _) = catalogs::load(&files)?;
    let configuration =
        configuration::load(&Some(files.config()).filter(|path| path.exists()).into_iter().collect::<Vec<_>>())?;
    let store =
        SearchPath::from_flag(&arguments.secrets, &Place::of_process(assemble::home())).await.context("--secrets")?;
    let (mut rows, mut trouble, mut missing) = (Vec::new(), None, Vec::new());
    for name in enabled {
        let Some(entry) = catalog.get(&name) else {
            missing.push(name);
            continue;
        };
        let (secrets, reason) = state::secrets(entry, &store).await;
        trouble = trouble.or(reason);
        rows.push(Listed {
            description: entry.description.as_deref().unwrap_or_default().trim().to_owned(),
            secrets,
            config: state::config(&name, entry, &configuration),
            oauth: if entry.oauth.is_some() { State::Required } else { State::None },
            name,
        });
    }
    if arguments.json || arguments.format == Format::Json {
        output::print_json(&rows)?;
    } else {
        let cells = |row: &Listed| {
            let first = row.description.lines().next().unwrap_or_default().to_owned();
            let word = |state: State| state.word().to_owned();
            vec![row.name.clone(), word(row.oauth), word(row.secrets), word(row.config), first]
        };
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        if !cells.is_empty() {
            output::print_table(&["NAME", "OAUTH", "SECRETS", "CONFIG", "DESCRIPTION"], &cells)?;
        }
        eprintln!("{} enabled", output::count(rows.len(), "server"));
    }
    if let Some(reason) = trouble {
        eprintln!("warning: {reason}");
    }
    for name in missing {
        eprintln!("warning: `{name}` is enabled and in no catalog; disable it, or import its catalog");
    }
    Ok(Status::Success)
}
