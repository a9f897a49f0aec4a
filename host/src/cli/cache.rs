//! The directory of compiled components: where it is, and whether it is private. What is in it is executed, so
//! nobody but the user may be able to write there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directory, made if need be. None, with a warning, if it cannot be used: components are then compiled anew by
/// every process.
pub(super) fn usable(home: Option<&Path>) -> Option<PathBuf> {
    let directory = directory(home, |name| std::env::var_os(name))?;
    match make_private(&directory) {
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

/// Creates a directory that only its owner can use, or checks that an existing one is the user's own.
pub(super) fn make_private(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let found = std::fs::metadata(directory)?;
        if found.mode() & 0o022 != 0 {
            return Err(std::io::Error::other("others may write to it; make it private with `chmod 700`"));
        }
        // A file of our own tells who we are, and that the directory can be written to. Whoever owns a directory can
        // put compiled code into it, whatever its mode.
        let probe = directory.join(format!(".probe-{}", std::process::id()));
        let own = std::fs::File::create(&probe).and_then(|file| file.metadata());
        drop(std::fs::remove_file(&probe));
        if own?.uid() != found.uid() {
            return Err(std::io::Error::other("it belongs to somebody else; set `DOCKER_MCP_CACHE` to your own"));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    std::fs::create_dir_all(directory)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_directory_is_private_and_one_that_others_may_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        make_private(&directory).unwrap();
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(make_private(&directory).unwrap_err().to_string().contains("chmod 700"));
    }

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
