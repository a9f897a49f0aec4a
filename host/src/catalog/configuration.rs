//! The operator's configuration: a YAML or JSON file with a section for each server.
//!
//! Values are private: real configurations hold credentials. Messages name keys only. What a server's schema says of
//! them is in `schema`; files are never written here.

use std::path::{Path, PathBuf};

use provisioning_core::template::section_name;
use serde_json::{Map, Value as Json};

use super::Entry;
use super::schema;
pub use super::schema::Unset;
use super::shape::At;
use super::yaml::{self, FileError};

/// Reads configuration files in their order. Where two have a section of one name, the later one's replaces the
/// earlier one's as a whole, as in the existing gateway. A section of null is an empty one.
///
/// # Errors
/// If a file cannot be read, or is not a map of server names to sections.
pub fn load(paths: &[PathBuf]) -> Result<Map<String, Json>, FileError> {
    let mut merged = Map::new();
    for path in paths {
        for (name, section) in parse(&yaml::read_text(path)?, path)? {
            if merged.insert(name.clone(), section).is_some() {
                let file = path.display();
                tracing::info!(section = name, %file, "two configuration files have this section; the later one counts");
            }
        }
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

/// What one server gets of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ServerConfiguration {
    /// What its templates may name, defaults of its schema included: its own section, under the name that templates
    /// use, and no other server's.
    pub scope: Map<String, Json>,
    /// Why the server cannot be started with this configuration; names keys and shows no value.
    pub fault: Option<String>,
    /// Schemas that cannot be used, so that nothing was checked against them.
    pub warnings: Vec<String>,
}

/// Takes the part of one server out of the configuration, checks it against the schema of its entry and fills in the
/// defaults.
pub fn for_server(configuration: &Map<String, Json>, server: &str, entry: &Entry) -> ServerConfiguration {
    let name = section_name(server);
    let mut section = section(configuration, server);
    let findings = schema::check(&entry.config, &section, &name);
    schema::fill(&entry.config, &mut section);
    let fault = (!findings.complaints.is_empty())
        .then(|| format!("configuration: {}; change it in `config.yaml`", findings.complaints.join("; ")));
    let scope = if section.is_empty() { Map::new() } else { Map::from_iter([(name, Json::Object(section))]) };
    ServerConfiguration { scope, fault, warnings: findings.unusable }
}

/// What the schema of an entry says of a setting that nobody made. `path` is below the server's section.
pub fn unset(entry: &Entry, path: &[&str]) -> Unset {
    schema::unset(&entry.config, path)
}

/// The section of a server as the files have it, without defaults: under its own name, under the name that templates use, and keys that are spelt flat.
pub fn section(configuration: &Map<String, Json>, server: &str) -> Map<String, Json> {
    let canonical = section_name(server);
    let mut section = Map::new();
    for name in [server, canonical.as_str()] {
        if let Some(Json::Object(values)) = configuration.get(name) {
            lay_over(&mut section, values.clone());
        }
    }
    for (key, value) in configuration.iter().filter(|(_, value)| !value.is_object()) {
        let own = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('.');
        if let Some(rest) = own(server).or_else(|| own(&canonical)) {
            place(&mut section, rest, value);
        }
    }
    section
}

/// Puts `a.b: value` where `a: {b: value}` would put it, unless something is there.
fn place(section: &mut Map<String, Json>, key: &str, value: &Json) {
    match key.split_once('.') {
        Some((head, rest)) if section.get(head).is_none_or(Json::is_object) => {
            let below = section.entry(head).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(below) = below {
                place(below, rest, value);
            }
        }
        _ => {
            section.entry(key).or_insert_with(|| value.clone());
        }
    }
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
