//! A Kubernetes cluster as a container runtime.
//!
//! Owns everything that speaks to a cluster; `kube` and `k8s-openapi` are used nowhere else in the gateway. It decides
//! nothing: requests come judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

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

/// What is the same for all pods of a gateway.
#[derive(Clone, Debug)]
pub struct PodSettings {
    /// How long a pod may take until its container runs, the pulling of its image apart.
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
