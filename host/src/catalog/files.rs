//! Which files are read: those that flags name, or the user's own below `~/.docker/mcp`.
//!
//! Nothing is read here, except the names of the files that are there.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// The catalog that Docker publishes, by the name under which it is kept.
pub const DOCKER_CATALOG: &str = "docker-mcp.yaml";
/// The endings of files that are catalogs.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// What a flag named cannot be read from here.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAFile {
    /// An address.
    #[error("`{0}` is an address; get it with `docker-mcp catalog import {0}` and name the file")]
    Address(String),
    /// A kind of reference that is not a file.
    #[error("`{0}` is no file; write `file://PATH`")]
    Reference(String),
    /// Nothing.
    #[error("the path of a file is empty; write one")]
    Empty,
}

/// The user's own directory, `~/.docker/mcp`.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles {
    root: Option<PathBuf>,
}

/// A file of catalogs, and whether somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogFile {
    /// Where it is.
    pub path: PathBuf,
    /// True if a flag names it, so that it must be readable.
    pub is_named: bool,
}

/// The catalogs that flags name.
#[derive(Clone, Debug, Default)]
pub struct CatalogFlags<'a> {
    /// `--catalog`.
    pub catalogs: &'a [PathBuf],
    /// `--additional-catalog`.
    pub additional: &'a [PathBuf],
    /// `--use-configured-catalogs`.
    pub use_configured: bool,
}

impl OwnFiles {
    /// The files below a home directory.
    pub fn of_home(home: Option<&Path>) -> Self {
        Self { root: home.map(|home| home.join(".docker").join("mcp")) }
    }

    /// Where the files are; none without a home directory.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The catalogs in the order in which they are read, so that later ones win: those of `--catalog`, the user's own,
    /// those of `--additional-catalog`. Without `--catalog` the user's own are Docker's first, then the others by name;
    /// with it they are read only if `--use-configured-catalogs` asks for them.
    ///
    /// # Errors
    /// If a flag names something that is no file.
    pub fn catalogs(&self, flags: &CatalogFlags<'_>) -> Result<Vec<CatalogFile>, NotAFile> {
        let named = |path: &PathBuf| Ok(CatalogFile { path: self.place(path, "catalogs")?, is_named: true });
        let mut files: Vec<CatalogFile> = flags.catalogs.iter().map(named).collect::<Result<_, _>>()?;
        if flags.catalogs.is_empty() || flags.use_configured {
            files.extend(self.configured_catalogs().into_iter().map(|path| CatalogFile { path, is_named: false }));
        }
        for file in flags.additional.iter().map(named) {
            files.push(file?);
        }
        // The same file twice counts where it stands first, as in the existing gateway.
        let mut seen = std::collections::BTreeSet::new();
        files.retain(|file| seen.insert(file.path.clone()));
        Ok(files)
    }

    /// Every catalog in the user's directory of catalogs: Docker's first, then the others by name.
    pub fn configured_catalogs(&self) -> Vec<PathBuf> {
        let Some(directory) = self.root.as_ref().map(|root| root.join("catalogs")) else { return Vec::new() };
        let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        let is_catalog = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending)) && path.is_file()
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_catalog).collect();
        paths.sort_by_key(|path| (path.file_name().is_none_or(|name| name != DOCKER_CATALOG), path.clone()));
        paths
    }

    /// The files of one kind, such as `config.yaml`, in their order: those of the flag, or the user's own if it is
    /// there, then the additional ones.
    ///
    /// # Errors
    /// If a flag names something that is no file.
    pub fn of_kind(&self, own: &str, named: &[PathBuf], additional: &[PathBuf]) -> Result<Vec<PathBuf>, NotAFile> {
        let mut paths = Vec::new();
        if named.is_empty() {
            paths.extend(self.root.iter().map(|root| root.join(own)).filter(|path| path.exists()));
        }
        for path in named.iter().chain(additional) {
            paths.push(self.place(path, "")?);
        }
        Ok(paths)
    }

    /// Where a path of a flag leads. One that begins with `/`, `./` or `../` is taken as it is. Any other is looked for
    /// in the user's directory first, which is what the existing gateway means by it.
    fn place(&self, path: &Path, below: &str) -> Result<PathBuf, NotAFile> {
        let path = plain(path)?;
        let stands_alone =
            path.is_absolute() || matches!(path.components().next(), Some(Component::CurDir | Component::ParentDir));
        if stands_alone {
            return Ok(path);
        }
        let own = self.root.as_ref().map(|root| root.join(below).join(&path));
        // The name of a catalog stands for its file.
        let named = own.iter().filter(|_| below == "catalogs").flat_map(|own| {
            ENDINGS.iter().map(|ending| {
                let mut named = own.clone().into_os_string();
                named.extend([".".as_ref(), std::ffi::OsStr::new(ending)]);
                PathBuf::from(named)
            })
        });
        let found = own.iter().cloned().chain(named).find(|candidate| candidate.is_file());
        Ok(found.unwrap_or(path))
    }
}

/// A path, or a `file://` reference as one.
///
/// # Errors
/// If it is something else.
pub fn plain(path: &Path) -> Result<PathBuf, NotAFile> {
    let text = path.to_string_lossy();
    if text.trim().is_empty() {
        return Err(NotAFile::Empty);
    }
    match text.split_once("://") {
        Some(("file", rest)) if !rest.is_empty() => Ok(PathBuf::from(rest)),
        Some(("http" | "https", _)) => Err(NotAFile::Address(text.into_owned())),
        Some(_) => Err(NotAFile::Reference(text.into_owned())),
        None => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests;
