//! Which directories of this machine may be mounted: the lists from the environment, and following links.
//!
//! The rules themselves are in `provisioning_core::volume`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use provisioning_core::volume::{self, ALLOWED_PATHS, BindError, BindRules, TEMPORARY, Volume};

/// The rules of this process.
#[derive(Clone, Debug)]
pub struct BindPolicy {
    rules: BindRules,
}

impl BindPolicy {
    /// The temporary directories, and what the two variables list, separated like `PATH`. Relative paths in them are
    /// ignored: they would mean another directory on every start.
    pub fn from_environment(vars: impl Fn(&str) -> Option<String>) -> Self {
        let listed = |name: &str| {
            let text = vars(name).unwrap_or_default();
            std::env::split_paths(&text)
                .filter(|path| !path.as_os_str().is_empty())
                .filter_map(|path| {
                    let normal = path.to_str().map(str::trim).and_then(volume::normalised);
                    if normal.is_none() {
                        tracing::warn!(variable = name, "ignoring a path that is not absolute; write the full path");
                    }
                    normal
                })
                .collect::<Vec<_>>()
        };
        let temporary = TEMPORARY.iter().map(PathBuf::from).chain(listed("TMPDIR"));
        let roots = temporary.chain(listed(ALLOWED_PATHS)).collect();
        Self { rules: BindRules { roots: with_real(roots), writable: with_real(listed(volume::WRITABLE_PATHS)) } }
    }

    /// Judges a volume in Docker's short syntax and returns it as it is to be mounted: links followed, `ro` or `rw`
    /// written out for directories of the host. Named volumes pass. Reads directories: not for hot paths.
    ///
    /// # Errors
    /// If it may not be mounted. The message does not show the volume, which may come from configuration: put a name
    /// before it.
    pub fn check(&self, volume: &str) -> Result<String, BindError> {
        self.judge(volume).map(|volume| volume.to_string())
    }

    /// Like [`BindPolicy::check`], with writing taken away.
    ///
    /// # Errors
    /// As for [`BindPolicy::check`].
    pub fn check_read_only(&self, volume: &str) -> Result<String, BindError> {
        self.judge(volume).map(|volume| volume.read_only().to_string())
    }

    fn judge(&self, volume: &str) -> Result<Volume, BindError> {
        let volume = self.rules.check(volume, &|path| resolve(path).map_err(|error| error.to_string()))?;
        let source = volume.source.as_deref().filter(|source| source.starts_with('/')).map(Path::new);
        let is_named = |source: &Path| self.rules.roots.iter().chain(&self.rules.writable).any(|root| root == source);
        match source.filter(|source| is_socket(source)) {
            // Reading is enough to connect.
            Some(source) if !is_named(source) => Err(BindError::Socket),
            _ => Ok(volume),
        }
    }
}

/// The paths as written and as they are once links are followed.
fn with_real(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in paths {
        let real = resolve(&path).ok();
        for path in std::iter::once(path).chain(real) {
            if !all.contains(&path) {
                all.push(path);
            }
        }
    }
    all
}

#[cfg(unix)]
fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(not(unix))]
fn is_socket(_: &Path) -> bool {
    false
}

/// Follows the links of a path as far as it exists; the rest is kept. An unreadable directory is an error, since
/// what lies beyond it is unknown.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let mut missing: Vec<OsString> = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |path, part| path.join(part))),
            // A link whose target is missing exists itself; where it leads may be created later.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && existing.symlink_metadata().is_err() => {
                let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else { return Err(error) };
                missing.push(name.to_owned());
                existing = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn policy(allowed: &Path, writable: &Path) -> BindPolicy {
        let (allowed, writable) = (allowed.display().to_string(), writable.display().to_string());
        BindPolicy::from_environment(|name| match name {
            ALLOWED_PATHS => Some(format!("{allowed}:relative:")),
            volume::WRITABLE_PATHS => Some(writable.clone()),
            _ => None,
        })
    }

    #[test]
    fn a_link_out_of_an_allowed_directory_is_refused_and_one_inside_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("/nowhere/at/all", root.join("dangling")).unwrap();
        symlink(root.join("real"), root.join("in")).unwrap();
        let policy = policy(&root, &root.join("real"));
        let root = root.display();
        assert!(matches!(policy.check(&format!("{root}/out/passwd:/p")), Err(BindError::System("/etc"))));
        assert!(matches!(policy.check(&format!("{root}/dangling:/p")), Err(BindError::Unresolvable(_))));
        assert_eq!(policy.check(&format!("{root}/in:/p:ro")).unwrap(), format!("{root}/real:/p:ro"));
        assert_eq!(policy.check(&format!("{root}/in:/p")).unwrap(), format!("{root}/real:/p:rw"));
        assert_eq!(policy.check_read_only(&format!("{root}/in:/p")).unwrap(), format!("{root}/real:/p:ro"));
        assert_eq!(policy.check(&format!("{root}/new/x:/p")).unwrap(), format!("{root}/new/x:/p:ro"));
    }

    #[test]
    fn an_allowed_directory_that_is_a_link_allows_what_it_leads_to() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        let policy = policy(&root.join("link"), Path::new(""));
        let checked = policy.check(&format!("{}/link/x:/p", root.display())).unwrap();
        assert_eq!(checked, format!("{}/real/x:/p:ro", root.display()));
        assert_eq!(policy.check("named:/p").unwrap(), "named:/p");
    }
}
