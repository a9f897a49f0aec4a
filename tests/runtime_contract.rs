//! The contract of container runtimes, held against each backend.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/contract_of_wasi.rs"]
mod contract;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::{Image, Images};
use docker_mcp::capability::container_runtime::embedded::EmbeddedRuntime;
use docker_mcp::capability::container_runtime::fake::{FakeRuntime, Process};
use docker_mcp::lease::Reaper;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

struct NoSecrets;

#[async_trait]
impl SecretStore for NoSecrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        Err(SecretError::Missing { name: name.to_owned(), remedy: "there are none here".to_owned() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_runtime_keeps_the_contract() {
    let reaper = Reaper::new();
    let cache = tempfile::tempdir().unwrap();
    let engine = Engine::new(Some(cache.path())).unwrap();
    let base = PathBuf::from(env!("FIXTURE_COMPONENTS"));
    let runtime = EmbeddedRuntime::new(engine, reaper.clone(), Arc::new(NoSecrets), base, BTreeMap::new()).unwrap();
    let misbehave = |arguments: &[&str]| Image::new("misbehave.wasm", arguments);
    let images = Images {
        echo: misbehave(&["echo"]),
        both_streams: misbehave(&["both"]),
        fails: misbehave(&["exit", "1"]),
        endless: misbehave(&["ignore-stdin"]),
        flood: misbehave(&["flood", "100000"]),
        missing: Image::new("missing.wasm", &[]),
        greeting: misbehave(&["environment"]),
    };
    contract::holds(&runtime, &images, || async {
        // A guest ends inside of its lease's release, so nothing pending means nothing left.
        usize::from(!reaper.drain(Duration::from_millis(10)).await)
    })
    .await;
}

#[tokio::test]
async fn the_fake_runtime_keeps_the_contract() {
    let runtime = FakeRuntime::new(Reaper::new(), Arc::new(NoSecrets))
        .image("echo", |mut process: Process| async move {
            let mut lines = BufReader::new(process.stdin).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if process.stdout.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return 1;
                }
            }
            0
        })
        .image("both", |mut process: Process| async move {
            let _ = process.stdout.write_all(b"to stdout\n").await;
            let _ = process.stderr.write_all(b"to stderr\n").await;
            0
        })
        .image("fails", |_| async { 1 })
        .image("endless", |_process| std::future::pending())
        .image("flood", |mut process: Process| async move {
            let _ = process.stdout.write_all(&[b'x'; 100_000]).await;
            let _ = process.stderr.write_all(&[b'y'; 100_000]).await;
            0
        })
        .image("greeting", |mut process: Process| async move {
            for (name, value) in &process.environment {
                let _ = process.stdout.write_all(format!("{name}={}\n", value.expose()).as_bytes()).await;
            }
            0
        });
    let images = Images {
        echo: Image::new("echo", &[]),
        both_streams: Image::new("both", &[]),
        fails: Image::new("fails", &[]),
        endless: Image::new("endless", &[]),
        flood: Image::new("flood", &[]),
        missing: Image::new("missing", &[]),
        greeting: Image::new("greeting", &[]),
    };
    contract::holds(&runtime, &images, || async { runtime.live() }).await;
    assert!(runtime.requests().iter().any(|request| request.spec.image == "echo"));
}
