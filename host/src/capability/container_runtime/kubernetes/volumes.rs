//! From volumes in Docker's short syntax to those of a pod: a named volume is a claim that is made if need be and kept,
//! a path alone is a directory that goes with the pod. A directory of the host is refused.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
    Volume as PodVolume, VolumeMount as PodMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use provisioning_core::VolumeMount;
use provisioning_core::policy::known_text;
use provisioning_core::volume::Volume;

use super::{labels, names};
use crate::capability::container_runtime::RuntimeError;

/// How much a claim asks for that the gateway makes.
const CLAIM: &str = "1Gi";

/// What a pod has of volumes.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    pub(super) volumes: Vec<PodVolume>,
    pub(super) mounts: Vec<PodMount>,
    /// The claims that must be there before the pod.
    pub(super) claims: Vec<PersistentVolumeClaim>,
}

/// Translates volumes.
pub(super) fn translate(wanted: &[VolumeMount]) -> Result<Volumes, RuntimeError> {
    let mut done = Volumes::default();
    // Two mounts of one volume are one volume of the pod.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for mount in wanted {
        let shown = &mount.value;
        let refuse = |why: &str| RuntimeError::Invalid(format!("volume `{shown}` {why}"));
        let text = known_text(shown).ok_or_else(|| {
            refuse("contains a secret, and the specification of a pod can be read; use configuration")
        })?;
        let volume = Volume::parse(&text).map_err(|error| refuse(&error.to_string()))?;
        if !volume.target.starts_with('/') {
            return Err(refuse("has a target that is no absolute path; write it as `NAME:/PATH`"));
        }
        let read_only = mount.read_only || is_read_only(volume.mode.as_deref(), &refuse)?;
        let name = match volume.source {
            None if read_only => {
                return Err(refuse("has no source, so it cannot be read-only; write it as `NAME:/PATH`"));
            }
            None => {
                let name = format!("volume-{}", done.volumes.len());
                let empty_dir = Some(EmptyDirVolumeSource::default());
                done.volumes.push(PodVolume { name: name.clone(), empty_dir, ..PodVolume::default() });
                name
            }
            Some(ref source) if volume.is_named() => match known.get(source) {
                Some(name) => name.clone(),
                None => {
                    let name = format!("volume-{}", done.volumes.len());
                    let claim = claim(source);
                    let claim_name = claim.metadata.name.clone().unwrap_or_default();
                    let persistent_volume_claim =
                        Some(PersistentVolumeClaimVolumeSource { claim_name, ..Default::default() });
                    done.volumes.push(PodVolume {
                        name: name.clone(),
                        persistent_volume_claim,
                        ..PodVolume::default()
                    });
                    done.claims.push(claim);
                    known.insert(source.clone(), name.clone());
                    name
                }
            },
            Some(_) => {
                return Err(RuntimeError::Denied(format!(
                    "volume `{shown}` is a directory of the machine that the gateway runs on, and a pod runs on a node of the \
                     cluster; use a named volume, written as `NAME:/PATH`"
                )));
            }
        };
        if done.mounts.iter().any(|other| other.mount_path == volume.target) {
            return Err(refuse("has the same target as another one"));
        }
        let read_only = read_only.then_some(true);
        done.mounts.push(PodMount { name, mount_path: volume.target, read_only, ..PodMount::default() });
    }
    Ok(done)
}

fn is_read_only(mode: Option<&str>, refuse: &dyn Fn(&str) -> RuntimeError) -> Result<bool, RuntimeError> {
    let mut read_only = false;
    for option in mode.iter().flat_map(|mode| mode.split(',')).map(str::trim) {
        match option {
            "ro" => read_only = true,
            "" | "rw" => {}
            // What Docker does with labels of SELinux and with copying, a cluster does by itself or not at all.
            _ => return Err(refuse("has an option that a cluster does not know; use `ro` or `rw`")),
        }
    }
    Ok(read_only)
}

/// The claim of a named volume. It belongs to no session: what is in it is kept.
fn claim(volume: &str) -> PersistentVolumeClaim {
    let mut metadata = labels::of_part(names::claim(volume), "", "volume", None);
    let labels = metadata.labels.get_or_insert_default();
    labels.remove(labels::SESSION);
    metadata.annotations.get_or_insert_default().insert(labels::VOLUME.to_owned(), volume.to_owned());
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(CLAIM.to_owned()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

#[cfg(test)]
mod tests {
    use provisioning_core::Value;

    use super::*;

    fn mounts(texts: &[&str]) -> Vec<VolumeMount> {
        texts.iter().map(|text| VolumeMount { value: Value::text(*text), read_only: false }).collect()
    }

    #[test]
    fn named_volumes_are_claims_and_paths_alone_are_empty_directories() {
        let done = translate(&mounts(&["data:/a", "data:/b:ro", "/scratch"])).unwrap();
        assert_eq!((done.volumes.len(), done.claims.len()), (2, 1));
        let claim = done.claims[0].metadata.clone();
        assert_eq!(claim.name.as_deref(), Some("mcp-data"));
        assert!(claim.owner_references.is_none() && !claim.labels.unwrap().contains_key(labels::SESSION));
        let shown: Vec<_> =
            done.mounts.iter().map(|mount| (mount.mount_path.as_str(), mount.read_only.unwrap_or(false))).collect();
        assert_eq!(shown, [("/a", false), ("/b", true), ("/scratch", false)]);
        assert!(done.volumes[1].empty_dir.is_some());
    }

    #[test]
    fn what_a_cluster_cannot_have_is_refused_with_the_reason() {
        let cases = [
            ("/home/me:/data", "a directory of the machine"),
            ("./x:/data", "a directory of the machine"),
            ("~/x:/data", "a directory of the machine"),
            ("data:/x:z", "an option that a cluster does not know"),
            ("data:x", "no absolute path"),
            ("", "it is empty"),
        ];
        for (text, reason) in cases {
            let error = translate(&mounts(&[text])).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = translate(&[VolumeMount { value: Value::secret("k"), read_only: false }]).unwrap_err();
        assert!(error.to_string().contains("contains a secret"), "{error}");
        assert!(translate(&mounts(&["a:/x", "b:/x"])).is_err());
    }
}
