//! Provisioners that the operator installed: the files, kept under the digest of their content, and the lock file that
//! says which of them is meant by a name, what it may do, and who agreed to that and when.
//!
//! Whoever can change the directory can grant anything, so only its owner may. Consent is asked for by `cli`; what is
//! granted in the end is decided in `policy`.

mod lock;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use lock::{Consent, Installed, Lock};

use crate::private_directory;
use crate::sandbox::component::Source;
use crate::sandbox::contract::digest;

/// The lock file.
const LOCK: &str = "provisioners.lock.json";
/// What is locked while the lock file is changed. Never replaced, so that everybody locks the same file.
const MUTEX: &str = ".mutex";
/// The largest lock file that is read.
const MAX_LOCK: u64 = 4 << 20;

/// Why installed provisioners cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory cannot be used.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file makes no sense.
    #[error("`{path}` cannot be used: {reason}; mend it, or delete it and install the provisioners again")]
    Damaged {
        /// The lock file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that cannot be one.
    #[error("`{0}` is no name for a provisioner; write 1 to 64 of `a-z`, `0-9`, `-` and `_`, beginning with a letter")]
    Name(String),
    /// A name of a built-in one.
    #[error("`{0}` is the name of a built-in provisioner; choose another with `--name`")]
    Reserved(String),
    /// No such provisioner.
    #[error("no provisioner `{0}` is installed; `docker-mcp provisioner ls` shows those that are")]
    Unknown(String),
    /// The content is not what was agreed to.
    #[error(
        "the file of provisioner `{name}` was changed after it was installed: `{path}` has sha256:{found} and not \
         sha256:{expected}; inspect it, and install it again to agree to it"
    )]
    Changed {
        /// Which.
        name: String,
        /// Where its content should be.
        path: PathBuf,
        /// The digest that was agreed to.
        expected: String,
        /// The digest that it has.
        found: String,
    },
}

