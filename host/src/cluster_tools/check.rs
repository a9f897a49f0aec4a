//! `cluster-tools check`: what servers need against what the cluster has.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use provisioning_core::{cluster_key, value::ObjectKind};
use serde::Serialize;
use serde_json::json;

use super::Status;
use super::apply::{KEYS_ANNOTATION, notes_name};
use super::cluster::{Cluster, Step};
use super::needs::{Needs, in_words, is_placeholder};
use super::options::{Catalogs, ClusterOptions, Names, object_name, select};
use super::output::Output;

/// Compare what servers need with what the cluster has.
///
/// No value is shown. Of the Secret only the keys are looked at; where you may not read it, the names count that
/// `populate-secret` noted. The exit code is 3 if something is missing.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The servers, by their names in the catalog. Default: all of the catalogs
    #[arg(value_name = "SERVER,...")]
    servers: Option<Names>,
    /// The namespace
    namespace: Option<String>,
    /// The ConfigMap with the configuration, as for `gateway run`
    #[arg(long, value_name = "NAME", default_value = "mcp-gateway-config")]
    cluster_config_name: String,
    /// The Secret with the secrets, as for `gateway run`
    #[arg(long, value_name = "NAME", default_value = "mcp-gateway-secrets")]
    cluster_secret_name: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    catalogs: Catalogs,
    #[command(flatten)]
    cluster: ClusterOptions,
}

/// How it stands with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It is there.
    Set,
    /// It is not, and the default of the catalog holds.
    Default,
    /// It is not, and nobody needs it.
    Optional,
    /// It is not.
    Missing,
    /// It still has the text that is to be replaced.
    Placeholder,
    /// No object can have such a key.
    Invalid,
    /// It could not be found out.
    Unknown,
}

impl State {
    fn in_words(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Default => "not set, has a default",
            Self::Optional => "not set, optional",
            Self::Missing => "MISSING",
            Self::Placeholder => "TO BE FILLED IN",
            Self::Invalid => "NO VALID KEY",
            Self::Unknown => "unknown",
        }
    }

    fn is_fault(self) -> bool {
        matches!(self, Self::Missing | Self::Placeholder | Self::Invalid)
    }
}

#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    key: &'a str,
    state: State,
    servers: &'a BTreeSet<String>,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { servers, namespace, cluster_config_name, cluster_secret_name, output, catalogs, cluster } =
        arguments;
    let (config, secret) =
        (object_name(cluster_config_name, "ConfigMap")?, object_name(cluster_secret_name, "Secret")?);
    let catalog = catalogs.load()?;
    let all: Vec<String> = catalog.names().map(str::to_owned).collect();
    let selected = select(&catalog, servers.as_ref().map_or(&all, |Names(named)| named))?;
    let needs = Needs::of(selected.iter().map(|(name, entry)| (name.as_str(), *entry)))?;
    let cluster = Cluster::connect(cluster, namespace.as_deref()).await?;
    let values = configuration(&cluster, config).await?;
    let keys = SecretKeys::find(&cluster, secret).await?;

    let mut rows = Vec::new();
    for (key, need) in &needs.config {
        let found = values.as_ref().and_then(|values| values.get(key));
        let state = match found {
            _ if cluster_key(key).is_err() => State::Invalid,
            Some(value) if is_placeholder(value) => State::Placeholder,
            Some(_) => State::Set,
            None if need.default.is_some() => State::Default,
            None if need.is_required => State::Missing,
            None => State::Optional,
        };
        rows.push(Row { kind: "ConfigMap", key, state, servers: &need.servers });
    }
    for (key, need) in &needs.secrets {
        let state = match keys.known() {
            _ if cluster_key(key).is_err() => State::Invalid,
            None => State::Unknown,
            Some(known) if known.contains(key) => State::Set,
            Some(_) if need.is_required => State::Missing,
            Some(_) => State::Optional,
        };
        rows.push(Row { kind: "Secret", key, state, servers: &need.servers });
    }
    let notes = notes(&cluster, config, secret, values.is_some(), &keys, &needs, &rows);
    let cells = rows.iter().map(|row| {
        vec![row.kind.to_owned(), row.key.to_owned(), row.state.in_words().to_owned(), in_words(row.servers)]
    });
    output.table(&["OBJECT", "KEY", "STATE", "SERVERS"], &cells.collect::<Vec<_>>())?;
    for note in &notes {
        output.line(note)?;
    }
    let faults = rows.iter().filter(|row| row.state.is_fault()).count() + usize::from(keys.is_stale());
    if faults == 0 {
        output.line("Nothing is missing")?;
    }
    output.document(&json!({
        "namespace": cluster.namespace(), "configMap": config, "secret": secret, "keys": rows, "notes": notes,
    }))?;
    Ok(if faults == 0 { Status::Success } else { Status::Partial })
}

