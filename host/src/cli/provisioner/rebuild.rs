//! `docker-mcp provisioner rebuild`: the built-in components are what the sources say.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use serde_json::json;

use super::super::Status;
use super::Format;
use crate::builtin;
use crate::sandbox::contract::digest;

// The very code that built them: a copy of it could drift.
#[path = "../../../build/guests.rs"]
#[allow(dead_code, reason = "the build script uses the rest")]
mod guests;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A checkout of the sources of this version
    #[arg(value_name = "SOURCES", default_value = ".")]
    sources: PathBuf,
    /// Where to build. Default: `target/rebuild` in the sources
    #[arg(long, value_name = "DIRECTORY")]
    target_directory: Option<PathBuf>,
    /// How to show the result
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

/// What was used for the components in this program.
const TOOLCHAIN: &str = env!("GUEST_TOOLCHAIN");

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let shown = arguments.sources.display();
    let sources = arguments.sources.canonicalize().with_context(|| format!("cannot use `{shown}`"))?;
    ensure!(
        sources.join("components/docker/Cargo.toml").exists() && sources.join("wit").exists(),
        "`{shown}` has not the sources of this program; name a checkout of them"
    );
    let target = match &arguments.target_directory {
        Some(directory) => std::path::absolute(directory)?,
        None => sources.join("target/rebuild"),
    };
    let program = |variable, name: &str| std::env::var_os(variable).unwrap_or_else(|| name.into());
    let foreign = |error: Box<dyn std::error::Error + Send + Sync>| anyhow!("{error}");
    let toolchain = guests::Toolchain::new(program("CARGO", "cargo"), program("RUSTC", "rustc"), &sources, target)
        .map_err(foreign)?;
    let version = toolchain.version().map_err(foreign)?;
    if version != TOOLCHAIN {
        eprintln!("warning: this is `{version}`, and the components were built with `{TOOLCHAIN}`; they will differ");
    }
    let mut rows = Vec::new();
    let mut same = true;
    for (constant, _, guest) in guests::builtins() {
        let (name, built_in) = match constant {
            "DOCKER" => ("docker", builtin::DOCKER),
            "KUBERNETES" => ("kubernetes", builtin::KUBERNETES),
            "CLUSTER_MAPPING" => ("cluster-mapping", builtin::CLUSTER_MAPPING),
            _ => ("sample", builtin::SAMPLE_SERVER),
        };
        eprintln!("building `{}` …", guest.package);
        toolchain.build(&[&guest]).map_err(foreign)?;
        let rebuilt = digest(&toolchain.component(&guest).map_err(foreign)?);
        let built_in = digest(built_in);
        same &= rebuilt == built_in;
        if arguments.format == Format::Text {
            match rebuilt == built_in {
                true => println!("{name}  sha256:{built_in}  the same"),
                false => println!("{name}  DIFFERS\n  built in  sha256:{built_in}\n  rebuilt   sha256:{rebuilt}"),
            }
        }
        rows.push(json!({"name": name, "package": guest.package, "builtIn": built_in, "rebuilt": rebuilt, "same": rebuilt == built_in}));
    }
    if arguments.format == Format::Json {
        let document = json!({"toolchain": {"builtIn": TOOLCHAIN, "rebuilt": version}, "components": rows});
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(if same { Status::Success } else { Status::Partial })
}
