//! The files of the log: `SESSION.NNNNNN.jsonl` in a directory that only its owner can use. The file that a living
//! gateway writes to is locked by it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{private_directory, session};

/// How the names of files end.
const EXTENSION: &str = ".jsonl";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The session.
    pub session: String,
    /// Which of its files; the first has 1.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was written to.
    pub modified: SystemTime,
}

impl LogFile {
    /// What the name of a file says, if it is one of a log.
    pub fn parse(path: &Path) -> Option<(String, u32)> {
        let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?;
        let (session, number) = name.rsplit_once('.')?;
        let digits = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
        (digits && session::is_id(session)).then_some(())?;
        Some((session.to_owned(), number.parse().ok()?))
    }

    /// The name of one.
    pub fn name(session: &str, number: u32) -> String {
        format!("{session}.{number:06}{EXTENSION}")
    }

    /// The last bytes of it, and whether they are all of it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tail(&self, bytes: u64) -> io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(&self.path)?;
        let start = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(bytes).read_to_end(&mut tail)?;
        Ok((tail, start == 0))
    }

    /// Takes the lock of a file that nobody writes to. None if somebody does.
    ///
    /// # Errors
    /// If it cannot be opened or locked.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The directory of all logs of a user.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Where it is by default: `$XDG_STATE_HOME/docker-mcp/audit`, or `~/.local/state/docker-mcp/audit`. None without
    /// a home.
    pub fn default_path(xdg_state_home: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
        let state = xdg_state_home.map(PathBuf::from).filter(|path| path.is_absolute());
        let state = state.or_else(|| home.map(|home| home.join(".local/state")))?;
        Some(state.join("docker-mcp/audit"))
    }

    /// Opens it for writing, making it if need be.
    ///
    /// # Errors
    /// If it cannot be made or used, or others may write to it.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        private_directory::create(&path)?;
        Ok(Self(path))
    }

    /// Opens it for reading.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All files, by session and number. What is no file of a log is left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn files(&self) -> io::Result<Vec<LogFile>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let Some((session, number)) = LogFile::parse(&path) else { continue };
            // It may be gone by now.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_file() {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(LogFile { session, number, path, bytes: metadata.len(), modified });
            }
        }
        files.sort_by(|one, other| (&one.session, one.number).cmp(&(&other.session, other.number)));
        Ok(files)
    }

    /// Makes a file, locked, that nobody else can read.
    ///
    /// # Errors
    /// If it cannot be made, or is there already.
    pub fn begin(&self, session: &str, number: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.0.join(LogFile::name(session, number)))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    }
}

/// Whether a file has no name any more: somebody deleted it under its writer.
pub(super) fn is_deleted(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_logs_are_taken_for_logs() {
        let of = |name: &str| LogFile::parse(Path::new(name));
        assert_eq!(of("/x/ab-1.000012.jsonl"), Some(("ab-1".to_owned(), 12)));
        for name in ["ab.jsonl", "ab.12.jsonl", "AB.000001.jsonl", ".000001.jsonl", "ab.+00001.jsonl", "ab.000001.json"]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
