//! Directories that only their owner can change.

use std::path::Path;

/// Creates a directory that only its owner can use, or checks that an existing one is the user's own.
///
/// # Errors
/// If it cannot be made, belongs to somebody else, or others may write to it.
pub fn create(directory: &Path) -> std::io::Result<()> {
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
            return Err(std::io::Error::other("it belongs to somebody else; use one of your own"));
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
        create(&directory).unwrap();
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(create(&directory).unwrap_err().to_string().contains("chmod 700"));
    }
}
