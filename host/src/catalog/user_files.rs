//! The user's own files: where they are, reading them, and changing them.
//!
//! A change keeps every byte that it is not about: comments, order, quoting and keys that this program does not know.
//! It is made on the text, read back, and compared with what was wanted; only then is the file replaced, in one step
//! and under a lock, so that no reader sees half of it and no change of another process is lost. A file that cannot be
//! read is reported with the place and never overwritten.
//!
//! What the files mean is the business of the modules below. Nothing is printed here, and nothing is fetched except in
//! [`download`].

pub mod catalogs;
mod document;
pub mod download;
pub mod features;
pub mod registry;
pub mod tools;
mod write;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use thiserror::Error;

use super::yaml::{self, FileError};
use super::{CatalogError, shape};
pub use document::{Change, EditError};

/// Why one of the user's files cannot be read or changed.
#[derive(Debug, Error)]
pub enum UserFileError {
    /// There is no home directory.
    #[error("there is no home directory; set HOME")]
    NoHome,
    /// The file cannot be read, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A catalog cannot be read, or lacks what was asked for.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The change cannot be made without harm to the rest of the file.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The file cannot be written.
    #[error("cannot write `{}`: {source}; it is as it was", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The lock that keeps other processes away cannot be had.
    #[error("cannot lock `{}`: {source}; see that you may write to its directory", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was asked for makes no sense for these files.
    #[error("{0}")]
    Refused(String),
}

/// Where the user's files are.
///
/// `~/.docker/mcp` holds the files of the gateway, wherever the Docker configuration is: the existing gateway has
/// them there too. `config.json` is in `DOCKER_CONFIG` or `~/.docker`.
#[derive(Clone, Debug)]
pub struct UserFiles {
    mcp: PathBuf,
    docker_config: PathBuf,
}

impl UserFiles {
    /// The files below a home directory; `docker_config` is the environment variable `DOCKER_CONFIG`.
    ///
    /// # Errors
    /// [`UserFileError::NoHome`].
    pub fn new(home: Option<&Path>, docker_config: Option<OsString>) -> Result<Self, UserFileError> {
        let home = home.ok_or(UserFileError::NoHome)?;
        let named = docker_config.filter(|directory| !directory.is_empty()).map(PathBuf::from);
        Ok(Self { mcp: home.join(".docker/mcp"), docker_config: named.unwrap_or_else(|| home.join(".docker")) })
    }

    /// Which servers are enabled.
    pub fn registry(&self) -> PathBuf {
        self.mcp.join("registry.yaml")
    }

    /// The configuration of the servers.
    pub fn config(&self) -> PathBuf {
        self.mcp.join("config.yaml")
    }

    /// Which tools of a server are enabled.
    pub fn tools(&self) -> PathBuf {
        self.mcp.join("tools.yaml")
    }

    /// Which catalogs there are, and where they came from.
    pub fn catalog_index(&self) -> PathBuf {
        self.mcp.join("catalog.json")
    }

    /// The file of a catalog. Names become file names as in the existing gateway.
    pub fn catalog(&self, name: &str) -> PathBuf {
        const NOT_IN_FILE_NAMES: &[char] = &['<', '>', ':', '"', '/', '\\', '|', '?', '*', '\0'];
        let stem: String = name.trim().to_lowercase().replace(NOT_IN_FILE_NAMES, "_").chars().take(200).collect();
        self.mcp.join("catalogs").join(format!("{stem}.yaml"))
    }

    /// The configuration of Docker itself, which also holds the features.
    pub fn docker_config(&self) -> PathBuf {
        self.docker_config.join("config.json")
    }

    /// The text of a file; none if there is no such file.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<String>, UserFileError> {
        match yaml::read_text(path) {
            Ok(text) => Ok(Some(text)),
            Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces a file as a whole; its directory is made if need be.
    ///
    /// # Errors
    /// If the lock cannot be had or the file not be written.
    pub fn replace(&self, path: &Path, text: &str) -> Result<(), UserFileError> {
        let _lock = self.lock()?;
        Self::write(path, text)
    }

    /// Changes a file: `decide` is given its content as data, under the lock, and returns what to change. True if
    /// something was changed.
    ///
    /// # Errors
    /// If the file is broken, `decide` refuses, or the change cannot be made faithfully. The file is then as it was.
    pub fn update(
        &self,
        path: &Path,
        decide: impl FnOnce(&Json) -> Result<Vec<Change>, UserFileError>,
    ) -> Result<bool, UserFileError> {
        let _lock = self.lock()?;
        self.update_locked(path, decide)
    }

    fn update_locked(
        &self,
        path: &Path,
        decide: impl FnOnce(&Json) -> Result<Vec<Change>, UserFileError>,
    ) -> Result<bool, UserFileError> {
        let before = self.read(path)?.unwrap_or_default();
        let changes = decide(&to_json(&before, path)?)?;
        let after = document::edit(&before, path, &changes)?;
        if after == before {
            return Ok(false);
        }
        Self::write(path, &after)?;
        Ok(true)
    }

    fn write(path: &Path, text: &str) -> Result<(), UserFileError> {
        write::replace(path, text).map_err(|source| UserFileError::Write { path: path.to_owned(), source })
    }

    /// One lock for all files: some changes are about two of them.
    fn lock(&self) -> Result<write::Lock, UserFileError> {
        let path = self.mcp.join(".lock");
        write::Lock::take(&path).map_err(|source| UserFileError::Lock { path, source })
    }
}

/// The content of a YAML or JSON text as data; `path` is for messages. An empty text is null.
///
/// # Errors
/// If the text is broken: the place is told.
pub fn to_json(text: &str, path: &Path) -> Result<Json, FileError> {
    Ok(document::parse(text, path)?.to_json())
}

/// A typed look at a text.
fn fields(text: &str, path: &Path) -> Result<shape::Fields, FileError> {
    let node = document::parse(text, path)?;
    shape::At::new("", node).fields().map_err(|complaint| complaint.in_file(path))
}

#[cfg(test)]
mod tests;
