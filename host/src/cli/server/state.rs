//! Whether what a server needs is set. Values are looked for and never shown.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::catalog::{Entry, configuration};
use crate::secrets::SecretStore;

/// The words of the existing gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing is needed.
    None,
    /// None of it is set.
    Required,
    /// Some of it is set.
    Partial,
    /// All of it is set.
    Done,
}

impl State {
    fn of(set: usize, needed: usize) -> Self {
        match (set, needed) {
            (set, needed) if set >= needed => Self::Done,
            (0, _) => Self::Required,
            _ => Self::Partial,
        }
    }

    /// As it stands in a table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Required => "required",
            Self::Partial => "partial",
            Self::Done => "done",
        }
    }
}

/// Whether the secrets of a server are set; optional ones do not count. What a store cannot tell is taken as not
/// set, and the reason is returned as well.
pub(super) async fn secrets(entry: &Entry, store: &dyn SecretStore) -> (State, Option<String>) {
    if entry.secrets.is_empty() {
        return (State::None, None);
    }
    let (mut set, mut needed, mut trouble) = (0, 0, None);
    for secret in entry.secrets.iter().filter(|secret| secret.required != Some(false)) {
        needed += 1;
        match store.contains(&secret.name).await {
            Ok(found) => set += usize::from(found),
            Err(error) => trouble = Some(error.to_string()),
        }
    }
    (State::of(set, needed), trouble)
}

/// Whether the required keys of a server's configuration are set or have defaults.
pub(super) fn config(name: &str, entry: &Entry, configuration: &Map<String, Json>) -> State {
    if entry.config.is_empty() {
        return State::None;
    }
    let section = configuration::section(configuration, name);
    let is_set = |key: &str| section.contains_key(key);
    let (mut set, mut needed) = (0, 0);
    for schema in &entry.config {
        for key in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            let default = schema.get("properties").and_then(|properties| properties.get(key)?.get("default"));
            needed += 1;
            set += usize::from(default.is_some() || is_set(key));
        }
    }
    State::of(set, needed)
}
