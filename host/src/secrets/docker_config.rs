//! Which credential helper the Docker configuration names.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Place;
use super::credential_helper::CredentialHelper;
use super::permissions::{self, ReadError};

/// The key of `credHelpers` that stands for the secrets of MCP servers.
pub const KEY: &str = "docker-mcp";
/// The word in `--secrets`.
pub const DOCKER_CONFIG: &str = "docker-config";

/// The largest configuration that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The part of the Docker configuration that names helpers.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "credsStore", default)]
    store: String,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

/// The helper of `credHelpers` for [`KEY`], or else that of `credsStore`.
///
/// # Errors
/// If the configuration cannot be read or names none.
pub fn helper(place: &Place) -> Result<CredentialHelper, String> {
    let directory = place.path("DOCKER_CONFIG").or_else(|| place.home.as_ref().map(|home| home.join(".docker")));
    let path = directory.ok_or("there is no home directory; set DOCKER_CONFIG")?.join("config.json");
    let shown = path.display();
    let (bytes, _) =
        permissions::read(&path, MAX_BYTES, permissions::refuse_writable).map_err(|error| match error {
            ReadError::Io(error) => format!("cannot read `{shown}`: {error}"),
            ReadError::Wrong(reason) => format!("cannot use `{shown}`: {reason}"),
        })?;
    // The parser's message could quote the file, which may hold credentials: only the place is told.
    let mut config: Config = serde_json::from_slice(&bytes)
        .map_err(|error| format!("`{shown}` is not valid at line {}, column {}", error.line(), error.column()))?;
    let name = config.helpers.remove(KEY).unwrap_or(config.store);
    if name.is_empty() {
        return Err(format!("`{shown}` names no helper; add `\"credsStore\": \"NAME\"`, or write `helper=NAME`"));
    }
    CredentialHelper::named(&name)
}

#[cfg(test)]
mod tests {
    use super::super::SecretSource as _;
    use super::*;

    #[test]
    fn the_helper_for_mcp_secrets_comes_before_the_one_for_everything() {
        let home = tempfile::tempdir().unwrap();
        let mut place = Place::of_process(Some(home.path().to_owned()));
        place.variable = std::sync::Arc::new(|_| None);
        let directory = home.path().join(".docker");
        std::fs::create_dir(&directory).unwrap();
        let helper_of = |text: &str| {
            std::fs::write(directory.join("config.json"), text).unwrap();
            helper(&place).map(|helper| helper.label())
        };
        assert_eq!(helper_of(r#"{"credsStore": "pass"}"#).unwrap(), "helper=pass");
        let both = r#"{"credsStore": "pass", "credHelpers": {"gcr.io": "gcloud", "docker-mcp": "secretservice"}}"#;
        assert_eq!(helper_of(both).unwrap(), "helper=secretservice");
        assert!(helper_of("{}").unwrap_err().contains("names no helper"));
        assert!(helper_of(r#"{"credsStore": "../../x"}"#).is_err());
        let error = helper_of(r#"{"auths": hunter2}"#).unwrap_err();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }
}
