//! The cluster that a command works in: the connection of the gateway, and asking with an answer that each command reads
//! for itself.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::{Resource, Status};

use super::options::ClusterOptions;
use crate::capability::container_runtime::kubernetes::Place;
use crate::capability::container_runtime::kubernetes::client::{self, Connection, QUICK, Surroundings};
pub(super) use crate::capability::container_runtime::kubernetes::error::Step;
use crate::capability::container_runtime::kubernetes::error::{of_status, silent};

/// A namespace of a cluster.
pub(super) struct Cluster(client::Cluster);

impl Cluster {
    /// Reads the kubeconfig; the cluster is not asked anything yet.
    ///
    /// # Errors
    /// If there is no kubeconfig, it cannot be used, or the namespace could not exist.
    pub(super) async fn connect(options: &ClusterOptions, namespace: Option<&str>) -> anyhow::Result<Self> {
        let place = Place {
            kubeconfig: options.kubeconfig.clone(),
            context: options.kube_context.clone(),
            namespace: options.namespace(namespace)?,
        };
        let connection = Connection::new(place, Surroundings::of_process());
        Ok(Self(connection.cluster().await?.clone()))
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// What time it is for the API server.
    ///
    /// # Errors
    /// If it did not say so with any answer so far.
    pub(super) fn now(&self) -> anyhow::Result<Timestamp> {
        Ok(self.0.now()?)
    }

    /// The objects of one kind in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        self.0.api()
    }

    /// The objects of a kind that is only known at run time.
    pub(super) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.0.client().clone(), self.namespace(), resource)
    }

    /// Asks the API server. The inner error is its refusal; see [`Self::refused`].
    ///
    /// # Errors
    /// If there is no answer.
    pub(super) async fn ask<T>(
        &self,
        step: Step<'_>,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> anyhow::Result<Result<T, Box<Status>>> {
        match tokio::time::timeout(QUICK, request).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(kube::Error::Api(status))) => Ok(Err(status)),
            Ok(Err(error)) => Err(self.0.error(&error, step).into()),
            Err(_) => Err(silent(&self.0, step, QUICK).into()),
        }
    }

    /// What a refusal means.
    pub(super) fn refused(&self, step: Step<'_>, status: &Status) -> anyhow::Error {
        of_status(self.namespace(), status, step).into()
    }

    /// Asks for what must be granted.
    ///
    /// # Errors
    /// If it is not, or there is no answer.
    pub(super) async fn get<T>(
        &self,
        step: Step<'_>,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> anyhow::Result<T> {
        self.ask(step, request).await?.map_err(|status| self.refused(step, &status))
    }
}
