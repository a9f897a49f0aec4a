//! The operator's configuration: a YAML or JSON file with a section for each server.
//!
//! Values are private: real configurations hold credentials. Messages name keys only.

use std::path::{Path, PathBuf};

use provisioning_core::template::section_name;
use serde_json::{Map, Value as Json};

use super::shape::At;
use super::yaml::{self, FileError};

/// Reads configuration files and lays them over each other: a later file's values replace an earlier one's key by
/// key; lists are replaced as a whole. A section of null is an empty one.
///
/// # Errors
/// If a file cannot be read, or is not a map of server names to sections.
pub fn load(paths: &[PathBuf]) -> Result<Map<String, Json>, FileError> {
    let mut merged = Map::new();
    for path in paths {
        lay_over(&mut merged, parse(&yaml::read_text(path)?, path)?);
    }
    Ok(merged)
}

/// Reads the text of one configuration file; `path` is for messages.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Map<String, Json>, FileError> {
    let read = || {
        let mut sections = Map::new();
        for (name, at) in At::new("", yaml::parse(text)?).fields()?.named() {
            // `server.key: value` at the top is a flat spelling of a section's key.
            let section = match at.node.to_json() {
                Json::Null => Json::Object(Map::new()),
                Json::Object(section) => Json::Object(section),
                value if name.contains('.') => value,
                _ => return Err(at.complain("a section, that is a map of keys to values,")),
            };
            sections.insert(name, section);
        }
        Ok(sections)
    };
    read().map_err(|complaint| complaint.in_file(path))
}

/// What the templates of one server may name: its own section, under the name that templates use, and keys that
/// are spelt flat. No other server's.
pub fn scope(configuration: &Map<String, Json>, server: &str) -> Map<String, Json> {
    let section = section_name(server);
    let mut scope = Map::new();
    for name in [server, section.as_str()] {
        if let Some(Json::Object(values)) = configuration.get(name) {
            lay_over(&mut scope, Map::from_iter([(section.clone(), Json::Object(values.clone()))]));
        }
    }
    for (key, value) in configuration.iter().filter(|(_, value)| !value.is_object()) {
        let own = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('.');
        if let Some(rest) = own(server).or_else(|| own(&section)) {
            scope.insert(format!("{section}.{rest}"), value.clone());
        }
    }
    scope
}

fn lay_over(base: &mut Map<String, Json>, over: Map<String, Json>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Json::Object(below)), Json::Object(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
