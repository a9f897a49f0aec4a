//! Secrets in an encrypted file, for machines without Docker Desktop and without a keyring.
//!
//! `secrets.age` is a `.env` file, encrypted to a key in the format of `age`, so that other programs can open it. The
//! key is a file of the user's, or `key.age`, which is itself encrypted with a passphrase; see `key`. A secret is
//! read by decrypting the file anew, so that a changed one counts at once; only the key stays in memory. Writers take
//! turns by a lock, and the file is replaced as a whole.

mod key;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use provisioning_core::env_file::{self, Pair};
use zeroize::Zeroizing;

use super::own_stores::{Lock, write_private};
use super::permissions::{self, ReadError};
use super::{Answer, MAX_SECRET, Place, SecretSource, SecretText, SourceError};
use key::Key;

/// The word in `--secrets`.
pub const ENCRYPTED_FILE: &str = "encrypted-file";
/// The file of secrets.
pub(super) const SECRETS: &str = "secrets.age";
/// The largest file that is read or written, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// An encrypted file of secrets.
#[derive(Clone)]
pub struct EncryptedFile(Arc<Inner>);

struct Inner {
    label: String,
    directory: PathBuf,
    key: Key,
}

impl EncryptedFile {
    /// The file in the user's own directory.
    pub fn in_place(directory: &Path, place: &Place) -> Self {
        Self::labelled(ENCRYPTED_FILE.to_owned(), directory, place)
    }

    /// The file in another directory.
    pub fn at(directory: &Path, place: &Place) -> Self {
        Self::labelled(format!("{ENCRYPTED_FILE}={}", directory.display()), directory, place)
    }

    fn labelled(label: String, directory: &Path, place: &Place) -> Self {
        Self(Arc::new(Inner { label, directory: directory.to_owned(), key: Key::new(directory, place) }))
    }

    /// Does blocking work with it.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, String> + Send + 'static,
    ) -> Result<T, SourceError> {
        let inner = Arc::clone(&self.0);
        let done = permissions::off_thread(move || work(&inner)).await.and_then(|done| done);
        done.map_err(|reason| self.error(&reason))
    }
}

impl Inner {
    /// What the file holds; none if there is no file yet.
    fn read(&self) -> Result<Option<Vec<Pair>>, String> {
        let path = self.directory.join(SECRETS);
        let shown = path.display();
        let bytes = match permissions::read(&path, MAX_BYTES, permissions::refuse_shared) {
            Ok((bytes, _)) => bytes,
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(ReadError::Io(error)) => return Err(format!("cannot read `{shown}`: {error}")),
            Err(ReadError::Wrong(reason)) => return Err(format!("`{shown}`: {reason}")),
        };
        let identity = self.key.open()?;
        let text = decrypt(&*identity, &bytes).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => {
                format!("{} does not open `{shown}`; name the key that it was made with", self.key.name())
            }
            _ => format!("`{shown}` is damaged; restore it from a backup, or remove it and set its secrets again"),
        })?;
        let text = std::str::from_utf8(&text).map_err(|_| format!("`{shown}` holds something else than text"))?;
        env_file::parse(text).map(Some).map_err(|error| format!("`{shown}`: {error}"))
    }

    /// Replaces one secret, or removes it. False if it was not there.
    fn change(&self, name: &str, value: Option<&str>) -> Result<bool, String> {
        let _lock = Lock::take(&self.directory)?;
        let pairs = self.read()?;
        let fresh = pairs.is_none();
        let mut lines = Vec::new();
        let mut found = false;
        for pair in pairs.into_iter().flatten() {
            if pair.name == name {
                found = true;
            } else {
                lines.push(env_file::line(&pair.name, &pair.value).map_err(|error| error.to_string())?);
            }
        }
        match value {
            Some(value) => lines.push(env_file::line(name, value).map_err(|error| error.to_string())?),
            None if !found => return Ok(false),
            None => {}
        }
        // Large enough from the start: a buffer that moves leaves copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(lines.iter().map(|line| line.len()).sum()));
        lines.iter().for_each(|line| text.push_str(line));
        if text.len() as u64 > MAX_BYTES - (1 << 20) {
            return Err(format!("it would hold more than {} MiB; remove some secrets", (MAX_BYTES >> 20) - 1));
        }
        let identity = if fresh { self.key.open_or_make()? } else { self.key.open()? };
        let path = self.directory.join(SECRETS);
        encrypt(&identity.to_public(), text.as_bytes())
            .and_then(|bytes| write_private(&path, &bytes))
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        Ok(found)
    }
}

/// Encrypts to one recipient.
fn encrypt(recipient: &dyn age::Recipient, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(|_| std::io::Error::other("no key"))?;
    let mut bytes = Vec::with_capacity(text.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut bytes)?;
    writer.write_all(text)?;
    writer.finish()?;
    Ok(bytes)
}

/// Decrypts into memory that is wiped.
fn decrypt(identity: &dyn age::Identity, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
    let mut reader = age::Decryptor::new_buffered(bytes)?.decrypt(std::iter::once(identity))?;
    // What is encrypted is never longer than what it is encrypted to.
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    reader.read_to_end(&mut text)?;
    Ok(text)
}

#[async_trait]
impl SecretSource for EncryptedFile {
    fn label(&self) -> String {
        self.0.label.clone()
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        let name = name.to_owned();
        self.with(move |inner| {
            let pairs = inner.read()?.unwrap_or_default();
            Ok(match env_file::get(&pairs, &name).filter(|value| !value.is_empty()) {
                Some(value) => Answer::Found(SecretText::from(value.clone())),
                None => Answer::NotThere,
            })
        })
        .await
    }

    fn remedy(&self, name: &str) -> Option<String> {
        env_file::is_name(name).then(|| format!("set it with `docker-mcp secret set --store {} {name}`", self.0.label))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        self.with(|inner| Ok(inner.read()?.into_iter().flatten().map(|pair| pair.name).collect())).await
    }

    async fn set(&self, name: &str, text: &SecretText) -> Result<(), SourceError> {
        if text.expose().len() as u64 > MAX_SECRET {
            return Err(self.error(&format!("a secret has at most {} MiB", MAX_SECRET >> 20)));
        }
        let (name, text) = (name.to_owned(), text.clone());
        self.with(move |inner| inner.change(&name, Some(text.expose())).map(drop)).await
    }

    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        let name = name.to_owned();
        // Where nothing was ever set nothing is made.
        self.with(move |inner| Ok(inner.directory.join(SECRETS).exists() && inner.change(&name, None)?)).await
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
