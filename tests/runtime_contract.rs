//! The contract of container runtimes, held against the backends that need no engine. Docker is held to it in
//! `docker_runtime.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/contract.rs"]
mod contract;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{Image, Images, OneSecret, Subject};
use docker_mcp::capability::container_runtime::embedded::EmbeddedRuntime;
use docker_mcp::capability::container_runtime::fake::{FakeRuntime, Process};
use docker_mcp::capability::container_runtime::plan::PlanRuntime;
use docker_mcp::capability::container_runtime::{ContainerRuntime, RunLimits};
use docker_mcp::lease::Reaper;
use docker_mcp::sandbox::engine::Engine;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// One test for each rule of the contract and each backend.
macro_rules! held_to {
    ($backend:ident: $($rule:ident),* $(,)?) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    crate::contract::$rule(&crate::$backend()).await;
                }
            )*
        }
    };
}

macro_rules! held_to_all {
    ($($backend:ident),*) => {
        $(
            held_to!($backend:
                lines_are_exchanged_until_stdin_closes,
                dropping_stdin_closes_it,
                a_servers_streams_are_kept_apart,
                a_run_gives_streams_and_exit_code,
                arguments_arrive_exactly,
                secrets_arrive_in_the_environment,
                output_is_bounded,
                a_run_is_stopped_at_its_time_limit,
                a_missing_image_is_named,
                five_of_one_name_start_at_once,
                a_stubborn_server_is_removed_soon,
                output_ends_with_the_lease,
                a_caller_who_goes_away_leaves_nothing,
            );
        )*
    };
}

held_to_all!(embedded, fake);

// A plan runs nothing, so only the rules about what is let go apply to it.
held_to!(plan: dropping_stdin_closes_it, output_ends_with_the_lease, a_caller_who_goes_away_leaves_nothing);

fn embedded() -> Subject {
    let reaper = Reaper::new();
    // Compiled components are shared between tests, as between processes.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
    std::fs::create_dir_all(&cache).unwrap();
    let engine = Engine::for_servers(Some(&cache)).unwrap();
    let base = PathBuf::from(env!("FIXTURE_COMPONENTS"));
    let runtime = EmbeddedRuntime::new(engine, reaper.clone(), Arc::new(OneSecret), base, BTreeMap::new()).unwrap();
    let misbehave = |arguments: &[&str]| Image::new("misbehave.wasm", arguments);
    let images = Images {
        echo: misbehave(&["echo"]),
        fails: misbehave(&["exit", "7"]),
        // WASI 0.2 knows success and failure only.
        failure: 1,
        both_streams: misbehave(&["both"]),
        arguments: misbehave(&["arguments"]),
        key: misbehave(&["variable", "KEY"]),
        million: misbehave(&["flood", "1000000"]),
        ignores_stdin: misbehave(&["ignore-stdin"]),
        missing: Image::new("missing.wasm", &[]),
    };
    subject(Arc::new(runtime), reaper, images)
}

/// A guest ends inside of its lease's release, so nothing pending means nothing left.
fn subject(runtime: Arc<dyn ContainerRuntime>, reaper: Reaper, images: Images) -> Subject {
    let pending = reaper.clone();
    let left = Arc::new(move |_| {
        let reaper = pending.clone();
        Box::pin(async move { usize::from(!reaper.drain(Duration::from_millis(10)).await) }) as _
    });
    Subject {
        runtime,
        reaper,
        images,
        session: "contract".to_owned(),
        left,
        counts_running: false,
        pulls_at_start: false,
        stores_secrets: false,
    }
}

fn images_by_name() -> Images {
    let image = |name: &str| Image::new(name, &[]);
    Images {
        echo: image("echo"),
        fails: image("exits-7"),
        failure: 7,
        both_streams: image("both"),
        arguments: image("arguments"),
        key: image("key"),
        million: image("million"),
        ignores_stdin: image("endless"),
        missing: image("missing"),
    }
}

fn plan() -> Subject {
    let reaper = Reaper::new();
    subject(Arc::new(PlanRuntime::new("docker", reaper.clone())), reaper, images_by_name())
}

fn fake() -> Subject {
    let reaper = Reaper::new();
    let runtime = Arc::new(fake_runtime(&reaper));
    let live = Arc::clone(&runtime);
    let left = Arc::new(move |_| {
        let live = live.live();
        Box::pin(async move { live }) as _
    });
    let images = images_by_name();
    Subject {
        runtime,
        reaper,
        images,
        session: "contract".to_owned(),
        left,
        counts_running: true,
        pulls_at_start: false,
        stores_secrets: false,
    }
}

fn fake_runtime(reaper: &Reaper) -> FakeRuntime {
    FakeRuntime::new(reaper.clone(), Arc::new(OneSecret))
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
        .image("exits-7", |_| async { 7 })
        .image("endless", |process: Process| async move {
            let _process = process;
            std::future::pending().await
        })
        .image("arguments", |mut process: Process| async move {
            for argument in &process.arguments {
                let _ = process.stdout.write_all(format!("{}\n", argument.expose()).as_bytes()).await;
            }
            0
        })
        .image("key", |mut process: Process| async move {
            for (_, value) in process.environment.iter().filter(|(name, _)| name == "KEY") {
                let _ = process.stdout.write_all(value.expose().as_bytes()).await;
            }
            0
        })
        .image("million", |mut process: Process| async move {
            let _ = process.stdout.write_all(&[b'x'; 1_000_000]).await;
            let _ = process.stderr.write_all(&[b'y'; 100_000]).await;
            0
        })
}

#[tokio::test]
async fn a_plan_and_the_fake_remember_what_they_were_asked_for() {
    let reaper = Reaper::new();
    let (plan, fake) = (PlanRuntime::new("docker", reaper.clone()), fake_runtime(&reaper));
    let request = images_by_name().both_streams.request();
    let runtimes: [&dyn ContainerRuntime; 2] = [&plan, &fake];
    for runtime in runtimes {
        drop(runtime.start(request.clone()).await.unwrap());
        assert_eq!(runtime.run(request.clone(), RunLimits::default()).await.unwrap().exit_code, 0);
    }
    for requests in [plan.take(), fake.requests()] {
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|asked| asked.spec == request.spec));
    }
    assert!(plan.take().is_empty());
}
