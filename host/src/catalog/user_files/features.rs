//! Features: parts of the gateway that are off or on for a user, in `features` of Docker's `config.json`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Change, UserFileError, UserFiles};

/// The feature that allows the Kubernetes provisioner.
pub const KUBERNETES: &str = "kubernetes-provisioning";

/// A feature that can be switched.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
}

/// The features of this gateway. All are off by default.
pub const KNOWN: &[Feature] = &[Feature {
    name: KUBERNETES,
    summary: "Run servers as pods of a Kubernetes cluster (`--provisioner kubernetes`)",
}];

/// Features of Docker's own gateway that are not part of this one.
pub const ELSEWHERE: &[&str] =
    &["oauth-interceptor", "mcp-oauth-dcr", "dynamic-tools", "tool-name-prefix", "use-embeddings", "profiles"];

/// What the file says about each feature that it names.
///
/// # Errors
/// If the file is broken.
pub fn switched(files: &UserFiles) -> Result<BTreeMap<String, bool>, UserFileError> {
    let path = files.docker_config();
    let Some(text) = files.read(&path)? else { return Ok(BTreeMap::new()) };
    let config = super::to_json(&text, &path)?;
    let features = config.get("features").and_then(Json::as_object);
    Ok(features.into_iter().flatten().map(|(name, value)| (name.clone(), is_on(value))).collect())
}

/// Whether a feature is on.
///
/// # Errors
/// As for [`switched`].
pub fn is_enabled(files: &UserFiles, name: &str) -> Result<bool, UserFileError> {
    Ok(switched(files)?.get(name).copied().unwrap_or(false))
}

/// Switches a feature. True if it was not so before.
///
/// # Errors
/// If there is no such feature, or the file is broken or cannot be written.
pub fn switch(files: &UserFiles, name: &str, on: bool) -> Result<bool, UserFileError> {
    // What is not here can be switched off, as it is, but not on.
    if !KNOWN.iter().any(|feature| feature.name == name) && (on || !ELSEWHERE.contains(&name)) {
        return Err(UserFileError::Refused(unknown(name)));
    }
    let value = if on { "enabled" } else { "disabled" };
    files.update(&files.docker_config(), |_| {
        Ok(vec![Change::Set(vec!["features".to_owned(), name.to_owned()], json!(value))])
    })
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = KNOWN.iter().map(|feature| format!("`{}`", feature.name)).collect();
    let known = known.join(", ");
    if ELSEWHERE.contains(&name) {
        return format!("the feature `{name}` of Docker's own gateway is not part of this one; there is {known}");
    }
    format!("there is no feature `{name}`; there is {known}")
}

/// The words of the existing gateway.
fn is_on(value: &Json) -> bool {
    match value {
        Json::Bool(on) => *on,
        Json::String(text) => matches!(text.as_str(), "enabled" | "1" | "t" | "T" | "true" | "True" | "TRUE"),
        _ => false,
    }
}
