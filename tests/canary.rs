//! A canary in every private value, and in every kind of source of secrets: it reaches the server, and is found
//! neither in a component's memory, nor in the log at its most talkative, nor in the audit log, nor in an error, a
//! plan, a crash, the arguments of a process or a file of the gateway.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "end_to_end/engine.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod engine;
#[path = "end_to_end/gateway.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod gateway;
#[path = "support/secret_sources.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod secret_sources;
#[path = "support/world.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod world;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use docker_mcp::audit::files::Directory;
use docker_mcp::audit::reader::{Filter, Records};
use docker_mcp::audit::{Audit, Options, Retention};
use docker_mcp::catalog::Catalog;
use docker_mcp::provision::Provision as _;
use docker_mcp::sandbox::Limits;
use docker_mcp::secrets::SecretStore;
use engine::Engine;
use gateway::{Gateway, Setup};
use secret_sources::{KINDS, Sources, name, text};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use world::{ALL, CATALOG, PATIENCE, World, docker, hostile, mischief};

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
    // The clients of engine and gateway are those of the test beside this one, which asks them for what it then sees.
    let everything =
        "trace,bollard=off,rmcp=off,cranelift=off,cranelift_codegen=off,regalloc2=off,wasmtime_environ=off";
    let everything = EnvFilter::new(everything);
    tracing_subscriber::fmt().with_writer(log.clone()).with_env_filter(everything).with_ansi(false).init();

    // The component asks for everything, is refused, starts, runs, and then reads all of its memory.
    let catalog = CATALOG.replace("NAME", "look-for-private-text").replace("'db:10.0.0.1'", "'control.host:10.0.0.1'");
    // Besides the secret of `world`, it asks for one from every kind of source.
    let home = tempfile::tempdir().unwrap();
    let sources = Sources::new(home.path()).await;
    let (catalog, _) = Catalog::parse(&catalog.replace("    secrets:\n", &secrets()), Path::new("test.yaml")).unwrap();
    let (_, entry) = catalog.select(&["look-for-private-text".to_owned()]).unwrap().remove(0);
    assert_eq!(entry.secrets.len(), KINDS.len() + 2);
    sources.write("files/look-for-private-text.token", "canary-secret");
    let store: Arc<dyn SecretStore> = Arc::new(sources.search_path().await);
    let world = World::keeping(hostile(), ALL, "look-for-private-text", entry, Limits::default(), store);
    let error = world.provision("look-for-private-text").await.map(drop).unwrap_err().to_string();
    let (private, public) = error.split_once(", ").unwrap();
    assert_eq!(private, "private 0");
    assert!(public != "public 0", "the scan finds what is there: {error}");
    assert_eq!(world.left().await, 0);

    // The same values did reach the runtime, by name.
    let recorded = tempfile::tempdir().unwrap();
    let audit = |session: &str| {
        let directory = recorded.path().to_owned();
        Audit::open(Options { directory, session: session.to_owned(), retention: Retention::default() }).unwrap()
    };
    let world = World::audited(docker(), ALL, "s", audit("s"));
    assert!(world.provision("s").await.is_ok());
    let arguments = Map::from_iter([("text".to_owned(), json!("canary-argument"))]);
    let completed = world.provisioner.run_tool("s", "shout", arguments, CancellationToken::new()).await.unwrap();
    assert_eq!(completed.exit_code, 0);
    let requests = world.runtime.requests();
    assert_eq!(requests.len(), 2);
    assert!(!format!("{requests:?} {completed:?}").contains(CANARY));

    for name in ["rename-secret", "secret-in-command", "decorate-secret", "other-image", "trap-after-start", "unset"] {
        assert!(!mischief(name).await.contains(CANARY), "{name}");
        let world = World::audited(hostile(), ALL, name, audit(name));
        assert!(world.provision(name).await.is_err(), "{name}");
    }
    let files = Directory::at(recorded.path().to_owned());
    let complete = || files.files().unwrap().iter().all(|file| file.lock().is_ok_and(|free| free.is_some()));
    drop(world);
    let started = Instant::now();
    while !complete() {
        assert!(started.elapsed() < PATIENCE, "the audit logs are not written to their ends");
        tokio::task::yield_now().await;
    }
    let lines: Vec<String> = Records::open(&files, Filter::default()).unwrap().map(|found| found.line).collect();
    assert!(lines.iter().any(|line| line.contains("TOKEN=<secret:s.token>") && line.contains("<argument:text>")));
    assert!(lines.len() > 60 && !lines.iter().any(|line| line.contains(CANARY)), "{lines:#?}");

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

/// Declares the secret of every kind of source, in a catalog's key `secrets`.
fn secrets() -> String {
    let declare = |kind: &&str| format!("      - {{name: {}, env: KEEPER_{}}}\n", name(kind), kind.to_uppercase());
    format!("    secrets:\n{}", KINDS.iter().map(declare).collect::<String>())
}

/// Where the gateway keeps files: nothing private may be in them. What a later part writes (an audit log, a cache)
/// belongs here, unless it is below the home directory, all of which is searched.
fn places(setup: &Setup) -> Vec<PathBuf> {
    vec![setup.directory.path().to_owned()]
}

