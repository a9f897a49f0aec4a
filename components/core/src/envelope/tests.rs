use proptest::prelude::*;

use super::*;
use crate::spec::{SecurityProfile, VolumeMount};
use crate::value::Origin;

fn envelope() -> Envelope {
    Envelope {
        image: "mcp/github@sha256:aa".to_owned(),
        command: vec![
            Value::text("--token"),
            Value::secret("github.token"),
            Value::private(Origin::Config, "g.h", "h"),
        ],
        environment: vec![
            ("TOKEN".to_owned(), Value::secret("github.token")),
            ("HOST".to_owned(), Value::private(Origin::Config, "g.h", "h")),
            ("MODE".to_owned(), Value::text("fast")),
        ],
        volumes: vec![Value::text("data:/data"), Value::private(Origin::Config, "g.dir", "/tmp/x:/x")],
        user: Some(Value::text("1000")),
        network: Network::Declared,
        hosts: vec![HostAlias { name: "api.local".to_owned(), address: "10.0.0.1".to_owned() }],
        resources: Resources::default(),
    }
}

fn inside(envelope: &Envelope) -> ContainerSpec {
    ContainerSpec {
        image: envelope.image.clone(),
        command: envelope.command.clone(),
        environment: envelope.environment.clone(),
        volumes: envelope.volumes.iter().map(|value| VolumeMount { value: value.clone(), read_only: false }).collect(),
        user: envelope.user.clone(),
        network: envelope.network,
        hosts: envelope.hosts.clone(),
        labels: Vec::new(),
        resources: envelope.resources,
        security: SecurityProfile::default(),
    }
}

/// Everything that can be granted.
fn generous() -> Bounds {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Bounds {
        rewrite_image: set(&["registry.local", "ghcr.io/team", ""]),
        rewrite_command: true,
        add_argument: set(&["--quiet", "", "**"]),
        rewrite_user: set(&["65532", ""]),
        add_env: set(&["EXTRA", "A=B", "TEAM_*", "ALL_PROXY"]),
        add_mount: set(&["cache", "/etc", "..", "C", "other:/only"]),
        add_label: set(&["", "docker-mcp", "team."]),
        add_host: set(&["db.local:10.0.0.9", "api.local:6.6.6.6"]),
        remote_secrets: true,
    }
}

fn refused(change: impl FnOnce(&mut ContainerSpec), bounds: &Bounds) -> Refusal {
    let mut spec = inside(&envelope());
    change(&mut spec);
    envelope().check(&spec, bounds).expect_err("must be refused")
}

fn allowed(change: impl FnOnce(&mut ContainerSpec), bounds: &Bounds) {
    let mut spec = inside(&envelope());
    change(&mut spec);
    assert_eq!(envelope().check(&spec, bounds), Ok(()));
}

fn mount(text: &str) -> VolumeMount {
    VolumeMount { value: Value::text(text), read_only: false }
}

#[test]
fn an_image_is_rewritten_only_below_what_was_granted() {
    for image in ["registry.local/a/b:1", "registry.local:443/a", "ghcr.io/team:1", "ghcr.io/team/x"] {
        allowed(|spec| spec.image = image.to_owned(), &generous());
        refused(|spec| spec.image = image.to_owned(), &Bounds::default());
    }
    for image in [
        "registry.local.evil/a",
        "registry.localhost/a",
        "registry.local:5000/a",
        "registry.local@evil/a",
        "registry.local/A",
        "registry.local/\u{430}",
        "registry.local/a@sha256:00",
        "registry.local/../etc/x",
        "registry.local/./x",
        "registry.local//x",
        "registry.local/a:5000/evil",
        "registry.local/server.wasm",
        "registry.local/x.wasm:1",
        "registry.local/a b",
        "registry.local/a\n",
        "registry.local/",
        "registry.local/a:",
        "ghcr.io/team-evil/x",
        "ghcr.io/team.evil",
        "/etc/passwd",
        "",
    ] {
        refused(|spec| spec.image = image.to_owned(), &generous());
    }
}

#[test]
fn no_grant_puts_a_private_value_where_the_entry_does_not() {
    let foreign = [
        Value::secret("other.token"),
        Value::concat([&Value::text("x"), &Value::secret("github.token")]),
        Value::private(Origin::Config, "g.h", "other"),
        Value::private(Origin::Argument, "g.h", "h"),
    ];
    for value in foreign {
        refused(|spec| spec.command = vec![value.clone()], &generous());
        refused(|spec| spec.environment.push(("EXTRA".to_owned(), value.clone())), &generous());
        refused(|spec| spec.volumes.push(VolumeMount { value: value.clone(), read_only: true }), &generous());
        refused(|spec| spec.user = Some(value.clone()), &generous());
        refused(|spec| spec.environment = vec![("MODE".to_owned(), value.clone())], &generous());
    }
    refused(|spec| spec.environment.push(("EXTRA".to_owned(), Value::secret("github.token"))), &generous());
    refused(|spec| spec.environment = vec![("HOST".to_owned(), Value::secret("github.token"))], &generous());
}

