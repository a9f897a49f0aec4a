//! `cluster-tools rbac`: the Role that the gateway needs.

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::Status;
use super::apply::notes_name;
use super::options::{ClusterOptions, object_name};
use super::output::Output;

/// Print the Role that the gateway needs in a cluster.
///
/// A ServiceAccount, the Role and their RoleBinding, for `kubectl apply -f -`. In no mode may the gateway read Secrets. Note
/// that who may create pods in a namespace can have them use every Secret in it: give the gateway a namespace of its own.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The namespace
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
    object_name(cluster_secret_name, "Secret")?;
    let namespace = cluster.namespace(namespace.as_deref())?;
    let metadata = json!({ "name": name, "namespace": namespace });
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules(arguments),
    });
    let subject = match user {
        Some(user) => json!({ "kind": "User", "name": user, "apiGroup": group }),
        None => json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }),
    };
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": group, "kind": "Role", "name": name }, "subjects": [subject],
    });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
    let objects: Vec<Json> = if user.is_some() { vec![role, binding] } else { vec![account, role, binding] };
    let documents = objects.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
    output.line(documents.join("---\n").trim_end())?;
    output.document(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
    Ok(Status::Success)
}

/// What the gateway does in a namespace, and nothing else.
fn rules(arguments: &Arguments) -> Vec<Json> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    let mut rules = vec![
        // A session is a Lease, and owns all else; those of dead gateways are looked for and deleted.
        rule("coordination.k8s.io", &["leases"], &["create", "delete", "get", "list", "patch", "update"]),
        rule("", &["pods"], &["create", "delete", "get", "list", "watch"]),
        // `get` is what the WebSocket of older clusters needs.
        rule("", &["pods/attach"], &["create", "get"]),
        rule("", &["pods/log"], &["get"]),
        // Why a pod does not start.
        rule("", &["events"], &["list", "watch"]),
        // What a pod gets of its own. Only ever made and deleted, never read.
        rule("", &["configmaps", "secrets"], &["create", "delete"]),
        // `disableNetwork`, and volumes with a name.
        rule("networking.k8s.io", &["networkpolicies"], &["create", "delete"]),
        rule("", &["persistentvolumeclaims"], &["create", "get"]),
    ];
    let mut read = Vec::new();
    if arguments.cluster_config_provider == Provider::Cluster {
        read.push(arguments.cluster_config_name.clone());
    }
    if arguments.cluster_secret_provider == Provider::Cluster {
        // The names of the keys, not the Secret.
        read.push(notes_name(&arguments.cluster_secret_name));
    }
    if !read.is_empty() {
        rules.push(json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": read, "verbs": ["get"] }));
    }
    rules
}
