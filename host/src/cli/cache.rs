//! The directory of compiled components: where it is. What is in it is executed, so nobody but the user may be able
//! to write there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::private_directory;

/// The directory, made if need be. None, with a warning, if it cannot be used: components are then compiled anew by
/// every process.
pub(super) fn usable(home: Option<&Path>) -> Option<PathBuf> {
    let directory = directory(home, |name| std::env::var_os(name))?;
    match private_directory::create(&directory) {
        Ok(()) => Some(directory),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "compiled components are not kept");
            None
        }
    }
}

/// Where it is. None without a home directory and a variable that names one.
pub(super) fn directory(home: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("DOCKER_MCP_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("docker-mcp")))
        .or_else(|| home.map(|home| home.join(".cache/docker-mcp")))?;
    Some(directory.join("components"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_named_by_the_nearest_of_its_names() {
        let home = Path::new("/home/me");
        let of = |set: &'static [(&str, &str)]| {
            directory(Some(home), |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[]), Some("/home/me/.cache/docker-mcp/components".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x")]), Some("/x/docker-mcp/components".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("DOCKER_MCP_CACHE", "/y")]), Some("/y/components".into()));
        assert_eq!(directory(None, |_| None), None);
    }
}