#[test]
fn a_command_changes_only_with_the_grant() {
    let other = || vec![Value::text("--verbose"), Value::secret("github.token")];
    allowed(|spec| spec.command = other(), &generous());
    let refusal = refused(|spec| spec.command = other(), &Bounds::default());
    assert!(refusal.to_string().contains("rewrite-command"), "{refusal}");
    refused(|spec| spec.command.clear(), &Bounds::default());
}

#[test]
fn an_argument_is_added_without_changing_the_others() {
    let bounds = Bounds { add_argument: ["--log=*".to_owned(), "-q".to_owned()].into(), ..Bounds::default() };
    let put = |at: usize, text: &str| {
        let mut command = envelope().command;
        command.insert(at, Value::text(text));
        command
    };
    for at in 0..=3 {
        allowed(|spec| spec.command = put(at, "--log=x"), &bounds);
        refused(|spec| spec.command = put(at, "--evil"), &bounds);
        refused(|spec| spec.command = put(at, "--log=x"), &Bounds::default());
    }
    refused(|spec| spec.command = vec![Value::text("-q")], &bounds);
    refused(|spec| spec.command.reverse(), &bounds);
    let secret = Value::concat([&Value::text("--log="), &Value::secret("github.token")]);
    refused(|spec| spec.command.push(secret), &bounds);
}

#[test]
fn variables_are_added_by_name_and_set_once() {
    let add = |name: &str| (name.to_owned(), Value::text("x"));
    allowed(|spec| spec.environment.push(add("EXTRA")), &generous());
    allowed(|spec| spec.environment.extend([add("TEAM_A"), add("ALL_PROXY")]), &generous());
    // A pattern does not cover what decides where traffic goes or what code runs.
    for name in ["EXTRA2", "extra", "A=B", "", "EXTRA\0", "TOKEN", "TEAM_HTTP_PROXY", "TEAM_LD_PRELOAD", "team_a"] {
        refused(|spec| spec.environment.push(add(name)), &generous());
    }
    refused(|spec| spec.environment.extend([add("EXTRA"), add("EXTRA")]), &generous());
}

#[test]
fn a_variable_that_the_entry_declares_twice_may_be_either() {
    let mut envelope = envelope();
    envelope.environment.push(("MODE".to_owned(), Value::text("slow")));
    let mut spec = inside(&envelope);
    spec.environment = vec![("MODE".to_owned(), Value::text("slow"))];
    assert_eq!(envelope.check(&spec, &Bounds::default()), Ok(()));
}

#[test]
fn only_named_volumes_can_be_added() {
    allowed(|spec| spec.volumes.push(mount("cache:/cache")), &generous());
    allowed(|spec| spec.volumes.push(mount("cache:/cache:ro")), &generous());
    allowed(|spec| spec.volumes.push(mount("other:/only:ro")), &generous());
    for text in [
        "other:/elsewhere",
        "cache",
        "cache:cache",
        "cache:/x:rshared",
        "cache:/x/../etc",
        " cache:/x",
        "cachet:/x",
        "/etc:/x",
        "..:/x",
        "C:/x:/y:/z",
        r"C:\x:/y",
        "",
        ":",
        "data:/other",
    ] {
        refused(|spec| spec.volumes.push(mount(text)), &generous());
    }
}

#[test]
fn labels_of_gateway_and_engine_are_refused_whatever_was_granted() {
    let label = |key: &str| (key.to_owned(), "x".to_owned());
    allowed(|spec| spec.labels.push(label("team.a")), &generous());
    for key in
        ["docker-mcp", "docker-mcp-name", "Docker-MCP", "app.kubernetes.io/name", "com.docker.x", "", "a b", "a=b"]
    {
        refused(|spec| spec.labels.push(label(key)), &generous());
    }
    refused(|spec| spec.labels.extend([label("team.a"), label("team.a")]), &generous());
    refused(|spec| spec.labels.push(label("team.a")), &Bounds::default());
}

#[test]
fn a_disabled_network_stays_disabled_and_ceilings_hold() {
    let mut closed = envelope();
    closed.network = Network::None;
    let mut spec = inside(&closed);
    spec.network = Network::Declared;
    assert!(closed.check(&spec, &generous()).is_err());
    let ceiling = Resources::default();
    for resources in [
        Resources { cpu_millis: 0, ..ceiling },
        Resources { memory_bytes: 0, ..ceiling },
        Resources { cpu_millis: ceiling.cpu_millis + 1, ..ceiling },
        Resources { memory_bytes: ceiling.memory_bytes + 1, ..ceiling },
    ] {
        refused(|spec| spec.resources = resources, &generous());
    }
    let alias = |name: &str, address: &str| HostAlias { name: name.to_owned(), address: address.to_owned() };
    // Not even with the grant, because the entry says what it means.
    refused(|spec| spec.hosts.push(alias("api.local", "6.6.6.6")), &generous());
    allowed(|spec| spec.hosts.push(alias("db.local", "10.0.0.9")), &generous());
    refused(|spec| spec.hosts.push(alias("db.local", "10.0.0.8")), &generous());
    refused(|spec| spec.hosts.push(alias("db.local", "10.0.0.9")), &Bounds::default());
    refused(|spec| spec.user = None, &generous());
    allowed(|spec| spec.user = Some(Value::text("65532")), &generous());
    for user in ["0", "", "65532:0"] {
        refused(|spec| spec.user = Some(Value::text(user)), &generous());
    }
}

