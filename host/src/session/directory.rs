//! The directory of lock files, and what identifies it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

use super::{Dead, Lock, Session, State, is_id};
use crate::private_directory;

/// The file with the directory's own identifier.
const IDENTITY: &str = "identity";
/// How the name of a lock file ends.
const LOCK: &str = "lock";
/// How the name of a lock file ends until it is locked.
const NEW: &str = "new";
/// How often a new session is tried to be made; each failure needs another process that deletes a fresh file.
const ATTEMPTS: u32 = 10;

/// The sessions whose locks are in one directory.
#[derive(Clone, Debug)]
pub struct Sessions {
    directory: PathBuf,
    at: String,
}

impl Sessions {
    /// Where the locks of a user's sessions are: `$XDG_STATE_HOME/docker-mcp/sessions`, which is by default
    /// `~/.local/state/docker-mcp/sessions`. None without a home.
    pub fn directory(xdg_state_home: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
        let state = xdg_state_home.map(PathBuf::from).filter(|path| path.is_absolute());
        let state = state.or_else(|| home.map(|home| home.join(".local/state")))?;
        Some(state.join("docker-mcp/sessions"))
    }

    /// Opens a directory, making it if need be.
    ///
    /// # Errors
    /// If it cannot be made or used, or others may write to it.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        private_directory::create(&directory)?;
        let identity = identity(&directory.join(IDENTITY))?;
        // The same directory may be seen from two machines, or from a machine and a virtual one, which do not see
        // each other's locks.
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let parts = [identity.as_str(), machine.trim(), std::env::consts::OS];
        let at = hex(Sha256::digest(parts.join("\n")).get(..12).unwrap_or_default());
        Ok(Self { directory, at })
    }

    /// What identifies the directory, for labels: 24 hexadecimal digits.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Begins a session.
    ///
    /// # Errors
    /// If its lock file cannot be made.
    pub fn begin(&self) -> io::Result<Session> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_begin() {
                Ok(session) => return Ok(session),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no attempt was made")))
    }

    fn try_begin(&self) -> io::Result<Session> {
        let id = random_hex()?;
        let (new, path) = (self.file(&id, NEW), self.file(&id, LOCK));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&new)?;
        // Between these steps another process may take the file for one that a dead process left, and delete it. The
        // lock or the new name then fails, and the next attempt takes another name.
        file.try_lock().map_err(io::Error::from)?;
        std::fs::rename(&new, &path)?;
        let mut lock = Lock { file, path, asked: 0 };
        lock.write();
        Ok(Session { id, at: self.at.clone(), lock: Some(Mutex::new(lock)) })
    }

    /// The sessions that have a lock file.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(LOCK) if is_id(id) => ids.push(id.to_owned()),
                Some(NEW) => discard_new(&path),
                _ => {}
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Whether a session is dead. To be asked after something of the session was seen, or its lock file.
    ///
    /// # Errors
    /// If the identifier is none, or the lock file cannot be used.
    pub fn state(&self, id: &str) -> io::Result<State> {
        if !is_id(id) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no identifier of a session"));
        }
        let path = self.file(id, LOCK);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Dead::take(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(State::Dead(Dead { lock: None, asked_at: None }))
            }
            Err(error) => Err(error),
        }
    }

    fn file(&self, id: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{id}.{extension}"))
    }
}

/// Deletes a file whose process died before the session began.
fn discard_new(path: &Path) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
    {
        // Whoever deletes it first is right.
        let _ = std::fs::remove_file(path);
    }
}

/// The identifier in a file, which is made on first use. It is random, because neither the path nor the machine's
/// identifier tells two containers of one image apart.
fn identity(path: &Path) -> io::Result<String> {
    if let Some(identity) = std::fs::read_to_string(path).ok().filter(|text| is_id(text)) {
        return Ok(identity);
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    file.lock()?;
    let mut found = String::new();
    file.read_to_string(&mut found)?;
    if is_id(&found) {
        return Ok(found);
    }
    let identity = random_hex()?;
    file.set_len(0)?;
    file.write_all(identity.as_bytes())?;
    // What it marks outlives a loss of power, so it must as well.
    file.sync_all()?;
    Ok(identity)
}

fn random_hex() -> io::Result<String> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random)
        .map_err(|error| io::Error::other(format!("the system gives no random numbers: {error}")))?;
    Ok(hex(&random))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
