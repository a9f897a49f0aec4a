//! Replacing a file in one step, and the lock that serialises changes.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// How many symbolic links are followed to the file that is meant.
const MAX_LINKS: usize = 16;

/// While it lives, no other process of this user changes a file. It ends with the process, however that ends.
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Lock {
    /// Takes the lock; waits for whoever has it.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        make_parent(path)?;
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::warn!("another docker-mcp is changing these files; waiting for it");
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self(file))
    }
}

/// Replaces the content of a file, or makes a new one that only its owner can read. Permissions and owner are kept; a
/// symbolic link stays one, and the file that it leads to is replaced.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = follow(path)?;
    make_parent(&target)?;
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside the target, so that renaming is one step; private until it has the target's permissions.
    let mut file = NamedTempFile::with_prefix_in(".docker-mcp-", directory)?;
    file.write_all(text.as_bytes())?;
    match fs::metadata(&target) {
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a file")),
        // Renaming would get around the permissions of a file in a directory that may be written to.
        Ok(found) if found.permissions().readonly() => return Err(io::ErrorKind::PermissionDenied.into()),
        Ok(found) => keep(file.as_file(), &found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    // The name as well is to survive a loss of power.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Gives a new file the owner and the permissions of the one that it replaces.
fn keep(new: &File, found: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let own = new.metadata()?;
        if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
            fchown(new, Some(found.uid()), Some(found.gid()))?;
        }
    }
    new.set_permissions(found.permissions())
}

/// The file that a path leads to, whether or not it exists.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // Not a link, or not there.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("its symbolic links lead in a circle"))
}

/// Makes the directory of a file; a new one is private.
fn make_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(parent)
}
