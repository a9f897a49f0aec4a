//! A Kubernetes cluster as a container runtime: one pod for each server, with its streams attached over WebSocket.
//!
//! Owns everything that speaks to a cluster; `kube` and `k8s-openapi` are used nowhere else in the gateway. It decides
//! nothing: requests come judged. It never polls: what becomes of pods comes from one watch for the whole session.

pub mod client;
pub mod objects;
pub mod permissions;
pub mod reap;

mod attach;
mod clock;
mod cluster_values;
pub(crate) mod error;
mod failure;
mod image;
mod labels;
mod names;
mod patience;
mod pod;
mod removal;
mod run;
mod runner;
mod session;
mod start;
mod streams;
mod values;
mod volumes;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use self::client::{Cluster, Connection, Surroundings};
use super::{Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError};
use crate::lease::Reaper;
use crate::resolve::cluster::ClusterValues;
use crate::secrets::SecretStore;

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `--kubeconfig`. None for `KUBECONFIG`, then `~/.kube/config`, then the service account of the pod that the gateway
    /// runs in.
    pub kubeconfig: Option<PathBuf>,
    /// `--kube-context`. None for the current one.
    pub context: Option<String>,
    /// `--namespace`. None for that of the context.
    pub namespace: Option<String>,
}

/// The place in a cluster that a [`Place`] turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address of the API server.
    pub server: String,
    /// Who says so: a context of which files, or the service account of the pod that the gateway runs in.
    pub origin: String,
    /// The namespace.
    pub namespace: String,
}

/// What is the same for all pods of a gateway.
#[derive(Clone, Debug)]
pub struct PodSettings {
    /// How long a pod may take until its container runs, the pulling of its image and the making of a node apart.
    pub start_timeout: Duration,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods tolerate, as `KEY[=VALUE][:EFFECT]`.
    pub tolerations: Vec<String>,
    /// The runtime class.
    pub runtime_class: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`; none leaves it to the cluster.
    pub pull_policy: Option<String>,
    /// Names of secrets in the namespace with the credentials of registries.
    pub pull_secrets: Vec<String>,
    /// After how long the cluster itself ends a pod, whoever forgot it. None for never.
    pub active_deadline: Option<Duration>,
}

impl Default for PodSettings {
    /// Ten seconds to start, and everything else as the cluster has it.
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(10),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            runtime_class: None,
            pull_policy: None,
            pull_secrets: Vec::new(),
            active_deadline: None,
        }
    }
}

/// Runs containers as pods of a Kubernetes cluster.
#[derive(Clone)]
pub struct KubernetesRuntime {
    backend: Arc<Backend>,
}

/// What the steps of starting a pod share.
struct Backend {
    connection: Connection,
    settings: PodSettings,
    secrets: Arc<dyn SecretStore>,
    reaper: Reaper,
    session: session::Session,
    images: image::Images,
    runner: runner::Choice,
    shells: runner::Shells,
    by_log: run::ByLog,
    /// Whether the cluster keeps standard output and error apart in its logs, once that is known.
    split_logs: OnceLock<bool>,
}

impl KubernetesRuntime {
    /// A runtime on the cluster that the place and the surroundings name. The cluster is looked for on first use: if
    /// it is away, the operations say so, not this. `session` is the one that the requests are of.
    pub fn new(
        place: Place,
        settings: PodSettings,
        secrets: Arc<dyn SecretStore>,
        reaper: Reaper,
        session: String,
    ) -> Self {
        Self::on(Connection::new(place, Surroundings::of_process()), settings, secrets, reaper, session)
    }

    /// A runtime on a connection that is made elsewhere.
    pub fn on(
        connection: Connection,
        settings: PodSettings,
        secrets: Arc<dyn SecretStore>,
        reaper: Reaper,
        session: String,
    ) -> Self {
        let backend = Backend {
            images: image::Images::new(connection.surroundings().docker_config()),
            connection,
            settings,
            secrets,
            reaper,
            session: session::Session::new(session),
            runner: runner::Choice::default(),
            shells: runner::Shells::default(),
            by_log: run::ByLog::default(),
            split_logs: OnceLock::new(),
        };
        Self { backend: Arc::new(backend) }
    }

    /// Lets the session count as dead this long after its gateway last said that it lives, instead of two minutes. Has no
    /// effect once the runtime is shared.
    #[must_use]
    pub fn with_session_duration(mut self, duration: Duration) -> Self {
        if let Some(backend) = Arc::get_mut(&mut self.backend) {
            backend.session.set_duration(duration);
        }
        self
    }

    /// Connects, if that has not been done yet, and says where to.
    ///
    /// # Errors
    /// [`RuntimeError::Invalid`] if the kubeconfig is wrong. Whether the cluster answers is not found out.
    pub async fn place(&self) -> Result<Address, RuntimeError> {
        let cluster = self.backend.connection.cluster().await?;
        Ok(Address {
            server: cluster.server().to_owned(),
            origin: cluster.origin().to_owned(),
            namespace: cluster.namespace().to_owned(),
        })
    }

    /// How many requests were sent to the API server so far.
    pub fn requests(&self) -> u64 {
        self.backend.connection.requests()
    }

    /// What the gateway may read of the cluster's own configuration: the `ConfigMap` and the `Secret` of these names.
    pub fn cluster_values(&self, config_name: &str, secret_name: &str) -> Arc<dyn ClusterValues> {
        let values = cluster_values::Values::new(Arc::clone(&self.backend), config_name, secret_name);
        Arc::new(values)
    }

    /// Asks the cluster whether the gateway may do what it will have to do.
    ///
    /// # Errors
    /// If the cluster does not answer. What is missing is in the report.
    pub async fn check_permissions(&self, wanted: &permissions::Wanted) -> Result<permissions::Report, RuntimeError> {
        permissions::check(self.backend.connection.cluster().await?, wanted).await
    }

    /// Removes what dead sessions left in the namespace, or with `dry_run` only says what it is. Safe to repeat, and
    /// beside others who do the same.
    ///
    /// # Errors
    /// If the cluster is away or does not let sessions be listed. What fails for one session is in the report.
    pub async fn reap(&self, dry_run: bool) -> Result<reap::Report, RuntimeError> {
        reap::reap(self.backend.connection.cluster().await?, dry_run).await
    }

    /// Ends the session: deletes what servers share and the session's lease. To be called when all that was started is
    /// released; whatever is left nevertheless goes with the lease.
    pub async fn end(&self) {
        self.backend.session.end().await;
    }
}

impl std::fmt::Debug for KubernetesRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesRuntime").finish_non_exhaustive()
    }
}

impl Backend {
    async fn cluster(&self) -> Result<&Cluster, RuntimeError> {
        self.connection.cluster().await
    }
}

#[async_trait]
impl ContainerRuntime for KubernetesRuntime {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    /// Only checks the reference: a cluster pulls the image on the node that a pod gets, when it gets it, and what
    /// comes of that is told by starting.
    async fn prepare(&self, image: &str, _progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        super::docker::create::check_image(image)
    }

    /// A pod is waited for until its image is there, and a node if the cluster is making one.
    fn start_limit(&self, _image: &str, patience: Duration) -> Duration {
        start::limit(patience)
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        start::start(Arc::clone(&self.backend), request).await
    }

    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        run::run(Arc::clone(&self.backend), request, input, limits).await
    }
}
