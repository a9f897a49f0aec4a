//! The stores that `docker-mcp secret` writes to, in the order in which they are asked and chosen: Docker Desktop if
//! its credential helper is there, else the keyring of the system, else an encrypted file. `default` in `--secrets`
//! stands for those of them that are in use.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::credential_helper::CredentialHelper;
use super::encrypted_file::EncryptedFile;
use super::keyring::Keyring;
use super::{Place, SecretSource, SourceError};
use crate::private_directory;

/// The word in `--secrets`.
pub const DEFAULT: &str = "default";

/// How long another process may keep the lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the lock is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// The stores that may hold something, in the order in which they are asked.
///
/// # Errors
/// If it cannot be told whether one is in use.
pub fn in_use(place: &Place) -> Result<Vec<Box<dyn SecretSource>>, SourceError> {
    let mut sources: Vec<Box<dyn SecretSource>> = vec![Box::new(CredentialHelper::desktop())];
    if let Some(directory) = place.own_directory() {
        let keyring = Keyring::new(&directory);
        if keyring.is_in_use()? {
            sources.push(Box::new(keyring));
        }
        sources.push(Box::new(EncryptedFile::in_place(&directory, place)));
    }
    Ok(sources)
}

/// The store that a secret is set in if none is named.
///
/// # Errors
/// If the keyring is in use and does not answer, because a secret elsewhere would not be found behind it; or if there
/// is no home directory.
pub async fn to_write(place: &Place) -> Result<Box<dyn SecretSource>, SourceError> {
    let desktop = CredentialHelper::desktop();
    if desktop.is_installed() {
        return Ok(Box::new(desktop));
    }
    let directory = place.own_directory().ok_or_else(|| SourceError {
        source_name: DEFAULT.to_owned(),
        reason: "there is no home directory to keep secrets in; set HOME".to_owned(),
    })?;
    let keyring = Keyring::new(&directory);
    if keyring.is_available().await {
        return Ok(Box::new(keyring));
    }
    if keyring.is_in_use()? {
        return Err(keyring.error(
            "it holds secrets and does not answer; unlock it, or choose the store with `--store encrypted-file`",
        ));
    }
    Ok(Box::new(EncryptedFile::in_place(&directory, place)))
}

/// Keeps other processes from changing what is in the directory of the stores.
pub(super) struct Lock {
    /// Closing the file releases the lock.
    _file: File,
}

impl Lock {
    /// Makes the directory if need be and takes its lock. Blocks.
    pub(super) fn take(directory: &Path) -> Result<Self, String> {
        let shown = directory.display();
        let failed = |error: std::io::Error| format!("`{shown}` cannot be used: {error}");
        private_directory::create(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = private(&mut options).open(directory.join("lock")).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    #[expect(clippy::disallowed_methods, reason = "a lock of the system can be polled only")]
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(format!("another process keeps `{shown}` locked; wait for it, or end it"));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

/// Files that only their owner may read.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Writes a file that only its owner may read: wholly or not at all, whatever happens in between. To be called with
/// the lock.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let staged = path.with_extension("new");
    match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so that its permissions are ours and it is no link of somebody else.
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&staged, path)?;
    // The new name has to be on the disk too.
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Which of this program's own stores are in use in its directory, for people. None is opened: that may ask the user.
pub(crate) fn kept_in(directory: &Path) -> Vec<&'static str> {
    let stores = [
        (super::keyring::NAMES, "the keyring"),
        (super::encrypted_file::SECRETS, "the encrypted file `~/.docker/mcp/secrets/secrets.age`"),
    ];
    stores.map(|(file, name)| directory.join(file).exists().then_some(name)).into_iter().flatten().collect()
}
