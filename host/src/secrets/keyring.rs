//! Secrets in the keyring of the operating system: Keychain on macOS, Credential Manager on Windows, Secret Service
//! (GNOME Keyring, KWallet, KeePassXC) elsewhere.
//!
//! Keyrings cannot be listed everywhere, so the names of what this program has set are kept in a file. That file also
//! says that the keyring is in use: as long as it names a secret, a keyring that does not answer is broken, not absent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use provisioning_core::env_file;
use provisioning_core::text::one_line;
use zeroize::Zeroizing;

use super::own_stores::{Lock, write_private};
use super::permissions::{self, ReadError};
use super::{Answer, SecretSource, SecretText, SourceError};

/// The word in `--secrets`.
pub const KEYRING: &str = "keyring";
/// The service under which entries are kept; the user is the secret's name.
const SERVICE: &str = "docker-mcp";
/// The file of names.
pub(super) const NAMES: &str = "keyring-names";
/// The largest file of names, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// How long a keyring may take. It may ask the user to unlock it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keyring of the operating system.
#[derive(Clone, Debug)]
pub struct Keyring {
    directory: PathBuf,
}

impl Keyring {
    /// The keyring, with its file of names in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Whether something was ever set in it and not removed since.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn is_in_use(&self) -> Result<bool, SourceError> {
        Ok(!self.known()?.is_empty())
    }

    /// Whether a keyring answers on this machine. Asks nobody to unlock anything.
    pub async fn is_available(&self) -> bool {
        self.with(|| Ok(keyring::Entry::store_status().is_ok())).await.unwrap_or(false)
    }

    fn known(&self) -> Result<BTreeSet<String>, SourceError> {
        let path = self.directory.join(NAMES);
        let wrong = |reason: String| self.error(&format!("`{}`: {reason}", path.display()));
        match permissions::read(&path, MAX_BYTES, permissions::refuse_writable) {
            Ok((bytes, _)) => {
                let text =
                    std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text; remove it".to_owned()))?;
                Ok(text.lines().map(str::to_owned).collect())
            }
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(ReadError::Io(error)) => Err(wrong(error.to_string())),
            Err(ReadError::Wrong(reason)) => Err(wrong(reason)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>)) -> Result<(), SourceError> {
        let _lock = Lock::take(&self.directory).map_err(|reason| self.error(&reason))?;
        let mut names = self.known()?;
        change(&mut names);
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        let path = self.directory.join(NAMES);
        write_private(&path, text.as_bytes())
            .map_err(|error| self.error(&format!("cannot write `{}`: {error}", path.display())))
    }

    /// Does something with the keyring: off the async threads, and not for ever.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(PATIENCE, permissions::off_thread(work)).await {
            Ok(done) => done.map_err(|reason| self.error(&reason))?,
            Err(_) => Err(self.error(&format!("it did not answer within {} s; unlock it", PATIENCE.as_secs()))),
        }
    }

    fn entry(&self, name: &str) -> Result<keyring::Entry, SourceError> {
        if let Err(error) = keyring::Entry::store_status() {
            return Err(self.wrong(error));
        }
        keyring::Entry::new(SERVICE, name).map_err(|error| self.wrong(&error))
    }

    /// What an error of the keyring means. Errors may carry what was read, so only what they call themselves is told.
    fn wrong(&self, error: &keyring::Error) -> SourceError {
        match error {
            keyring::Error::PlatformFailure(cause) | keyring::Error::NoStorageAccess(cause) => {
                let cause = one_line(&cause.to_string(), 200);
                self.error(&format!(
                    "the keyring of the system does not answer ({cause}); unlock it, or use `encrypted-file`"
                ))
            }
            keyring::Error::Ambiguous(_) => self.error("it has several secrets of this name; remove all but one"),
            keyring::Error::TooLong(_, most) => {
                self.error(&format!("it keeps at most {most} bytes; use another store"))
            }
            keyring::Error::BadEncoding(_) => self.error("what it has is not UTF-8 text; set it again"),
            _ => self.error("the keyring of the system cannot do this; use `encrypted-file`"),
        }
    }

    fn check(&self, name: &str) -> Result<(), SourceError> {
        if env_file::is_name(name) { Ok(()) } else { Err(self.error(&env_file::NoName.to_string())) }
    }
}

#[async_trait]
impl SecretSource for Keyring {
    fn label(&self) -> String {
        KEYRING.to_owned()
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        if !env_file::is_name(name) {
            return Ok(Answer::NotThere);
        }
        let (keyring, name) = (self.clone(), name.to_owned());
        self.with(move || match keyring.entry(&name)?.get_password().map(Zeroizing::new) {
            Ok(text) if text.is_empty() => Ok(Answer::NotThere),
            Ok(text) => Ok(Answer::Found(SecretText::from(text))),
            Err(keyring::Error::NoEntry) => Ok(Answer::NotThere),
            Err(error) => Err(keyring.wrong(&error)),
        })
        .await
    }

    fn remedy(&self, name: &str) -> Option<String> {
        env_file::is_name(name).then(|| format!("set it with `docker-mcp secret set --store {KEYRING} {name}`"))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        Ok(self.known()?.into_iter().collect())
    }

    async fn set(&self, name: &str, text: &SecretText) -> Result<(), SourceError> {
        self.check(name)?;
        let (keyring, name, text) = (self.clone(), name.to_owned(), text.clone());
        self.with(move || {
            let entry = keyring.entry(&name)?;
            // The name first: a name too many is harmless, a secret that is not listed is never removed.
            keyring.change(|names| names.extend([name.clone()]))?;
            entry.set_password(text.expose()).map_err(|error| keyring.wrong(&error))
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        self.check(name)?;
        let (keyring, name) = (self.clone(), name.to_owned());
        self.with(move || {
            let was_there = match keyring.entry(&name)?.delete_credential() {
                Ok(()) => true,
                Err(keyring::Error::NoEntry) => false,
                Err(error) => return Err(keyring.wrong(&error)),
            };
            if keyring.known()?.contains(&name) {
                keyring.change(|names| names.retain(|known| *known != name))?;
            }
            Ok(was_there)
        })
        .await
    }
}
