//! What the gateway may read of a cluster's own configuration, where servers are configured there and not here, and
//! which key of it stands for what an entry names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use provisioning_core::cluster_key;
use provisioning_core::policy::glob::NamePattern;
use provisioning_core::text::one_line;
use provisioning_core::value::ObjectKind;

use super::ResolveError;
use crate::secrets::{SecretError, SecretStore, SecretText};

/// Values of servers that are in a cluster: secrets, configuration, or both. What is not, is on this machine.
#[derive(Clone)]
pub struct Cluster {
    /// The objects that hold them.
    pub values: Arc<dyn ClusterValues>,
    /// Says which key stands for what an entry names.
    pub mapping: Arc<dyn KeyMapping>,
    /// Keys besides the names of an entry that the mapping may choose.
    pub keys: Vec<NamePattern>,
    /// Whether secrets are there.
    pub secrets: bool,
    /// Whether configuration is there.
    pub config: bool,
    /// Reads single secrets by their keys, for remote servers where that is granted.
    pub remote_secrets: Arc<dyn SecretStore>,
}

/// One thing that an entry names: a secret by its name, or configuration by its path.
pub type Use = (ObjectKind, String);

/// Says which key of an object stands for what an entry names. Not trusted: see [`Cluster::keys_for`].
#[async_trait]
pub trait KeyMapping: Send + Sync {
    /// The key for each use, in their order.
    ///
    /// # Errors
    /// If there is none for one of them, or the mapping does not work.
    async fn map_keys(&self, uses: &[Use]) -> Result<Vec<Use>, ResolveError>;
}

impl Cluster {
    /// The key for each use, checked: as many as there are uses, each for its own kind of object, one that an object can
    /// have, of no other use, and among the names of the entry unless the operator allows others.
    ///
    /// # Errors
    /// If the mapping fails or breaks one of these rules.
    pub async fn keys_for(&self, server: &str, uses: &[Use]) -> Result<BTreeMap<Use, String>, ResolveError> {
        if uses.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answers = self.mapping.map_keys(uses).await?;
        self.checked(server, uses, answers).map_err(ResolveError::Mapping)
    }

    fn checked(&self, server: &str, uses: &[Use], answers: Vec<Use>) -> Result<BTreeMap<Use, String>, String> {
        const SHOWN: usize = 100;
        if answers.len() != uses.len() {
            return Err(format!("the mapping answers {} keys for {} names", answers.len(), uses.len()));
        }
        let mut keys: BTreeMap<Use, String> = BTreeMap::new();
        let mut taken: BTreeMap<Use, &str> = BTreeMap::new();
        for (used, (kind, key)) in uses.iter().zip(answers) {
            let (name, shown) = (one_line(&used.1, SHOWN), one_line(&key, SHOWN));
            if kind != used.0 {
                return Err(format!("the mapping gives `{name}` a key of the wrong kind of object"));
            }
            cluster_key(&key).map_err(|error| format!("the mapping gives `{name}` a key that is none: {error}"))?;
            let is_own = uses.iter().any(|(other, name)| *other == kind && *name == key);
            if !is_own && !self.keys.iter().any(|pattern| pattern.covers(&key, Some(server))) {
                return Err(format!(
                    "the mapping gives `{name}` the key `{shown}`, which is no name of its catalog entry; allow it with \
                     `--cluster-mapping-keys {shown}`"
                ));
            }
            if let Some(other) = taken.insert((kind, key.clone()), &used.1).filter(|other| *other != used.1) {
                let other = one_line(other, SHOWN);
                return Err(format!("the mapping gives `{other}` and `{name}` the same key `{shown}`"));
            }
            keys.insert(used.clone(), key);
        }
        Ok(keys)
    }
}

/// A cluster that is not looked at.
pub struct Unseen {
    /// The name of the `ConfigMap`.
    pub config_name: String,
    /// The name of the `Secret`.
    pub secret_name: String,
}

#[async_trait]
impl ClusterValues for Unseen {
    fn config_name(&self) -> &str {
        &self.config_name
    }

    fn secret_name(&self) -> &str {
        &self.secret_name
    }

    async fn configuration(&self) -> Result<Option<Arc<BTreeMap<String, String>>>, ResolveError> {
        Ok(None)
    }

    fn is_looked_at(&self) -> bool {
        false
    }

    async fn secret_keys(&self) -> Result<Option<Arc<BTreeSet<String>>>, ResolveError> {
        Ok(None)
    }

    async fn secret(&self, key: &str) -> Result<SecretText, ResolveError> {
        Err(ResolveError::SecretStore(format!("secret `{key}` of the cluster is not read for a forecast")))
    }
}

/// Reads single secrets of a cluster by their keys. Only for what is granted `remote-secrets`.
pub struct SingleSecrets(pub Arc<dyn ClusterValues>);

#[async_trait]
impl SecretStore for SingleSecrets {
    async fn get(&self, key: &str) -> Result<SecretText, SecretError> {
        self.0.secret(key).await.map_err(|error| match error {
            ResolveError::SecretMissing { name, remedy } => SecretError::Missing { name, remedy },
            other => SecretError::Unavailable { name: key.to_owned(), reason: other.to_string() },
        })
    }
}

/// What stands where a store of secrets would, if secrets are in a cluster: this process has none.
pub struct NoSecrets;

#[async_trait]
impl SecretStore for NoSecrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        Err(SecretError::Unavailable {
            name: name.to_owned(),
            reason: "secrets are in the cluster, and this gateway reads none (`--cluster-secret-provider cluster`)"
                .to_owned(),
        })
    }
}

/// The objects of a cluster that hold configuration and secrets of servers, as far as the gateway may read them.
#[async_trait]
pub trait ClusterValues: Send + Sync {
    /// The name of the `ConfigMap`.
    fn config_name(&self) -> &str;

    /// The name of the `Secret`.
    fn secret_name(&self) -> &str;

    /// What the `ConfigMap` holds: text by key. None if it is not there, which a server may do without. Read again for each
    /// operation that needs it.
    ///
    /// # Errors
    /// If it must not be read, naming the Role that would allow it; if the cluster does not answer.
    async fn configuration(&self) -> Result<Option<Arc<BTreeMap<String, String>>>, ResolveError>;

    /// Where the objects are, for messages.
    async fn namespace(&self) -> String {
        String::new()
    }

    /// False if the cluster is not looked at: everything is then taken to be there, for a forecast.
    fn is_looked_at(&self) -> bool {
        true
    }

    /// The keys of the `Secret` as `cluster-tools populate-secret` noted them; none if nobody did. Reads no secret.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn secret_keys(&self) -> Result<Option<Arc<BTreeSet<String>>>, ResolveError>;

    /// The text under one key of the `Secret`. Only for what is granted `remote-secrets`.
    ///
    /// # Errors
    /// If it is not there, must not be read, or the cluster does not answer.
    async fn secret(&self, key: &str) -> Result<SecretText, ResolveError>;
}

#[cfg(test)]
mod tests;
