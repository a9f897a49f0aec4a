//! Which gateway sessions are alive. A session is an identifier and a lock file that only its living gateway holds:
//! however the process ends, the system releases the lock, and what the session created can be told from what living
//! gateways use.
//!
//! Nothing here knows an engine. What is created for a session carries its identifier and [`Sessions::at`], which
//! says where its lock is: gateways of other users, machines or containers may share an engine, and nobody may judge
//! a session whose lock he cannot see.
//!
//! Why no two processes can disagree about a session:
//! - A lock file gets its name only when it is locked already, and before anything is created for the session. So
//!   whoever finds something of a session and then finds its lock file free, or gone, knows that it is dead.
//! - Identifiers are random and never used again. A dead session stays dead, so that it does no harm when two
//!   processes clean up after it, or when one holds a lock on a file that another has just deleted.
//! - A lock file is deleted only by its own session, when nothing is left, or by a process that holds its lock.

mod directory;

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use directory::Sessions;

/// What stands in place of [`Sessions::at`] for a session without a lock: nobody cleans up after it.
pub const NOWHERE: &str = "nowhere";

/// Whether a text can be a session's identifier: it becomes part of a file's name and of labels.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The session of this process.
#[derive(Debug)]
pub struct Session {
    id: String,
    at: String,
    lock: Option<Mutex<Lock>>,
}

/// A locked file. It holds how many things were asked for whose existence is not known yet, and its modification
/// time says when the last one was.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
    asked: u32,
}

impl Lock {
    /// One write of a few bytes, so that a reader sees the old number or the new one, wherever the process is killed.
    fn write(&mut self) {
        let text = format!("{:010}\n", self.asked);
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, "the session's lock file cannot be written");
        }
    }
}

impl Session {
    /// A session without a lock.
    pub fn without_lock(id: String) -> Self {
        Self { id, at: NOWHERE.to_owned(), lock: None }
    }

    /// Its identifier: `[a-z0-9-]`, at most 64 bytes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its lock is, for the label of what it creates.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Notes that something is about to be asked for. While the value lives, it may come into being although nobody
    /// has seen it yet; if the process dies in the meantime, whoever cleans up waits for it.
    pub fn asking(self: &Arc<Self>) -> Asking {
        self.count(|asked| asked.saturating_add(1));
        Asking(Arc::clone(self))
    }

    /// Deletes the lock file: nothing of this session is left. The lock itself goes with the process.
    pub fn end(&self) {
        let Some(lock) = self.lock() else { return };
        if let Err(error) = std::fs::remove_file(&lock.path) {
            tracing::debug!(%error, path = %lock.path.display(), "the session's lock file cannot be deleted");
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Lock>> {
        Some(self.lock.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, change: impl FnOnce(u32) -> u32) {
        if let Some(mut lock) = self.lock() {
            lock.asked = change(lock.asked);
            lock.write();
        }
    }
}

/// Something was asked for, and whether it exists is not known yet.
#[derive(Debug)]
#[must_use = "dropping it says that the answer is known"]
pub struct Asking(Arc<Session>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.count(|asked| asked.saturating_sub(1));
    }
}

/// What is known of a session that has created something.
#[derive(Debug)]
pub enum State {
    /// Its gateway runs, or another process cleans up after it.
    Held,
    /// Its gateway is gone.
    Dead(Dead),
}

/// A session whose gateway is gone. While this value lives, no other process that finds its lock file takes it on.
#[derive(Debug)]
pub struct Dead {
    lock: Option<(File, PathBuf)>,
    asked_at: Option<SystemTime>,
}

impl Dead {
    /// When something was asked for last, if the gateway died before it knew whether it exists.
    pub fn asked_at(&self) -> Option<SystemTime> {
        self.asked_at
    }

    /// Deletes the lock file: nothing of the session is left.
    ///
    /// # Errors
    /// If the file is there and cannot be deleted.
    pub fn forget(self) -> io::Result<()> {
        let Some((_locked, path)) = self.lock else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the lock of a file that was opened.
    fn take(mut file: File, path: PathBuf) -> io::Result<State> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(State::Held),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        // A file that says nothing sensible says that nothing was asked for.
        let asked = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()).unwrap_or(0);
        let asked_at = if asked > 0 { Some(file.metadata()?.modified()?) } else { None };
        Ok(State::Dead(Self { lock: Some((file, path)), asked_at }))
    }
}

#[cfg(test)]
mod tests;
