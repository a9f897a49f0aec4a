//! A namespace of a real cluster for one test.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as Object, Pod, Secret};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value as Json, json};

use crate::Tools;

/// A namespace, which is deleted in the end.
pub(crate) struct Namespace {
    pub(crate) client: Client,
    pub(crate) name: String,
    kubeconfig: Kubeconfig,
    runtime: tokio::runtime::Handle,
}

impl Namespace {
    /// A new namespace, or none after saying that the test is skipped.
    pub(crate) async fn new() -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let reason = match Self::connect().await {
            Ok(found) => return Some(found),
            Err(reason) => reason,
        };
        assert!(
            std::env::var("DOCKER_MCP_REQUIRE_CLUSTER").as_deref() != Ok("1"),
            "DOCKER_MCP_REQUIRE_CLUSTER=1 and there is no cluster for tests: {reason}"
        );
        eprintln!("skipped: no Kubernetes cluster ({reason})");
        None
    }

    async fn connect() -> Result<Self, String> {
        if std::env::var_os("KUBECONFIG").is_none() {
            return Err("KUBECONFIG is not set".to_owned());
        }
        let mut kubeconfig = Kubeconfig::read().map_err(|error| error.to_string())?;
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        let mut random = [0_u8; 6];
        getrandom::fill(&mut random).unwrap();
        let name = format!("test-cluster-tools-{}", random.map(|byte| format!("{byte:02x}")).concat());
        let object: Object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let all: Api<Object> = Api::all(client.clone());
        all.create(&PostParams::default(), &object).await.map_err(|error| error.to_string())?;
        for context in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
            context.namespace = Some(name.clone());
        }
        let made = Self { client, name, kubeconfig, runtime: tokio::runtime::Handle::current() };
        // No pod is admitted before the cluster has made it.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while made.api::<ServiceAccount>().get_opt("default").await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "the namespace gets no service account");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(made)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub(crate) async fn create<K>(&self, object: Json) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn config_map(&self, name: &str) -> Option<ConfigMap> {
        self.api().get_opt(name).await.unwrap()
    }

    /// The texts of a Secret.
    pub(crate) async fn secret(&self, name: &str) -> BTreeMap<String, String> {
        let secret: Secret = self.api().get(name).await.unwrap();
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
        secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, text(bytes))).collect()
    }

    /// The names of keys that are noted for a Secret.
    pub(crate) async fn noted(&self, secret: &str) -> Vec<String> {
        let note = self.config_map(&format!("{secret}-keys")).await.unwrap();
        assert!(note.data.is_none() && note.binary_data.is_none());
        serde_json::from_str(&note.metadata.annotations.unwrap()["mcp-gateway.docker.com/keys"]).unwrap()
    }

    /// The Lease of a session, renewed so many seconds ago.
    pub(crate) async fn lease(&self, session: &str, renewed: i64) -> Lease {
        let at = Timestamp::now() - SignedDuration::from_secs(renewed);
        self.create(json!({
            "metadata": { "name": format!("mcp-{session}"), "labels": labels(session) },
            "spec": {
                "holderIdentity": "test", "leaseDurationSeconds": 60,
                "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(at),
            },
        }))
        .await
    }

    /// A pod of a session that no node takes, so that nothing runs.
    pub(crate) async fn pod(&self, name: &str, session: &str, owner: Option<&Lease>) -> Pod {
        let metadata = owned(name, session, owner);
        self.create(json!({
            "metadata": metadata,
            "spec": {
                "nodeSelector": { "test-cluster-tools": "nowhere" },
                "containers": [{ "name": "server", "image": "mcp-test/busybox:1" }],
            },
        }))
        .await
    }

    /// A Secret of a session.
    pub(crate) async fn secret_of(&self, name: &str, session: &str, owner: Option<&Lease>) -> Secret {
        self.create(json!({ "metadata": owned(name, session, owner), "stringData": { "K": "canary" } })).await
    }

    /// The names of all pods that are not about to go.
    pub(crate) async fn pods(&self) -> Vec<String> {
        let pods = self.api::<Pod>().list(&Default::default()).await.unwrap();
        let staying = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut names: Vec<_> = staying.map(|pod| pod.metadata.name.unwrap()).collect();
        names.sort();
        names
    }

    /// The program, with this cluster.
    pub(crate) fn tools(&self) -> Tools {
        self.tools_as(&self.kubeconfig)
    }

    fn tools_as(&self, kubeconfig: &Kubeconfig) -> Tools {
        let mut tools = Tools::new();
        tools.file("kubeconfig", &serde_json::to_string(kubeconfig).unwrap());
        tools.kubeconfig = Some(tools.path("kubeconfig").into_os_string());
        tools
    }

    /// The program, as a service account of the namespace.
    pub(crate) async fn tools_of(&self, account: &str) -> Tools {
        self.tools_as(&self.kubeconfig_of(account).await)
    }

    pub(crate) async fn kubeconfig_of(&self, account: &str) -> Kubeconfig {
        let request: TokenRequest =
            serde_json::from_value(json!({ "spec": { "audiences": [], "expirationSeconds": 3600 } })).unwrap();
        let api = self.api::<ServiceAccount>();
        let made = api.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        let mut config = serde_json::to_value(&self.kubeconfig).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({ "token": made.status.as_ref().unwrap().token });
        }
        serde_json::from_value(config).unwrap()
    }
}

pub(crate) fn labels(session: &str) -> Json {
    json!({
        "app.kubernetes.io/managed-by": "mcp-gateway",
        "app.kubernetes.io/name": "time",
        "mcp-gateway.docker.com/session": session,
    })
}

fn owned(name: &str, session: &str, owner: Option<&Lease>) -> Json {
    let owner = owner.map(|lease| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "name": lease.metadata.name, "uid": lease.metadata.uid,
        })
    });
    json!({
        "name": name, "labels": labels(session), "annotations": { "mcp-gateway.docker.com/server": "Time Server" },
        "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
    })
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let all: Api<Object> = Api::all(self.client.clone());
        let name = self.name.clone();
        // In a thread of its own: this one may be the runtime's.
        let runtime = self.runtime.clone();
        let delete = std::thread::spawn(move || {
            runtime.block_on(async move { all.delete(&name, &DeleteParams::background()).await.map(drop) })
        });
        if let Ok(Err(error)) = delete.join() {
            eprintln!("namespace `{}` remains: {error}", self.name);
        }
    }
}
