//! What the gateway must be allowed to do in its namespace: one list, from which the check before anything is done, the
//! Role that is proposed, and the hints in error messages are made.

use std::fmt::Write as _;

use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::client::{Cluster, QUICK};
use super::error::Step;
use crate::capability::container_runtime::RuntimeError;

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// What a gateway is going to do, as far as it decides which rights it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Servers have secrets or configuration that the gateway resolves and keeps in objects of their own.
    pub own_values: bool,
    /// Tools run in containers of their own, with the help of a program that the gateway keeps in a `ConfigMap`.
    pub tools: bool,
    /// Servers without a network.
    pub no_network: bool,
    /// Servers with named volumes.
    pub volumes: bool,
    /// The `ConfigMap`s that the gateway reads.
    pub configurations: Vec<String>,
    /// The `Secret`s that the gateway reads: of remote servers, and for pulling images.
    pub secrets: Vec<String>,
}

impl Wanted {
    /// Everything that a gateway may need whose values are resolved where it runs.
    pub fn everything() -> Self {
        Self { own_values: true, tools: true, no_network: true, volumes: true, ..Self::default() }
    }

    /// The rights, in a fixed order.
    pub fn rights(&self) -> Vec<Right> {
        let mut rights = Vec::new();
        let mut add = |resource: &'static str, name: Option<&str>, verbs: &[&'static str]| {
            rights.extend(verbs.iter().map(|verb| Right { verb, resource, name: name.map(str::to_owned) }));
        };
        add("leases", None, &["create", "delete", "list", "patch"]);
        add("pods", None, &["create", "delete", "list", "watch"]);
        add("pods/attach", None, &["create", "get"]);
        add("pods/log", None, &["get"]);
        add("events", None, &["list", "watch"]);
        if self.own_values || self.tools {
            add("configmaps", None, &["create", "delete"]);
        }
        if self.own_values {
            add("secrets", None, &["create", "delete"]);
        }
        if self.no_network {
            add("networkpolicies", None, &["create", "delete"]);
        }
        if self.volumes {
            add("persistentvolumeclaims", None, &["create"]);
        }
        for name in &self.configurations {
            add("configmaps", Some(name), &["get"]);
        }
        for name in &self.secrets {
            add("secrets", Some(name), &["get"]);
        }
        rights
    }
}

/// A right in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// The verb, such as `create`.
    pub verb: &'static str,
    /// The resource, with a subresource after a slash.
    pub resource: &'static str,
    /// The one object; none for all.
    pub name: Option<String>,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The namespace.
    pub namespace: String,
    /// The rights that are there.
    pub granted: Vec<Right>,
    /// The rights that are missing.
    pub missing: Vec<Right>,
    /// The Role that has all rights that are needed, as YAML.
    pub role: String,
}

/// The API group of a resource.
pub(crate) fn group(resource: &str) -> &'static str {
    match resource {
        "leases" => "coordination.k8s.io",
        "networkpolicies" => "networking.k8s.io",
        _ => "",
    }
}

pub(super) async fn check(cluster: &Cluster, wanted: &Wanted) -> Result<Report, RuntimeError> {
    let rights = wanted.rights();
    let asked: Vec<_> = rights.iter().map(|right| may(cluster, right)).collect();
    let answers: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
    let (mut granted, mut missing) = (Vec::new(), Vec::new());
    for (right, answer) in rights.iter().zip(answers) {
        if answer? { &mut granted } else { &mut missing }.push(right.clone());
    }
    let namespace = cluster.namespace().to_owned();
    Ok(Report { role: role(&namespace, &rights), namespace, granted, missing })
}

async fn may(cluster: &Cluster, right: &Right) -> Result<bool, RuntimeError> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(cluster.namespace().to_owned()),
                verb: Some(right.verb.to_owned()),
                group: Some(group(resource).to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                name: right.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client().clone());
    let step = Step::new("create", "selfsubjectaccessreviews", "");
    let answer = cluster.call(step, QUICK, api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A Role with these rights, as YAML. The same rights give the same text.
pub fn role(namespace: &str, rights: &[Right]) -> String {
    // Rules by what they are about, in the order of their first appearance.
    let mut rules: Vec<(&str, Option<&str>, Vec<&str>)> = Vec::new();
    for right in rights {
        let name = right.name.as_deref();
        match rules.iter_mut().find(|(resource, about, _)| *resource == right.resource && *about == name) {
            Some((_, _, verbs)) => verbs.push(right.verb),
            None => rules.push((right.resource, name, vec![right.verb])),
        }
    }
    let mut yaml = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: mcp-gateway\n  namespace: {namespace}\nrules:\n"
    );
    for (resource, name, verbs) in rules {
        let base = resource.split('/').next().unwrap_or_default();
        let _ = writeln!(yaml, "- apiGroups: [\"{}\"]\n  resources: [\"{resource}\"]", group(base));
        if let Some(name) = name {
            let _ = writeln!(yaml, "  resourceNames: [\"{name}\"]");
        }
        let verbs: Vec<_> = verbs.iter().map(|verb| format!("\"{verb}\"")).collect();
        let _ = writeln!(yaml, "  verbs: [{}]", verbs.join(", "));
    }
    yaml
}

/// The command that grants one right, for the end of a message.
pub(super) fn grant(verb: &str, resource: &str, namespace: &str) -> String {
    let base = resource.split('/').next().unwrap_or_default();
    let kind = match (group(base), resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, None) => format!("{resource}.{group}"),
        (group, Some((_, sub))) => format!("{base}.{group}/{sub}"),
    };
    format!(
        "the Role `kubectl create role mcp-gateway-more --namespace={namespace} --verb={verb} --resource={kind}` and a \
         RoleBinding to it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_asks_for_no_more_than_what_is_wanted_and_never_lists_secrets() {
        let wanted = Wanted { configurations: vec!["mcp-gateway-config".to_owned()], ..Wanted::default() };
        let yaml = role("ns", &wanted.rights());
        assert!(!yaml.contains("secrets"), "{yaml}");
        assert!(yaml.contains(
            "- apiGroups: [\"\"]\n  resources: [\"configmaps\"]\n  resourceNames: [\"mcp-gateway-config\"]\n  verbs: [\"get\"]\n"
        ));
        let all = Wanted::everything().rights();
        let of_secrets: Vec<_> =
            all.iter().filter(|right| right.resource == "secrets").map(|right| right.verb).collect();
        assert_eq!(of_secrets, ["create", "delete"]);
    }

    #[test]
    fn a_grant_names_resources_as_kubectl_does() {
        let text = grant("create", "leases", "ns");
        assert!(text.contains("--namespace=ns --verb=create --resource=leases.coordination.k8s.io"), "{text}");
        assert!(grant("get", "pods/log", "ns").contains("--resource=pods/log"));
    }
}
