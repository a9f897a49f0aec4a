//! `--watch`: follows the files that say which servers there are, and lets the gateway change with them.
//!
//! Files are looked at twice a second rather than watched through the system: that works on every file system, for
//! files that are replaced, linked or mounted, and for files that are not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::cli::sources::{Loaded, Sources};
use crate::gateway::Gateway;
use crate::provision::sandboxed::SandboxedProvisioner;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long files must stay as they are before they are read: editors write in steps.
const SETTLED: Duration = Duration::from_millis(200);

/// What tells one version of a file from the next; none if it is not there.
type Version = Option<(Option<SystemTime>, u64, u64)>;

/// Says so when a policy file changes, appears or goes, for ever. Policies are read at start: what runs was judged by
/// them, and a gateway that began under one must not go on under another without anybody's doing.
pub(super) async fn watch_policies(files: Vec<PathBuf>) {
    let mut seen = versions(&files).await;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = versions(&files).await;
        for (file, _) in files.iter().zip(now.iter().zip(&seen)).filter(|(_, (now, seen))| now != seen) {
            tracing::warn!(
                "policy `{}` changed; this gateway goes on with what it read at its start; restart it to use the change",
                file.display()
            );
        }
        seen = now;
    }
}

/// Follows the sources for ever.
pub(super) async fn watch(sources: Sources, gateway: Gateway, provisioner: Arc<SandboxedProvisioner>, first: Loaded) {
    let mut configuration = configurations(&first);
    let files = sources.files();
    let mut seen = versions(&files).await;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut now = versions(&files).await;
        if now == seen {
            continue;
        }
        loop {
            tokio::time::sleep(SETTLED).await;
            let next = versions(&files).await;
            if next == now {
                break;
            }
            now = next;
        }
        let changed = files.iter().zip(now.iter().zip(&seen)).filter(|(_, (now, seen))| now != seen);
        let changed: Vec<String> = changed.map(|(file, _)| file.display().to_string()).collect();
        seen.clone_from(&now);
        let files = changed.join(", ");
        match sources.load() {
            Ok(loaded) => {
                let new = configurations(&loaded);
                let differ = |(name, section): &(&String, &Arc<Map<String, Value>>)| {
                    configuration.get(*name).is_some_and(|known| known != *section)
                };
                let reconfigured: BTreeSet<String> = new.iter().filter(differ).map(|(name, _)| name.clone()).collect();
                configuration = new;
                let servers = loaded.servers.len();
                // In this order: what the gateway opens from now on is deployed as the files say now.
                provisioner.replace(loaded.settings);
                gateway.replace(loaded.servers, &reconfigured);
                tracing::info!(files, servers, "read again what changed");
            }
            Err(error) => {
                let error = crate::cli::message(&error);
                tracing::warn!(files, error, "a change cannot be used; the servers stay as they were");
            }
        }
    }
}

/// The configuration of each server.
fn configurations(loaded: &Loaded) -> BTreeMap<String, Arc<Map<String, Value>>> {
    loaded.settings.iter().map(|server| (server.name.clone(), Arc::clone(&server.config))).collect()
}

/// All at once on one thread: a file may be far away, and an idle gateway should wake up as little as possible.
async fn versions(files: &[PathBuf]) -> Vec<Version> {
    let files = files.to_vec();
    let looked = tokio::task::spawn_blocking(move || files.iter().map(|file| version(file)).collect());
    looked.await.unwrap_or_default()
}

fn version(file: &Path) -> Version {
    let metadata = std::fs::metadata(file).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok(), metadata.len(), inode))
}
