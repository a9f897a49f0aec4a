//! `docker-mcp provisioner …`: looking at components, installing them, planning with them, and what they did.

pub(super) mod audit;
mod diff;
mod export;
mod inspect;
mod install;
mod ls;
mod rebuild;
mod render;
mod uninstall;
mod verify;

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Subcommand, ValueEnum};

use super::{Status, plan};
use crate::builtin;
use crate::inspect::{Inspection, inspect as read_component};
use crate::installed::{Installed, Store, StoreError};
use crate::policy::grants::Grants;
use crate::sandbox::component::{Source, read};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what would be created for each server, without an engine. Which secrets are set is looked up; none is shown
    Plan(Box<plan::Arguments>),
    /// Show what a component can reach, read from its bytes: nothing of it is run
    Inspect(inspect::Arguments),
    /// Show what another version of a component wants more
    #[command(after_help = "Exit codes: 0 the second wants nothing that the first does not; 3 it wants more, or the \
                            same with other types; 1 one of them cannot be read.")]
    Diff(diff::Arguments),
    /// List the provisioners that are built in or installed
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    /// Install a component under a name, with what it is granted
    Install(Box<install::Arguments>),
    /// Forget an installed component
    #[command(visible_alias = "rm")]
    Uninstall(uninstall::Arguments),
    /// Write the bytes of a built-in or installed component to a file
    Export(export::Arguments),
    /// Check that installed components still are what was agreed to
    #[command(after_help = "Exit codes: 0 all are; 3 one is not; 1 they could not be checked.")]
    Verify(verify::Arguments),
    /// Build the built-in components from source and compare them with those in this program
    #[command(
        after_help = "Exit codes: 0 they are the same, byte for byte; 3 they are not; 1 they could not be built."
    )]
    Rebuild(rebuild::Arguments),
    /// Read and check the audit log: what components asked for, what was decided, and what came of it
    #[command(subcommand)]
    Audit(audit::Command),
}

pub(super) async fn run(command: Command) -> anyhow::Result<Status> {
    // All but the plan work with files only, and block.
    let work: Box<dyn FnOnce() -> anyhow::Result<Status> + Send> = match command {
        Command::Plan(arguments) => return plan::run(*arguments).await,
        Command::Inspect(arguments) => Box::new(move || inspect::run(&arguments)),
        Command::Diff(arguments) => Box::new(move || diff::run(&arguments)),
        Command::Ls(arguments) => Box::new(move || ls::run(&arguments)),
        Command::Install(arguments) => Box::new(move || install::run(&arguments)),
        Command::Uninstall(arguments) => Box::new(move || uninstall::run(&arguments)),
        Command::Export(arguments) => Box::new(move || export::run(&arguments)),
        Command::Verify(arguments) => Box::new(move || verify::run(&arguments)),
        Command::Rebuild(arguments) => Box::new(move || rebuild::run(&arguments)),
        Command::Audit(command) => Box::new(move || audit::run(command)),
    };
    tokio::task::spawn_blocking(work).await?
}

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// A component that a command was told to look at.
struct Subject {
    /// What it was called.
    name: String,
    /// Where it is from, in words.
    from: String,
    bytes: Cow<'static, [u8]>,
    inspection: Inspection,
    /// What it is granted without any flag.
    grants: Grants,
    /// What says so, in words.
    granted_by: &'static str,
}

