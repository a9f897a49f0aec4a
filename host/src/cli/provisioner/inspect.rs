//! `docker-mcp provisioner inspect`: what a component can reach, before anybody runs it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::assemble::{home, policies};
use super::super::{Status, options};
use super::{Subject, render};
use crate::inspect::Standing;
use crate::policy::effect::Effect;
use crate::policy::grants::Grants;

/// How a component is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// Its imports and exports as WIT
    Wit,
}

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A built-in or installed provisioner, or the path of a component (`.wasm`)
    #[arg(value_name = "NAME|FILE")]
    component: String,
    /// Compare what it wants with these grants, besides those that it has
    #[arg(long, value_name = "GRANT,...", value_parser = options::grants)]
    grant: Vec<Grants>,
    /// A policy besides the organisation's and the user's own; repeat it for several
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// How to show it
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let subject = Subject::find(&arguments.component)?;
    let mut grants = subject.grants.clone();
    for more in &arguments.grant {
        grants.extend(more.clone());
    }
    let granted_by = if arguments.grant.is_empty() { subject.granted_by } else { "`--grant`" };
    let standing = Standing::of(&subject.inspection, &grants);
    let loaded = policies(&arguments.policy, home().as_deref())?;
    let builtin = super::built_in(&subject.name).map(|_| subject.name.as_str());
    let effect = Effect::of(&grants, &loaded.policies, &subject.inspection.digest, builtin);
    match arguments.format {
        Format::Text => {
            let files = loaded.files.len();
            let left = (files > 0).then_some((&effect, files));
            print!(
                "{}",
                render::text(&subject.name, &subject.from, &subject.inspection, (&standing, granted_by), left)
            );
        }
        Format::Json => {
            let document = json!({
                "name": subject.name,
                "from": subject.from,
                "component": subject.inspection,
                "grants": standing,
                "grantedBy": granted_by,
                "policies": { "files": loaded.files.iter().map(|(file, _)| file).collect::<Vec<_>>(), "effect": effect },
                "wit": subject.inspection.wit.as_ref().ok(),
            });
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
        Format::Wit => match &subject.inspection.wit {
            Ok(wit) => println!("{wit}"),
            Err(reason) => anyhow::bail!("{reason}; `--format json` has the names of all imports"),
        },
    }
    Ok(Status::Success)
}
