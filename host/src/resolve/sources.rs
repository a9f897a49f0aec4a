//! What the templates of one operation may name: the secrets that are set and the configuration, from this machine or
//! from a cluster.
//!
//! Where it comes from is decided here and nowhere else. Of a cluster nothing is read that a pod can get by itself:
//! secrets become keys, and so does configuration that a variable or an argument takes as it is. Which keys are there is
//! found out before anything is started.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use provisioning_core::Value;
use provisioning_core::template::{self, Scope, section_name};
use provisioning_core::value::{ObjectKind, Origin, Segment};
use serde_json::{Map, Value as Json};

use super::cluster::{Cluster, Use};
use super::{ResolveError, ServerSettings};
use crate::catalog::configuration::{Unset, unset};
use crate::secrets::SecretError;

/// What templates may name.
pub(super) struct Known {
    config: Arc<Map<String, Json>>,
    /// The secrets that are set.
    secrets: BTreeSet<String>,
    /// The secret of a cluster that holds the token for a remote server, if there is one.
    pub(super) token: Option<String>,
    /// What stands for configuration that is taken as it is.
    references: BTreeMap<String, Value>,
    /// The same without what is a list, which arguments take apart.
    single_references: BTreeMap<String, Value>,
    /// The keys in a cluster by what they stand for, and the object of each kind.
    keys: BTreeMap<Use, String>,
    objects: Option<(String, String)>,
}

/// What stands in a forecast for configuration that is not read: something that can be a number, a name and a user.
const ANYTHING: &str = "1";

/// What the result of a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A variable: a pod can take it from the cluster.
    Variable,
    /// The arguments: likewise, but a list becomes several.
    Arguments,
    /// Something that the host has to know.
    Host,
}

impl Known {
    /// Finds out what is there. `texts` are the templates that the operation needs.
    pub(super) async fn look_up(
        settings: &ServerSettings,
        texts: &[&str],
        oauth: &[String],
    ) -> Result<Self, ResolveError> {
        let Some(cluster) = &settings.cluster else {
            return Ok(Self::of_this_machine(settings, set_secrets(settings).await?));
        };
        let (mut uses, mut named) = (Vec::new(), Vec::new());
        if cluster.secrets {
            let declared = settings.entry.secrets.iter().map(|secret| &secret.name);
            uses.extend(declared.chain(oauth).map(|name| (ObjectKind::Secret, name.clone())));
        }
        if cluster.config {
            named = config_uses(settings, texts)?;
            uses.extend(named.iter().map(|named| (ObjectKind::ConfigMap, named.path.clone())));
        }
        uses.sort();
        uses.dedup();
        let keys = cluster.keys_for(&settings.name, &uses).await?;
        let secrets = async {
            match cluster.secrets {
                true => secrets_in(cluster, settings, &keys, oauth).await,
                false => Ok((set_secrets(settings).await?, None)),
            }
        };
        let config = async {
            match named.is_empty() {
                true => Ok(Some(Arc::default())),
                false => cluster.values.configuration().await,
            }
        };
        let ((secrets, token), held) = tokio::try_join!(secrets, config)?;
        let mut known = Self::of_this_machine(settings, secrets);
        known.objects = Some((cluster.values.secret_name().to_owned(), cluster.values.config_name().to_owned()));
        known.keys = keys;
        known.token = token;
        if cluster.config {
            known.config = Arc::default();
            known.take(settings, cluster, &named, held.as_deref()).await?;
        }
        Ok(known)
    }

    fn of_this_machine(settings: &ServerSettings, secrets: BTreeSet<String>) -> Self {
        Self {
            config: Arc::clone(&settings.config),
            secrets,
            token: None,
            references: BTreeMap::new(),
            single_references: BTreeMap::new(),
            keys: BTreeMap::new(),
            objects: None,
        }
    }

