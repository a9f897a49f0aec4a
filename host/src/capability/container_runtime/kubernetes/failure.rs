//! What the state of a pod means: whether its container runs, and if it never will, why, and what to do.
//!
//! A pure function of what the cluster reports. Nothing that a server writes gets into a message.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStateWaiting, Pod};
use provisioning_core::text::one_line;

use super::error::MESSAGE;
use crate::capability::container_runtime::RuntimeError;

/// How a pod is doing.
#[derive(Debug)]
pub(super) enum State {
    /// It is on its way; the text says where.
    Coming(&'static str),
    /// No node will have it at the moment, for this reason.
    Unschedulable(String),
    /// The kubelet does not find an object that was made just now, or cannot look, and tries again.
    NotSeenYet(RuntimeError),
    /// Its image was not pulled, for this reason; the kubelet tries again.
    NotPulled {
        /// Whether the kubelet waits before the next attempt.
        backing_off: bool,
        error: RuntimeError,
    },
    /// Its container runs.
    Running,
    /// Its container ran and has ended.
    Ended(Ended),
    /// It will never run.
    Failed(RuntimeError),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// The exit code.
    pub(super) code: i64,
    /// The cluster's word for it, such as `OOMKilled`.
    pub(super) reason: String,
    /// What it says about it.
    pub(super) message: String,
}

/// The cluster's word for a container that was killed for want of memory.
const OUT_OF_MEMORY: &str = "OOMKilled";

impl Ended {
    /// Whether it needed more memory than it may have.
    pub(super) fn is_out_of_memory(&self) -> bool {
        self.reason == OUT_OF_MEMORY
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the container ended with exit code {}", self.code)?;
        match self.reason.as_str() {
            OUT_OF_MEMORY => f.write_str(" (OOMKilled: it needed more memory than it may have; raise `--memory`)"),
            "" | "Error" | "Completed" => Ok(()),
            reason => write!(f, " ({reason})"),
        }
    }
}

/// Judges a pod of the gateway's, which has one container. `own` is the name of its own objects.
pub(super) fn judge(pod: &Pod, own: &str) -> State {
    let image = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|one| one.image.clone()).unwrap_or_default();
    let Some(status) = &pod.status else { return State::Coming("waiting for the cluster") };
    let state = status.container_statuses.iter().flatten().next().and_then(|container| container.state.as_ref());
    match state {
        Some(ContainerState { terminated: Some(ended), .. }) => return of_end(ended),
        Some(ContainerState { running: Some(_), .. }) => return State::Running,
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            if let Some(state) = of_waiting(waiting, &image, own) {
                return state;
            }
        }
        _ => {}
    }
    let phase = status.phase.as_deref().unwrap_or_default();
    if phase == "Failed" {
        // Evicted, or refused by the node.
        let (reason, message) = (text(status.reason.as_ref()), text(status.message.as_ref()));
        return State::Failed(RuntimeError::Engine(format!("the pod failed: {reason}: {message}")));
    }
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    match scheduled {
        Some(condition) if condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable") => {
            State::Unschedulable(text(condition.message.as_ref()))
        }
        Some(condition) if condition.status == "True" => State::Coming("waiting for its image and its container"),
        _ => State::Coming("waiting for a node"),
    }
}

/// How the container of a pod ended, if it has.
pub(super) fn ended(pod: &Pod) -> Option<Ended> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.iter().flatten().next();
    let ended = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    match ended {
        Some(ended) => Some(end(ended)),
        // Without a state of its container the pod never ran it, or its node is gone.
        None if status.phase.as_deref() == Some("Failed") => {
            Some(Ended { code: 137, reason: text(status.reason.as_ref()), message: text(status.message.as_ref()) })
        }
        None => None,
    }
}

fn end(ended: &ContainerStateTerminated) -> Ended {
    Ended {
        code: i64::from(ended.exit_code),
        reason: text(ended.reason.as_ref()),
        message: text(ended.message.as_ref()),
    }
}

