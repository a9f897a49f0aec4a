//! `cluster-tools rbac`: the Role that the gateway needs.

#![allow(clippy::indexing_slicing, reason = "fields of JSON objects that are made here are set; that cannot fail")]

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::Status;
use super::apply::notes_name;
use super::options::{ClusterOptions, object_name};
use super::output::Output;
use crate::capability::container_runtime::kubernetes::permissions::{Right, Wanted, group};

/// Print the Role that the gateway needs in a cluster.
///
/// A ServiceAccount, the Role and their RoleBinding, for `kubectl apply -f -`. It does not let the gateway read
/// Secrets, except those of `--read-secret`. Note that who may create pods in a namespace can have them use every Secret
/// in it: give the gateway a namespace of its own.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The namespace. Default: `default`; no kubeconfig is looked for
    namespace: Option<String>,
    /// Where secrets come from, as for `gateway run`
    #[arg(long, value_enum, default_value = "cluster")]
    cluster_secret_provider: Provider,
    /// Where configuration comes from, as for `gateway run`
    #[arg(long, value_enum, default_value = "cluster")]
    cluster_config_provider: Provider,
    /// The ConfigMap with the configuration, as for `gateway run`
    #[arg(long, value_name = "NAME", default_value = "mcp-gateway-config")]
    cluster_config_name: String,
    /// The Secret with the secrets, as for `gateway run`
    #[arg(long, value_name = "NAME", default_value = "mcp-gateway-secrets")]
    cluster_secret_name: String,
    /// Secrets that it may read by name: those of `--pod-pull-secret`, and that of `--cluster-secret-name` where
    /// `remote-secrets` is granted
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    read_secret: Vec<String>,
    /// What the Role, the ServiceAccount and the RoleBinding are called
    #[arg(long, value_name = "NAME", default_value = "mcp-gateway")]
    name: String,
    /// The user who runs the gateway, instead of a ServiceAccount
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// This machine's stores and files
    DockerEngine,
    /// Objects of the cluster
    Cluster,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { namespace, cluster_config_name, cluster_secret_name, name, user, output, cluster, .. } = arguments;
    let name = object_name(name, "Role")?;
    object_name(cluster_config_name, "ConfigMap")?;
    for secret in arguments.read_secret.iter().chain([cluster_secret_name]) {
        object_name(secret, "Secret")?;
    }
    let namespace = cluster.namespace(namespace.as_deref())?.unwrap_or_else(|| "default".to_owned());
    let metadata = json!({ "name": name, "namespace": namespace });
    let api_group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{api_group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules(&wanted(arguments).rights()),
    });
    let subject = match user {
        Some(user) => json!({ "kind": "User", "name": user, "apiGroup": api_group }),
        None => json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }),
    };
    let binding = json!({
        "apiVersion": format!("{api_group}/v1"), "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": api_group, "kind": "Role", "name": name }, "subjects": [subject],
    });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
    let objects: Vec<Json> = if user.is_some() { vec![role, binding] } else { vec![account, role, binding] };
    let documents = objects.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
    output.line(documents.join("---\n").trim_end())?;
    output.document(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
    Ok(Status::Success)
}

/// What the gateway does in a namespace, and nothing else: what it checks for itself before it starts.
fn wanted(arguments: &Arguments) -> Wanted {
    let mut configurations = Vec::new();
    if arguments.cluster_config_provider == Provider::Cluster {
        configurations.push(arguments.cluster_config_name.clone());
    }
    if arguments.cluster_secret_provider == Provider::Cluster {
        // The names of the keys, not the Secret.
        configurations.push(notes_name(&arguments.cluster_secret_name));
    }
    Wanted { configurations, secrets: arguments.read_secret.clone(), ..Wanted::everything() }
}

/// The rights as rules, in the order of what they are about.
fn rules(rights: &[Right]) -> Vec<Json> {
    let mut rules: Vec<(&str, Option<&str>, Vec<&str>)> = Vec::new();
    for right in rights {
        match rules.iter_mut().find(|(resource, name, _)| *resource == right.resource && *name == right.name.as_deref())
        {
            Some((.., verbs)) => verbs.push(right.verb),
            None => rules.push((right.resource, right.name.as_deref(), vec![right.verb])),
        }
    }
    let rule = |(resource, name, verbs): (&str, Option<&str>, Vec<&str>)| {
        let (groups, resources) = ([group(resource)], [resource]);
        match name {
            Some(name) => {
                json!({ "apiGroups": groups, "resources": resources, "resourceNames": [name], "verbs": verbs })
            }
            None => json!({ "apiGroups": groups, "resources": resources, "verbs": verbs }),
        }
    };
    rules.into_iter().map(rule).collect()
}
