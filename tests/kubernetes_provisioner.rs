//! The components for clusters in the sandbox: what the built-in provisioner asks for, and mappings, the built-in one and
//! one that misbehaves. What runs containers is in memory; a real cluster is in `end_to_end_kubernetes`.

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

use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_mcp::audit::Audit;
use docker_mcp::builtin;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::Provision as _;
use docker_mcp::resolve::ResolveError;
use docker_mcp::resolve::cluster::{KeyMapping as _, Use};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::sandbox::mapping::Mapping;
use provisioning_core::value::ObjectKind;
use provisioning_core::{Segment, Value};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use world::{ALL, World, cache, docker, fixture};

fn kubernetes() -> Source {
    Source::BuiltIn { name: "kubernetes", bytes: builtin::KUBERNETES }
}

fn grants() -> String {
    Grants::builtin_kubernetes().to_string()
}

/// Where the pieces of a value are kept: plain text as it is, `KIND KEY` for what is stored.
fn places(value: &Value) -> Vec<String> {
    let place = |segment: &Segment| match segment {
        Segment::Text(text) => format!("text {text}"),
        Segment::Stored { kind, key, .. } => format!("{kind:?} {key}"),
        other => panic!("nothing else should reach a cluster: {:?}", Value::from_segments([other.clone()])),
    };
    value.segments().iter().map(place).collect()
}

#[tokio::test]
async fn every_private_value_is_kept_in_an_object_of_the_server_and_reads_as_on_docker() {
    let world = World::new(kubernetes(), &grants(), "s");
    world.provision("s").await.unwrap();
    let spec = world.request().spec;
    let variables: Vec<_> = spec.environment.iter().map(|(name, value)| (name.as_str(), places(value))).collect();
    let kept = |text: &str| vec![text.to_owned()];
    assert_eq!(
        variables,
        [("TOKEN", kept("Secret TOKEN")), ("URL", kept("ConfigMap URL")), ("HEADER", kept("Secret HEADER")),]
    );
    let arguments: Vec<_> = spec.command.iter().map(places).collect();
    assert_eq!(arguments, [kept("ConfigMap 0.argument"), kept("ConfigMap 1.argument")]);

    let reference = World::new(docker(), ALL, "s");
    reference.provision("s").await.unwrap();
    let expected = reference.request().spec;
    assert_eq!(spec.command.iter().map(Value::content).collect::<Vec<_>>(), expected.command);
    let content = spec.environment.iter().map(|(name, value)| (name.clone(), value.content()));
    assert_eq!(content.collect::<Vec<_>>(), expected.environment);
    assert_eq!((spec.volumes, spec.user, spec.hosts), (expected.volumes, expected.user, expected.hosts));
}

#[tokio::test]
async fn the_arguments_of_a_call_are_kept_in_a_secret() {
    let world = World::new(kubernetes(), &grants(), "s");
    let arguments = Map::from_iter([("text".to_owned(), json!("hello"))]);
    world.provisioner.run_tool("s", "shout", arguments, CancellationToken::new()).await.unwrap();
    let arguments: Vec<_> = world.request().spec.command.iter().flat_map(places).collect();
    assert_eq!(arguments, ["Secret 0.argument", "Secret 1.argument"]);
}

#[tokio::test]
async fn plain_text_of_the_catalog_stays_plain_text() {
    let catalog = "registry: {s: {image: img, command: ['--plain', 'a$$b'], env: [{name: MODE, value: fixed}]}}";
    let world = World::with(kubernetes(), &grants(), "s", catalog);
    world.provision("s").await.unwrap();
    let spec = world.request().spec;
    assert_eq!(spec.environment[0].1.as_plain_text(), Some("fixed"));
    assert!(spec.command.iter().all(|value| value.as_plain_text().is_some()), "{:?}", spec.command);
}

#[tokio::test]
async fn without_the_grant_the_component_does_not_load() {
    let world = World::new(kubernetes(), ALL, "s");
    let error = world.provision("s").await.unwrap_err().to_string();
    assert!(error.contains("cluster-objects@0.1.0") && error.contains("--grant cluster-objects"), "{error}");
}

fn mapping(source: Source, limits: Limits) -> Mapping {
    Mapping::new(Engine::new(Some(&cache())).unwrap(), source, Arc::default(), limits, Audit::off())
}

fn uses(names: &[&str]) -> Vec<Use> {
    names.iter().map(|name| (ObjectKind::Secret, (*name).to_owned())).collect()
}

#[tokio::test]
async fn the_built_in_mapping_gives_every_name_its_own_key_or_says_why_there_is_none() {
    let mapping =
        mapping(Source::BuiltIn { name: "cluster-mapping", bytes: builtin::CLUSTER_MAPPING }, Limits::default());
    let uses =
        vec![(ObjectKind::Secret, "github.token".to_owned()), (ObjectKind::ConfigMap, "github.a_b-c".to_owned())];
    assert_eq!(mapping.map_keys(&uses).await.unwrap(), uses);
    let error = mapping.map_keys(&self::uses(&["a/b"])).await.unwrap_err();
    assert!(matches!(error, ResolveError::Entry(_)) && error.to_string().contains("`a/b` cannot be a key"), "{error}");
}

#[tokio::test]
async fn a_mapping_that_misbehaves_is_stopped_and_named() {
    let limits = Limits { guest_time: Duration::from_millis(300), ..Limits::default() };
    let mapping = mapping(Source::File(fixture("hostile-mapping")), limits);
    assert_eq!(mapping.map_keys(&uses(&["s.fine"])).await.unwrap(), uses(&["s.fine"]));
    for (name, expected) in [
        ("s.forever", "used up its computing time"),
        ("s.memory", "hostile-mapping"),
        ("s.trap", "unreachable"),
        ("s.refuse", "no such key"),
        ("s.long", "hostile-mapping"),
    ] {
        let start = Instant::now();
        let error = mapping.map_keys(&uses(&[name])).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{name}: {error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{name}");
    }
    assert_eq!(mapping.map_keys(&uses(&["s.fine"])).await.unwrap(), uses(&["s.fine"]), "it goes on");
}

#[tokio::test]
async fn a_mapping_that_imports_anything_is_not_run() {
    let package = "mcp-gateway:provisioning";
    let text = format!(
        r#"(component (import "{package}/log@0.1.0" (instance $log))
            (export "{package}/template-mapping@0.1.0" (instance $log)))"#
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("curious.wasm");
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    let mapping = mapping(Source::File(file), Limits::default());
    let error = mapping.map_keys(&uses(&["a"])).await.unwrap_err().to_string();
    assert!(error.contains("log@0.1.0`, and a mapping must not import anything"), "{error}");
}

#[tokio::test]
async fn what_is_no_mapping_is_refused_with_the_world_to_build_for() {
    for (source, expected) in [
        (docker(), "is a component but no mapping"),
        (Source::File("/no/such/mapping.wasm".into()), "cannot read mapping"),
        (Source::File(fixture("hostile-mapping").with_file_name("none")), "cannot read mapping"),
    ] {
        let error = mapping(source, Limits::default()).map_keys(&uses(&["a"])).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
