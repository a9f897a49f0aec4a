//! Which servers and which of their tools are enabled: `registry.yaml` and `tools.yaml`.
//!
//! They are read here; the commands that change them are elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::shape::{At, Note};
use super::yaml::{self, Complaint, FileError};
use super::{Warning, warnings};

/// The names of the servers that `registry.yaml` files enable, in their order, each once, and what is odd in the files.
///
/// # Errors
/// If a file cannot be read, or has no map of names below `registry`.
pub fn servers(paths: &[PathBuf]) -> Result<(Vec<String>, Vec<Warning>), FileError> {
    let (mut names, mut seen, mut odd) = (Vec::new(), BTreeSet::new(), Vec::new());
    for path in paths {
        let read = |text: &str| registry(text).map_err(|complaint| complaint.in_file(path));
        let (listed, notes) = read(&yaml::read_text(path)?)?;
        names.extend(listed.into_iter().filter(|name| seen.insert(name.clone())));
        odd.extend(warnings(path, notes));
    }
    Ok((names, odd))
}

fn registry(text: &str) -> Result<(Vec<String>, Vec<Note>), Complaint> {
    let mut notes = Vec::new();
    let mut top = At::new("", yaml::parse(text)?).fields()?;
    let registry = top.take("registry").map(At::fields).transpose()?;
    let mut names = Vec::new();
    for (name, at) in registry.map(super::shape::Fields::named).unwrap_or_default() {
        // What stands beside a name is of older versions: a reference, and configuration that has its own file now.
        at.fields()?.finish(&["config", "ref"], &mut notes);
        names.push(name.trim().to_owned());
    }
    top.finish(&[], &mut notes);
    Ok((names, notes))
}

/// The enabled tools of the servers that `tools.yaml` files name. A server that none names has all its tools; where
/// two files name one, the later file counts.
///
/// # Errors
/// If a file cannot be read, or is no map from servers to lists of tools.
pub fn tools(paths: &[PathBuf]) -> Result<BTreeMap<String, BTreeSet<String>>, FileError> {
    let mut merged = BTreeMap::new();
    for path in paths {
        merged.extend(parse_tools(&yaml::read_text(path)?, path)?);
    }
    Ok(merged)
}

/// Reads the text of one `tools.yaml`; `path` is for messages.
///
/// # Errors
/// As for [`tools`].
pub fn parse_tools(text: &str, path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, FileError> {
    let read = || {
        let servers = At::new("", yaml::parse(text)?).fields()?.named().into_iter();
        let tools = |at: At| at.items()?.into_iter().map(At::text).collect::<Result<BTreeSet<_>, _>>();
        servers.map(|(server, at)| Ok((server, tools(at)?))).collect::<Result<_, Complaint>>()
    };
    read().map_err(|complaint| complaint.in_file(path))
}

#[cfg(test)]
mod tests;
