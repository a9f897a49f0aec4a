//! What the gateway may read of a cluster's own configuration, where servers are configured there and not here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::ResolveError;
use crate::secrets::SecretText;

/// The objects of a cluster that hold configuration and secrets of servers, as far as the gateway may read them.
#[async_trait]
pub trait ClusterValues: Send + Sync {
    /// The name of the `ConfigMap`.
    fn config_name(&self) -> &str;

    /// The name of the `Secret`.
    fn secret_name(&self) -> &str;

    /// What the `ConfigMap` holds: text by key. Read again for each operation that needs it.
    ///
    /// # Errors
    /// If it is not there, naming the `cluster-tools` command that makes it; if it must not be read, naming the Role
    /// that would allow it; if the cluster does not answer.
    async fn configuration(&self) -> Result<Arc<BTreeMap<String, String>>, ResolveError>;

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