impl Subject {
    /// Finds a built-in or installed component by its name, or a file by its path.
    fn find(name: &str) -> anyhow::Result<Self> {
        if let Some((bytes, grants)) = built_in(name) {
            return Self::new(name, "built in".to_owned(), Cow::Borrowed(bytes), grants, "built-in defaults");
        }
        if is_path(name) {
            let bytes = read(&Source::File(name.into())).with_context(|| format!("cannot read `{name}`"))?;
            return Self::new(name, "file".to_owned(), bytes, Grants::default(), "`--grant`, and there is none");
        }
        let store = store()?;
        let installed = store.get(name).map_err(|error| match error {
            StoreError::Unknown(_) => {
                // A name with a dot is that of a file.
                let file = if name.contains('.') { name.to_owned() } else { format!("{name}.wasm") };
                anyhow!("there is no provisioner `{name}`; for a file write its path (`./{file}`)")
            }
            other => other.into(),
        })?;
        let bytes = Cow::Owned(store.bytes(name, &installed)?);
        let from =
            format!("installed from {} by {} at {}", installed.origin, installed.consent.by, installed.consent.at);
        Self::new(name, from, bytes, installed.grants, "the lock file")
    }

    fn new(
        name: &str,
        from: String,
        bytes: Cow<'static, [u8]>,
        grants: Grants,
        granted_by: &'static str,
    ) -> anyhow::Result<Self> {
        let inspection = read_component(&bytes).with_context(|| format!("cannot inspect `{name}`"))?;
        Ok(Self { name: name.to_owned(), from, bytes, inspection, grants, granted_by })
    }
}

/// The names of the components that are built in.
const BUILT_IN: [&str; 3] = ["docker", "kubernetes", "cluster-mapping"];

/// The bytes and default grants of a built-in component.
fn built_in(name: &str) -> Option<(&'static [u8], Grants)> {
    match name {
        "docker" => Some((builtin::DOCKER, Grants::builtin_docker())),
        "kubernetes" | "k8s" => Some((builtin::KUBERNETES, Grants::builtin_kubernetes())),
        // What it imports needs none.
        "cluster-mapping" => Some((builtin::CLUSTER_MAPPING, Grants::default())),
        _ => None,
    }
}

/// Whether `--provisioner` takes a text for a path rather than a name.
pub(super) fn is_path(name: &str) -> bool {
    name.ends_with(".wasm") || name.contains(['/', '\\'])
}

/// An installed provisioner for `--provisioner NAME`, with what it is granted.
pub(super) fn installed(name: &str) -> anyhow::Result<Option<(Source, Grants)>> {
    let store = store()?;
    let mut lock = store.lock()?;
    Ok(lock.provisioners.remove(name).map(|found| (store.source(name, &found), found.grants)))
}

/// Where the user's provisioners are.
fn store() -> anyhow::Result<Store> {
    let directory = Store::directory(std::env::var_os("XDG_DATA_HOME"), super::assemble::home().as_deref())
        .context("there is no home directory; set XDG_DATA_HOME")?;
    Ok(Store::open(directory)?)
}

/// The imports of a component as the lock file has them.
pub(super) fn imports(inspection: &Inspection) -> Vec<String> {
    let of = |import: &crate::inspect::Import| {
        let functions = import.functions.iter().map(|function| format!("{}#{}", import.name, function.name));
        std::iter::once(import.name.clone()).chain(functions).collect::<Vec<_>>()
    };
    inspection.imports.iter().flat_map(of).collect()
}

/// The first twelve digits of a digest, for people.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Writes to a path that must not be there yet.
fn write_new(path: &PathBuf, bytes: &[u8], replace: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if replace {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(bytes));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            anyhow::bail!("`{}` is there already; add `--force` to write over it", path.display())
        }
        other => other.with_context(|| format!("cannot write `{}`", path.display())),
    }
}

/// Whether an installed component still has what was agreed to.
pub(super) fn holds(store: &Store, name: &str, installed: &Installed) -> Result<(), String> {
    let bytes = store.bytes(name, installed).map_err(|error| error.to_string())?;
    let inspection = read_component(&bytes).map_err(|error| error.to_string())?;
    match imports(&inspection).into_iter().find(|import| !installed.imports.contains(import)) {
        Some(import) => {
            Err(format!("it imports `{import}`, which the lock file does not have; install it again to agree to it"))
        }
        None => Ok(()),
    }
}
