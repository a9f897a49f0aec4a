//! The features that are switched on in the Docker configuration, `features` of `~/.docker/config.json`. Read only.

use std::path::Path;

use serde_json::Value;

/// The feature that lets servers run in a cluster. Off by default.
pub const KUBERNETES: &str = "kubernetes-provisioning";
/// How much of a configuration is read.
const MOST: u64 = 4 << 20;

/// Whether a feature is on in the configuration file of a directory. A file that is not there switches nothing on.
///
/// # Errors
/// If the file cannot be read, which is said with its path.
pub fn is_enabled(directory: &Path, feature: &str) -> Result<bool, String> {
    use std::io::Read as _;
    let path = directory.join("config.json");
    let mut text = String::new();
    match std::fs::File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("cannot read `{}`: {error}", path.display())),
    }
    let configuration: Value = serde_json::from_str(&text).map_err(|error| {
        format!(
            "cannot read `{}`: line {} column {} is not JSON; correct it",
            path.display(),
            error.line(),
            error.column()
        )
    })?;
    let value = configuration.get("features").and_then(|features| features.get(feature));
    Ok(value.is_some_and(|value| value == "enabled" || value == true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_on_only_where_the_file_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let is_on = |text: &str| {
            std::fs::write(directory.path().join("config.json"), text).unwrap();
            is_enabled(directory.path(), KUBERNETES)
        };
        assert_eq!(is_enabled(&directory.path().join("none"), KUBERNETES), Ok(false));
        assert_eq!(is_on(r#"{"features": {"kubernetes-provisioning": "enabled"}}"#), Ok(true));
        assert_eq!(is_on(r#"{"features": {"kubernetes-provisioning": "disabled"}}"#), Ok(false));
        assert_eq!(is_on(r#"{"features": {"other": "enabled"}, "auths": {}}"#), Ok(false));
        assert!(is_on("{").unwrap_err().ends_with("is not JSON; correct it"));
    }
}
