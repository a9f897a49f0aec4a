//! `docker-mcp provisioner install`: shows what a component could reach, asks, and writes down what was agreed to.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use chrono::{SecondsFormat, Utc};
use clap::Args;
use provisioning_core::text::one_line;

use super::super::assemble::{home, policies};
use super::super::{Status, options};
use super::{Subject, imports, render, short, store};
use crate::inspect::{Difference, Standing, inspect as read_component};
use crate::installed::{Consent, Installed, check_name};
use crate::policy::effect::Effect;
use crate::policy::grants::Grants;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The component (`.wasm`)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it is granted whenever it is used by its name
    #[arg(long, value_name = "GRANT,...", value_parser = options::grants)]
    grant: Vec<Grants>,
    /// The name that `--provisioner` shall know it by. Default: the file's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Agree without being asked, for scripts
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(&arguments.file)?,
    };
    check_name(&name)?;
    let path = arguments.file.to_string_lossy().into_owned();
    // A path, even if it reads like a name.
    let path = if super::is_path(&path) { path } else { format!("./{path}") };
    let subject = Subject::find(&path)?;
    let mut grants = Grants::default();
    for more in &arguments.grant {
        grants.extend(more.clone());
    }
    let standing = Standing::of(&subject.inspection, &grants);
    let loaded = policies(&[], home().as_deref())?;
    let effect = Effect::of(&grants, &loaded.policies, &subject.inspection.digest, None);
    let left = (!loaded.files.is_empty()).then_some((&effect, loaded.files.len()));
    eprint!("{}", render::text(&path, "file", &subject.inspection, (&standing, "`--grant`"), left));
    let provisioner =
        format!("{}/provisioner@{}", crate::sandbox::contract::PACKAGE, crate::sandbox::contract::VERSION);
    ensure!(
        subject.inspection.exports.iter().any(|export| export.name == provisioner),
        "`{path}` is no provisioner: it does not export `{provisioner}`; build it for the world `docker-provisioner`"
    );
    ensure!(!standing.is_hopeless(), "`{path}` imports what this gateway does not have; see `refused` above");
    ensure!(
        standing.can_run,
        "`{path}` imports what it is not granted; to allow it add `--grant {}`",
        standing.missing.join(",")
    );
    let store = store()?;
    if let Some(before) = store.lock()?.provisioners.get(&name) {
        // What was installed may have been damaged since; that is no reason not to replace it.
        let known = store.bytes(&name, before).ok().and_then(|bytes| read_component(&bytes).ok());
        eprintln!(
            "\n`{name}` is installed already, with sha256:{} and the grants {}",
            short(&before.digest),
            before.grants.names().join(", ")
        );
        if let Some(known) = known {
            let difference = Difference::between(&known, &subject.inspection);
            eprint!("{}", render::difference((&name, &known), (&path, &subject.inspection), &difference));
        }
    }
    if !arguments.yes && !agreed(&name, &grants)? {
        bail!("nothing was installed");
    }
    let origin = std::path::absolute(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    let installed = Installed {
        digest: subject.inspection.digest.clone(),
        bytes: subject.bytes.len() as u64,
        origin: origin.to_string_lossy().into_owned(),
        imports: imports(&subject.inspection),
        grants,
        consent: Consent { by: user(), uid: None, at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true) },
    };
    store.install(&name, &subject.bytes, installed)?;
    println!("installed `{name}` with sha256:{}; use it with `--provisioner {name}`", subject.inspection.digest);
    Ok(Status::Success)
}

/// Asks the user. Only a person at a terminal can answer.
fn agreed(name: &str, grants: &Grants) -> anyhow::Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked, because standard input is no terminal; add `--yes` to agree to what is shown above"
    );
    let grants = grants.names();
    let grants = if grants.is_empty() { "nothing".to_owned() } else { grants.join(", ") };
    eprint!("\nInstall it as `{name}` and grant it {grants}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The name of a file as that of a provisioner.
fn name_of(file: &Path) -> anyhow::Result<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase().replace(['.', ' '], "-");
    match check_name(&stem) {
        Ok(()) => Ok(stem),
        Err(reason) => bail!("`{}` gives no name: {reason}; choose one with `--name`", file.display()),
    }
}

/// What the environment calls the user.
fn user() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let name = variable("USER").or_else(|| variable("LOGNAME")).or_else(|| variable("USERNAME"));
    one_line(&name.unwrap_or_else(|| "unknown".to_owned()), 100)
}
