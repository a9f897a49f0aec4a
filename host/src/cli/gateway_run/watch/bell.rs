//! Tells when files may have changed, without waking up while they do not.
//!
//! The system watches the directories in which they are, or will be: that is where files appear, are replaced and are
//! linked elsewhere. What it finds is only a reason to look, and other files may change in these directories all the
//! time: only names are heard that are on the way to a file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How often files are looked at where the system watches them all: some file systems tell nothing.
const SELDOM: Duration = Duration::from_secs(60);
/// How often where it does not.
const OFTEN: Duration = Duration::from_secs(1);
/// How many links are followed from a file.
const LINKS: usize = 16;

/// Rings when files may have changed.
pub(super) struct Bell {
    rung: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// The names that are heard, in whichever of the directories.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    /// The directories that are watched.
    places: BTreeSet<PathBuf>,
    /// Whether those are all that should be.
    is_complete: bool,
}

impl Bell {
    /// A bell for no file yet.
    pub(super) fn new() -> Self {
        let rung = Arc::new(Notify::new());
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let (ring, heard) = (Arc::clone(&rung), Arc::clone(&names));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What went wrong may be a change.
            if event.is_ok_and(|event| !is_change(&event, &heard.lock().unwrap_or_else(PoisonError::into_inner))) {
                return;
            }
            ring.notify_one();
        });
        if let Err(error) = &watcher {
            tracing::debug!(%error, "the system does not watch files; they are looked at every second");
        }
        Self { rung, watcher: watcher.ok(), names, places: BTreeSet::new(), is_complete: true }
    }

    /// Rings for these files from now on, and for no others.
    pub(super) fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let (wanted, names) = files.iter().flat_map(|file| places(file)).unzip::<_, _, BTreeSet<PathBuf>, Vec<_>>();
        // A directory may go itself.
        let own = wanted.iter().filter_map(|place| place.file_name()).map(OsString::from);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names.into_iter().chain(own).collect();
        for place in self.places.difference(&wanted) {
            // It may be gone, and its watch with it.
            let _ = watcher.unwatch(place);
        }
        self.is_complete = true;
        // Those that are watched are watched again: one may have been replaced by another of its name.
        for place in &wanted {
            if let Err(error) = watcher.watch(place, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, place = %place.display(), "a directory cannot be watched");
                self.is_complete = false;
            }
        }
        self.places = wanted;
    }

    /// Waits until there is a reason to look.
    pub(super) async fn rings(&self) {
        let at_latest = if self.watcher.is_some() && self.is_complete { SELDOM } else { OFTEN };
        // Either is a reason.
        let _ = tokio::time::timeout(at_latest, self.rung.notified()).await;
    }
}

/// Whether an event is about one of these names. Reading a file is no change.
fn is_change(event: &Event, names: &BTreeSet<OsString>) -> bool {
    let is_heard = |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
    // An event without a path says that others were lost.
    !matches!(event.kind, EventKind::Access(_)) && (event.paths.is_empty() || event.paths.iter().any(is_heard))
}

/// The directories in which something changes when a file does, and under which name: its own, those of the links that
/// lead to it, and for one that is not there the nearest that is.
fn places(file: &Path) -> BTreeSet<(PathBuf, OsString)> {
    let mut places = BTreeSet::new();
    let mut open = vec![std::path::absolute(file).unwrap_or_else(|_| file.to_owned())];
    for _ in 0..LINKS {
        let Some(path) = open.pop() else { break };
        let Some(directory) = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir()) else { continue };
        let next = path.strip_prefix(directory).ok().and_then(|rest| rest.components().next());
        places.extend(next.map(|next| (directory.to_owned(), next.as_os_str().to_owned())));
        // Any part of the path may be a link, as in directories that are replaced as a whole.
        for part in path.ancestors() {
            if let (Ok(target), Some(parent), Some(name)) = (std::fs::read_link(part), part.parent(), part.file_name())
            {
                places.insert((parent.to_owned(), name.to_owned()));
                let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
                let target = parent.join(target);
                open.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
                break;
            }
        }
    }
    places
}

#[cfg(test)]
#[path = "bell_tests.rs"]
mod tests;
