//! Pulling images from a real registry with a real engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test fails by panicking")]

#[path = "support/contract.rs"]
#[expect(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod contract;
#[path = "support/engine.rs"]
#[expect(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod engine;
#[path = "support/registry.rs"]
mod registry;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::{ContainerRuntime, ImageProgress, Quiet, RuntimeError};
use docker_mcp::lease::Reaper;

use contract::within;
use registry::{PASSWORD, Registry, USER, forget};

fn runtime_with_config(directory: &Path) -> DockerRuntime {
    let mut surroundings = engine::surroundings();
    surroundings.variables.insert("DOCKER_CONFIG".to_owned(), directory.display().to_string());
    engine::runtime(surroundings, &Reaper::new())
}

/// An image of its own: what one test removes, another may be using.
async fn image(docker: &bollard::Docker, name: &str) -> String {
    let nonce = format!(r#"LABEL test="{name}-{}""#, std::process::id());
    engine::image(docker, name, &nonce).await
}

#[derive(Default)]
struct Seen(AtomicU64);

impl ImageProgress for Seen {
    fn bytes(&self, _image: &str, done: u64, total: u64) {
        assert!(done <= total);
        self.0.fetch_max(done, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_image_is_pulled_once_with_progress_by_tag_and_by_digest() {
    let Some(docker) = engine::engine().await else { return };
    let Some(registry) = Registry::start(false).await else { return };
    let local = image(&docker, "pull-plain").await;
    let reference = registry.push(&docker, &local, "a/plain").await;
    forget(&docker, &local).await;
    let config = tempfile::tempdir().unwrap();
    let runtime = runtime_with_config(config.path());

    let seen = Seen::default();
    within(futures::future::join_all((0..3).map(|_| runtime.prepare(&reference, &seen))))
        .await
        .into_iter()
        .for_each(|outcome| outcome.unwrap());
    assert!(seen.0.load(Ordering::Relaxed) > 100_000, "progress was reported");

    let found = docker.inspect_image(&reference).await.unwrap();
    let by_digest = found.repo_digests.unwrap().into_iter().next().unwrap();
    forget(&docker, &reference).await;
    within(runtime.prepare(&by_digest, &Quiet)).await.unwrap();
    within(runtime.prepare(&by_digest, &Quiet)).await.unwrap();
    forget(&docker, &by_digest).await;

    let missing = format!("{}:absent", reference.rsplit_once(':').unwrap().0);
    let error = within(runtime.prepare(&missing, &Quiet)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Image { .. }));
    assert!(error.to_string().contains("check the name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_credentials_gets_those_of_the_docker_configuration() {
    let Some(docker) = engine::engine().await else { return };
    let Some(registry) = Registry::start(true).await else { return };
    let local = image(&docker, "pull-private").await;
    let reference = registry.push(&docker, &local, "a/private").await;
    forget(&docker, &local).await;
    let config = tempfile::tempdir().unwrap();
    let runtime = runtime_with_config(config.path());

    let error = within(runtime.prepare(&reference, &Quiet)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("docker login {}", registry.address)), "{error}");

    let write = |auth: &str| {
        let auth = base64::engine::general_purpose::STANDARD.encode(auth);
        let text = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address);
        std::fs::write(config.path().join("config.json"), text).unwrap();
    };
    write("puller:wrong");
    let error = within(runtime.prepare(&reference, &Quiet)).await.unwrap_err().to_string();
    assert!(error.contains("docker login") && !error.contains("wrong"), "{error}");

    write(&format!("{USER}:{PASSWORD}"));
    within(runtime.prepare(&reference, &Quiet)).await.unwrap();
    forget(&docker, &reference).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_cannot_be_reached_is_told_from_a_missing_image() {
    if engine::engine().await.is_none() {
        return;
    }
    let config = tempfile::tempdir().unwrap();
    let runtime = runtime_with_config(config.path());
    let error = within(runtime.prepare("127.0.0.1:1/x:1", &Quiet)).await.unwrap_err().to_string();
    assert!(error.contains("cannot reach the registry"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_gets_exactly_that_content_and_a_tag_that_is_there_stays_although_the_registry_moved_it() {
    let Some(docker) = engine::engine().await else { return };
    let Some(registry) = Registry::start(false).await else { return };
    let (old, new) = (image(&docker, "pull-old").await, image(&docker, "pull-new").await);
    let id = async |reference: &str| docker.inspect_image(reference).await.unwrap().id.unwrap();
    let (old_id, new_id) = (id(&old).await, id(&new).await);
    assert_ne!(old_id, new_id);
    let config = tempfile::tempdir().unwrap();
    let runtime = runtime_with_config(config.path());

    let reference = registry.push(&docker, &old, "a/moved").await;
    within(runtime.prepare(&reference, &Quiet)).await.unwrap();
    let digests = docker.inspect_image(&reference).await.unwrap().repo_digests.unwrap();
    let repository = reference.strip_suffix(":1").unwrap();
    let digest = digests.into_iter().find(|digest| digest.starts_with(repository)).unwrap();
    assert_eq!(registry.push(&docker, &new, "a/moved").await, reference);

    let tag = bollard::query_parameters::TagImageOptionsBuilder::default().repo(repository).tag("1").build();
    docker.tag_image(&old, Some(tag)).await.unwrap();
    within(runtime.prepare(&reference, &Quiet)).await.unwrap();
    assert_eq!(id(&reference).await, old_id, "an update is the operator's decision");
    forget(&docker, &reference).await;

    let with_tag = digest.replace('@', ":1@");
    for exact in [&digest, &with_tag] {
        within(runtime.prepare(exact, &Quiet)).await.unwrap();
        assert_eq!(id(exact).await, old_id, "{exact}");
    }
    within(runtime.prepare(&reference, &Quiet)).await.unwrap();
    assert_eq!(id(&reference).await, new_id);

    let absent = format!("{repository}@sha256:{}", "0".repeat(64));
    let error = within(runtime.prepare(&absent, &Quiet)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Image { .. }), "{error}");
    for image in [&reference, &digest, &old, &new] {
        let _ = docker.remove_image(image, None::<bollard::query_parameters::RemoveImageOptions>, None).await;
    }
}
