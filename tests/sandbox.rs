//! The sandbox with real components: the built-in one, one that misbehaves in every way, and one composed with
//! `wac`. The container runtime behind them is in memory; what leaves the sandbox is what counts here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/world.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod world;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::Request;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::{Endpoint, Provision, ProvisionError, RemoteTransport};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use provisioning_core::{Network, Resources};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use world::{ALL, CATALOG, PATIENCE, TOOL_TIME, World, docker, fixture, hostile, mischief, texts};

#[tokio::test]
async fn the_built_in_component_asks_for_what_the_entry_declares() {
    let world = World::new(docker(), ALL, "s");
    let endpoint = world.provision("s").await.unwrap();
    let Request { identity, spec } = world.request();
    assert_eq!((identity.session.as_str(), identity.server.as_str(), identity.tool), ("test", "s", None));
    assert_eq!(spec.image, "img");
    let command: Vec<String> = spec.command.iter().map(ToString::to_string).collect();
    assert_eq!(command, ["--path=<config:s.path>", "<config:s.more>"]);
    assert_eq!(
        texts(&spec.environment),
        ["TOKEN=<secret:s.token>", "URL=https://<config:s.user>@host", "HEADER=Bearer <secret:s.token>"]
    );
    let volumes: Vec<String> = spec.volumes.iter().map(|mount| mount.value.to_string()).collect();
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    assert_eq!(spec.user.unwrap().to_string(), "<config:s.uid>");
    assert_eq!(spec.network, Network::None);
    assert_eq!(spec.hosts.len(), 1);
    assert_eq!(spec.resources, Resources::default());
    assert_eq!(world.runtime.live(), 1);
    drop(endpoint);
    assert_eq!(world.left().await, 0);
}

#[tokio::test]
async fn an_ephemeral_tool_runs_in_its_own_container_with_the_callers_arguments() {
    let world = World::new(docker(), ALL, "s");
    let arguments = Map::from_iter([("text".to_owned(), json!("; rm -rf $HOME $TOKEN 'x"))]);
    let completed = world.provisioner.run_tool("s", "shout", arguments, CancellationToken::new()).await.unwrap();
    assert_eq!(completed.exit_code, 0);
    let Request { identity, spec } = world.request();
    assert_eq!(identity.tool.as_deref(), Some("shout"));
    assert_eq!(spec.image, "tool");
    let command: Vec<String> = spec.command.iter().map(ToString::to_string).collect();
    // The caller's `$TOKEN` stays text; the catalog's becomes the secret.
    assert_eq!(command, ["<argument:text>", "<secret:s.token>"]);
    // It may run as long as calls may take.
    assert_eq!(world.runtime.runs()[0].time, TOOL_TIME);
    assert_eq!(world.left().await, 0);
}

#[tokio::test]
async fn a_remote_server_is_handed_over_with_its_headers() {
    let catalog = r"
registry:
  far:
    type: remote
    remote: {url: 'https://mcp.example/mcp', transport_type: sse, headers: {Authorization: 'Bearer ${KEY}'}}
    secrets: [{name: far.token, env: KEY}]
";
    let world = World::with(docker(), ALL, "far", catalog);
    let Endpoint::Remote(remote) = world.provision("far").await.unwrap() else { panic!("a remote endpoint") };
    assert_eq!(remote.url.expose(), "https://mcp.example/mcp");
    assert_eq!(remote.transport, RemoteTransport::Sse);
    assert_eq!(remote.headers.get("Authorization").unwrap().expose(), "Bearer canary-secret");
    assert!(!format!("{remote:?}").contains("canary"));
}

#[tokio::test]
async fn a_required_secret_that_is_not_set_stops_the_server_and_says_how_to_set_it() {
    let world = World::new(docker(), ALL, "unset");
    let error = world.provision("unset").await.map(drop).unwrap_err().to_string();
    assert_eq!(error, "secret `unset.token` is not set; set it");
    assert!(world.runtime.requests().is_empty());
}

