//! What the gateway reads of the cluster's own configuration of servers: one `ConfigMap`, by name; the names of a Secret's
//! keys, from another `ConfigMap`; and a single key of the Secret, for the few who are granted that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;

use super::Backend;
use super::client::QUICK;
use super::error::{self, Step};
use crate::capability::container_runtime::RuntimeError;
use crate::resolve::ResolveError;
use crate::resolve::cluster::ClusterValues;
use crate::secrets::SecretText;
use zeroize::Zeroizing;

/// The annotation with the names of a Secret's keys, as a JSON list.
const KEYS: &str = "mcp-gateway.docker.com/keys";

/// The objects of a namespace that hold configuration and secrets of servers.
pub(super) struct Values {
    backend: Arc<Backend>,
    config_name: String,
    secret_name: String,
}

impl Values {
    pub(super) fn new(backend: Arc<Backend>, config_name: &str, secret_name: &str) -> Self {
        Self { backend, config_name: config_name.to_owned(), secret_name: secret_name.to_owned() }
    }

    /// Reads an object by its name. None if it is not there.
    async fn get<K>(&self, resource: &'static str, name: &str) -> Result<Option<K>, ResolveError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let cluster = self.backend.cluster().await.map_err(|error| unreadable(&error))?;
        let api: Api<K> = cluster.api();
        let request = async {
            match api.get(name).await {
                Err(error) if error::status(&error) == Some(404) => Ok(None),
                other => other.map(Some),
            }
        };
        cluster.call(Step::new("get", resource, name), QUICK, request).await.map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &RuntimeError) -> ResolveError {
    ResolveError::Configuration(error.to_string())
}

#[async_trait]
impl ClusterValues for Values {
    fn config_name(&self) -> &str {
        &self.config_name
    }

    fn secret_name(&self) -> &str {
        &self.secret_name
    }

    async fn configuration(&self) -> Result<Option<Arc<BTreeMap<String, String>>>, ResolveError> {
        let found = self.get::<ConfigMap>("configmaps", &self.config_name).await?;
        Ok(found.map(|map| Arc::new(map.data.unwrap_or_default())))
    }

    async fn namespace(&self) -> String {
        self.backend.cluster().await.map(|cluster| cluster.namespace().to_owned()).unwrap_or_default()
    }

    async fn secret_keys(&self) -> Result<Option<Arc<BTreeSet<String>>>, ResolveError> {
        let companion = format!("{}-keys", self.secret_name);
        let Some(map) = self.get::<ConfigMap>("configmaps", &companion).await? else { return Ok(None) };
        let Some(text) = map.metadata.annotations.and_then(|mut notes| notes.remove(KEYS)) else { return Ok(None) };
        match serde_json::from_str::<BTreeSet<String>>(&text) {
            Ok(keys) => Ok(Some(Arc::new(keys))),
            Err(_) => Err(ResolveError::Configuration(format!(
                "annotation `{KEYS}` of ConfigMap `{companion}` is no list of names; write it anew with `cluster-tools \
                 populate-secret`"
            ))),
        }
    }

    async fn secret(&self, key: &str) -> Result<SecretText, ResolveError> {
        let found = self.get::<Secret>("secrets", &self.secret_name).await?;
        let missing = |namespace: &str| ResolveError::SecretMissing {
            name: key.to_owned(),
            remedy: format!(
                "add it to Secret `{}` in namespace `{namespace}` with `cluster-tools populate-secret`",
                self.secret_name
            ),
        };
        let Some(mut data) = found.and_then(|secret| secret.data) else { return Err(missing(&self.namespace().await)) };
        let wanted = data.remove(key).map(|bytes| Zeroizing::new(bytes.0));
        // The others came along; their texts are not kept.
        data.into_values().for_each(|bytes| drop(Zeroizing::new(bytes.0)));
        let Some(wanted) = wanted else { return Err(missing(&self.namespace().await)) };
        match std::str::from_utf8(&wanted) {
            Ok(text) => Ok(SecretText::new(text.to_owned())),
            Err(_) => Err(ResolveError::SecretStore(format!(
                "key `{key}` of Secret `{}` is not text; write it anew with `cluster-tools populate-secret`",
                self.secret_name
            ))),
        }
    }
}
