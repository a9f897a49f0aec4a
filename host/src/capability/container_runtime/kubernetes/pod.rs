//! From a request to the pod of a server: a pure function, shared by planning and by doing.
//!
//! A pod has as few rights as the restricted pod security profile allows it: no capabilities, no new privileges, the
//! default system-call filter, no token of a service account. Whether it runs as root is up to the image, unless its
//! entry names a numeric user or `run-as-non-root` is asked for: most images of MCP servers do not say who they run as.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, HostAlias, LocalObjectReference, Pod, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use provisioning_core::policy::known_text;
use provisioning_core::{ContainerSpec, Network, Resources};

use super::runner::{Means, Started};
use super::values::Translated;
use super::volumes::Volumes;
use super::{PodSettings, labels};
use crate::capability::container_runtime::{Request, RuntimeError};

/// What the one container of a pod is called.
pub(super) const CONTAINER: &str = "server";

/// How long a server may take to end when the cluster ends its pod, in seconds.
const GRACE_SECONDS: i64 = 2;
/// Which part of its limits a pod reserves: servers wait most of their life.
const RESERVED_CPU: u32 = 10;
const RESERVED_MEMORY: u64 = 16;

/// What a pod is made of besides its request.
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) settings: &'a PodSettings,
    pub(super) owner: Option<OwnerReference>,
    pub(super) translated: Translated,
    pub(super) volumes: Volumes,
    /// The runner that starts the program, if it is not the cluster that does.
    pub(super) started: Option<Started>,
    /// The user of the image, where it has one by its number and the pod must name it.
    pub(super) user: Option<String>,
    /// Whether the process is given a standard input.
    pub(super) stdin: bool,
    /// After how many seconds the cluster ends the pod.
    pub(super) deadline: Option<i64>,
}

