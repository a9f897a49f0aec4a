//! The networks of the container that the gateway itself runs in, if it does: servers are attached to them too, so
//! that they reach what the gateway's neighbours offer.

use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;

use super::client::Client;
use super::error::Step;
use crate::capability::container_runtime::RuntimeError;

/// How long looking at the gateway's own container may take.
const INSPECT: Duration = Duration::from_secs(10);

/// What tells in which container a process is.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Whether the file `/.dockerenv` is there.
    pub(super) marker: bool,
    /// `/etc/hostname`: by default the first twelve digits of the identifier.
    pub(super) hostname: String,
    /// `/proc/self/cgroup`.
    pub(super) cgroup: String,
    /// `/proc/self/mountinfo`.
    pub(super) mounts: String,
}

impl Evidence {
    /// Reads it below a root directory.
    pub(super) fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        Self {
            marker: root.join(".dockerenv").exists(),
            hostname: text("etc/hostname"),
            cgroup: text("proc/self/cgroup"),
            mounts: text("proc/self/mountinfo"),
        }
    }

    /// Identifiers that the own container may have, best first. Empty outside of containers.
    fn candidates(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |id: &str| {
            if !found.iter().any(|known: &String| known == id) {
                found.push(id.to_owned());
            }
        };
        // The engine mounts the container's own file over `/etc/hostname`. Other mounts do not tell: on the host
        // itself, those of all containers are seen.
        for mount in self.mounts.lines() {
            let mut fields = mount.split(' ').skip(3);
            if let (Some(source), Some("/etc/hostname")) = (fields.next(), fields.next()) {
                source.strip_suffix("/hostname").and_then(|path| path.rsplit('/').next()).filter(is_id).map(&mut add);
            }
        }
        for line in self.cgroup.lines() {
            let last = line.rsplit('/').next().unwrap_or_default();
            let id = last.trim_start_matches("docker-").trim_end_matches(".scope");
            Some(id).filter(is_id).map(&mut add);
        }
        let hostname = self.hostname.trim();
        if self.marker && hostname.len() == 12 && hostname.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            add(hostname);
        }
        found
    }
}

fn is_id(text: &&str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The names of the networks to attach servers to; empty if the gateway is in no container of this engine, or only
/// on the networks that every engine has.
pub(super) async fn detect(client: &Client, evidence: &Evidence) -> Vec<String> {
    for id in evidence.candidates() {
        match networks_of(client, &id).await {
            Ok(networks) => {
                tracing::info!(container = id, ?networks, "the gateway runs in a container");
                return networks;
            }
            // Another engine's container, or a Kubernetes pod.
            Err(error) => tracing::debug!(container = id, %error, "this is not the gateway's own container"),
        }
    }
    Vec::new()
}

async fn networks_of(client: &Client, id: &str) -> Result<Vec<String>, RuntimeError> {
    let inspect = client.api().inspect_container(id, None::<InspectContainerOptions>);
    let found = client.call(Step::Inspect, INSPECT, inspect).await?;
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut names: Vec<_> = networks.into_keys().collect();
    names.retain(|name| !matches!(name.as_str(), "bridge" | "host" | "none" | "default"));
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_own_container_is_found_by_mount_by_cgroup_and_by_host_name() {
        let mounts = format!("7 6 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/x rw\n");
        assert_eq!(Evidence { mounts, ..Evidence::default() }.candidates(), [ID]);
        let cgroup = format!("12:pids:/docker/{ID}\n0::/system.slice/docker-{ID}.scope\n");
        assert_eq!(Evidence { cgroup, ..Evidence::default() }.candidates(), [ID]);
        let evidence = Evidence { marker: true, hostname: "0123456789ab\n".to_owned(), ..Evidence::default() };
        assert_eq!(evidence.candidates(), ["0123456789ab"]);
    }

    #[test]
    fn a_host_with_containers_is_no_container() {
        let mounts = format!("7 6 0:5 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n");
        let evidence = Evidence {
            marker: false,
            hostname: "0123456789ab".to_owned(),
            cgroup: "0::/user.slice/user-0.slice\n".to_owned(),
            mounts,
        };
        assert!(evidence.candidates().is_empty());
    }
}
