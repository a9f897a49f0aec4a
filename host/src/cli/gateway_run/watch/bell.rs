//! Tells when files may have changed, without waking up while they do not.
//!
//! The system watches the directories in which they are, or will be: that is where files appear, are replaced and are
//! linked elsewhere. What it finds is only a reason to look.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
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
    /// The directories that are watched.
    places: BTreeSet<PathBuf>,
    /// Whether those are all that should be.
    is_complete: bool,
}

impl Bell {
    /// A bell for no file yet.
    pub(super) fn new() -> Self {
        let rung = Arc::new(Notify::new());
        let ring = Arc::clone(&rung);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change. What went wrong may be one.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                ring.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::debug!(%error, "the system does not watch files; they are looked at every second");
        }
        Self { rung, watcher: watcher.ok(), places: BTreeSet::new(), is_complete: true }
    }

    /// Rings for these files from now on, and for no others.
    pub(super) fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = files.iter().flat_map(|file| places(file)).collect();
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

/// The directories in which something changes when a file does: its own, those of the links that lead to it, and for
/// one that is not there the nearest that is.
fn places(file: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    let mut open = vec![std::path::absolute(file).unwrap_or_else(|_| file.to_owned())];
    for _ in 0..LINKS {
        let Some(path) = open.pop() else { break };
        let Some(directory) = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir()) else { continue };
        places.insert(directory.to_owned());
        // Any part of the path may be a link, as in directories that are replaced as a whole.
        for part in path.ancestors() {
            if let (Ok(target), Some(parent)) = (std::fs::read_link(part), part.parent()) {
                places.insert(parent.to_owned());
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
