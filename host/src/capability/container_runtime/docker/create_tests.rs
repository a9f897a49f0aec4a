//! Tests of the create body.

use provisioning_core::value::Origin;
use provisioning_core::{ContainerSpec, HostAlias, Resources, SecurityProfile, VolumeMount};
use serde_json::json;

use super::*;
use crate::capability::container_runtime::Identity;

fn request() -> Request {
    Request {
        identity: Identity { session: "s1".to_owned(), server: "My Server".to_owned(), tool: None },
        spec: ContainerSpec {
            image: "mcp/x:1".to_owned(),
            command: vec![Value::text("--flag=a b"), Value::text("it's \"$HOME\"")],
            environment: vec![
                ("PLAIN".to_owned(), Value::text("a=b")),
                ("KEY".to_owned(), Value::concat([&Value::text("Bearer "), &Value::secret("x.key")])),
                ("DB".to_owned(), Value::private(Origin::Config, "x.db", "hunter2")),
            ],
            volumes: vec![VolumeMount { value: Value::text("cache:/cache"), read_only: false }],
            user: None,
            network: Network::Declared,
            hosts: vec![HostAlias { name: "h.local".to_owned(), address: "host-gateway".to_owned() }],
            labels: vec![("team".to_owned(), "a".to_owned())],
            resources: Resources { cpu_millis: 1500, memory_bytes: 2 << 30 },
            security: SecurityProfile::default(),
        },
    }
}

/// The body for a gateway in a network of its own.
fn real_body(request: &Request) -> ContainerCreateBody {
    let mut resolve = |value: &Value| Ok(value.to_string());
    body(request, "here", Some("mine"), &mut resolve, &|text| Ok(text.to_owned())).unwrap()
}

#[test]
fn a_plan_shows_the_reference_shape_and_names_instead_of_values() {
    let plan = render(&request()).unwrap();
    assert_eq!(plan["Image"], "mcp/x:1");
    assert_eq!(plan["Cmd"], json!(["--flag=a b", "it's \"$HOME\""]));
    assert_eq!(plan["Env"], json!(["PLAIN=a=b", "KEY=Bearer <secret:x.key>", "DB=<config:x.db>"]));
    assert_eq!(
        plan["Labels"],
        json!({"docker-mcp": "true", "docker-mcp-tool-type": "mcp", "docker-mcp-name": "My Server",
               "docker-mcp-transport": "stdio", "docker-mcp-session": "s1",
               "docker-mcp-sessions-at": "<sessions>", "team": "a"})
    );
    let host = &plan["HostConfig"];
    assert_eq!(host["Binds"], json!(["cache:/cache"]));
    assert_eq!(host["NanoCpus"], 1_500_000_000_i64);
    assert_eq!(host["Memory"], 2_147_483_648_i64);
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["ExtraHosts"], json!(["h.local:host-gateway"]));
    assert_eq!((&host["Init"], &host["AutoRemove"]), (&json!(true), &json!(true)));
    assert_eq!((&plan["OpenStdin"], &plan["StdinOnce"], &plan["Tty"]), (&json!(true), &json!(true), &json!(false)));
    assert!(!plan.to_string().contains("hunter2"));
}

#[test]
fn a_disabled_network_wins_over_the_gateways_own() {
    let mut request = request();
    request.spec.network = Network::None;
    let body = real_body(&request);
    assert_eq!(body.host_config.unwrap().network_mode.as_deref(), Some("none"));
    assert!(body.networking_config.is_none());
}

#[test]
fn the_gateways_own_network_is_joined() {
    let body = real_body(&request());
    assert_eq!(body.host_config.unwrap().network_mode.as_deref(), Some("mine"));
}

#[test]
fn no_label_overrides_the_gateways_own() {
    let mut request = request();
    let other = |key: &str| (key.to_owned(), "other".to_owned());
    request.spec.labels = vec![other("docker-mcp-session"), other("docker-mcp-sessions-at")];
    let labels = real_body(&request).labels.unwrap();
    assert_eq!((labels["docker-mcp-session"].as_str(), labels["docker-mcp-sessions-at"].as_str()), ("s1", "here"));
}

#[test]
fn hardening_is_passed_on() {
    let mut request = request();
    request.spec.security = SecurityProfile { read_only_root: true, drop_capabilities: true, run_as_non_root: true };
    let plan = render(&request).unwrap();
    assert_eq!(plan["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(plan["HostConfig"]["CapDrop"], json!(["ALL"]));
}

#[test]
fn read_only_takes_writing_away_and_keeps_the_rest() {
    assert_eq!(read_only("a:/b"), "a:/b:ro");
    assert_eq!(read_only("a:/b:rw"), "a:/b:ro");
    assert_eq!(read_only("a:/b:z,rw"), "a:/b:z,ro");
    assert_eq!(read_only("a:/b:ro"), "a:/b:ro");
}

#[test]
fn a_refused_volume_stops_the_request() {
    let refuse = |_: &str| Err(RuntimeError::Denied("no".to_owned()));
    let error = body(&request(), "here", None, &mut |value| Ok(value.to_string()), &refuse).unwrap_err();
    assert!(matches!(error, RuntimeError::Denied(_)));
}

#[test]
fn a_variable_name_cannot_carry_a_value() {
    let mut request = request();
    request.spec.environment = vec![("A=B".to_owned(), Value::text(""))];
    assert!(matches!(render(&request), Err(RuntimeError::Invalid(_))));
}

#[test]
fn only_a_number_other_than_zero_is_certainly_not_root() {
    assert!(is_certainly_not_root("1000") && is_certainly_not_root("1000:0"));
    for user in ["", "0", "0:1000", "root", "node", "00"] {
        assert!(!is_certainly_not_root(user), "{user}");
    }
}

#[test]
fn the_same_request_renders_the_same_way() {
    let plans: std::collections::BTreeSet<_> = (0..20).map(|_| render(&request()).unwrap().to_string()).collect();
    assert_eq!(plans.len(), 1);
}