/// All files below a directory, without those that cannot be read.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => found.extend(std::fs::read(&path).ok().map(|content| (path, content))),
            _ => {}
        }
    }
    found
}

/// Whether it holds the text of a secret. Not merely the word, which is also in the name of this test.
fn has_canary(bytes: &[u8]) -> bool {
    let others = ["canary-parsed", "canary-broken"].map(str::to_owned);
    let mut texts = KINDS.iter().map(|kind| text(kind)).chain(others);
    texts.any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// The processes of this machine whose arguments hold a canary.
fn processes_with_canary() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter(|process| process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|arguments| has_canary(arguments))
        .map(|arguments| String::from_utf8_lossy(&arguments).into_owned())
        .collect()
}

#[tokio::test]
async fn secrets_of_every_source_reach_the_container_and_nothing_else() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let sources = Sources::new(setup.directory.path()).await;
    let entry = secrets().lines().map(|line| format!("{}\n", line.get(4..).unwrap())).collect::<String>();
    setup.add("keeper", &format!("image: mcp-test/everything:1\nlongLived: true\ndisableNetwork: true\n{entry}"));
    let mut command = setup.command();
    command
        // What the server got is looked at in its answer, which is refused otherwise.
        .args(["gateway", "run", "--verbose", "--block-secrets=false", "--secrets", &sources.flag()])
        .args(setup.selection(&["keeper"]))
        .envs(sources.variables())
        .env("DOCKER_MCP_LOG", "trace")
        .env("RUST_BACKTRACE", "full");
    let gateway = Gateway::connect(command).await;

    let environment: Value = serde_json::from_str(&gateway.text("get-env", json!({})).await).unwrap();
    for kind in KINDS {
        assert_eq!(environment[format!("KEEPER_{}", kind.to_uppercase())], text(kind));
    }

    // All that the engine tells of the container, apart from its variables.
    let containers = engine.wait_for(&setup.name("keeper"), 1).await;
    let mut inspected = serde_json::to_value(engine.inspect(&containers[0]).await).unwrap();
    let variables = inspected["Config"]["Env"].take();
    assert!(variables.to_string().contains(CANARY), "the search finds what is there");
    assert!(inspected["Config"]["Labels"]["docker-mcp"] == "true" && !inspected.to_string().contains(CANARY));
    // Arguments of all processes, of which the gateway and the container's are two, and of helpers that have ended.
    assert_eq!(processes_with_canary(), Vec::<String>::new());
    let arguments = std::fs::read_to_string(sources.path("arguments")).unwrap();
    assert!(arguments.contains("get\n") && !arguments.contains(CANARY), "{arguments}");

    // Somebody kills the container during a call, and a source is broken when it is to be started again.
    sources.write("secrets.env", "canary-broken\n");
    let call = gateway.call("trigger-long-running-operation", json!({"duration": 600, "steps": 60}));
    let (killed, ()) = tokio::join!(call, engine.remove(&containers[0]));
    let mut errors = format!("{killed:?}");
    let again = gateway.call("get-env", json!({})).await;
    errors.push_str(&format!("{again:?}"));
    assert!(again.is_err() || again.is_ok_and(|result| result["isError"] == true), "{errors}");
    assert!(!errors.contains(CANARY), "{errors}");

    let log = gateway.finish().await;
    assert!(log.contains("TRACE") && log.contains("line 1"), "{log}");
    let leaks: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    let mut searched = 0;
    for (path, content) in places(&setup).iter().flat_map(|place| files(place)) {
        assert!(!has_canary(&content), "{}", path.display());
        searched += 1;
    }
    assert!(searched > 3, "the encrypted file, the catalog and the files of the session are there");
    engine.wait_for(&setup.name("keeper"), 0).await;
}

/// Set for the process that is to panic.
const PANICS: &str = "DOCKER_MCP_TEST_PANICS";

/// Does nothing by itself: the test below runs it in a process of its own.
#[tokio::test]
async fn a_process_with_secrets_at_hand() {
    let Some(home) = std::env::var_os(PANICS) else { return };
    let sources = Sources::new(Path::new(&home)).await;
    let path = sources.search_path().await;
    let mut at_hand = Vec::new();
    for kind in KINDS {
        let value = provisioning_core::Value::secret(name(kind));
        let secret = docker_mcp::secrets::materialise(&value, &path).await.unwrap();
        assert_eq!(secret.expose(), text(kind));
        at_hand.push((value, secret));
    }
    let pairs = provisioning_core::env_file::parse("A=canary-parsed\n").unwrap();
    panic!("crashed with {at_hand:?}, {pairs:?}, {:?}", path.get("missing").await);
}

#[test]
fn a_crash_shows_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_with_secrets_at_hand", "--nocapture"])
        .env(PANICS, home.path())
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("crashed with") && shown.contains("stack backtrace"), "{shown}");
    assert!(!has_canary(shown.as_bytes()), "{shown}");
}
