//! A namespace of a Kubernetes cluster, and sessions of the gateway in it whose requests are counted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use docker_mcp::audit::Audit;
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::kubernetes::client::Connection;
use docker_mcp::capability::container_runtime::kubernetes::{KubernetesRuntime, PodSettings};
use docker_mcp::capability::container_runtime::{Completed, Quiet, RunLimits, Running};
use docker_mcp::catalog::Catalog;
use docker_mcp::lease::Reaper;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision as _};
use docker_mcp::resolve::ServerSettings;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine as Sandbox;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use provisioning_core::Resources;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::gateway::Place;
use super::requests::Requests;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The name of the server, and of its tool.
const SERVER: &str = "tiny";
const TOOL: &str = "echo";
/// What the tool is to write.
pub(crate) const TEXT: &str = "hello";

/// A namespace of its own.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    namespace: String,
    sandbox: Sandbox,
}

impl Cluster {
    /// Makes a namespace in the cluster that `KUBECONFIG` names. That it is set says that pods may be made there.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        if std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
            bail!("no cluster (`KUBECONFIG` is not set; start one with `just cluster-up`)");
        }
        // Fails if there is one already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(Config::infer().await?)?;
        let namespace = format!("docker-mcp-bench-{}", std::process::id());
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        let made = Api::all(client.clone()).create(&PostParams::default(), &object).await;
        made.context("no cluster in which a namespace can be made")?;
        let cache = Place::cache().join("components");
        std::fs::create_dir_all(&cache)?;
        let sandbox = Sandbox::new(Some(&cache)).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let cluster = Self { client, namespace, sandbox };
        // No pod is admitted before the cluster has made it.
        let (accounts, started) = (cluster.api::<ServiceAccount>(), Instant::now());
        while accounts.get_opt("default").await?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "the namespace gets no service account");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(cluster)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until there is no pod and the node has come to rest, so that what went before is not in the way of the next
    /// sample.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let (pods, started) = (self.api::<Pod>(), Instant::now());
        while !pods.list(&ListParams::default()).await?.items.is_empty() {
            ensure!(started.elapsed() < PATIENCE, "pods remain");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok(())
    }

    /// A new session of the gateway, with a client of its own.
    pub(crate) async fn session(&self, server_image: &str, tool_image: &str) -> anyhow::Result<Session> {
        let requests = Requests::default();
        let client = ClientBuilder::try_from(Config::infer().await?)?.with_layer(&requests).build();
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let reaper = Reaper::new();
        let secrets: Arc<dyn SecretStore> = Arc::new(NoSecrets);
        let settings = PodSettings { start_timeout: PATIENCE, ..PodSettings::default() };
        let connection = Connection::over(client, &self.namespace);
        let runtime = Arc::new(KubernetesRuntime::on(
            connection,
            settings,
            Arc::clone(&secrets),
            reaper.clone(),
            session.clone(),
        ));
        let catalog = json!({"registry": {SERVER: {
            "image": server_image,
            "tools": [{
                "name": TOOL,
                "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
                "container": {"image": tool_image, "command": ["{{text}}"]},
            }],
        }}});
        let (catalog, _) = Catalog::parse(&catalog.to_string(), Path::new("bench.yaml"))?;
        let (name, entry) = catalog.select(&[SERVER.to_owned()])?.remove(0);
        let provisioner = SandboxedProvisioner::new(Setup {
            engine: self.sandbox.clone(),
            component: Source::BuiltIn { name: "kubernetes", bytes: builtin::KUBERNETES },
            grants: Grants::builtin_kubernetes(),
            session,
            runtime: runtime.clone(),
            servers: vec![ServerSettings {
                name,
                entry: Arc::new(entry),
                config: Arc::new(Map::new()),
                secrets,
                resources: Resources::default(),
                long_lived: false,
                cluster: None,
                refused: None,
            }],
            startup_timeout: PATIENCE,
            tool_timeout: RunLimits::default().time,
            limits: Limits::default(),
            progress: Arc::new(Quiet),
            audit: Audit::off(),
            dry_run: false,
            enforcement: Enforcement::default(),
        });
        provisioner.ready().await?;
        Ok(Session { provisioner, runtime, reaper, requests })
    }

    /// Deletes the namespace and all that is in it.
    pub(crate) async fn finish(self) {
        let namespaces = Api::<Namespace>::all(self.client);
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            eprintln!("cannot delete the namespace `{}`: {error}", self.namespace);
        }
    }
}

/// A session of the gateway: the built-in component in its sandbox, on the runtime for clusters.
pub(crate) struct Session {
    provisioner: SandboxedProvisioner,
    runtime: Arc<KubernetesRuntime>,
    reaper: Reaper,
    pub(crate) requests: Requests,
}

impl Session {
    /// Starts the server.
    pub(crate) async fn start(&self) -> anyhow::Result<Running> {
        match self.provisioner.provision(SERVER, CancellationToken::new()).await? {
            Endpoint::Container(running) => Ok(running),
            Endpoint::Remote(_) => bail!("no container was provisioned"),
        }
    }

    /// Runs the tool and checks what it gives. Its pod is removed afterwards.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let arguments = Map::from_iter([("text".to_owned(), json!(TEXT))]);
        let completed = self.provisioner.run_tool(SERVER, TOOL, arguments, CancellationToken::new()).await?;
        let Completed { exit_code, stdout, stderr, .. } = &completed;
        let expected = (0, format!("{TEXT}\n").into_bytes(), Vec::new());
        ensure!((*exit_code, stdout.bytes.clone(), stderr.bytes.clone()) == expected, "the tool gave {completed:?}");
        Ok(())
    }

    /// Waits until everything that was dropped is removed.
    pub(crate) async fn rest(&self) -> anyhow::Result<()> {
        ensure!(self.reaper.drain(PATIENCE).await, "the session's pods are not removed");
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.rest().await?;
        self.runtime.end().await;
        Ok(())
    }
}

struct NoSecrets;

#[async_trait]
impl SecretStore for NoSecrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        Err(SecretError::Missing { name: name.to_owned(), remedy: "the server needs none".to_owned() })
    }
}
