//! Secrets from a `.env` file. The file is read anew for each secret, so that a changed secret counts at once and
//! nothing is kept in memory. The format is `provisioning_core::env_file`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use provisioning_core::env_file;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::{SecretError, SecretStore, SecretText};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Secrets in a file.
#[derive(Clone, Debug)]
pub struct EnvFileStore {
    path: PathBuf,
}

/// Why a file cannot serve as a store.
#[derive(Debug, Error)]
pub enum EnvFileStoreError {
    /// It cannot be read.
    #[error("cannot read secrets file `{}`: {source}; create it with lines `NAME=value`, or correct `--secrets`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no `.env` file.
    #[error("secrets file `{}`: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it; shows nothing of the file.
        reason: String,
    },
}

impl EnvFileStore {
    /// A store over a file, which is read once to make sure that it can be.
    ///
    /// # Errors
    /// If it cannot be read or is no `.env` file.
    pub async fn new(path: impl Into<PathBuf>) -> Result<Self, EnvFileStoreError> {
        let store = Self { path: path.into() };
        store.read().await?;
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self) -> Result<Vec<env_file::Pair>, EnvFileStoreError> {
        let fail = |source| EnvFileStoreError::Io { path: self.path.clone(), source };
        let wrong = |reason: String| EnvFileStoreError::Content { path: self.path.clone(), reason };
        let file = tokio::fs::File::open(&self.path).await.map_err(fail)?;
        // Grown beforehand: a buffer that moves leaves copies behind that nobody wipes.
        let size = file.metadata().await.map_err(fail)?.len().min(MAX_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(fail)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it is larger than {} MiB; is it the right file?", MAX_BYTES >> 20)));
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text; save it as UTF-8".to_owned()))?;
        env_file::parse(text).map_err(|error| wrong(error.to_string()))
    }
}

#[async_trait]
impl SecretStore for EnvFileStore {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        let unavailable =
            |error: EnvFileStoreError| SecretError::Unavailable { name: name.to_owned(), reason: error.to_string() };
        let pairs = self.read().await.map_err(unavailable)?;
        match env_file::get(&pairs, name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(SecretText::new(value.as_str().to_owned())),
            None => Err(SecretError::Missing {
                name: name.to_owned(),
                remedy: format!("add `{name}=...` to `{}`", self.path.display()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(text: &str) -> (tempfile::TempDir, EnvFileStore) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.env");
        std::fs::write(&path, text).unwrap();
        let store = EnvFileStore::new(path).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once() {
        let (_directory, store) = store("github.token=one\n").await;
        assert_eq!(store.get("github.token").await.unwrap().expose(), "one");
        std::fs::write(store.path(), "github.token=two\n").unwrap();
        assert_eq!(store.get("github.token").await.unwrap().expose(), "two");
        assert!(store.contains("github.token").await.unwrap());
    }

    #[tokio::test]
    async fn a_missing_or_empty_secret_says_which_line_to_add() {
        let (_directory, store) = store("empty=\n").await;
        for name in ["empty", "github.token"] {
            let message = store.get(name).await.unwrap_err().to_string();
            assert!(message.contains(&format!("add `{name}=...` to `")), "{message}");
        }
        assert!(!store.contains("empty").await.unwrap());
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_or_no_env_file_is_refused_at_the_start() {
        let error = EnvFileStore::new("/does/not/exist.env").await.unwrap_err();
        assert!(error.to_string().contains("correct `--secrets`"));
        let (_directory, store) = store("").await;
        std::fs::write(store.path(), "A=1\nhunter2\n").unwrap();
        let error = store.get("A").await.unwrap_err();
        assert!(matches!(error, SecretError::Unavailable { .. }));
        assert!(error.to_string().contains("line 2") && !error.to_string().contains("hunter2"), "{error}");
        std::fs::remove_file(store.path()).unwrap();
        assert!(matches!(store.get("A").await, Err(SecretError::Unavailable { .. })));
    }
}
