//! A canary in every private value: it reaches the server, and is found neither in a component's memory, nor in the
//! log at its most talkative, nor in an error, nor in a plan.

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

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use docker_mcp::provision::Provision as _;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use world::{ALL, CATALOG, World, docker, hostile, mischief};

/// In each private value of `world`: secrets, configuration and arguments.
const CANARY: &str = "canary";

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

// One test, because the log is the process's.
#[tokio::test]
async fn neither_memory_nor_log_nor_errors_hold_a_private_value() {
    let log = Log::default();
    let everything = EnvFilter::new("trace,cranelift=off,cranelift_codegen=off,regalloc2=off,wasmtime_environ=off");
    tracing_subscriber::fmt().with_writer(log.clone()).with_env_filter(everything).with_ansi(false).init();

    // The component asks for everything, is refused, starts, runs, and then reads all of its memory.
    let catalog = CATALOG.replace("NAME", "look-for-private-text").replace("'db:10.0.0.1'", "'control.host:10.0.0.1'");
    let world = World::with(hostile(), ALL, "look-for-private-text", &catalog);
    let error = world.provision("look-for-private-text").await.map(drop).unwrap_err().to_string();
    let (private, public) = error.split_once(", ").unwrap();
    assert_eq!(private, "private 0");
    assert!(public != "public 0", "the scan finds what is there: {error}");
    assert_eq!(world.left().await, 0);

    // The same values did reach the runtime, by name.
    let world = World::new(docker(), ALL, "s");
    assert!(world.provision("s").await.is_ok());
    let arguments = Map::from_iter([("text".to_owned(), json!("canary-argument"))]);
    let completed = world.provisioner.run_tool("s", "shout", arguments, CancellationToken::new()).await.unwrap();
    assert_eq!(completed.exit_code, 0);
    let requests = world.runtime.requests();
    assert_eq!(requests.len(), 2);
    assert!(!format!("{requests:?} {completed:?}").contains(CANARY));

    for name in ["rename-secret", "secret-in-command", "decorate-secret", "other-image", "trap-after-start", "unset"] {
        assert!(!mischief(name).await.contains(CANARY), "{name}");
    }

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("provisioner loaded") && logged.contains("refused what the provisioner asked for"));
    let found: Vec<&str> = logged.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_plan_shows_names_and_no_value_even_when_all_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let catalog = file("catalog.yaml", &CATALOG.replace("NAME", "s"));
    let config = file("config.yaml", "s: {path: /canary/config, more: canary-more, user: canary-user, uid: '1000'}\n");
    let secrets = file("secrets.env", "s.token=canary-secret\n");
    for format in ["text", "yaml", "json"] {
        let output = Command::new(env!("CARGO_BIN_EXE_docker-mcp"))
            .args(["provisioner", "plan", "s", "--verbose", "--output", format])
            .args([Path::new("--catalog"), &catalog, Path::new("--config"), &config])
            .args([Path::new("--secrets"), &secrets])
            .env_clear()
            .env("HOME", directory.path())
            .env("DOCKER_MCP_CACHE", world::cache())
            .env("DOCKER_MCP_LOG", "trace")
            .env("MCP_GATEWAY_DOCKER_BIND_ALLOWED_PATHS", "/canary")
            .output()
            .unwrap();
        let (shown, logged) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{logged}");
        assert!(shown.contains("<secret:s.token>") && shown.contains("<config:s.path>"), "{shown}");
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(!logged.contains(CANARY), "{format}");
    }
}
