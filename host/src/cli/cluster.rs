//! The flags that are about a Kubernetes cluster, and what they mean together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use provisioning_core::policy::glob::NamePattern;

use super::options::seconds;
use crate::capability::container_runtime::kubernetes::{Place, PodSettings};

/// The Secret that has the secrets of servers, if they are in the cluster.
const SECRET_NAME: &str = "mcp-gateway-secrets";
/// The ConfigMap that has their configuration.
const CONFIG_NAME: &str = "mcp-gateway-config";

/// Which cluster.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterPlace {
    /// The kubeconfig file. Default: KUBECONFIG, ~/.kube/config, or the service account of the pod that the gateway runs in
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    kubeconfig: Option<PathBuf>,
    /// The context in it. Default: the current one
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    kube_context: Option<String>,
    /// The namespace of pods and objects. Default: that of the context, or `default`
    #[arg(long, value_name = "NAME", value_parser = label, help_heading = HEADING)]
    namespace: Option<String>,
}

/// Everything about clusters that may be said of a gateway.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterOptions {
    #[command(flatten)]
    place: ClusterPlace,
    /// Where secrets come from
    #[arg(long, value_enum, value_name = "SOURCE", help_heading = HEADING)]
    cluster_secret_provider: Option<Provider>,
    /// The Secret that has them. Default: mcp-gateway-secrets
    #[arg(long, value_name = "NAME", value_parser = subdomain, help_heading = HEADING)]
    cluster_secret_name: Option<String>,
    /// Where configuration comes from
    #[arg(long, value_enum, value_name = "SOURCE", help_heading = HEADING)]
    cluster_config_provider: Option<Provider>,
    /// The ConfigMap that has it. Default: mcp-gateway-config
    #[arg(long, value_name = "NAME", value_parser = subdomain, help_heading = HEADING)]
    cluster_config_name: Option<String>,
    /// A component of your own (`.wasm`) that says which key of the Secret and the ConfigMap stands for what a catalog entry
    /// names. It imports nothing. Default: every name is its own key
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    cluster_mapping: Option<PathBuf>,
    /// Keys that it may choose besides the names that the entry itself has, such as `team-a.*`
    #[arg(long, value_name = "PATTERN,...", value_delimiter = ',', value_parser = pattern, help_heading = HEADING)]
    cluster_mapping_keys: Vec<NamePattern>,
    /// Labels that the node of a pod must have
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = pair, help_heading = HEADING)]
    pod_node_selector: Vec<(String, String)>,
    /// Taints of nodes that pods tolerate
    #[arg(long, value_name = "KEY[=VALUE][:EFFECT],...", value_delimiter = ',', value_parser = toleration, help_heading = HEADING)]
    pod_toleration: Vec<String>,
    /// The runtime class of pods
    #[arg(long, value_name = "NAME", value_parser = subdomain, help_heading = HEADING)]
    pod_runtime_class: Option<String>,
    /// When nodes pull images. Default: as the cluster has it, which is if they are not there or are called `:latest`
    #[arg(long, value_enum, value_name = "WHEN", ignore_case = true, help_heading = HEADING)]
    pod_pull_policy: Option<PullPolicy>,
    /// Secrets of the namespace with the credentials of image registries
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = subdomain, help_heading = HEADING)]
    pod_pull_secret: Vec<String>,
    /// Seconds after which the cluster itself ends a pod, also one that is in use. Default: never; what a gateway leaves that is
    /// killed is removed by the next one
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    pod_deadline: Option<Duration>,
}

/// Under which flags of clusters stand in `--help`.
const HEADING: &str = "Cluster (ignored, with a warning, where no cluster is used)";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// The secret store and configuration files of this machine
    DockerEngine,
    /// Objects that are in the cluster already
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PullPolicy {
    /// For every pod
    Always,
    /// If they are not there
    #[value(alias = "ifnotpresent")]
    IfNotPresent,
    /// Never
    Never,
}

/// Where values come from, if a cluster is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Providers {
    /// Where secrets come from.
    pub(crate) secrets: Provider,
    /// Where configuration comes from.
    pub(crate) config: Provider,
    /// The Secret that has secrets.
    pub(crate) secret_name: String,
    /// The ConfigMap that has configuration.
    pub(crate) config_name: String,
}

impl Providers {
    /// Whether anything is in the cluster.
    pub(crate) fn any_in_cluster(&self) -> bool {
        self.secrets == Provider::Cluster || self.config == Provider::Cluster
    }
}

impl ClusterPlace {
    /// Which cluster, and where in it.
    pub(crate) fn place(&self) -> Place {
        Place {
            kubeconfig: self.kubeconfig.clone(),
            context: self.kube_context.clone(),
            namespace: self.namespace.clone(),
        }
    }

    /// Whether any of its flags is given.
    pub(crate) fn is_given(&self) -> bool {
        !self.given().is_empty()
    }

    fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--kube-context", self.kube_context.is_some()),
            ("--namespace", self.namespace.is_some()),
        ];
        flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect()
    }
}

impl ClusterOptions {
    /// Which cluster, and where in it.
    pub(crate) fn place(&self) -> Place {
        self.place.place()
    }

