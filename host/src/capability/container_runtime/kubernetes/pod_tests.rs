//! Tests of the pod, and of the other objects that a plan shows.

use provisioning_core::value::{ObjectKind, Origin};
use provisioning_core::{HostAlias, SecurityProfile, Segment, Value, VolumeMount};

use super::super::objects::{check, render};
use super::super::{PodSettings, names};
use super::*;
use crate::capability::container_runtime::Identity;

fn request() -> Request {
    Request {
        identity: Identity { session: "s1".to_owned(), server: "My Server".to_owned(), tool: None },
        spec: ContainerSpec {
            image: "example/server:1".to_owned(),
            command: vec![Value::text("--verbose"), Value::text("$(X)")],
            environment: Vec::new(),
            volumes: Vec::new(),
            user: None,
            network: Network::Declared,
            hosts: Vec::new(),
            labels: Vec::new(),
            resources: Resources::default(),
            security: SecurityProfile::default(),
        },
    }
}

fn settings() -> PodSettings {
    PodSettings::default()
}

/// The pod's specification in a plan, and its only container.
fn planned(request: &Request, settings: &PodSettings) -> (serde_json::Value, serde_json::Value) {
    let objects = render(request, settings, "ns").unwrap();
    let pod = objects.last().unwrap()["spec"].clone();
    let container = pod["containers"][0].clone();
    (pod, container)
}

#[test]
fn a_pod_has_the_rights_of_the_restricted_profile_and_no_token() {
    let (pod, container) = planned(&request(), &settings());
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["securityContext"].get("runAsNonRoot"), None, "the image may need root");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(container["resources"]["limits"], serde_json::json!({"cpu": "1000m", "memory": "2147483648"}));
    assert_eq!(container["resources"]["requests"], serde_json::json!({"cpu": "100m", "memory": "134217728"}));
    assert_eq!(container["args"], serde_json::json!(["--verbose", "$$(X)"]));
    assert_eq!(
        (&container["stdin"], &container["stdinOnce"], &container["tty"]),
        (&true.into(), &true.into(), &false.into())
    );
}

#[test]
fn users_are_numbers_and_whoever_is_certainly_not_root_must_not_become_root() {
    let mut request = request();
    request.spec.user = Some(Value::private(Origin::Config, "s.user", "1000:100"));
    request.spec.volumes = vec![VolumeMount { value: Value::text("data:/data"), read_only: false }];
    let (pod, _) = planned(&request, &settings());
    let context = &pod["securityContext"];
    assert_eq!(
        (&context["runAsUser"], &context["runAsGroup"], &context["fsGroup"]),
        (&1000.into(), &100.into(), &100.into())
    );
    assert_eq!(context["runAsNonRoot"], true);
    for (user, words) in [("node", "only knows numbers"), ("1000:staff", "only knows numbers")] {
        request.spec.user = Some(Value::text(user));
        let error = check(&request, &settings()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    request.spec.user = Some(Value::text("0"));
    request.spec.security.run_as_non_root = true;
    assert!(matches!(check(&request, &settings()), Err(RuntimeError::Denied(_))));
    request.spec.user = None;
    assert_eq!(
        planned(&request, &settings()).0["securityContext"]["runAsNonRoot"],
        true,
        "the kubelet looks at the image"
    );
}

#[test]
fn a_server_without_a_network_gets_a_policy_that_denies_everything() {
    let mut request = request();
    request.spec.network = Network::None;
    let objects = render(&request, &settings(), "ns").unwrap();
    let policy = objects.iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
    let labels = &objects.last().unwrap()["metadata"]["labels"];
    for (key, text) in policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[key], text, "the policy selects the pod");
    }
    assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    assert!(policy["spec"].get("egress").is_none() && policy["spec"].get("ingress").is_none());
}

#[test]
fn hosts_are_grouped_and_the_gateway_of_an_engine_is_refused() {
    let mut request = request();
    let host = |name: &str, address: &str| HostAlias { name: name.to_owned(), address: address.to_owned() };
    request.spec.hosts = vec![host("a", "10.0.0.1"), host("b", "::1"), host("c", "10.0.0.1")];
    let (pod, _) = planned(&request, &settings());
    let expected = serde_json::json!([{"ip": "10.0.0.1", "hostnames": ["a", "c"]}, {"ip": "::1", "hostnames": ["b"]}]);
    assert_eq!(pod["hostAliases"], expected);
    request.spec.hosts = vec![host("host.docker.internal", "host-gateway")];
    let error = check(&request, &settings()).unwrap_err().to_string();
    assert!(error.contains("`host.docker.internal`") && error.contains("runs on a node"), "{error}");
}

#[test]
fn the_operators_settings_reach_the_pod() {
    let settings = PodSettings {
        node_selector: [("disk".to_owned(), "ssd".to_owned())].into(),
        tolerations: ["gpu", "team=a:NoSchedule"].map(str::to_owned).to_vec(),
        runtime_class: Some("gvisor".to_owned()),
        pull_policy: Some("Never".to_owned()),
        pull_secrets: vec!["registry".to_owned()],
        active_deadline: Some(std::time::Duration::from_secs(90)),
        ..PodSettings::default()
    };
    let (pod, container) = planned(&request(), &settings);
    assert_eq!(pod["nodeSelector"], serde_json::json!({"disk": "ssd"}));
    assert_eq!(
        pod["tolerations"],
        serde_json::json!([
            {"key": "gpu", "operator": "Exists"},
            {"effect": "NoSchedule", "key": "team", "operator": "Equal", "value": "a"}
        ])
    );
    assert_eq!((&pod["runtimeClassName"], &pod["activeDeadlineSeconds"]), (&"gvisor".into(), &90.into()));
    assert_eq!(pod["imagePullSecrets"], serde_json::json!([{"name": "registry"}]));
    assert_eq!(container["imagePullPolicy"], "Never");
    for wrong in ["", ":NoSchedule", "a:Sometimes"] {
        let settings = PodSettings { tolerations: vec![wrong.to_owned()], ..PodSettings::default() };
        assert!(matches!(check(&request(), &settings), Err(RuntimeError::Invalid(_))), "{wrong}");
    }
}

#[test]
fn a_plan_names_what_is_private_and_shows_none_of_it() {
    let mut request = request();
    let stored =
        |kind, key: &str, content| Value::from_segments([Segment::Stored { kind, key: key.to_owned(), content }]);
    request.spec.environment = vec![
        ("TOKEN".to_owned(), stored(ObjectKind::Secret, "TOKEN", Value::secret("s.token"))),
        ("HOST".to_owned(), stored(ObjectKind::ConfigMap, "HOST", Value::private(Origin::Config, "s.host", "hunter2"))),
    ];
    let objects = render(&request, &settings(), "ns").unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Secret", "ConfigMap", "Pod"]);
    assert_eq!(objects[0]["stringData"]["TOKEN"], "<secret:s.token>");
    assert_eq!(objects[1]["data"]["HOST"], "<config:s.host>");
    assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "ns"));
    assert!(!serde_json::to_string(&objects).unwrap().contains("hunter2"));
}

#[test]
fn objects_of_one_server_are_told_apart_from_those_of_another() {
    let (one, other) = (names::unique("same").unwrap(), names::unique("same").unwrap());
    assert_ne!(one, other);
    let objects = render(&request(), &settings(), "ns").unwrap();
    let metadata = &objects[0]["metadata"];
    assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "mcp-gateway");
    assert_eq!(metadata["labels"]["mcp-gateway.docker.com/session"], "s1");
    assert_eq!(metadata["annotations"]["mcp-gateway.docker.com/server"], "My Server");
}
