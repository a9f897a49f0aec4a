//! Kills the built gateway at any point of its work and counts what remains after `gateway reap`: nothing. A gateway
//! that lives beside keeps its container throughout.
//!
//! One test kills at each request to the engine and at each answer, one after the other until a whole run passes; two
//! between each two host calls of a provisioner, when it deploys a server and when it runs a tool; one at random times. `DOCKER_MCP_CHAOS_RUNS` says how many random runs there are (default 40),
//! `DOCKER_MCP_CHAOS_SEED` repeats their times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "end_to_end/engine.rs"]
mod engine;
#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "end_to_end/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "shared with the tests of the Docker backend")]
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use engine::Engine;
use gateway::{Gateway, PATIENCE, STUBBORN, Setup, call};
use proxy::{Mode, Moment, Proxy, Verdict};

/// How many gateways are killed at the same time.
const AT_ONCE: usize = 4;

/// For how long cleaning up waits for a container whose creation was asked for, less what a machine that stands still may add.
const WAITED_FOR: Duration = Duration::from_secs(7);

/// A server that does not go away by itself, with a tool that has a container of its own.
fn victim() -> String {
    let tool = r#"
tools:
  - name: nap
    description: takes a moment
    container:
      image: mcp-test/busybox:1
      command: [busybox, sh, -c, 'sleep 0.2; echo slept']"#;
    format!("{STUBBORN}{tool}")
}

/// A server of nothing but a tool that has a container of its own and takes half a second.
const NAP: &str = r#"type: poci
tools:
  - name: nap
    description: takes a moment
    container:
      image: mcp-test/busybox:1
      command: [busybox, sh, -c, 'sleep 0.5; echo slept']"#;

/// A place for gateways to be killed in, beside one that lives: they share the directory of locks.
struct Arena {
    setup: Setup,
    bystander: Gateway,
    container: String,
}

impl Arena {
    async fn new(engine: &Engine) -> Self {
        let setup = Setup::new();
        setup.add("victim", &victim());
        setup.add("bystander", STUBBORN);
        let bystander = setup.gateway(&["bystander"], &["--long-lived"]).await;
        assert_eq!(bystander.text("greet", json!({})).await, "hello");
        let container = engine.wait_for(&setup.name("bystander"), 1).await.remove(0);
        Self { setup, bystander, container }
    }