#[tokio::test]
async fn nothing_is_granted_to_a_component_from_a_file() {
    let world = World::new(hostile(), "", "s");
    let error = world.provision("s").await.map(drop).unwrap_err().to_string();
    for interface in ["container-runtime", "secret-resolver", "config-resolver", "log"] {
        assert!(error.contains(&format!("mcp-gateway:provisioning/{interface}@0.1.0")), "{error}");
    }
    assert!(error.contains("--grant "), "{error}");
}

#[tokio::test]
async fn a_component_with_a_grant_too_few_is_told_which() {
    let world = World::new(hostile(), "config-resolver,container-runtime,log", "s");
    let error = world.provision("s").await.map(drop).unwrap_err().to_string();
    assert!(error.contains("secret-resolver") && !error.contains("container-runtime@"), "{error}");
}

#[tokio::test]
async fn what_is_no_provisioner_is_refused_with_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Source::File(path)
    };
    let cases = [
        (file("text.wasm", b"#!/bin/sh\n"), "not WebAssembly"),
        (file("empty.wasm", b""), "not WebAssembly"),
        (file("module.wasm", b"\0asm\x01\0\0\0"), "a core module, not a component"),
        (file("cut.wasm", &builtin::DOCKER[..builtin::DOCKER.len() / 2]), "not valid WebAssembly"),
        (file("other.wasm", builtin::SAMPLE_SERVER), "is a component but no provisioner"),
        (Source::File(fixture("hardening-wrapper")), "is a component but no provisioner"),
        (Source::File(directory.path().join("missing.wasm")), "cannot read provisioner"),
    ];
    for (source, expected) in cases {
        let error = World::new(source, ALL, "s").provision("s").await.map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_guest_that_computes_forever_is_stopped_and_the_next_operation_works() {
    let started = Instant::now();
    assert!(mischief("spin").await.contains("computing time"));
    assert!(started.elapsed() < PATIENCE);
    let world = World::new(hostile(), ALL, "well-behaved");
    assert!(world.provision("well-behaved").await.is_ok());
}

#[tokio::test]
async fn a_guest_that_wants_too_much_is_stopped() {
    for (behaviour, what, limit) in [
        ("spin", "computing time", "limit `time`: 2000 ms of computing;"),
        ("eat-memory", "failed", "limit `memory`: 64 MiB in all memories together;"),
        ("recurse", "failed", "a stack has 512 KiB, which nothing changes"),
        ("recurse-widely", "failed", "out of bounds memory access"),
        ("flood-calls", "too many host calls", "limit `host-calls`: 10000 host calls;"),
        ("flood-handles", "failed", "limit `handles`: 4096 handles at once;"),
        ("hoard-text", "too much text", "limit `value-bytes`: 8 MiB in values at once;"),
        ("copy-much", "failed", "limit `copied-bytes`: 4 MiB copied by one host call;"),
        ("start-many", "too many containers", "limit `containers`: 16 containers;"),
        ("run-many", "too many containers", "limit `containers`: 16 containers;"),
    ] {
        let error = mischief(behaviour).await;
        assert!(error.contains(what) && error.contains(limit), "{behaviour}: {error}");
        let says_what_changes_it = error.contains("` of a policy can only lower") || behaviour.starts_with("recurse");
        assert!(says_what_changes_it, "{behaviour}: {error}");
    }
}

#[tokio::test]
async fn a_guest_that_reaches_what_a_policy_allows_is_told_the_rule() {
    let limits = "{memory: 4Mi, host-calls: 50, time: 100ms}";
    let policy = format!("version: 1\ncomponents: {{allow: [{{component: '*', name: small, limits: {limits}}}]}}");
    for (behaviour, limit) in [
        ("eat-memory", "limit `memory`: 4 MiB in all memories together; `limits.memory` of rule `small`"),
        ("flood-calls", "limit `host-calls`: 50 host calls; `limits.host-calls` of rule `small`"),
        ("spin", "limit `time`: 100 ms of computing; `limits.time` of rule `small`"),
    ] {
        let catalog = CATALOG.replace("NAME", behaviour);
        let world = World::under(&policy, hostile(), ALL, behaviour, &catalog);
        let error = world.provision(behaviour).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(limit) && error.contains("policy.yaml:"), "{behaviour}: {error}");
        assert_eq!(world.left().await, 0, "{behaviour}");
    }
}

