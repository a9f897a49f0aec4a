//! Secrets from a `.env` file. The file is read anew for each secret, so that a changed secret counts at once and
//! nothing is kept in memory. The format is `provisioning_core::env_file`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use provisioning_core::env_file;
use thiserror::Error;

use super::permissions::{self, ReadError};
use super::{Answer, SecretSource, SecretText, SourceError};

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
        if let Ok(metadata) = std::fs::metadata(&store.path)
            && permissions::is_public(&store.path, &metadata)
        {
            let path = store.path.display();
            tracing::info!("everybody on this machine may read secrets file `{path}`; `chmod 600` makes it private");
        }
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self) -> Result<Vec<env_file::Pair>, EnvFileStoreError> {
        let wrong = |reason: String| EnvFileStoreError::Content { path: self.path.clone(), reason };
        let path = self.path.clone();
        let work = move || permissions::read(&path, MAX_BYTES, permissions::refuse_writable);
        let (bytes, _) = permissions::off_thread(work).await.map_err(wrong)?.map_err(|error| match error {
            ReadError::Io(source) => EnvFileStoreError::Io { path: self.path.clone(), source },
            ReadError::Wrong(reason) => wrong(reason),
        })?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text; save it as UTF-8".to_owned()))?;
        env_file::parse(text).map_err(|error| wrong(error.to_string()))
    }

    fn broken(&self, error: &EnvFileStoreError) -> SourceError {
        self.error(&error.to_string())
    }
}

#[async_trait]
impl SecretSource for EnvFileStore {
    fn label(&self) -> String {
        format!("file `{}`", self.path.display())
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        let pairs = self.read().await.map_err(|error| self.broken(&error))?;
        Ok(match env_file::get(&pairs, name).filter(|value| !value.is_empty()) {
            Some(value) => Answer::Found(SecretText::from(value.clone())),
            None => Answer::NotThere,
        })
    }

    fn remedy(&self, name: &str) -> Option<String> {
        env_file::is_name(name).then(|| format!("add `{name}=...` to `{}`", self.path.display()))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        let pairs = self.read().await.map_err(|error| self.broken(&error))?;
        let mut names: Vec<String> = pairs.iter().map(|pair| pair.name.clone()).collect();
        names.retain(|name| env_file::get(&pairs, name).is_some_and(|value| !value.is_empty()));
        names.sort();
        names.dedup();
        Ok(names)
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

    async fn text(store: &EnvFileStore, name: &str) -> Option<String> {
        match store.look_up(name).await.unwrap() {
            Answer::Found(text) => Some(text.expose().to_owned()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once_and_an_empty_value_is_none() {
        let (_directory, store) = store("github.token=one\nempty=\n").await;
        assert_eq!(text(&store, "github.token").await.as_deref(), Some("one"));
        assert_eq!(store.names().await.unwrap(), ["github.token"]);
        std::fs::write(store.path(), "github.token=\"two\nlines\"\n").unwrap();
        assert_eq!(text(&store, "github.token").await.as_deref(), Some("two\nlines"));
        assert_eq!(text(&store, "empty").await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_or_no_env_file_is_refused_at_the_start() {
        let error = EnvFileStore::new("/does/not/exist.env").await.unwrap_err();
        assert!(error.to_string().contains("correct `--secrets`"));
        let (_directory, store) = store("").await;
        std::fs::write(store.path(), "A=1\nhunter2\n").unwrap();
        let error = store.look_up("A").await.unwrap_err();
        assert!(error.to_string().contains("line 2") && !error.to_string().contains("hunter2"), "{error}");
        std::fs::remove_file(store.path()).unwrap();
        assert!(store.look_up("A").await.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_everybody_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_directory, store) = store("A=1\n").await;
        std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o606)).unwrap();
        let error = store.look_up("A").await.unwrap_err();
        assert!(error.to_string().contains("chmod o-w"), "{error}");
    }
}