/// Makes the pod.
pub(super) fn pod(request: &Request, parts: Parts<'_>) -> Result<Pod, RuntimeError> {
    let spec = &request.spec;
    let Parts { name, settings, owner, translated, mut volumes, started, user, stdin, deadline } = parts;
    let mut metadata = labels::of_server(name, &request.identity, owner);
    if spec.network == Network::None {
        let own = metadata.labels.get_or_insert_default();
        own.insert(labels::NETWORK.to_owned(), "none".to_owned());
    }
    labels::add(&mut metadata, &spec.labels)?;
    let has_volumes = !volumes.volumes.is_empty();
    let mut node_selector = settings.node_selector.clone();
    let mut container = Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        args: Some(translated.arguments).filter(|arguments| !arguments.is_empty()),
        env: Some(translated.environment).filter(|variables| !variables.is_empty()),
        stdin: Some(stdin),
        stdin_once: Some(stdin),
        tty: Some(false),
        resources: Some(resources(&spec.resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: spec.security.read_only_root.then_some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    // Some container runtimes leave out the group of an image's user.
    let own_user = started.as_ref().map(|started| started.user.as_str()).or(user.as_deref());
    let own_user = own_user.and_then(|user| ids(user).ok());
    // A shell that is the first process of a container does not end when it is told to.
    let is_shared = matches!(&started, Some(Started { means: Means::Shell, .. }));
    if let Some(started) = started {
        started.apply(&mut container, &mut volumes, &mut node_selector);
    }
    container.volume_mounts = Some(volumes.mounts).filter(|mounts| !mounts.is_empty());
    let aliases = aliases(spec)?;
    let pod_spec = PodSpec {
        containers: vec![container],
        security_context: Some(security(spec, own_user, has_volumes)?),
        volumes: Some(volumes.volumes).filter(|volumes| !volumes.is_empty()),
        host_aliases: Some(aliases).filter(|aliases| !aliases.is_empty()),
        restart_policy: Some("Never".to_owned()),
        share_process_namespace: is_shared.then_some(true),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        active_deadline_seconds: deadline,
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // Without a network there is nobody to ask for names.
        dns_policy: (spec.network == Network::None).then(|| "Default".to_owned()),
        node_selector: Some(node_selector).filter(|selector| !selector.is_empty()),
        tolerations: Some(tolerations(&settings.tolerations)?).filter(|tolerations| !tolerations.is_empty()),
        runtime_class_name: settings.runtime_class.clone(),
        image_pull_secrets: Some(
            settings.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect::<Vec<_>>(),
        )
        .filter(|secrets| !secrets.is_empty()),
        ..PodSpec::default()
    };
    Ok(Pod { metadata, spec: Some(pod_spec), status: None })
}

fn resources(wanted: &Resources) -> ResourceRequirements {
    let amounts = |cpu_millis: u32, memory_bytes: u64| {
        let cpu = ("cpu".to_owned(), Quantity(format!("{cpu_millis}m")));
        BTreeMap::from([cpu, ("memory".to_owned(), Quantity(memory_bytes.to_string()))])
    };
    let reserved = amounts((wanted.cpu_millis / RESERVED_CPU).max(1), (wanted.memory_bytes / RESERVED_MEMORY).max(1));
    ResourceRequirements {
        limits: Some(amounts(wanted.cpu_millis, wanted.memory_bytes)),
        requests: Some(reserved),
        ..ResourceRequirements::default()
    }
}

fn security(
    spec: &ContainerSpec,
    own_user: Option<(i64, Option<i64>)>,
    has_volumes: bool,
) -> Result<PodSecurityContext, RuntimeError> {
    let user = match &spec.user {
        Some(value) => known_text(value).ok_or_else(|| {
            RuntimeError::Invalid(format!(
                "user `{value}` contains a secret, and the specification of a pod can be read"
            ))
        })?,
        None => String::new(),
    };
    let ids = if user.is_empty() { own_user } else { Some(ids(&user)?) };
    if spec.security.run_as_non_root && ids.is_some_and(|(user, _)| user == 0) {
        return Err(RuntimeError::Denied(format!(
            "image `{}` would run as root, and `run-as-non-root` is asked for; give the server a numeric `user` such as `1000`",
            spec.image
        )));
    }
    let is_not_root = spec.security.run_as_non_root || ids.is_some_and(|(user, _)| user != 0);
    Ok(PodSecurityContext {
        run_as_user: ids.map(|(user, _)| user),
        run_as_group: ids.and_then(|(_, group)| group),
        // So that the user can write to its volumes.
        fs_group: ids.filter(|_| has_volumes).map(|(user, group)| group.unwrap_or(user)),
        run_as_non_root: is_not_root.then_some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    })
}

/// Whether it is a user by its number, and not root.
pub(super) fn is_number_of_somebody(user: &str) -> bool {
    ids(user).is_ok_and(|(user, _)| user != 0)
}

/// The numbers of `UID[:GID]`.
fn ids(user: &str) -> Result<(i64, Option<i64>), RuntimeError> {
    let number = |text: &str| text.parse::<u32>().ok().map(i64::from);
    let found = match user.split_once(':') {
        None => number(user).map(|user| (user, None)),
        Some((user, group)) => number(user).zip(number(group)).map(|(user, group)| (user, Some(group))),
    };
    found.ok_or_else(|| {
        RuntimeError::Invalid(
            "the server's `user` is a name, and a cluster only knows numbers; write it as `UID` or `UID:GID`, such as `1000`"
                .to_owned(),
        )
    })
}

/// The host names, by address.
fn aliases(spec: &ContainerSpec) -> Result<Vec<HostAlias>, RuntimeError> {
    let mut by_address: BTreeMap<std::net::IpAddr, Vec<String>> = BTreeMap::new();
    for host in &spec.hosts {
        let address = host.address.parse().map_err(|_| {
            let why = match host.address.as_str() {
                "host-gateway" => "stands for the machine of a Docker Engine, and a pod runs on a node of the cluster",
                _ => "is no IP address",
            };
            let shown = provisioning_core::text::one_line(&host.address, 100);
            RuntimeError::Invalid(format!("host `{}`: `{shown}` {why}; give the address itself", host.name))
        })?;
        by_address.entry(address).or_default().push(host.name.clone());
    }
    let alias = |(address, names): (std::net::IpAddr, Vec<String>)| HostAlias {
        ip: address.to_string(),
        hostnames: Some(names),
    };
    Ok(by_address.into_iter().map(alias).collect())
}

/// Reads `KEY[=VALUE][:EFFECT]`; without a value, every value of the key is tolerated.
fn tolerations(texts: &[String]) -> Result<Vec<Toleration>, RuntimeError> {
    let read = |text: &String| {
        let (taint, effect) = match text.split_once(':') {
            Some((taint, effect)) => (taint, Some(effect.to_owned())),
            None => (text.as_str(), None),
        };
        let known =
            effect.as_deref().is_none_or(|effect| matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute"));
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        if key.is_empty() || !known {
            return Err(RuntimeError::Invalid(format!(
                "toleration `{}` is wrong; write it as `KEY[=VALUE][:EFFECT]`, the effect being `NoSchedule`, \
                 `PreferNoSchedule` or `NoExecute`",
                text.escape_debug()
            )));
        }
        let operator = if value.is_some() { "Equal" } else { "Exists" };
        Ok(Toleration {
            key: Some(key.to_owned()),
            operator: Some(operator.to_owned()),
            value,
            effect,
            toleration_seconds: None,
        })
    };
    texts.iter().map(read).collect()
}

/// The policy that takes every network away from the pods of a session that shall have none.
pub(super) fn no_network(metadata: ObjectMeta, session: &str) -> NetworkPolicy {
    let selected = [(labels::SESSION, labels::value(session)), (labels::NETWORK, "none".to_owned())];
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(selected.map(|(key, text)| (key.to_owned(), text)).into()),
                match_expressions: None,
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