    fn victim(&self, docker_host: Option<String>) -> Child {
        let mut command = self.gateway("victim");
        command.envs(docker_host.map(|host| ("DOCKER_HOST", host)));
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    fn gateway(&self, server: &str) -> Command {
        let mut command: Command = self.setup.command();
        command.args(["gateway", "run"]).args(self.setup.selection(&[server]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Cleans up, and makes sure that it did. Returns how many containers had been left.
    async fn clean_up(&self, engine: &Engine, what: &str) -> usize {
        self.clean_up_after("victim", engine, what).await
    }

    async fn clean_up_after(&self, server: &str, engine: &Engine, what: &str) -> usize {
        let server = self.setup.name(server);
        let left = engine.containers(&server).await.len();
        let output = self.setup.run(&["gateway", "reap", "--format", "json"].map(str::to_owned)).await;
        let (report, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{what}: {report}{log}");
        // Now, not after a while.
        assert_eq!(engine.containers(&server).await, Vec::<String>::new(), "{what}: left after {report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["living"].as_array().map(Vec::len), Some(1), "{what}: {report}");
        let bystander = engine.containers(&self.setup.name("bystander")).await;
        assert_eq!(bystander, std::slice::from_ref(&self.container), "{what}: the living gateway's container");
        left
    }

    /// The one beside has noticed nothing.
    async fn close(self, engine: &Engine) {
        assert_eq!(self.bystander.text("greet", json!({})).await, "hello");
        assert!(self.bystander.close().await.success());
        engine.wait_for(&self.setup.name("bystander"), 0).await;
    }
}

/// What a client does: connects, lists the tools, calls one and leaves.
async fn converse(child: &mut Child) {
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let work = async {
        let client = ().serve((stdout, stdin)).await.ok()?;
        client.list_all_tools().await.ok()?;
        let result = call(&client, "greet", json!({})).await.ok()?;
        assert_eq!(result["content"][0]["text"], "hello");
        let result = call(&client, "nap", json!({})).await.ok()?;
        assert_eq!(result["content"][0]["text"], "slept\n");
        client.cancel().await.ok()
    };
    let _ = tokio::time::timeout(PATIENCE, work).await.expect("a conversation should end");
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the gateway should end").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_request_to_the_engine_leaves_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let (next, passed) = (AtomicUsize::new(1), AtomicBool::new(false));
    let points = Mutex::new(BTreeSet::new());
    let (runs, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    join_all((0..AT_ONCE).map(async |_| {
        let arena = Arena::new(&engine).await;
        while !passed.load(Ordering::SeqCst) {
            let point = next.fetch_add(1, Ordering::SeqCst);
            assert!(point < 200, "a call should need fewer requests");
            let Some((kind, moment)) = kill_at(&arena, &engine, point, &left).await else {
                passed.store(true, Ordering::SeqCst);
                continue;
            };
            runs.fetch_add(1, Ordering::SeqCst);
            points.lock().unwrap().insert((kind, moment));
        }
        arena.close(&engine).await;
    }))
    .await;
    let (runs, left, points) = (runs.into_inner(), left.into_inner(), points.into_inner().unwrap());
    eprintln!("{runs} points, something was left at {left}: {points:?}");
    for kind in ["create", "attach", "start", "wait", "remove"] {
        for moment in [Moment::Asked, Moment::Answered] {
            assert!(points.contains(&(kind.to_owned(), moment)), "no kill at {kind} {moment:?} in {points:?}");
        }
    }
    // Between the first create and the last remove.
    assert!(left * 4 > runs, "in only {left} of {runs} runs there was anything to clean up");
}

/// Runs a gateway and kills it at one point, counted in requests and answers. None if it came through before.
async fn kill_at(arena: &Arena, engine: &Engine, point: usize, left: &AtomicUsize) -> Option<(String, Moment)> {
    let proxy = Proxy::start();
    let (hits, mut hit) = mpsc::unbounded_channel();
    let seen = AtomicUsize::new(0);
    proxy.watch(move |kind, moment| {
        if seen.fetch_add(1, Ordering::SeqCst) + 1 != point {
            return Verdict::Pass;
        }
        let (release, held) = oneshot::channel();
        let _ = hits.send((kind.to_owned(), moment, release));
        Verdict::Hold(held)
    });
    let mut child = arena.victim(Some(proxy.host()));
    let found = tokio::select! {
        () = converse(&mut child) => None,
        found = hit.recv() => found,
    };
    let began = Instant::now();
    let Some((kind, moment, release)) = found else {
        arena.clean_up(engine, "a gateway that ended by itself").await;
        return None;
    };
    child.kill().await.unwrap();
    let what = format!("point {point}, {kind} {moment:?}");
    // The engine gets the request of the dead while others clean up already.
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _ = release.send(());
    };
    let (found, ()) = tokio::join!(arena.clean_up(engine, &what), late);
    left.fetch_add(usize::from(found > 0), Ordering::SeqCst);
    if began.elapsed() > WAITED_FOR {
        arena.clean_up(engine, &what).await;
    }
    // Also what came last.
    let server = arena.setup.name("victim");
    assert_eq!(engine.containers(&server).await, Vec::<String>::new(), "{what}");
    Some((kind, moment))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_comes_after_the_gateway_is_cleaned_up_and_used() {
    let Some(engine) = Engine::find().await else { return };
    let arena = Arena::new(&engine).await;
    arena.setup.add("late", STUBBORN);
    let victim = arena.setup.name("victim");
    let mut child = arena.gateway("victim").arg("--long-lived").stderr(Stdio::null()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let client = ().serve((stdout, stdin)).await.unwrap();
    assert_eq!(call(&client, "greet", json!({})).await.unwrap()["content"][0]["text"], "hello");
    engine.wait_for(&victim, 1).await;
    child.kill().await.unwrap();
    let proxy = Proxy::start();
    proxy.set(Mode::Refuse);
    let mut child = arena.gateway("late").env("DOCKER_HOST", proxy.host()).stderr(Stdio::null()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let client = ().serve((stdout, stdin)).await.unwrap();
    assert!(client.list_all_tools().await.unwrap().is_empty(), "there is no engine yet");
    proxy.set(Mode::Pass);
    tokio::time::timeout(PATIENCE, async {
        while client.list_all_tools().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the server should be discovered once the engine is there");
    engine.wait_for(&victim, 0).await;
    client.cancel().await.unwrap();
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the gateway should end").unwrap();
    arena.close(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_any_two_host_calls_leaves_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let arena = Arena::new(&engine).await;
    let mut calls = Vec::new();
    for place in 1.. {
        let server = format!("pause-at-{place}");
        arena.setup.add(&server, STUBBORN);
        let Some(call) = kill_where_it_pauses(&arena, &server).await else { break };
        let left = arena.clean_up_after(&server, &engine, &format!("killed before {call}")).await;
        // A container is there from the first start on, but for the time between its stop and the next.
        assert_eq!(left > 0, ["stop", "return"].contains(&call.as_str()), "{left} left before {call}");
        calls.push(call);
    }
    let resolving = ["resolve-secrets", "resolve-environment", "resolve-command", "resolve-volumes", "resolve-user"];
    let others = ["log", "value", "concat", "drop", "connect", "name", "start", "stop", "start again", "return"];
    for call in resolving.iter().chain(&others) {
        assert!(calls.iter().any(|known| known == call), "no kill before {call} in {calls:?}");
    }
    arena.close(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_any_two_host_calls_of_a_tools_run_leaves_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let arena = Arena::new(&engine).await;
    let mut calls = Vec::new();
    for place in 1.. {
        let server = format!("tool-pause-at-{place}");
        arena.setup.add(&server, NAP);
        let Some(call) = kill_where_it_pauses(&arena, &server).await else { break };
        let left = arena.clean_up_after(&server, &engine, &format!("killed before {call}")).await;
        // A container that has ended goes by itself, and may still be on its way.
        assert!(left == 0 || ["drop", "run again", "return"].contains(&call.as_str()), "{left} left before {call}");
        calls.push(call);
    }
    for call in [
        "log",
        "name",
        "resolve-secrets",
        "resolve-environment",
        "resolve-command",
        "run",
        "drop",
        "run again",
        "return",
    ] {
        assert!(calls.iter().any(|known| known == call), "no kill before {call} in {calls:?}");
    }
    // While the container runs.
    arena.setup.add("napping", &NAP.replace("sleep 0.5", "sleep 600"));
    let mut child = arena.gateway("napping").stderr(Stdio::null()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (client, napping) = (().serve((stdout, stdin)).await.unwrap(), arena.setup.name("napping"));
    tokio::select! {
        _ = call(&client, "nap", json!({})) => panic!("it should take ten minutes"),
        _ = engine.wait_for(&napping, 1) => {}
    }
    child.kill().await.unwrap();
    arena.clean_up_after("napping", &engine, "killed while the tool ran").await;
    arena.close(&engine).await;
}

/// Runs a gateway whose provisioner pauses at the place that the server's name says, and kills it there. None if it
/// does not pause.
async fn kill_where_it_pauses(arena: &Arena, server: &str) -> Option<String> {
    let mut command = arena.gateway(server);
    command.arg("--provisioner").arg(Path::new(env!("FIXTURE_COMPONENTS")).join("hostile.wasm"));
    command.args(["--grant", "secret-resolver,config-resolver,container-runtime,remote-endpoint,log"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let pause = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if let Some((_, call)) = line.split_once("paused before ") {
                // What follows in the line are fields of the log.
                return Some(call.split("\u{1b}").next().unwrap_or(call).to_owned());
            }
        }
        None
    };
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let tools = async {
        let client = ().serve((stdout, stdin)).await.unwrap();
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.len(), 1, "a server that does not pause should serve");
        if tools[0].name == "nap" {
            let result = call(&client, "nap", json!({})).await.unwrap();
            assert_eq!(result["content"][0]["text"], "slept\n");
        }
    };
    let paused = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            Some(call) = pause => Some(call),
            () = tools => None,
        }
    });
    let call = paused.await.expect("the gateway should pause or answer");
    child.kill().await.unwrap();
    // It pauses by computing, for which it has its time. One that was killed after that was not killed at the place.
    let mut is_late = false;
    while let Ok(Some(line)) = log.next_line().await {
        is_late |= line.contains("computing time");
    }
    if call.is_some() && is_late {
        arena.setup.run(&["gateway", "reap"].map(str::to_owned)).await;
        return Box::pin(kill_where_it_pauses(arena, server)).await;
    }
    if call.is_none() {
        // What it left is of no interest, but must not stay.
        arena.setup.run(&["gateway", "reap"].map(str::to_owned)).await;
    }
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_a_random_time_leaves_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let runs = number("DOCKER_MCP_CHAOS_RUNS").unwrap_or(40);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number("DOCKER_MCP_CHAOS_SEED").unwrap_or_else(clock);
    eprintln!("{runs} runs with DOCKER_MCP_CHAOS_SEED={seed}");
    let (next, killed, left) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let spans = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    join_all((0..AT_ONCE).map(async |_| {
        let arena = Arena::new(&engine).await;
        // How long it takes undisturbed, while others do the same.
        let (mut child, started) = (arena.victim(None), Instant::now());
        converse(&mut child).await;
        let mut span = started.elapsed();
        arena.clean_up(&engine, "a gateway that ended by itself").await;
        spans.lock().unwrap().push(span);
        loop {
            let run = next.fetch_add(1, Ordering::SeqCst) as u64;
            if run >= runs {
                break;
            }
            let after = span.mul_f64(fraction(seed, run));
            let (mut child, started) = (arena.victim(None), Instant::now());
            match tokio::time::timeout(after, converse(&mut child)).await {
                // The machine has become faster.
                Ok(()) => span = span.min(started.elapsed()),
                Err(_) => {
                    child.kill().await.unwrap();
                    killed.fetch_add(1, Ordering::SeqCst);
                }
            }
            let found = arena.clean_up(&engine, &format!("seed {seed}, run {run}, killed after {after:?}")).await;
            left.fetch_add(usize::from(found > 0), Ordering::SeqCst);
        }
        arena.close(&engine).await;
    }))
    .await;
    let (killed, left) = (killed.into_inner() as u64, left.into_inner() as u64);
    eprintln!(
        "{runs} runs of up to {:?} in {:?}: {killed} killed, something was left in {left}",
        spans.lock().unwrap(),
        began.elapsed()
    );
    assert!(killed * 2 > runs, "only {killed} of {runs} gateways were killed");
    assert!(left * 4 > runs, "in only {left} of {runs} runs there was anything to clean up");
}

/// A number from 0 to 1 that looks random: SplitMix64.
fn fraction(seed: u64, run: u64) -> f64 {
    let mut z = seed.wrapping_add((run + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