    /// The namespace, as far as a flag names it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.place.namespace.as_deref()
    }

    /// Where values come from.
    ///
    /// # Errors
    /// If that is not said of both kinds.
    pub(crate) fn providers(&self) -> anyhow::Result<Providers> {
        let (Some(secrets), Some(config)) = (self.cluster_secret_provider, self.cluster_config_provider) else {
            let missing = [
                ("--cluster-secret-provider", "secrets", self.cluster_secret_provider.is_none()),
                ("--cluster-config-provider", "configuration", self.cluster_config_provider.is_none()),
            ];
            let missing = missing.iter().filter(|(_, _, missing)| *missing);
            let (flags, kinds): (Vec<_>, Vec<_>) =
                missing.map(|(flag, kind, _)| (format!("`{flag} docker-engine|cluster`"), *kind)).unzip();
            bail!(
                "it is not said where {} of servers in a cluster come from; add {}: `docker-engine` takes them from this \
                 machine, `cluster` from objects that are in the cluster already",
                kinds.join(" and "),
                flags.join(" and ")
            );
        };
        let name = |given: &Option<String>, usual: &str| given.clone().unwrap_or_else(|| usual.to_owned());
        Ok(Providers {
            secrets,
            config,
            secret_name: name(&self.cluster_secret_name, SECRET_NAME),
            config_name: name(&self.cluster_config_name, CONFIG_NAME),
        })
    }

    /// The mapping of the operator's own, if there is one.
    pub(crate) fn mapping(&self) -> Option<&PathBuf> {
        self.cluster_mapping.as_ref()
    }

    /// Keys besides an entry's names that the mapping may choose.
    pub(crate) fn mapping_keys(&self) -> &[NamePattern] {
        &self.cluster_mapping_keys
    }

    /// What is the same for all pods.
    pub(crate) fn pods(&self, start_timeout: Duration) -> PodSettings {
        PodSettings {
            start_timeout,
            node_selector: self.pod_node_selector.iter().cloned().collect::<BTreeMap<_, _>>(),
            tolerations: self.pod_toleration.clone(),
            runtime_class: self.pod_runtime_class.clone(),
            pull_policy: self.pod_pull_policy.map(|policy| {
                match policy {
                    PullPolicy::Always => "Always",
                    PullPolicy::IfNotPresent => "IfNotPresent",
                    PullPolicy::Never => "Never",
                }
                .to_owned()
            }),
            pull_secrets: self.pod_pull_secret.clone(),
            active_deadline: self.pod_deadline,
        }
    }

    /// Which flags are given, which without a cluster have no effect, in a sentence.
    pub(crate) fn ignored(&self) -> Option<String> {
        let flags = [
            ("--cluster-secret-provider", self.cluster_secret_provider.is_some()),
            ("--cluster-secret-name", self.cluster_secret_name.is_some()),
            ("--cluster-config-provider", self.cluster_config_provider.is_some()),
            ("--cluster-config-name", self.cluster_config_name.is_some()),
            ("--cluster-mapping", self.cluster_mapping.is_some()),
            ("--cluster-mapping-keys", !self.cluster_mapping_keys.is_empty()),
            ("--pod-node-selector", !self.pod_node_selector.is_empty()),
            ("--pod-toleration", !self.pod_toleration.is_empty()),
            ("--pod-runtime-class", self.pod_runtime_class.is_some()),
            ("--pod-pull-policy", self.pod_pull_policy.is_some()),
            ("--pod-pull-secret", !self.pod_pull_secret.is_empty()),
            ("--pod-deadline", self.pod_deadline.is_some()),
        ];
        let mut given = self.place.given();
        given.extend(flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag));
        let named = given.join(", ");
        (!given.is_empty()).then(|| format!("{named} without effect: only the provisioner `kubernetes` uses it"))
    }
}

fn pattern(text: &str) -> Result<NamePattern, String> {
    text.parse().map_err(|error: provisioning_core::policy::glob::PatternError| error.to_string())
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write `KEY=VALUE`".to_owned()),
    }
}

/// `KEY[=VALUE][:EFFECT]`.
fn toleration(text: &str) -> Result<String, String> {
    let effect = text.rsplit_once(':').map_or("", |(_, effect)| effect);
    match effect {
        "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute" => Ok(text.to_owned()),
        _ => Err("write `KEY[=VALUE][:EFFECT]` with the effect NoSchedule, PreferNoSchedule or NoExecute".to_owned()),
    }
}

/// A name as DNS labels are.
fn label(text: &str) -> Result<String, String> {
    let wrong = "write at most 63 letters a-z, digits and `-`, with a letter or digit at both ends";
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(is_plain) && text.bytes().next_back().is_some_and(is_plain);
    let fits = text.len() <= 63 && text.bytes().all(|byte| is_plain(byte) || byte == b'-');
    if ends && fits { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

/// A name as objects of a cluster have: labels with dots between them.
fn subdomain(text: &str) -> Result<String, String> {
    match text.len() <= 253 && text.split('.').all(|part| label(part).is_ok()) {
        true => Ok(text.to_owned()),
        false => {
            Err("write at most 253 letters a-z, digits, `-` and `.`, with a letter or digit at both ends".to_owned())
        }
    }
}