#[test]
fn a_refusal_bears_no_control_characters_and_ends() {
    let refusal = refused(|spec| spec.image = format!("\u{1b}[31m\nx{}", "y".repeat(5000)), &generous());
    assert!(!refusal.to_string().contains(char::is_control) && refusal.to_string().len() < 1000);
}

fn sub<T>(items: Vec<T>) -> impl Strategy<Value = Vec<T>>
where
    T: Clone + std::fmt::Debug + 'static,
{
    let count = items.len();
    prop::sample::subsequence(items, 0..=count)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z:/.=]{0,10}".prop_map(Value::text),
        Just(Value::secret("github.token")),
        Just(Value::secret("other")),
        Just(Value::private(Origin::Config, "g.h", "h")),
        Just(Value::private(Origin::Config, "g.dir", "/tmp/x:/x")),
    ]
}

prop_compose! {
    /// What a hostile guest may send.
    fn any_spec()(
        image in prop_oneof![Just("mcp/github@sha256:aa".to_owned()), "[a-z./:@]{0,12}"],
        command in prop_oneof![Just(envelope().command), prop::collection::vec(any_value(), 0..3)],
        environment in prop::collection::vec((prop_oneof![Just("TOKEN".to_owned()), Just("MODE".to_owned()), "[A-Z=]{0,5}"], any_value()), 0..3),
        volumes in prop::collection::vec((prop_oneof![any_value(), Just(Value::text("data:/data"))], any::<bool>()), 0..3),
        user in prop_oneof![Just(envelope().user), prop::option::of(any_value())],
        declared in any::<bool>(),
        labels in prop::collection::vec(("[a-z.]{0,4}", "[a-z]{0,2}"), 0..2),
        cpu_millis in 0u32..3000,
        memory_bytes in 0u64..(4 << 30),
    ) -> ContainerSpec {
        ContainerSpec {
            image, command, environment,
            volumes: volumes.into_iter().map(|(value, read_only)| VolumeMount { value, read_only }).collect(),
            user,
            network: if declared { Network::Declared } else { Network::None },
            hosts: Vec::new(),
            labels,
            resources: Resources { cpu_millis, memory_bytes },
            security: SecurityProfile::default(),
        }
    }
}

proptest! {
    #[test]
    fn narrowing_is_always_allowed(
        environment in sub(envelope().environment),
        volumes in sub(envelope().volumes),
        hosts in sub(envelope().hosts),
        read_only in any::<bool>(),
        no_network in any::<bool>(),
        cpu_millis in 1..=1000u32,
        memory_bytes in 1..=(2u64 << 30),
        hardened in any::<bool>(),
    ) {
        let mut spec = inside(&envelope());
        spec.environment = environment;
        spec.volumes = volumes.into_iter().map(|value| VolumeMount { value, read_only }).collect();
        spec.hosts = hosts;
        spec.network = if no_network { Network::None } else { Network::Declared };
        spec.resources = Resources { cpu_millis, memory_bytes };
        spec.security = SecurityProfile { read_only_root: hardened, drop_capabilities: hardened, run_as_non_root: hardened };
        prop_assert_eq!(envelope().check(&spec, &Bounds::default()), Ok(()));
    }

    #[test]
    fn whatever_passes_without_grants_is_inside(spec in any_spec()) {
        let envelope = envelope();
        if envelope.check(&spec, &Bounds::default()).is_ok() {
            prop_assert_eq!(&spec.image, &envelope.image);
            prop_assert_eq!(&spec.command, &envelope.command);
            prop_assert_eq!(&spec.user, &envelope.user);
            prop_assert!(spec.environment.iter().all(|pair| envelope.environment.contains(pair)));
            prop_assert!(spec.volumes.iter().all(|mount| envelope.volumes.contains(&mount.value)));
            prop_assert!(spec.labels.is_empty());
            prop_assert!(spec.resources.cpu_millis <= envelope.resources.cpu_millis);
            prop_assert!(spec.resources.memory_bytes <= envelope.resources.memory_bytes);
        }
    }

    #[test]
    fn grants_never_take_away(spec in any_spec()) {
        if envelope().check(&spec, &Bounds::default()).is_ok() {
            prop_assert_eq!(envelope().check(&spec, &generous()), Ok(()));
        }
    }
}
