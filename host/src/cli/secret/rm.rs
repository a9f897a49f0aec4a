//! `docker-mcp secret rm`.

use std::collections::BTreeSet;

use anyhow::bail;
use clap::Args;

use super::{Status, place, stores};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The secrets
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,
    /// Remove all secrets
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Only from this store, as for `secret set`. Default: from all that `secret set` may have written to
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let stores = stores(arguments.store.as_deref(), &place()).await?;
    let (mut removed, mut problems) = (BTreeSet::new(), Vec::new());
    for store in &stores {
        let names = if arguments.all { store.names().await } else { Ok(arguments.names.clone()) };
        let names = names.unwrap_or_else(|error| {
            problems.push(error.to_string());
            Vec::new()
        });
        for name in names {
            match store.remove(&name).await {
                Ok(true) => {
                    eprintln!("`{name}` is removed from {}", store.label());
                    removed.insert(name);
                }
                Ok(false) => {}
                Err(error) => problems.push(format!("`{name}` is not removed: {error}")),
            }
        }
    }
    let missing = arguments.names.iter().filter(|name| !removed.contains(*name));
    problems.extend(missing.map(|name| format!("`{name}` is not set; see `docker-mcp secret ls`")));
    let failed = !problems.is_empty();
    let last = if removed.is_empty() { problems.pop() } else { None };
    problems.iter().for_each(|problem| eprintln!("error: {problem}"));
    if let Some(last) = last {
        bail!("{last}");
    }
    Ok(if failed { Status::Partial } else { Status::Success })
}