fn of_end(ended: &ContainerStateTerminated) -> State {
    let end = end(ended);
    match end.reason.as_str() {
        // The runtime could not start the program at all.
        "StartError" | "ContainerCannotRun" => State::Failed(RuntimeError::Engine(format!(
            "the container could not be started: {}; check the image's entry point and the server's `command`",
            end.message
        ))),
        _ => State::Ended(end),
    }
}

fn of_waiting(waiting: &ContainerStateWaiting, image: &str, own: &str) -> Option<State> {
    let message = text(waiting.message.as_ref());
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let error = |reason: String| RuntimeError::Image { image: image.to_owned(), reason };
    let of_image = |reason: String| Some(State::Failed(error(reason)));
    let cannot_pull = || {
        let advice = "check its name, and for a private registry the pull secrets";
        format!("the cluster cannot pull it ({reason}): {message}; {advice}")
    };
    match reason {
        "ErrImagePull" => Some(State::NotPulled { backing_off: false, error: error(cannot_pull()) }),
        "ImagePullBackOff" => Some(State::NotPulled { backing_off: true, error: error(cannot_pull()) }),
        "RegistryUnavailable" | "ImageInspectError" | "SignatureValidationFailed" => of_image(cannot_pull()),
        "ErrImageNeverPull" => of_image(
            "it is on no node and must not be pulled; load it into the cluster, or allow pulling with another pull policy"
                .to_owned(),
        ),
        "InvalidImageName" => of_image(format!("the cluster does not accept its name: {message}")),
        "CreateContainerConfigError" => Some(of_configuration(&message, own)),
        "CreateContainerError" | "RunContainerError" | "PreCreateHookError" | "PostStartHookError" => {
            Some(State::Failed(RuntimeError::Engine(format!("the container could not be made ({reason}): {message}"))))
        }
        "CrashLoopBackOff" => {
            Some(State::Failed(RuntimeError::Engine(format!("the server ends again and again: {message}"))))
        }
        _ => None,
    }
}

/// A container that cannot be made from what it refers to.
fn of_configuration(message: &str, own: &str) -> State {
    // `couldn't find key K in Secret NS/NAME`, `secret "NAME" not found`
    let lower = message.to_lowercase();
    let (kind, tool) = match lower.contains("configmap") {
        true => ("ConfigMap", "cluster-tools populate-configmap"),
        false => ("Secret", "cluster-tools populate-secret"),
    };
    if let Some(rest) = message.split("couldn't find key ").nth(1) {
        let mut words = rest.split_whitespace();
        let key = words.next().unwrap_or_default();
        let object = words.nth(2).unwrap_or_default();
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        return State::Failed(RuntimeError::Invalid(format!(
            "{kind} `{name}` in namespace `{namespace}` has no key `{key}`; add it with `{tool}`"
        )));
    }
    // A kubelet with much to do gives its caches a second and tries again.
    if lower.contains("failed to sync") && lower.contains("cache") {
        let text = format!("the node cannot get {kind}s from the API server: {message}");
        return State::NotSeenYet(RuntimeError::Engine(text));
    }
    if lower.contains("not found") {
        let name = message.split('"').nth(1).unwrap_or_default();
        if name == own {
            let text = format!("the node does not see {kind} `{name}`, which was made just now: {message}");
            return State::NotSeenYet(RuntimeError::Engine(text));
        }
        return State::Failed(RuntimeError::Invalid(format!("{kind} `{name}` does not exist; make it with `{tool}`")));
    }
    if lower.contains("runasnonroot") || lower.contains("run as root") || lower.contains("non-numeric user") {
        return State::Failed(RuntimeError::Denied(format!(
            "the image would or could run as root, and that is not allowed: {message}; give the server a numeric `user` such as \
             `1000`"
        )));
    }
    State::Failed(RuntimeError::Invalid(format!("the container cannot be made: {message}")))
}