/// What the ConfigMap holds; none if there is none.
async fn configuration(cluster: &Cluster, name: &str) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let api = cluster.api::<ConfigMap>();
    let found = cluster.get(Step::new("get", "configmaps", name), api.get_opt(name)).await?;
    Ok(found.map(|object| object.data.unwrap_or_default()))
}

/// The keys of the Secret, from both who can know.
struct SecretKeys {
    /// Those that it has. None if it could not be read.
    held: Option<BTreeSet<String>>,
    /// Whether it is there. None if that is not known.
    exists: Option<bool>,
    /// Those that are noted, which is what the gateway goes by.
    noted: Option<BTreeSet<String>>,
}

impl SecretKeys {
    async fn find(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let step = Step::new("get", "secrets", name);
        let (held, exists) = match cluster.ask(step, cluster.api::<Secret>().get_opt(name)).await? {
            Ok(Some(secret)) => (Some(secret.data.unwrap_or_default().into_keys().collect()), Some(true)),
            Ok(None) => (Some(BTreeSet::new()), Some(false)),
            // Whoever prepares a cluster need not be who runs servers in it.
            Err(status) if status.code == 403 => (None, None),
            Err(status) => return Err(cluster.refused(step, &status)),
        };
        let note_name = notes_name(name);
        let maps = cluster.api::<ConfigMap>();
        let note = cluster.get(Step::new("get", "configmaps", &note_name), maps.get_opt(&note_name)).await?;
        let text = note.and_then(|note| note.metadata.annotations?.remove(KEYS_ANNOTATION));
        Ok(Self { held, exists, noted: text.and_then(|text| serde_json::from_str(&text).ok()) })
    }

    fn known(&self) -> Option<&BTreeSet<String>> {
        self.held.as_ref().or(self.noted.as_ref())
    }

    /// True if the gateway is told something else than what is there.
    fn is_stale(&self) -> bool {
        match (&self.held, &self.noted) {
            (Some(held), Some(noted)) => held != noted,
            _ => false,
        }
    }
}

/// What to do, in lines.
fn notes(
    cluster: &Cluster,
    config: &str,
    secret: &str,
    has_config: bool,
    keys: &SecretKeys,
    needs: &Needs,
    rows: &[Row<'_>],
) -> Vec<String> {
    let namespace = cluster.namespace();
    let mut notes = Vec::new();
    // What can be mended by filling something in.
    let to_fill = |row: &&Row<'_>| row.state.is_fault() && row.state != State::Invalid;
    let faults = |kind: ObjectKind| rows.iter().filter(to_fill).any(|row| row.kind == super::apply::kind_name(kind));
    let invalid = rows.iter().filter(|row| row.state == State::Invalid).filter_map(|row| cluster_key(row.key).err());
    notes.extend(invalid.map(|error| error.to_string()));
    if !has_config && !needs.config.is_empty() {
        notes.push(format!("There is no ConfigMap `{config}` in namespace `{namespace}`"));
    }
    if keys.exists == Some(false) && !needs.secrets.is_empty() {
        notes.push(format!("There is no Secret `{secret}` in namespace `{namespace}`"));
    }
    if faults(ObjectKind::ConfigMap) || faults(ObjectKind::Secret) {
        let servers: BTreeSet<String> =
            rows.iter().filter(to_fill).flat_map(|row| row.servers.iter().cloned()).collect();
        let servers = servers.into_iter().collect::<Vec<_>>().join(",");
        notes.push(format!("Get files to fill in with `cluster-tools generate-env {servers} BASE`"));
    }
    if faults(ObjectKind::ConfigMap) {
        notes.push(format!("then `cluster-tools populate-configmap BASE-config.env {config} {namespace}`"));
    }
    if faults(ObjectKind::Secret) {
        notes.push(format!("then `cluster-tools populate-secret BASE-secret.env {secret} {namespace}`"));
    }
    let again = format!("`cluster-tools create-secret {secret} '{{}}' {namespace}` notes them, and sets nothing");
    if keys.is_stale() {
        notes.push(format!(
            "The names noted in ConfigMap `{}` are not the keys of Secret `{secret}`: {again}",
            notes_name(secret)
        ));
    } else if keys.noted.is_none() && keys.exists == Some(true) {
        notes.push(format!("The keys of Secret `{secret}` are not noted, so that the gateway finds one missing only when a pod starts: {again}"));
    }
    if keys.known().is_none() && !needs.secrets.is_empty() {
        notes.push(format!("You may not read Secret `{secret}`, and its keys are not noted: {again}"));
    }
    notes
}
