//! `registry.yaml`: which servers are enabled. An entry may hold more than that it is there; all of it is kept.

use serde_json::{Value as Json, json};

use super::{Change, UserFileError, UserFiles, fields};

/// The enabled servers, in the file's order.
///
/// # Errors
/// If the file is broken.
pub fn enabled(files: &UserFiles) -> Result<Vec<String>, UserFileError> {
    let path = files.registry();
    let Some(text) = files.read(&path)? else { return Ok(Vec::new()) };
    let registry = fields(&text, &path)?.take("registry");
    let named = registry.map(super::shape::At::fields).transpose().map_err(|complaint| complaint.in_file(&path))?;
    Ok(named.map(|fields| fields.named().into_iter().map(|(name, _)| name).collect()).unwrap_or_default())
}

/// Enables servers. Returns those that were not enabled before.
///
/// # Errors
/// If the file is broken or cannot be written.
pub fn enable(files: &UserFiles, names: &[String]) -> Result<Vec<String>, UserFileError> {
    let mut new = Vec::new();
    files.update(&files.registry(), |registry| {
        new = names.iter().filter(|name| !has(registry, name)).cloned().collect();
        // `ref` is what the existing gateway writes.
        Ok(new.iter().map(|name| Change::Set(path(name), json!({ "ref": "" }))).collect())
    })?;
    Ok(new)
}

/// Disables servers. Returns those that were enabled before.
///
/// # Errors
/// As for [`enable`].
pub fn disable(files: &UserFiles, names: &[String]) -> Result<Vec<String>, UserFileError> {
    let mut gone = Vec::new();
    files.update(&files.registry(), |registry| {
        gone = names.iter().filter(|name| has(registry, name)).cloned().collect();
        Ok(gone.iter().map(|name| Change::Remove(path(name))).collect())
    })?;
    Ok(gone)
}

/// Disables all servers and returns them.
///
/// # Errors
/// As for [`enable`].
pub fn reset(files: &UserFiles) -> Result<Vec<String>, UserFileError> {
    disable(files, &enabled(files)?)
}

fn path(name: &str) -> Vec<String> {
    vec!["registry".to_owned(), name.to_owned()]
}

fn has(registry: &Json, name: &str) -> bool {
    registry.get("registry").and_then(|servers| servers.get(name)).is_some()
}
