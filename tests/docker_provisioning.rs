//! Provisioner components over a real Docker Engine: what a component started and did not hand back is removed,
//! whatever it did next.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/contract.rs"]
#[allow(dead_code, reason = "the suite itself runs elsewhere; here only its subject is used")]
mod contract;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/engine.rs"]
mod engine;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{OneSecret, PATIENCE, Subject, exchange};
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::{Quiet, RunLimits};
use docker_mcp::catalog::Catalog;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision as _, ProvisionError};
use docker_mcp::resolve::ServerSettings;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use provisioning_core::Resources;
use tokio_util::sync::CancellationToken;

/// A server named for what the component is to do, which writes back what it reads.
fn provisioner(subject: &Subject, component: Source, name: &str) -> SandboxedProvisioner {
    limited(subject, component, name, Limits::default())
}

fn limited(subject: &Subject, component: Source, name: &str, limits: Limits) -> SandboxedProvisioner {
    let image = &subject.images.echo.image;
    let text = format!("registry:\n  {name}: {{image: '{image}', secrets: [{{name: x.key, env: KEY}}]}}\n");
    let (catalog, _) = Catalog::parse(&text, Path::new("test.yaml")).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
    std::fs::create_dir_all(&cache).unwrap();
    SandboxedProvisioner::new(Setup {
        engine: Engine::new(Some(&cache)).unwrap(),
        component,
        grants: "secret-resolver,config-resolver,container-runtime,remote-endpoint,log".parse().unwrap(),
        session: subject.session.clone(),
        runtime: Arc::clone(&subject.runtime),
        servers: vec![ServerSettings {
            name: name.to_owned(),
            entry: Arc::new(catalog.get(name).unwrap().clone()),
            config: Arc::default(),
            secrets: Arc::new(OneSecret),
            resources: Resources::default(),
            long_lived: false,
            cluster: None,
            refused: None,
        }],
        startup_timeout: PATIENCE,
        tool_timeout: RunLimits::default().time,
        limits,
        progress: Arc::new(Quiet),
        audit: docker_mcp::audit::Audit::off(),
        dry_run: false,
        enforcement: Enforcement::default(),
    })
}

fn hostile() -> Source {
    Source::File(Path::new(env!("FIXTURE_COMPONENTS")).join("hostile.wasm"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_component_starts_a_server_that_is_gone_when_it_is_let_go() {
    let Some(subject) = engine::subject().await else { return };
    let provisioner = provisioner(&subject, Source::BuiltIn { name: "docker", bytes: builtin::DOCKER }, "s");
    let endpoint = provisioner.provision("s", CancellationToken::new()).await.unwrap();
    let Endpoint::Container(mut running) = endpoint else { panic!("a container") };
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    drop(running);
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_component_does_after_it_started_a_container_the_container_is_removed() {
    for (name, expected) in [
        ("trap-after-start", "unreachable"),
        ("fail-after-start", "changed its mind"),
        ("spin-after-start", "computing time"),
        ("start-many", "too many containers"),
    ] {
        let Some(subject) = engine::subject().await else { return };
        let provisioner = provisioner(&subject, hostile(), name);
        let began = Instant::now();
        let error = provisioner.provision(name, CancellationToken::new()).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        subject.expect_nothing_left().await;
        eprintln!("{name}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_cancelled_after_it_started_a_container_leaves_nothing() {
    let (Some(subject), Some(docker)) = (engine::subject().await, engine::engine().await) else { return };
    // It is not to end by its time.
    let limits = Limits { guest_time: PATIENCE, ..Limits::default() };
    let provisioner = Arc::new(limited(&subject, hostile(), "spin-after-start", limits));
    provisioner.ready().await.unwrap();
    let cancel = CancellationToken::new();
    let (running, token) = (Arc::clone(&provisioner), cancel.clone());
    let operation = tokio::spawn(async move { running.provision("spin-after-start", token).await.map(drop) });
    let deadline = Instant::now() + PATIENCE;
    while engine::containers(&docker, &subject.session).await.is_empty() {
        assert!(Instant::now() < deadline, "it never started a container");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    let result = contract::within(operation).await.unwrap();
    assert!(matches!(result, Err(ProvisionError::Cancelled)), "{result:?}");
    subject.expect_nothing_left().await;
}
