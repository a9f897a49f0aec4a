//! Making and updating the ConfigMap and the Secret that servers are configured with.
//!
//! An object that is there is changed by a merge patch with nothing but the given keys. Server-side apply would, with
//! one field manager, remove the keys of the file before this one (several files may fill one object), and with
//! several it would leave behind who wrote what; a merge patch keeps what it does not name, whoever made it.
//!
//! The gateway may not read Secrets. So that it can still tell a missing key before it starts a pod, a ConfigMap beside
//! the Secret notes the names of its keys. Values are never part of what is returned, logged or told.

#![allow(clippy::indexing_slicing, reason = "fields of JSON objects that are made here are set; that cannot fail")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::Resource as _;
use provisioning_core::value::ObjectKind;
use serde::Serialize;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::Status;
use super::cluster::{Cluster, Step};
use super::data::Data;
use super::options::{ClusterOptions, object_name};
use super::output::Output;

/// Who the API server says made these changes.
const FIELD_MANAGER: &str = "cluster-tools";
/// The annotation with the names of a Secret's keys, a JSON list.
pub(super) const KEYS_ANNOTATION: &str = "mcp-gateway.docker.com/keys";
/// Which version of the Secret the names are of.
const VERSION_ANNOTATION: &str = "mcp-gateway.docker.com/secret-version";
/// How often a change is tried again that somebody else's came between.
const ATTEMPTS: usize = 5;

/// The name of the ConfigMap that notes the keys of a Secret.
pub(super) fn notes_name(secret: &str) -> String {
    format!("{secret}-keys")
}

/// How the kind is written.
pub(super) fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Secret => "Secret",
        ObjectKind::ConfigMap => "ConfigMap",
    }
}

/// What to put where.
pub(super) struct Target<'a> {
    /// The kind of object.
    pub(super) kind: ObjectKind,
    /// Its name.
    pub(super) name: &'a str,
    /// The namespace, as an argument.
    pub(super) namespace: Option<&'a str>,
    /// The cluster.
    pub(super) cluster: &'a ClusterOptions,
    /// Only tell what would be done. The cluster is not asked.
    pub(super) dry_run: bool,
    /// How to tell it.
    pub(super) output: Output,
}

/// What was done, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done<'a> {
    dry_run: bool,
    action: &'static str,
    kind: &'static str,
    name: &'a str,
    namespace: Option<&'a str>,
    keys: Vec<&'a str>,
    skipped: &'a [String],
}

/// Puts the values into the object, and tells so. The last line differs between the commands.
///
/// # Errors
/// If the object could not exist, or the cluster refuses.
pub(super) async fn run(
    target: &Target<'_>,
    data: &Data,
    conclusion: impl Fn(&str, &str) -> Option<String>,
) -> anyhow::Result<Status> {
    let (kind, name, output) =
        (kind_name(target.kind), object_name(target.name, kind_name(target.kind))?, target.output);
    if target.kind == ObjectKind::Secret {
        object_name(&notes_name(name), "ConfigMap")
            .context("the names of the Secret's keys are noted in a ConfigMap; choose a shorter name")?;
    }
    let named = target.cluster.namespace(target.namespace)?;
    for key in &data.skipped {
        output.line(format!("Warning: Skipping {key} (empty or placeholder value)"))?;
    }
    let keys = data.keys();
    let mut done = Done {
        dry_run: target.dry_run,
        action: "none",
        kind,
        name,
        namespace: named.as_deref(),
        keys: keys.clone(),
        skipped: &data.skipped,
    };
    if target.dry_run {
        let place = named
            .as_ref()
            .map_or_else(|| "the namespace of the context".to_owned(), |name| format!("namespace '{name}'"));
        output.line(format!("Would create or update {kind} '{name}' in {place}"))?;
        output.line(format!("   Data keys: [{}]", keys.join(" ")))?;
        output.document(&done)?;
        return Ok(Status::Success);
    }
    let cluster = Cluster::connect(target.cluster, target.namespace).await?;
    let namespace = cluster.namespace();
    output.line(format!("Creating {kind} '{name}' in namespace '{namespace}'..."))?;
    let applied = put(&cluster, target.kind, name, data).await?;
    let word = if applied.is_new { "created" } else { "updated" };
    output.line(format!("✅ {kind} '{name}' {word} successfully"))?;
    output.line(format!("   Data keys: [{}]", keys.join(" ")))?;
    if target.kind == ObjectKind::Secret {
        note_keys(&cluster, name, applied).await.with_context(|| {
            format!(
                "Secret `{name}` is {word}, but the names of its keys are not noted in ConfigMap `{}`; do this again",
                notes_name(name)
            )
        })?;
    }
    if let Some(line) = conclusion(word, namespace) {
        output.line(line)?;
    }
    (done.action, done.namespace) = (word, Some(namespace));
    output.document(&done)?;
    Ok(Status::Success)
}