    /// Takes what the `ConfigMap` holds of what is named; nothing if there is none.
    async fn take(
        &mut self,
        settings: &ServerSettings,
        cluster: &Cluster,
        named: &[template::Use],
        held: Option<&BTreeMap<String, String>>,
    ) -> Result<(), ResolveError> {
        let mut section = Map::new();
        let mut missing = Vec::new();
        for used in named {
            let key = self.keys.get(&(ObjectKind::ConfigMap, used.path.clone())).map_or("", String::as_str);
            let below = used.path.split_once('.').map_or("", |(_, below)| below);
            let text = match cluster.values.is_looked_at() {
                true => held.and_then(|held| held.get(key)).map(String::as_str),
                false => Some(ANYTHING),
            };
            let (found, reference) = match text {
                // As here, what is empty is as if it were not there, and leaves a default no say.
                Some("") => continue,
                Some(text) => {
                    let key = Segment::ClusterKey {
                        kind: ObjectKind::ConfigMap,
                        object: cluster.values.config_name().to_owned(),
                        key: key.to_owned(),
                    };
                    (list(text).unwrap_or_else(|| Json::String(text.to_owned())), Value::from_segments([key]))
                }
                None => match unset(&settings.entry, &below.split('.').collect::<Vec<_>>()) {
                    // It stands in the catalog.
                    Unset::Default(default) => {
                        let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                        (default, Value::text(text))
                    }
                    Unset::Optional => continue,
                    Unset::Needed if used.has_default => continue,
                    Unset::Needed => {
                        let stands_for =
                            if key == used.path { String::new() } else { format!(" (for `{}`)", used.path) };
                        missing.push(format!("`{key}`{stands_for}"));
                        continue;
                    }
                },
            };
            if !matches!(found, Json::Array(_) | Json::Object(_)) {
                self.single_references.insert(used.path.clone(), reference.clone());
            }
            self.references.insert(used.path.clone(), reference);
            section.insert(below.to_owned(), found);
        }
        if !missing.is_empty() {
            missing.sort();
            missing.dedup();
            let (missing, object) = (missing.join(", "), cluster.values.config_name());
            if held.is_none() && cluster.values.is_looked_at() {
                return Err(ResolveError::Configuration(format!(
                    "ConfigMap `{object}` does not exist in namespace `{}`, and {missing} must be in it; make it with \
                     `cluster-tools populate-configmap`",
                    cluster.values.namespace().await
                )));
            }
            return Err(ResolveError::Configuration(format!(
                "ConfigMap `{object}` has no {missing}; add it with `cluster-tools populate-configmap FILE {object}`, or see \
                 what is needed with `cluster-tools check`"
            )));
        }
        if !named.is_empty() {
            // Also if nothing is in it: it answers for everything below it, so that no caller can.
            let section = (section_name(&settings.name), Json::Object(section));
            self.config = Arc::new(Map::from_iter([section]));
        }
        Ok(())
    }

    /// Whether a secret is set, as far as that is known.
    pub(super) fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains(name)
    }

    /// What a template may name.
    pub(super) fn scope<'a>(&'a self, arguments: Option<&'a Map<String, Json>>, purpose: Purpose) -> Scope<'a> {
        let references = match purpose {
            Purpose::Variable => Some(&self.references),
            Purpose::Arguments => Some(&self.single_references),
            Purpose::Host => None,
        };
        Scope { config: &self.config, secrets: &self.secrets, arguments, references }
    }

    /// The value with secrets as keys, where they are in a cluster.
    pub(super) fn placed(&self, value: &Value) -> Value {
        let Some((object, _)) = &self.objects else { return value.clone() };
        Value::from_segments(value.segments().iter().map(|segment| match segment {
            Segment::Secret(name) => match self.keys.get(&(ObjectKind::Secret, name.clone())) {
                Some(key) => Segment::ClusterKey { kind: ObjectKind::Secret, object: object.clone(), key: key.clone() },
                None => segment.clone(),
            },
            other => other.clone(),
        }))
    }

    /// The value with keys of a cluster as what the entry names by them, for policies. Of configuration without its text.
    pub(super) fn named<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        // Nothing is copied where nothing is in a cluster.
        if !value.segments().iter().any(|segment| matches!(segment, Segment::ClusterKey { .. })) {
            return Cow::Borrowed(value);
        }
        Cow::Owned(Value::from_segments(value.segments().iter().map(|segment| {
            let Segment::ClusterKey { kind, key, .. } = segment else { return segment.clone() };
            let found = self.keys.iter().find(|((of, _), own)| of == kind && *own == key);
            let name = found.map_or(key, |((_, name), _)| name).clone();
            match kind {
                ObjectKind::Secret => Segment::Secret(name),
                ObjectKind::ConfigMap => Segment::Private { origin: Origin::Config, name, text: String::new().into() },
            }
        })))
    }
}