/// Counts lines of components in the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn log_lines_over_the_bound_are_dropped_and_the_operation_goes_on() {
    let lines = Lines::default();
    let writer = lines.clone();
    // For this thread, on which the operation runs too.
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(log);
    let world = World::new(hostile(), ALL, "flood-log");
    assert!(world.provision("flood-log").await.is_ok());
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let of_components: Vec<&str> = text.lines().filter(|line| line.contains(" provisioner: line ")).collect();
    assert_eq!(of_components.len(), Limits::default().log_lines as usize, "{text:.1000}");
    assert!(of_components.last().unwrap().ends_with("(further lines of this operation are dropped)"));
}

#[tokio::test]
async fn what_a_guest_started_and_did_not_hand_back_is_removed() {
    assert!(mischief("trap-after-start").await.contains("unreachable"));
    assert_eq!(mischief("fail-after-start").await, "changed its mind");
    for name in ["start-twice", "stop-first"] {
        let world = World::new(hostile(), ALL, name);
        let endpoint = world.provision(name).await.unwrap();
        assert_eq!(world.runtime.requests().len(), 2);
        assert_eq!(world.left().await, 1, "{name}");
        drop(endpoint);
        assert_eq!(world.left().await, 0, "{name}");
    }
}

#[tokio::test]
async fn what_leaves_the_envelope_is_refused_with_the_grant_that_would_allow_it() {
    let expected = [
        ("other-image", "rewrite-image=registry.example"),
        ("other-command", "rewrite-command"),
        ("add-variable", "add-env=HTTP_PROXY"),
        ("rename-secret", "add-env=PUBLIC"),
        ("secret-in-command", "no grant"),
        ("decorate-secret", "no grant"),
        ("add-mount", "add-mount"),
        ("own-label", "no grant"),
        ("open-network", "network is disabled"),
        ("more-memory", "--memory"),
        ("other-user", "rewrite-user=0"),
    ];
    for (name, remedy) in expected {
        let text = mischief(name).await;
        assert!(text.contains(remedy), "{name}: {text}");
    }
}

#[tokio::test]
async fn narrowing_needs_no_grant() {
    let world = World::new(hostile(), ALL, "drop-everything");
    let _endpoint = world.provision("drop-everything").await.unwrap();
    assert!(world.request().spec.environment.is_empty());
}

#[tokio::test]
async fn a_bounded_grant_opens_exactly_its_bound() {
    let grants = format!("{ALL},rewrite-image=registry.example");
    let world = World::new(hostile(), &grants, "other-image");
    assert!(world.provision("other-image").await.is_ok());
    let elsewhere = format!("{ALL},rewrite-image=registry.exam");
    let world = World::new(hostile(), &elsewhere, "other-image");
    assert!(world.provision("other-image").await.is_err());
    // Even a granted variable never carries a secret.
    let world = World::new(hostile(), &format!("{ALL},add-env=PUBLIC"), "rename-secret");
    assert!(world.provision("rename-secret").await.is_err());
}

#[tokio::test]
async fn of_a_component_that_may_take_images_from_elsewhere_only_those_that_it_takes_must_be_there() {
    let catalog = CATALOG.replace("NAME", "other-image").replace("image: img", "image: nowhere.example/img");
    let world = World::with(hostile(), &format!("{ALL},rewrite-image=registry.example"), "other-image", &catalog);
    assert!(world.provision("other-image").await.is_ok());
    assert_eq!(world.request().spec.image, "registry.example/evil:1");
    assert_eq!(world.left().await, 0);
}

#[tokio::test]
async fn a_cancelled_operation_ends_and_leaves_nothing() {
    let world = Arc::new(World::new(hostile(), ALL, "spin"));
    world.provisioner.ready().await.unwrap();
    let cancel = CancellationToken::new();
    let (running, token) = (Arc::clone(&world), cancel.clone());
    let operation = tokio::spawn(async move { running.provisioner.provision("spin", token).await.map(drop) });
    tokio::task::yield_now().await;
    cancel.cancel();
    let result = tokio::time::timeout(PATIENCE, operation).await.unwrap().unwrap();
    assert!(matches!(result, Err(ProvisionError::Cancelled)), "{result:?}");
    assert_eq!(world.left().await, 0);
}

