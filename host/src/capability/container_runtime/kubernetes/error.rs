//! What errors of a cluster mean: the one place where they become errors of the runtime, with what to do.

use std::time::Duration;

use kube::client::AuthError;
use provisioning_core::text::one_line;

use super::client::Cluster;
use crate::capability::container_runtime::RuntimeError;

/// How many characters of a cluster's message are shown.
pub(super) const MESSAGE: usize = 600;

/// What was asked of the API server, in its own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    /// The verb, such as `create`.
    pub(crate) verb: &'static str,
    /// The resource, such as `pods` or `pods/attach`.
    pub(crate) resource: &'static str,
    /// The object's name; empty if there is none.
    pub(crate) name: &'a str,
}

impl<'a> Step<'a> {
    pub(crate) fn new(verb: &'static str, resource: &'static str, name: &'a str) -> Self {
        Self { verb, resource, name }
    }
}

/// The status code that the API server answered with, if it did.
pub(super) fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(code)) => {
            Some(code.as_u16())
        }
        _ => None,
    }
}

/// True if the API server answered, so that what was asked for was done or refused.
pub(super) fn is_answer(error: &kube::Error) -> bool {
    // What stands between may give up while the API server goes on.
    status(error).is_some_and(|code| !matches!(code, 500 | 502 | 503 | 504))
}

/// The message of the API server, as one harmless line.
fn message(status: &kube::core::Status) -> String {
    one_line(status.message.trim(), MESSAGE)
}

pub(super) fn of_request(cluster: &Cluster, error: &kube::Error, step: Step<'_>) -> RuntimeError {
    let namespace = cluster.namespace();
    match error {
        kube::Error::Api(status) => of_status(namespace, status, step),
        kube::Error::Auth(_) => of_credentials(error, "of the current context"),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => RuntimeError::Engine(format!(
            "the API server at `{}` gave an answer that cannot be understood; check that the address is that of a cluster",
            cluster.server()
        )),
        other => RuntimeError::Unavailable(format!(
            "cannot reach the Kubernetes API server at `{}`: {}; check that the cluster runs and that the context is \
             the right one",
            cluster.server(),
            one_line(&innermost(other), 300)
        )),
    }
}

pub(crate) fn of_status(namespace: &str, status: &kube::core::Status, step: Step<'_>) -> RuntimeError {
    let Step { verb, resource, name } = step;
    let text = message(status);
    match status.code {
        401 => RuntimeError::Denied(
            "the API server does not accept the credentials of the context; log in to the cluster again".to_owned(),
        ),
        403 if is_missing_right(&status.message) => {
            let rights = super::permissions::grant(verb, resource, namespace);
            RuntimeError::Denied(format!(
                "the credentials of the context may not `{verb}` `{resource}` in namespace `{namespace}`; allow it with {rights}"
            ))
        }
        404 if status.message.contains("namespaces \"") => RuntimeError::Invalid(format!(
            "namespace `{namespace}` does not exist; create it with `kubectl create namespace {namespace}` or give another \
             `--namespace`"
        )),
        403 if text.contains("violates PodSecurity") => RuntimeError::Denied(format!(
            "the cluster refuses to {verb} `{name}`: {text}; where `runAsNonRoot` is missing, give the server a numeric `user` \
             such as `1000`"
        )),
        // Quotas, limit ranges and admission webhooks.
        403 => RuntimeError::Denied(format!("the cluster refuses to {verb} `{name}`: {text}")),
        409 => RuntimeError::Conflict(format!("the cluster could not {verb} `{resource}` `{name}`: {text}")),
        400 | 422 if text.contains("admission webhook") => {
            RuntimeError::Denied(format!("the cluster refuses to {verb} `{name}`: {text}"))
        }
        400 | 422 => RuntimeError::Invalid(format!("the cluster cannot {verb} `{name}`: {text}")),
        429 | 503 | 504 => RuntimeError::Unavailable(format!(
            "the API server is overloaded and did not {verb} `{resource}`: {text}; try again later"
        )),
        code => {
            RuntimeError::Engine(format!("the API server answered {code} when asked to {verb} `{resource}`: {text}"))
        }
    }
}

/// Whether a pod was refused because it does not say that it runs as somebody else than root.
pub(super) fn wants_user(refusal: &str) -> bool {
    refusal.contains("violates PodSecurity") && refusal.contains("runAsNonRoot")
}

/// Whether a refusal is for want of a right, and not by an admission check, which has the same status.
fn is_missing_right(message: &str) -> bool {
    message.contains("is forbidden: User ") || message.contains(" cannot ") && message.contains(" resource ")
}

/// No answer came in time.
pub(crate) fn silent(cluster: &Cluster, step: Step<'_>, limit: Duration) -> RuntimeError {
    RuntimeError::Unavailable(format!(
        "the Kubernetes API server at `{}` did not {} `{}` within {} s; check that the cluster is well",
        cluster.server(),
        step.verb,
        step.resource,
        limit.as_secs()
    ))
}

/// A client that could not be made or could not authenticate. What a credential plugin wrote to its standard output is
/// never shown: it may be a token.
pub(super) fn of_credentials(error: &kube::Error, origin: &str) -> RuntimeError {
    let reason = match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            let words = String::from_utf8_lossy(&out.stderr);
            let words = one_line(words.trim(), 300);
            format!(
                "the credential plugin `{}` failed ({}): {words}; run it by itself to see why",
                one_line(cmd, 100),
                out.status
            )
        }
        kube::Error::Auth(AuthError::AuthExecStart(why)) => {
            format!("the credential plugin under key `exec` cannot be run: {why}; install it")
        }
        kube::Error::Auth(AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed) => {
            "the credential plugin under key `exec` gave no credentials; run it by itself to see why".to_owned()
        }
        other => one_line(&innermost(other), 300),
    };
    RuntimeError::Invalid(format!("kubeconfig {origin}: the credentials cannot be used: {reason}"))
}

/// The deepest cause, which says more than what is around it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn of(code: u16, message: &str) -> RuntimeError {
        let status = Status::failure(message, "").with_code(code);
        of_status("ns", &status, Step::new("create", "pods", "mcp-x"))
    }

    #[test]
    fn a_missing_right_names_verb_resource_namespace_and_the_role() {
        let text =
            "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\" in the namespace \"ns\"";
        let error = of(403, text);
        assert!(matches!(error, RuntimeError::Denied(_)));
        let error = error.to_string();
        for words in
            ["may not `create` `pods`", "namespace `ns`", "kubectl create role", "--verb=create --resource=pods"]
        {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn quotas_and_admission_are_told_from_missing_rights() {
        for text in [
            "pods \"mcp-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
            "pods \"mcp-x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
        ] {
            let error = of(403, text);
            assert!(matches!(&error, RuntimeError::Denied(told) if told.contains(text)), "{error}");
            assert!(!error.to_string().contains("kubectl create role"), "{error}");
        }
        assert!(
            matches!(of(404, "namespaces \"ns\" not found"), RuntimeError::Invalid(text) if text.contains("kubectl create namespace ns"))
        );
        assert!(matches!(of(429, "slow down"), RuntimeError::Unavailable(_)));
    }
}