fn text(found: Option<&String>) -> String {
    one_line(found.map(|text| text.trim()).unwrap_or_default(), MESSAGE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(status: &Value) -> State {
        let pod = json!({"metadata": {"name": "mcp-x"}, "spec": {"containers": [{"name": "server", "image": "r/x:1"}]}, "status": status});
        judge(&serde_json::from_value(pod).unwrap(), "mcp-x")
    }

    fn waiting(reason: &str, message: &str) -> State {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        judged(&json!({"phase": "Pending", "containerStatuses": [container(&state)]}))
    }

    fn container(state: &Value) -> Value {
        json!({"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn every_way_to_fail_is_told_from_being_on_the_way() {
        let failing = [
            ("SignatureValidationFailed", "no signature", "image `r/x:1` cannot be had", "no signature"),
            ("InvalidImageName", "couldn't parse image name", "image `r/x:1`", "does not accept its name"),
            ("ErrImageNeverPull", "", "image `r/x:1`", "load it into the cluster"),
            (
                "CreateContainerConfigError",
                "couldn't find key github.token in Secret ns/mcp-gateway-secrets",
                "Secret `mcp-gateway-secrets` in namespace `ns` has no key `github.token`",
                "cluster-tools populate-secret",
            ),
            (
                "CreateContainerConfigError",
                "configmap \"mcp-gateway-config\" not found",
                "ConfigMap `mcp-gateway-config` does not exist",
                "cluster-tools populate-configmap",
            ),
            (
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: \"x\")",
                "would or could run as root",
                "numeric `user`",
            ),
            ("CreateContainerError", "no such device", "could not be made", "no such device"),
            ("CrashLoopBackOff", "back-off 10s", "again and again", "back-off 10s"),
        ];
        for (reason, message, one, other) in failing {
            let State::Failed(error) = waiting(reason, message) else { panic!("{reason}: {message}") };
            let error = error.to_string();
            assert!(error.contains(one) && error.contains(other), "{error}");
        }
        for (reason, message, waits) in
            [("ErrImagePull", "pull access denied", false), ("ImagePullBackOff", "Back-off pulling", true)]
        {
            let State::NotPulled { backing_off, error } = waiting(reason, message) else { panic!("{reason}") };
            assert_eq!(backing_off, waits);
            let error = error.to_string();
            assert!(error.contains("image `r/x:1` cannot be had") && error.contains(message), "{error}");
            assert!(error.contains("pull secrets"), "{error}");
        }
        assert!(matches!(waiting("ContainerCreating", ""), State::Coming(_)));
        assert!(matches!(waiting("PodInitializing", ""), State::Coming(_)));
        for passing in [
            "secret \"mcp-x\" not found",
            "failed to sync secret cache: timed out waiting for the condition",
            "failed to sync configmap cache: timed out waiting for the condition",
        ] {
            assert!(matches!(waiting("CreateContainerConfigError", passing), State::NotSeenYet(_)), "{passing}");
        }
    }

    #[test]
    fn the_end_of_a_container_has_its_code_and_reason() {
        let state = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let State::Ended(ended) = judged(&json!({"containerStatuses": [container(&state)]})) else { panic!() };
        assert_eq!(ended.code, 137);
        assert!(ended.to_string().contains("raise `--memory`"), "{ended}");
        let state =
            json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"/x\": not found"}});
        assert!(matches!(judged(&json!({"containerStatuses": [container(&state)]})), State::Failed(_)));
    }

    #[test]
    fn a_pod_that_no_node_will_have_or_a_node_threw_out_says_why() {
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
        let state = judged(&json!({"phase": "Pending", "conditions": [condition]}));
        assert!(matches!(&state, State::Unschedulable(text) if text == "0/1 nodes"), "{state:?}");
        let State::Failed(error) = judged(&json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})) else {
            panic!()
        };
        assert!(error.to_string().contains("Evicted: disk"), "{error}");
    }
}
