//! A real cluster for tests: namespaces of their own, and images that the cluster pulls from a registry on loopback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use docker_mcp::capability::container_runtime::kubernetes::{KubernetesRuntime, Place, PodSettings};
use docker_mcp::lease::Reaper;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, Config};
use tokio::sync::OnceCell;

use crate::contract::{Image, Images, OneSecret, PATIENCE, Subject, within};
use crate::engine;
use crate::registry::Registry;

/// What selects the objects of one session.
pub(crate) const SESSION: &str = "mcp-gateway.docker.com/session";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// A namespace that is deleted when this is dropped.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// A new namespace, or `None` after saying that the test is skipped.
    pub(crate) async fn begin() -> Option<Self> {
        Self::with_labels(&[]).await
    }

    /// A new namespace with these labels.
    pub(crate) async fn with_labels(labels: &[(&str, &str)]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
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
        let namespace = format!("docker-mcp-test-{random}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut object = Namespace::default();
        object.metadata.name = Some(namespace.clone());
        object.metadata.labels =
            Some(labels.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>());
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let cluster = Self { client, namespace };
        // No pod is admitted before the cluster has made it.
        let accounts: Api<ServiceAccount> = cluster.api();
        within(async {
            while accounts.get_opt("default").await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
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

    pub(crate) fn place(&self) -> Place {
        Place { namespace: Some(self.namespace.clone()), ..Place::default() }
    }

    /// A runtime in the namespace, with time to pull images on a busy machine.
    pub(crate) fn runtime(
        &self,
        session: &str,
        reaper: &Reaper,
        change: impl FnOnce(&mut PodSettings),
    ) -> KubernetesRuntime {
        let mut settings = PodSettings { start_timeout: PATIENCE, ..PodSettings::default() };
        change(&mut settings);
        KubernetesRuntime::new(self.place(), settings, Arc::new(OneSecret), reaper.clone(), session.to_owned())
    }

    /// The names of a session's objects that belong to one server.
    pub(crate) async fn left(&self, session: &str) -> Vec<String> {
        let of_servers = ListParams::default().labels(&format!("{SESSION}={session},{INSTANCE}"));
        let mut names = Vec::new();
        for pod in self.api::<Pod>().list(&of_servers).await.unwrap() {
            names.push(format!("pod/{}", pod.metadata.name.unwrap()));
        }
        for secret in self.api::<Secret>().list(&of_servers).await.unwrap() {
            names.push(format!("secret/{}", secret.metadata.name.unwrap()));
        }
        for map in self.api::<ConfigMap>().list(&of_servers).await.unwrap() {
            names.push(format!("configmap/{}", map.metadata.name.unwrap()));
        }
        names
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let name = self.namespace.clone();
        // The test's own runtime may be ending.
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
                drop(namespaces);
                let _ = Api::<Namespace>::all(client).delete(&name, &DeleteParams::default()).await;
            });
        });
        let _ = deletion.join();
    }
}

/// The registry that all tests of this process share, or `None` after saying that the test is skipped.
pub(crate) async fn registry() -> Option<&'static Registry> {
    static REGISTRY: OnceCell<Option<Registry>> = OnceCell::const_new();
    REGISTRY.get_or_init(|| Registry::start(true)).await.as_ref()
}

/// The name of the secret with the registry's credentials.
pub(crate) const PULL_SECRET: &str = "registry";

impl Cluster {
    /// Lets the namespace's pods pull from the registry.
    pub(crate) async fn allow_pulls(&self, registry: &Registry) {
        let (user, password) = (crate::registry::USER, crate::registry::PASSWORD);
        let config = serde_json::json!({"auths": {registry.address.clone(): {"username": user, "password": password}}});
        let secret = Secret {
            metadata: kube::api::ObjectMeta { name: Some(PULL_SECRET.to_owned()), ..Default::default() },
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            string_data: Some([(".dockerconfigjson".to_owned(), config.to_string())].into()),
            ..Secret::default()
        };
        self.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }
}

/// Pushes an image made with this Dockerfile instruction, once in a process. Gives its reference.
pub(crate) async fn image(registry: &Registry, name: &str, instruction: &str) -> String {
    static PUSHED: tokio::sync::Mutex<BTreeMap<String, String>> = tokio::sync::Mutex::const_new(BTreeMap::new());
    let mut pushed = PUSHED.lock().await;
    if let Some(reference) = pushed.get(instruction) {
        return reference.clone();
    }
    let docker = engine::engine().await.expect("images are made by an engine");
    let local = engine::image(&docker, name, instruction).await;
    let reference = registry.push(&docker, &local, &format!("docker-mcp-test/{name}")).await;
    pushed.insert(instruction.to_owned(), reference.clone());
    reference
}

/// An image whose entry point is a shell script.
pub(crate) async fn script(registry: &Registry, name: &str, script: &str) -> Image {
    let quoted = serde_json::to_string(script).unwrap();
    Image::new(image(registry, name, &format!(r#"ENTRYPOINT ["/bin/sh","-c",{quoted},"sh"]"#)).await, &[])
}

/// A Kubernetes runtime with images, in a namespace and a session of its own.
pub(crate) async fn subject() -> Option<(Subject, Arc<Cluster>)> {
    let cluster = Arc::new(Cluster::begin().await?);
    let registry = registry().await?;
    engine::engine().await?;
    cluster.allow_pulls(registry).await;
    let images = images(registry).await;
    let session = "contract".to_owned();
    let reaper = Reaper::new();
    let runtime = cluster.runtime(&session, &reaper, |settings| settings.pull_secrets = vec![PULL_SECRET.to_owned()]);
    let counted = Arc::clone(&cluster);
    let left = Arc::new(move |session: String| {
        let cluster = Arc::clone(&counted);
        Box::pin(async move { cluster.left(&session).await.len() }) as _
    });
    let subject = Subject {
        runtime: Arc::new(runtime),
        reaper,
        images,
        session,
        left,
        counts_running: true,
        pulls_at_start: true,
        stores_secrets: true,
    };
    Some((subject, cluster))
}

async fn images(registry: &Registry) -> Images {
    Images {
        echo: script(registry, "echo", r#"while IFS= read -r line; do printf '%s\n' "$line"; done"#).await,
        fails: script(registry, "exits-7", "exit 7").await,
        failure: 7,
        // Whoever speaks before anybody listens is not heard, so it waits to be spoken to.
        both_streams: script(registry, "both-streams", "read -r line; echo to stdout; echo to stderr >&2").await,
        arguments: script(registry, "arguments", r#"for a in "$@"; do echo "$a"; done"#).await,
        key: script(registry, "key", r#"printf %s "$KEY""#).await,
        million: script(registry, "million", r"yes | tr -d '\n' | tr y x | head -c 1000000").await,
        ignores_stdin: script(registry, "ignores-stdin", "exec sleep 600").await,
        missing: Image::new("127.0.0.1:1/docker-mcp-test/missing:1", &[]),
    }
}
