//! Catalogs: which servers exist and what they may become.
//!
//! Files are read strictly where something would go wrong later and mildly elsewhere: what is not known is a warning,
//! and an entry that cannot work is reported when somebody asks for that server, so that it stops no other. Fetching
//! catalogs from elsewhere is not done here.

pub mod configuration;
pub mod entry;
mod read;
mod shape;
pub mod user_files;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use provisioning_core::names;
use thiserror::Error;

pub use entry::Entry;
pub use yaml::{FileError, MAX_FILE_BYTES, Place};

/// How many servers one catalog may hold.
pub const MAX_SERVERS: usize = 10_000;

/// Servers by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    servers: BTreeMap<String, Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    entry: Entry,
    file: PathBuf,
    place: Place,
    fault: Option<String>,
}

/// Something odd in a file that does not stop anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: PathBuf,
    /// The place in it.
    pub place: Place,
    /// The key, such as `registry.github.longlived`.
    pub key: String,
    /// What is odd and what to do.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: `{}`: {}", self.file.display(), self.place, self.key, self.text)
    }
}

/// Why a catalog or one of its servers cannot be used.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The file is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// No catalog has the server.
    #[error("server `{name}` is in no catalog; {remedy}")]
    UnknownServer {
        /// The name that was asked for.
        name: String,
        /// Near names, or where to look.
        remedy: String,
    },
    /// The entry of a server cannot work.
    #[error("{}:{place}: server `{name}`: {reason}", file.display())]
    Invalid {
        /// The server.
        name: String,
        /// The file.
        file: PathBuf,
        /// The place in it.
        place: Place,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Catalog {
    /// Reads a catalog file, YAML or JSON. What is odd comes back as warnings, entries that cannot work among them.
    ///
    /// # Errors
    /// If the file cannot be read, is larger than [`MAX_FILE_BYTES`], or is no catalog.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), CatalogError> {
        Self::parse(&yaml::read_text(path)?, path)
    }

    /// Reads the text of a catalog; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Catalog::load`].
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Warning>), CatalogError> {
        let (entries, notes) = read::catalog(text).map_err(|complaint| complaint.in_file(path))?;
        let warning =
            |note: shape::Note| Warning { file: path.to_owned(), place: note.place, key: note.key, text: note.text };
        let mut warnings: Vec<Warning> = notes.into_iter().map(warning).collect();
        let mut servers = BTreeMap::new();
        for (name, place, entry) in entries {
            let fault = entry.fault();
            if let Some(reason) = &fault {
                let (file, key) = (path.to_owned(), name.clone());
                warnings.push(Warning { file, place, key, text: format!("cannot be used: {reason}") });
            }
            servers.insert(name, Listed { entry, file: path.to_owned(), place, fault });
        }
        Ok((Self { servers }, warnings))
    }

    /// All servers of several catalogs. Where two have one name, the later catalog's entry replaces the earlier one
    /// as a whole, as in the existing gateway.
    pub fn merge(catalogs: Vec<Self>) -> Self {
        let mut servers: BTreeMap<String, Listed> = BTreeMap::new();
        for (name, listed) in catalogs.into_iter().flat_map(|catalog| catalog.servers) {
            let later = listed.file.clone();
            if let Some(earlier) = servers.insert(name.clone(), listed) {
                tracing::warn!(server = name, file = %later.display(), replaced = %earlier.file.display(),
                    "two catalogs have this server; the later one counts");
            }
        }
        Self { servers }
    }

    /// Lets `change` look at the image of every server and tool, for example to place a relative path.
    pub fn for_each_image(&mut self, mut change: impl FnMut(&mut String)) {
        for entry in self.servers.values_mut().map(|listed| &mut listed.entry) {
            entry.image.iter_mut().for_each(&mut change);
            let containers = entry.tools.iter_mut().filter_map(|tool| tool.container.as_mut());
            containers.map(|container| &mut container.image).for_each(&mut change);
        }
    }

    /// The names of all servers, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// The entry of a server, whether it can work or not.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.servers.get(name).map(|listed| &listed.entry)
    }

    /// The named servers in the order asked for, each once.
    ///
    /// # Errors
    /// At the first name that no catalog has, or whose entry cannot work.
    pub fn select(&self, names: &[String]) -> Result<Vec<(String, Entry)>, CatalogError> {
        let mut selected: Vec<(String, Entry)> = Vec::new();
        for name in names {
            let listed = self.servers.get(name).ok_or_else(|| self.unknown(name))?;
            if let Some(reason) = &listed.fault {
                let (file, place) = (listed.file.clone(), listed.place);
                return Err(CatalogError::Invalid { name: name.clone(), file, place, reason: reason.clone() });
            }
            if !selected.iter().any(|(own, _)| own == name) {
                selected.push((name.clone(), listed.entry.clone()));
            }
        }
        Ok(selected)
    }

    fn unknown(&self, name: &str) -> CatalogError {
        let near: Vec<String> = names::near(name, self.names()).into_iter().map(|known| format!("`{known}`")).collect();
        let remedy = match (near.as_slice(), self.servers.len()) {
            ([], 0) => "the catalogs are empty; add a file with `--catalog`".to_owned(),
            ([], count) => format!("check the spelling among the {count} servers, or add a file with `--catalog`"),
            (near, _) => format!("did you mean {}?", near.join(" or ")),
        };
        CatalogError::UnknownServer { name: name.to_owned(), remedy }
    }
}

#[cfg(test)]
mod tests;
