//! The cluster that a command works in: connecting to it, and what its refusals mean.

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Resource;
use kube::{Api, Client, Config};

use super::options::ClusterOptions;

/// A namespace of a cluster.
pub(super) struct Cluster {
    client: Client,
    /// The namespace.
    pub(super) namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig; the cluster is not asked anything yet. Flags win over the surroundings, and a kubeconfig
    /// over the cluster that this process may run in.
    ///
    /// # Errors
    /// If there is no kubeconfig, it cannot be used, or the namespace could not exist.
    pub(super) async fn connect(options: &ClusterOptions, namespace: Option<&str>) -> anyhow::Result<Self> {
        crate::tls::install_provider();
        let namespace = options.namespace(namespace)?;
        let chosen = KubeConfigOptions { context: options.kube_context.clone(), ..KubeConfigOptions::default() };
        let config = match &options.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)?;
                Config::from_custom_kubeconfig(file, &chosen).await.with_context(|| path.display().to_string())?
            }
            None => match Config::from_kubeconfig(&chosen).await {
                Ok(config) => config,
                Err(error) if options.kube_context.is_none() => Config::incluster().ok().with_context(|| {
                    format!("no cluster: {error}; name a file with `--kubeconfig` or in KUBECONFIG")
                })?,
                Err(error) => bail!("no cluster: {error}; see `--kubeconfig` and `--kube-context`"),
            },
        };
        let client = Client::try_from(config).context("the cluster cannot be connected to")?;
        Ok(Self { client, namespace })
    }

    /// The objects of one kind in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects of a kind that is only known at run time.
    pub(super) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// What an error of the API means for somebody who wanted to do this, such as `create configmaps`.
    pub(super) fn explain(&self, doing: &str, error: kube::Error) -> anyhow::Error {
        let namespace = &self.namespace;
        match error {
            kube::Error::Api(status) if status.code == 403 => anyhow::anyhow!(
                "may not {doing} in namespace `{namespace}`: {}; ask for a Role with that verb (`cluster-tools rbac` \
                 prints those of the gateway)",
                status.message
            ),
            kube::Error::Api(status) if status.message == format!("namespaces \"{namespace}\" not found") => {
                anyhow::anyhow!(
                    "there is no namespace `{namespace}`; make it with `kubectl create namespace {namespace}`, or name another"
                )
            }
            kube::Error::Api(status) => {
                anyhow::anyhow!("cannot {doing} in namespace `{namespace}`: {}", status.message)
            }
            error => anyhow::Error::new(error).context(format!("cannot {doing} in namespace `{namespace}`")),
        }
    }
}