/// A list of texts, if that is what a text holds.
fn list(text: &str) -> Option<Json> {
    let items: Vec<String> = serde_json::from_str(text.trim()).ok()?;
    Some(items.into())
}

/// The configuration that the templates name, each path once and with a default only if it has one wherever it stands.
fn config_uses(settings: &ServerSettings, texts: &[&str]) -> Result<Vec<template::Use>, ResolveError> {
    let section = section_name(&settings.name);
    let secrets = settings.entry.secret_names();
    let mut named: BTreeMap<String, template::Use> = BTreeMap::new();
    for text in texts {
        for used in template::uses(text)? {
            let is_own = used.path.split_once('.').is_some_and(|(head, _)| head == section);
            if !is_own || secrets.contains(&used.path) {
                continue;
            }
            let known = named.entry(used.path.clone()).or_insert_with(|| used.clone());
            known.has_default &= used.has_default;
        }
    }
    Ok(named.into_values().collect())
}

/// The names of the secrets that are set on this machine. Fails if a required one is not.
async fn set_secrets(settings: &ServerSettings) -> Result<BTreeSet<String>, ResolveError> {
    let mut set = BTreeSet::new();
    for secret in &settings.entry.secrets {
        match settings.secrets.get(&secret.name).await {
            Ok(_) => {
                set.insert(secret.name.clone());
            }
            Err(SecretError::Missing { .. }) if secret.required == Some(false) => {}
            Err(error) => return Err(ResolveError::from(error)),
        }
    }
    Ok(set)
}

/// The names of the secrets that a cluster has, as far as that is known, and of the first that may hold a token. Fails if
/// a required one is known to be missing; where nothing is known the cluster itself will say so.
async fn secrets_in(
    cluster: &Cluster,
    settings: &ServerSettings,
    keys: &BTreeMap<Use, String>,
    oauth: &[String],
) -> Result<(BTreeSet<String>, Option<String>), ResolveError> {
    if settings.entry.secrets.is_empty() && oauth.is_empty() {
        return Ok((BTreeSet::new(), None));
    }
    let held = cluster.values.secret_keys().await?;
    let key = |name: &str| keys.get(&(ObjectKind::Secret, name.to_owned())).map_or("", String::as_str);
    let is_there = |name: &str| held.as_ref().is_none_or(|held| held.contains(key(name)));
    let missing =
        settings.entry.secrets.iter().find(|secret| secret.required != Some(false) && !is_there(&secret.name));
    if let Some(secret) = missing {
        let (key, object) = (key(&secret.name), cluster.values.secret_name());
        return Err(ResolveError::SecretMissing {
            name: secret.name.clone(),
            remedy: format!(
                "Secret `{object}` has no key `{key}`; add it with `cluster-tools populate-secret FILE {object}`"
            ),
        });
    }
    let declared = settings.entry.secrets.iter().map(|secret| &secret.name);
    let token = oauth.iter().find(|name| is_there(name)).cloned();
    Ok((declared.filter(|name| is_there(name)).cloned().collect(), token))
}
