//! `--watch`: follows the files that say which servers there are, and lets the gateway change with them.

mod bell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::bell::Bell;
use crate::cli::sources::{Loaded, Seen, Sources, versions};
use crate::gateway::Gateway;
use crate::provision::sandboxed::SandboxedProvisioner;

/// How long files must stay as they are before they are read: editors write in steps.
const SETTLED: Duration = Duration::from_millis(200);

/// Follows the sources for ever.
///
/// Policies are read at start, and `policies` are the files of which it is only said that they changed since they were like
/// that: what runs was judged by what they were, and a gateway that began under one must not go on under another without
/// anybody's doing.
pub(super) async fn watch(
    sources: Sources,
    policies: Seen,
    gateway: Gateway,
    provisioner: Arc<SandboxedProvisioner>,
    first: Loaded,
) {
    let mut configuration = configurations(&first);
    let rules: Vec<PathBuf> = policies.keys().cloned().collect();
    // What changed since it was read, and before it is followed, is noticed at the first look.
    let mut seen = first.seen;
    seen.extend(policies);
    let look = async |bell| look(bell, &sources, &rules).await;
    let (mut bell, mut now) = look(Bell::new()).await;
    loop {
        if now == seen {
            bell.rings().await;
            (bell, now) = look(bell).await;
            continue;
        }
        loop {
            tokio::time::sleep(SETTLED).await;
            let next;
            (bell, next) = look(bell).await;
            if next == now {
                break;
            }
            now = next;
        }
        let is_same = |file: &&PathBuf| now.get(*file) == seen.get(*file);
        let changed: BTreeSet<&PathBuf> = now.keys().chain(seen.keys()).filter(|file| !is_same(file)).collect();
        let (policies, changed): (Vec<&PathBuf>, Vec<&PathBuf>) =
            changed.into_iter().partition(|file| rules.contains(file));
        for file in policies {
            tracing::warn!(
                "policy `{}` changed; this gateway goes on with what it read at its start; restart it to use the change",
                file.display()
            );
        }
        let changed: Vec<String> = changed.into_iter().map(|file| file.display().to_string()).collect();
        seen.clone_from(&now);
        if changed.is_empty() {
            continue;
        }
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

/// Looks at the files, which may be others than before, and sees to it that the bell rings for each of them. On a
/// thread where that may take long: a file may be far away.
async fn look(bell: Bell, sources: &Sources, policies: &[PathBuf]) -> (Bell, Seen) {
    let (sources, policies) = (sources.clone(), policies.to_vec());
    let work = move || {
        let mut bell = bell;
        let files = [sources.files(), policies].concat();
        // In this order: what changes after it was looked at rings.
        bell.follow(&files);
        (bell, versions(files))
    };
    // Without a bell after a panic, which nothing in it should cause, files are still looked at.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| (Bell::new(), Seen::new()))
}