/// An object after the change.
struct Applied {
    is_new: bool,
    uid: String,
    version: String,
    keys: BTreeSet<String>,
}

impl Applied {
    /// Keeps what is needed of an answer, which has the values too, and drops the rest.
    fn of(object: &DynamicObject, is_new: bool) -> Self {
        let data = object.data.get("data").and_then(Json::as_object);
        Self {
            is_new,
            uid: object.metadata.uid.clone().unwrap_or_default(),
            version: object.metadata.resource_version.clone().unwrap_or_default(),
            keys: data.into_iter().flatten().map(|(key, _)| key.clone()).collect(),
        }
    }
}

/// The objects of a kind, and what the API calls them.
fn api(cluster: &Cluster, kind: ObjectKind) -> (Api<DynamicObject>, &'static str) {
    match kind {
        ObjectKind::Secret => (cluster.dynamic(&ApiResource::erase::<Secret>(&())), "secrets"),
        ObjectKind::ConfigMap => (cluster.dynamic(&ApiResource::erase::<ConfigMap>(&())), "configmaps"),
    }
}

fn labels(component: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/managed-by", "mcp-gateway-provisioning"),
        ("mcp-gateway.docker.com/purpose", "cluster-provider"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The part of an object that the values are in, in the API's own spelling.
fn content(kind: ObjectKind, data: &Data) -> Json {
    use base64::Engine as _;
    let values = data.values.iter().map(|(key, value): (&String, &Zeroizing<String>)| {
        let text = match kind {
            ObjectKind::Secret => base64::engine::general_purpose::STANDARD.encode(value.as_bytes()),
            ObjectKind::ConfigMap => value.to_string(),
        };
        (key.clone(), Json::String(text))
    });
    Json::Object(values.collect())
}

/// An object as it is made where there is none, with its values in the given field.
pub(super) fn manifest(kind: ObjectKind, name: &str, field: &str, values: Json) -> Json {
    let component = match kind {
        ObjectKind::Secret => "secret",
        ObjectKind::ConfigMap => "config",
    };
    let mut object = json!({
        "apiVersion": "v1", "kind": kind_name(kind),
        "metadata": { "name": name, "labels": labels(component) }, field: values,
    });
    if let Some(fields) = object.as_object_mut().filter(|_| kind == ObjectKind::Secret) {
        fields.insert("type".to_owned(), json!("Opaque"));
    }
    object
}

/// Makes the object, or changes the one that is there.
async fn put(cluster: &Cluster, kind: ObjectKind, name: &str, data: &Data) -> anyhow::Result<Applied> {
    let (api, resource) = api(cluster, kind);
    let object: DynamicObject = serde_json::from_value(manifest(kind, name, "data", content(kind, data)))?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        // First of all, so that nobody else can make it between a look and this.
        let create = Step::new("create", resource, name);
        match cluster.ask(create, api.create(&as_cluster_tools(), &object)).await? {
            Ok(made) => return Ok(Applied::of(&made, true)),
            Err(status) if status.is_already_exists() => {}
            Err(status) => return Err(cluster.refused(create, &status)),
        }
        let labels = missing_labels(cluster, &api, resource, &object).await?;
        let patch = json!({ "data": content(kind, data), "metadata": { "labels": labels } });
        let step = Step::new("patch", resource, name);
        match cluster.ask(step, api.patch(name, &by_cluster_tools(), &Patch::Merge(&patch))).await? {
            Ok(changed) => return Ok(Applied::of(&changed, false)),
            // Somebody deleted it just now.
            Err(status) if status.code == 404 && attempts < ATTEMPTS => {}
            Err(status) if status.message.contains("immutable") => anyhow::bail!(
                "{} `{name}` in namespace `{}` is immutable; delete it with `kubectl delete`, or use another name",
                kind_name(kind),
                cluster.namespace()
            ),
            Err(status) => return Err(cluster.refused(step, &status)),
        }
    }
}

fn as_cluster_tools() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn by_cluster_tools() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The labels that an object which is there lacks. Those that it has stay: another tool may know it by them.
async fn missing_labels(
    cluster: &Cluster,
    api: &Api<DynamicObject>,
    resource: &'static str,
    wanted: &DynamicObject,
) -> anyhow::Result<BTreeMap<String, String>> {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    // Who may change an object and not read it changes its values alone.
    let Ok(found) = cluster.ask(Step::new("get", resource, name), api.get_metadata(name)).await? else {
        return Ok(BTreeMap::new());
    };
    let mut labels = wanted.metadata.labels.clone().unwrap_or_default();
    for label in found.metadata.labels.unwrap_or_default().keys() {
        labels.remove(label);
    }
    Ok(labels)
}

/// Notes the names of the keys that a Secret has, all of them, whoever set them.
async fn note_keys(cluster: &Cluster, secret: &str, mut applied: Applied) -> anyhow::Result<()> {
    let (secrets, resource) = api(cluster, ObjectKind::Secret);
    let look = Step::new("get", resource, secret);
    for _ in 0..ATTEMPTS {
        write_note(cluster, secret, &applied).await?;
        // Two that change the Secret at once note each other's keys: whoever is last sees that it changed since.
        match cluster.ask(look, secrets.get_metadata(secret)).await? {
            Ok(found) if found.metadata.resource_version.as_deref() != Some(applied.version.as_str()) => {}
            // Who may not look cannot know better.
            _ => return Ok(()),
        }
        applied = Applied::of(&cluster.get(look, secrets.get(secret)).await?, false);
    }
    anyhow::bail!("others keep changing it")
}

async fn write_note(cluster: &Cluster, secret: &str, applied: &Applied) -> anyhow::Result<()> {
    let name = notes_name(secret);
    let api: Api<ConfigMap> = cluster.api();
    let keys = serde_json::to_string(&applied.keys)?;
    let metadata = json!({
        "name": name,
        "labels": labels("secret-keys"),
        "annotations": { KEYS_ANNOTATION: keys, VERSION_ANNOTATION: applied.version },
        // It goes when the Secret goes.
        "ownerReferences": [{
            "apiVersion": Secret::api_version(&()), "kind": Secret::kind(&()), "name": secret, "uid": applied.uid,
        }],
    });
    let note: ConfigMap = serde_json::from_value(json!({ "metadata": metadata }))?;
    let create = Step::new("create", "configmaps", &name);
    match cluster.ask(create, api.create(&as_cluster_tools(), &note)).await? {
        Ok(_) => return Ok(()),
        Err(status) if status.is_already_exists() => {}
        Err(status) => return Err(cluster.refused(create, &status)),
    }
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    cluster.get(Step::new("patch", "configmaps", &name), api.patch(&name, &by_cluster_tools(), &patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
