//! Directories that only their owner can change.

use std::io;
use std::path::Path;

/// Creates a directory that only its owner can use, or checks that nobody else can write to an existing one.
///
/// # Errors
/// If it cannot be made, or others may write to it.
pub fn create(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mode = std::fs::metadata(directory)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(io::Error::other("others may write to it; make it private with `chmod 700`"));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    std::fs::create_dir_all(directory)
}