#[tokio::test]
async fn the_built_in_component_imports_exactly_what_it_is_granted() {
    // With a grant less it does not load; `builtin_docker` is what it gets, so each is used.
    for interface in Grants::builtin_docker().interfaces {
        let fewer: Vec<&str> = ALL.split(',').filter(|name| *name != interface.name()).collect();
        let world = World::new(docker(), &fewer.join(","), "s");
        let error = world.provision("s").await.map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("--grant {interface}")), "{error}");
    }
}

const PROVISIONER: &str = "mcp-gateway:provisioning/provisioner@0.1.0";

/// Plugs the wrapper's `container-runtime` into the built-in component.
fn composed() -> Vec<u8> {
    use wac_graph::types::Package;
    use wac_graph::{CompositionGraph, EncodeOptions};
    const RUNTIME: &str = "mcp-gateway:provisioning/container-runtime@0.1.0";
    let mut graph = CompositionGraph::new();
    let wrapper = std::fs::read(fixture("hardening-wrapper")).unwrap();
    let wrapper = Package::from_bytes("test:wrapper", None, wrapper, graph.types_mut()).unwrap();
    let wrapper = graph.register_package(wrapper).unwrap();
    let docker = Package::from_bytes("test:docker", None, builtin::DOCKER.to_vec(), graph.types_mut()).unwrap();
    let docker = graph.register_package(docker).unwrap();
    let wrapper = graph.instantiate(wrapper);
    let docker = graph.instantiate(docker);
    let runtime = graph.alias_instance_export(wrapper, RUNTIME).unwrap();
    graph.set_instantiation_argument(docker, RUNTIME, runtime).unwrap();
    let provisioner = graph.alias_instance_export(docker, PROVISIONER).unwrap();
    graph.export(provisioner, PROVISIONER).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

/// The built-in component, and beside it so many modules that do nothing.
fn with_modules(count: usize) -> Vec<u8> {
    use wac_graph::types::Package;
    use wac_graph::{CompositionGraph, EncodeOptions};
    let mut graph = CompositionGraph::new();
    let text = format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(count));
    let bytes = wat::parse_str(text).unwrap();
    let modules = Package::from_bytes("test:modules", None, bytes, graph.types_mut()).unwrap();
    let modules = graph.register_package(modules).unwrap();
    graph.instantiate(modules);
    let docker = Package::from_bytes("test:docker", None, builtin::DOCKER.to_vec(), graph.types_mut()).unwrap();
    let docker = graph.register_package(docker).unwrap();
    let docker = graph.instantiate(docker);
    let provisioner = graph.alias_instance_export(docker, PROVISIONER).unwrap();
    graph.export(provisioner, PROVISIONER).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

#[tokio::test]
async fn a_component_of_too_many_instances_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.wasm");
    for (count, is_allowed) in [(40, true), (70, false)] {
        std::fs::write(&path, with_modules(count)).unwrap();
        let world = World::new(Source::File(path.clone()), ALL, "s");
        match world.provision("s").await {
            Ok(_) => assert!(is_allowed, "{count} instances"),
            Err(error) => {
                let limit = "limit `instances`: 64 core instances, tables and memories each;";
                assert!(!is_allowed && error.to_string().contains(limit), "{count}: {error}");
            }
        }
        assert_eq!(world.left().await, 0);
    }
}

#[tokio::test]
async fn a_component_composed_around_the_built_in_one_hardens_every_container() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hardened.wasm");
    std::fs::write(&path, composed()).unwrap();

    let world = World::new(Source::File(path.clone()), ALL, "s");
    let error = world.provision("s").await.map(drop).unwrap_err().to_string();
    assert!(error.contains("grant `add-label=com.example.hardened`"), "{error}");

    let grants = format!("{ALL},add-label=com.example.");
    let world = World::new(Source::File(path), &grants, "s");
    let endpoint = world.provision("s").await.unwrap();
    let spec = world.request().spec;
    assert!(spec.security.read_only_root);
    assert_eq!(spec.labels, [("com.example.hardened".to_owned(), "true".to_owned())]);
    assert_eq!(texts(&spec.environment).len(), 3);
    drop(endpoint);
    assert_eq!(world.left().await, 0);
}
