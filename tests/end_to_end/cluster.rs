//! The real cluster as the tests see it: a namespace of a test's own, what is in it, and the flags that name it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Client, Config};

use crate::gateway::Setup;

/// How long the cluster may take for something.
const PATIENCE: Duration = Duration::from_secs(90);
/// What selects everything that gateways made.
const OURS: &str = "app.kubernetes.io/managed-by=mcp-gateway";

/// A namespace that is deleted when this is dropped.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// A new namespace, or none if there is no cluster. With `DOCKER_MCP_REQUIRE_CLUSTER=1` that is a failure.
    pub(crate) async fn find() -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
            let required = std::env::var("DOCKER_MCP_REQUIRE_CLUSTER").as_deref() == Ok("1");
            assert!(!required, "DOCKER_MCP_REQUIRE_CLUSTER=1 and `KUBECONFIG` is not set");
            eprintln!("skipped: no cluster (`KUBECONFIG` is not set)");
            return None;
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
        let mut random = [0; 4];
        getrandom::fill(&mut random).unwrap();
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let namespace = format!("docker-mcp-e2e-{random}");
        let object = Namespace { metadata: named(&namespace), ..Namespace::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let cluster = Self { client, namespace };
        let accounts: Api<ServiceAccount> = cluster.api();
        until("the namespace should have its service account", async || {
            accounts.get_opt("default").await.unwrap().is_some()
        })
        .await;
        Some(cluster)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The flags for this namespace and these sources of secrets and configuration. Switches the feature on.
    pub(crate) fn flags(&self, setup: &Setup, secrets: &str, config: &str) -> Vec<String> {
        std::fs::create_dir_all(setup.directory.path().join(".docker")).unwrap();
        setup.file(".docker/config.json", r#"{"features": {"kubernetes-provisioning": "enabled"}}"#);
        [
            "--provisioner",
            "kubernetes",
            "--namespace",
            &self.namespace,
            "--cluster-secret-provider",
            secrets,
            "--cluster-config-provider",
            config,
            "--pod-pull-policy",
            "never",
            // A busy machine.
            "--max-server-startup-timeout",
            "90",
        ]
        .map(str::to_owned)
        .into()
    }

    /// Makes the Secret that cluster mode reads.
    pub(crate) async fn secret(&self, name: &str, texts: &[(&str, &str)]) {
        let object = Secret { metadata: named(name), string_data: Some(map(texts)), ..Secret::default() };
        self.api::<Secret>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Makes the ConfigMap that cluster mode reads.
    pub(crate) async fn config_map(&self, name: &str, texts: &[(&str, &str)]) {
        let object = ConfigMap { metadata: named(name), data: Some(map(texts)), ..ConfigMap::default() };
        self.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// The gateway's pods that are not about to go.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let pods = self.api::<Pod>().list(&ListParams::default().labels(OURS)).await.unwrap();
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Waits until there are this many.
    pub(crate) async fn wait_for_pods(&self, count: usize) -> Vec<Pod> {
        until(&format!("there should be {count} pods"), async || self.pods().await.len() == count).await;
        self.pods().await
    }

    /// Waits until nothing is left that a gateway made.
    pub(crate) async fn wait_until_empty(&self) {
        let ours = ListParams::default().labels(OURS);
        until("nothing should be left", async || {
            self.api::<Pod>().list(&ours).await.unwrap().items.is_empty()
                && self.api::<Secret>().list(&ours).await.unwrap().items.is_empty()
                && self.api::<ConfigMap>().list(&ours).await.unwrap().items.is_empty()
                && self.api::<NetworkPolicy>().list(&ours).await.unwrap().items.is_empty()
                && self.api::<Lease>().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
    }

    /// Everything that gateways made, as text.
    pub(crate) async fn everything(&self) -> String {
        let pods = serde_json::to_string(&self.pods().await).unwrap();
        let maps = self.api::<ConfigMap>().list(&ListParams::default().labels(OURS)).await.unwrap();
        format!("{pods}{}", serde_json::to_string(&maps.items).unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let name = self.namespace.clone();
        // The test's own runtime may be ending.
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
                let _ = Api::<Namespace>::all(client).delete(&name, &DeleteParams::default()).await;
            });
        });
        let _ = deletion.join();
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn map(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
    texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}
