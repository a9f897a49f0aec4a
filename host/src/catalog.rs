//! Catalogs: which servers exist and what they may become.
//!
//! Files are read strictly where something would go wrong later and mildly elsewhere: what is not known is a warning,
//! and an entry that cannot work is reported when somebody asks for that server, so that it stops no other. Fetching
//! catalogs from elsewhere is not done here.

pub mod configuration;
pub mod enabled;
pub mod entry;
pub mod files;

mod read;
mod schema;
mod shape;
// The fuzz targets read catalogs and change no files.
#[cfg(not(only_reading))]
pub mod user_files;
mod yaml;

use std::collections::{BTreeMap, BTreeSet, HashMap};
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

impl Warning {
    fn of_error(file: &Path, error: &FileError) -> Self {
        let text = format!("left out: {error}");
        Self { file: file.to_owned(), place: Place { line: 1, column: 1 }, key: "tools".to_owned(), text }
    }
}

/// What is odd in a file, each thing once: a key that nobody knows may stand in hundreds of entries.
fn warnings(file: &Path, notes: Vec<shape::Note>) -> Vec<Warning> {
    let mut warnings: Vec<(Warning, usize)> = Vec::new();
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    for note in notes {
        let word = note.key.rsplit('.').next().unwrap_or_default().to_owned();
        let at = *known.entry((word, note.text.clone())).or_insert(warnings.len());
        match warnings.get_mut(at) {
            Some((_, more)) => *more += 1,
            None => {
                let warning = Warning { file: file.to_owned(), place: note.place, key: note.key, text: note.text };
                warnings.push((warning, 0));
            }
        }
    }
    let finish = |(mut warning, more): (Warning, usize)| {
        if more > 0 {
            warning.text.push_str(&format!(" (and {more} more of this)"));
        }
        warning
    };
    warnings.into_iter().map(finish).collect()
}

fn tools_beside(path: &Path) -> Result<(Vec<entry::ToolEntry>, Vec<Warning>), FileError> {
    let (tools, notes) = read::tools(&yaml::read_text(path)?).map_err(|complaint| complaint.in_file(path))?;
    Ok((tools, warnings(path, notes)))
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
        let (mut catalog, mut warnings, is_single) = Self::read(&yaml::read_text(path)?, path)?;
        if is_single {
            // The registry project keeps the tools of a server in a file beside it.
            let beside = path.with_file_name("tools.json");
            for listed in catalog.servers.values_mut().filter(|listed| listed.entry.tools.is_empty()) {
                match beside.exists().then(|| tools_beside(&beside)) {
                    Some(Ok((tools, notes))) => {
                        listed.entry.tools = tools;
                        warnings.extend(notes);
                    }
                    Some(Err(error)) => warnings.push(Warning::of_error(&beside, &error)),
                    None => {}
                }
            }
        }
        Ok((catalog, warnings))
    }

    /// Reads the text of a catalog; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Catalog::load`].
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Warning>), CatalogError> {
        Self::read(text, path).map(|(catalog, warnings, _)| (catalog, warnings))
    }

    /// As [`Self::parse`], and whether the file is one server and no catalog.
    fn read(text: &str, path: &Path) -> Result<(Self, Vec<Warning>, bool), CatalogError> {
        let file = read::file(text).map_err(|complaint| complaint.in_file(path))?;
        let mut warnings = warnings(path, file.notes);
        let mut servers = BTreeMap::new();
        for (name, place, entry) in file.entries {
            let fault = entry.fault();
            if let Some(reason) = &fault {
                let (file, key) = (path.to_owned(), name.clone());
                warnings.push(Warning { file, place, key, text: format!("cannot be used: {reason}") });
            }
            servers.insert(name, Listed { entry, file: path.to_owned(), place, fault });
        }
        Ok((Self { servers }, warnings, file.is_single))
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
        let (selected, mut errors) = self.select_usable(names);
        if errors.is_empty() { Ok(selected) } else { Err(errors.swap_remove(0)) }
    }

    /// The named servers that can work, in the order asked for, each once, and why the others cannot.
    pub fn select_usable(&self, names: &[String]) -> (Vec<(String, Entry)>, Vec<CatalogError>) {
        let (mut selected, mut errors): (Vec<(String, Entry)>, _) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for name in names.iter().filter(|name| seen.insert(name.as_str())) {
            match self.find(name) {
                Ok(entry) => selected.push((name.clone(), entry.clone())),
                Err(error) => errors.push(error),
            }
        }
        (selected, errors)
    }

    fn find(&self, name: &str) -> Result<&Entry, CatalogError> {
        let listed = self.servers.get(name).ok_or_else(|| self.unknown(name))?;
        match &listed.fault {
            None => Ok(&listed.entry),
            Some(reason) => Err(CatalogError::Invalid {
                name: name.to_owned(),
                file: listed.file.clone(),
                place: listed.place,
                reason: reason.clone(),
            }),
        }
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