/// A directory with installed provisioners.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Where the provisioners of a user are: `$XDG_DATA_HOME/docker-mcp/provisioners`, by default
    /// `~/.local/share/docker-mcp/provisioners`. None without a home.
    pub fn directory(xdg_data_home: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
        let data = xdg_data_home.map(PathBuf::from).filter(|path| path.is_absolute());
        let data = data.or_else(|| home.map(|home| home.join(".local/share")))?;
        Some(data.join("docker-mcp/provisioners"))
    }

    /// The provisioners in a directory, which need not be there yet.
    ///
    /// # Errors
    /// If others may write to it.
    pub fn open(directory: PathBuf) -> Result<Self, StoreError> {
        if directory.exists() {
            private_directory::create(&directory).map_err(at(&directory))?;
        }
        Ok(Self { directory })
    }

    /// The lock file's path.
    pub fn lock_file(&self) -> PathBuf {
        self.directory.join(LOCK)
    }

    /// What is installed.
    ///
    /// # Errors
    /// If the lock file cannot be read, makes no sense, or others may write to it.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.lock_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::default()),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        nobody_else_writes(&file).map_err(at(&path))?;
        let mut text = String::new();
        file.take(MAX_LOCK).read_to_string(&mut text).map_err(at(&path))?;
        Lock::parse(&text).map_err(|reason| StoreError::Damaged { path, reason })
    }

    /// One that is installed.
    ///
    /// # Errors
    /// If there is none of this name, or the lock file cannot be used.
    pub fn get(&self, name: &str) -> Result<Installed, StoreError> {
        self.lock()?.provisioners.remove(name).ok_or_else(|| StoreError::Unknown(name.to_owned()))
    }

    /// What the sandbox loads for an installed one: it checks digest and imports against what was agreed to.
    pub fn source(&self, name: &str, installed: &Installed) -> Source {
        Source::Installed {
            name: name.to_owned(),
            path: self.content(&installed.digest),
            digest: installed.digest.clone(),
            imports: installed.imports.clone(),
        }
    }

    /// The bytes of an installed one.
    ///
    /// # Errors
    /// If they cannot be read or are not those that were agreed to.
    pub fn bytes(&self, name: &str, installed: &Installed) -> Result<Vec<u8>, StoreError> {
        let path = self.content(&installed.digest);
        let bytes = crate::sandbox::component::read(&Source::File(path.clone())).map_err(at(&path))?.into_owned();
        let found = digest(&bytes);
        if found == installed.digest {
            return Ok(bytes);
        }
        Err(StoreError::Changed { name: name.to_owned(), path, expected: installed.digest.clone(), found })
    }

    /// Installs a component under a name, in place of what had the name before.
    ///
    /// # Errors
    /// If the name cannot be one, or something cannot be written.
    pub fn install(&self, name: &str, bytes: &[u8], mut installed: Installed) -> Result<(), StoreError> {
        check_name(name)?;
        private_directory::create(&self.directory).map_err(at(&self.directory))?;
        let path = self.content(&installed.digest);
        let folder = path.parent().unwrap_or(&self.directory);
        private_directory::create(folder).map_err(at(folder))?;
        self.change(|lock, mutex| {
            installed.consent.uid = owner(mutex);
            // Under the lock: nobody removes the file before it is named.
            write(&path, bytes).map_err(at(&path))?;
            let before = lock.provisioners.insert(name.to_owned(), installed);
            Ok(before.map(|before| before.digest))
        })
    }

    /// Forgets one that is installed, and deletes its file if nothing else is that file.
    ///
    /// # Errors
    /// If there is none of this name, or something cannot be written.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        if self.lock()?.provisioners.is_empty() {
            return Err(StoreError::Unknown(name.to_owned()));
        }
        self.change(|lock, _| {
            let removed = lock.provisioners.remove(name).ok_or_else(|| StoreError::Unknown(name.to_owned()))?;
            Ok(Some(removed.digest))
        })
    }

    /// Changes the lock file, one process after the other, and then deletes the content with the digest that the
    /// change gives back, if nothing is named after it any more.
    fn change(
        &self,
        change: impl FnOnce(&mut Lock, &File) -> Result<Option<String>, StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.directory.join(MUTEX);
        let mutex = OpenOptions::new().append(true).create(true).open(&path).map_err(at(&path))?;
        mutex.lock().map_err(at(&path))?;
        let mut lock = self.lock()?;
        let obsolete = change(&mut lock, &mutex)?;
        let path = self.lock_file();
        write(&path, lock.to_text().as_bytes()).map_err(at(&path))?;
        if let Some(digest) = obsolete
            && lock.provisioners.values().all(|installed| installed.digest != digest)
        {
            // A file that stays is a nuisance only: nothing names it.
            let _ = std::fs::remove_file(self.content(&digest));
        }
        Ok(())
    }

    fn content(&self, digest: &str) -> PathBuf {
        self.directory.join("sha256").join(format!("{digest}.wasm"))
    }
}

/// Checks a name under which something is to be installed.
///
/// # Errors
/// If it cannot be one, or is that of a built-in one.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.len() > 64 || !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(plain) {
        return Err(StoreError::Name(name.to_owned()));
    }
    if ["docker", "kubernetes", "k8s", "cluster-mapping"].contains(&name) {
        return Err(StoreError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    let new = folder.join(format!(".new-{:016x}", u64::from_le_bytes(random)));
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Whatever the process's mask says: what others may write to is not believed.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // The new name must outlive a loss of power as the content does. Not every system can do it.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Whoever may write to the lock file agrees in the user's name.
#[cfg(unix)]
fn nobody_else_writes(file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    const OTHERS: u32 = 0o022;
    match file.metadata()?.mode() & OTHERS {
        0 => Ok(()),
        _ => {
            Err(io::Error::other("others may write to it; look at what it says, and take that away with `chmod go-w`"))
        }
    }
}

#[cfg(not(unix))]
fn nobody_else_writes(_file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn owner(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().ok().map(|metadata| metadata.uid())
}

#[cfg(not(unix))]
fn owner(_file: &File) -> Option<u32> {
    None
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests;
