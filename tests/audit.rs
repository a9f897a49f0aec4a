//! The audit log over real components: what it says of what they do, that they cannot fill or forge it, that it
//! outlives a gateway that is killed, and the commands that read it.

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

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use docker_mcp::audit::files::Directory;
use docker_mcp::audit::reader::{Filter, Records};
use docker_mcp::audit::record::{Kind, Record, Verdict};
use docker_mcp::audit::{Audit, Options, Retention, verify};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use world::{ALL, PATIENCE, World, docker, hostile};

use docker_mcp::provision::Provision as _;

/// Provisions a server once and returns what was recorded of it.
async fn recorded(component: Source, name: &str) -> Vec<Record<'static>> {
    let place = TempDir::new().unwrap();
    let audit = open(place.path());
    let world = World::audited(component, ALL, name, audit.clone());
    let _endpoint = world.provision(name).await;
    audit.close(PATIENCE).await.unwrap().unwrap();
    let report = verify::directory(&Directory::at(place.path().to_owned())).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
    read(place.path())
}

fn open(directory: &Path) -> Audit {
    let options = Options { directory: directory.to_owned(), session: "s".to_owned(), retention: Retention::default() };
    Audit::open(options).unwrap()
}

fn read(directory: &Path) -> Vec<Record<'static>> {
    let records = Records::open(&Directory::at(directory.to_owned()), Filter::default()).unwrap();
    records.map(|found| found.record).collect()
}

/// The calls in an operation, as `interface.function outcome`.
fn calls(records: &[Record<'_>], task: &str) -> Vec<String> {
    let calls = records.iter().filter(|record| record.event == Kind::Call && record.task.as_deref() == Some(task));
    calls
        .map(|call| {
            let [interface, function, outcome] = [&call.interface, &call.function, &call.outcome];
            format!("{}.{} {}", interface.as_ref().unwrap(), function.as_ref().unwrap(), outcome.as_ref().unwrap())
        })
        .collect()
}

fn ended<'a>(records: &'a [Record<'static>], task: &str) -> &'a Record<'static> {
    let is_end = |record: &&Record<'_>| record.event == Kind::Ended && record.task.as_deref() == Some(task);
    records.iter().find(is_end).unwrap()
}

#[tokio::test]
async fn every_call_of_the_built_in_component_is_there_with_names_and_without_values() {
    let place = TempDir::new().unwrap();
    let audit = open(place.path());
    let world = World::audited(docker(), ALL, "s", audit.clone());
    let endpoint = world.provision("s").await.unwrap();
    let arguments = Map::from_iter([("text".to_owned(), json!("canary-argument"))]);
    world.provisioner.run_tool("s", "shout", arguments, CancellationToken::new()).await.unwrap();
    drop(endpoint);
    audit.close(PATIENCE).await.unwrap().unwrap();
    let records = read(place.path());

    let loaded = records.iter().find(|record| record.event == Kind::Loaded).unwrap();
    assert_eq!(loaded.grants.join(","), "secret-resolver,config-resolver,container-runtime,remote-endpoint,log");
    assert_eq!(loaded.limits, Some(Limits::default().into()));
    let resolved = [
        "secret-resolver.resolve-secrets ok",
        "config-resolver.resolve-environment ok",
        "config-resolver.resolve-command ok",
        "config-resolver.resolve-volumes ok",
        "config-resolver.resolve-user ok",
    ];
    let provisioned = calls(&records, "provision");
    assert_eq!(provisioned[..5], resolved);
    assert_eq!(provisioned[5..], ["container-runtime.name ok", "log.log ok", "container-runtime.start ok"]);
    let tool = calls(&records, "run-tool");
    assert_eq!(tool[..5], resolved);
    assert_eq!(tool[5..], ["container-runtime.run ok"]);

    let start = records.iter().find(|call| call.function.as_deref() == Some("start") && call.event == Kind::Call);
    let start = start.unwrap();
    assert_eq!(start.server.as_deref(), Some("s"));
    assert_eq!(start.component.as_deref(), Some("docker"));
    assert_eq!(start.digest.as_ref().unwrap().len(), 64);
    assert_eq!((start.decision, start.rule.as_ref().unwrap().text.as_ref()), (Some(Verdict::Allowed), "envelope"));
    assert_eq!(start.arguments["image"], "img");
    assert_eq!(start.arguments["command"], json!(["--path=<config:s.path>", "<config:s.more>"]));
    assert_eq!(start.arguments["environment"][0], "TOKEN=<secret:s.token>");
    assert_eq!(start.arguments["user"], json!(["<config:s.uid>"]));
    // It was recorded before it was done, too.
    let asked = records.iter().find(|record| record.event == Kind::Asked).unwrap();
    assert_eq!((&asked.arguments, asked.call), (&start.arguments, start.call));
    assert!(asked.seq < start.seq);

    let used = ended(&records, "provision").used.unwrap();
    assert!(used.memory_bytes >= 64 << 10 && used.instances >= 1 && used.handles >= 6, "{used:?}");
    assert!(used.host_calls >= 8 && used.copied_bytes > 0 && used.value_bytes > 0, "{used:?}");
    assert_eq!((used.containers, used.log_lines), (1, 1));
    assert_eq!(ended(&records, "run-tool").tool.as_deref(), Some("shout"));
    let text = std::fs::read_to_string(place.path().join("s.000001.jsonl")).unwrap();
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_component_is_asked_once_for_each_server_whether_it_can_be_provisioned() {
    let place = TempDir::new().unwrap();
    let audit = open(place.path());
    let world = World::audited(docker(), ALL, "s", audit.clone());
    for _ in 0..3 {
        assert!(world.provision("s").await.is_ok());
    }
    audit.close(PATIENCE).await.unwrap().unwrap();
    let records = read(place.path());
    let tasks: Vec<&str> = records
        .iter()
        .filter(|record| record.event == Kind::Ended && record.outcome.as_deref() == Some("ok"))
        .filter_map(|record| record.task.as_deref())
        .collect();
    assert_eq!(tasks, ["initialize", "pre-validate", "provision", "provision", "provision"]);
}

#[tokio::test]
async fn a_call_that_a_policy_decided_has_the_rule_with_its_file_and_line() {
    let rule = |text: &str| format!("version: 1\nrules:\n  - name: ours\n    {text}\n");
    for (policy, verdict) in [
        (rule("images: {allow: ['docker.io/library/*']}"), Verdict::Allowed),
        (rule("require: [read-only-root]"), Verdict::Denied),
    ] {
        let place = TempDir::new().unwrap();
        let audit = open(place.path());
        let world = World::audited_under(&policy, docker(), ALL, "s", audit.clone());
        let endpoint = world.provision("s").await;
        assert_eq!(endpoint.is_ok(), verdict == Verdict::Allowed, "{policy}");
        audit.close(PATIENCE).await.unwrap().unwrap();
        let records = read(place.path());
        let is_start = |call: &&Record<'_>| call.event == Kind::Call && call.function.as_deref() == Some("start");
        let start = records.iter().find(is_start).unwrap();
        let decided = start.rule.as_ref().unwrap();
        assert_eq!(start.decision, Some(verdict), "{policy}");
        assert_eq!(
            (decided.text.as_ref(), decided.file.as_deref(), decided.line),
            ("rule `ours`", Some("policy.yaml"), Some(4)),
            "{policy}"
        );
    }
}

#[tokio::test]
async fn a_component_or_a_server_that_a_policy_refuses_is_there_once_with_the_rule() {
    for (policy, event, line) in [
        ("version: 1\ncomponents: {deny: ['builtin:docker']}\n", Kind::Loaded, 2),
        ("version: 1\n\nservers: {allow: [other]}\n", Kind::Refused, 3),
    ] {
        let place = TempDir::new().unwrap();
        let audit = open(place.path());
        let world = World::audited_under(policy, docker(), ALL, "s", audit.clone());
        for _ in 0..3 {
            // As a gateway asks: whether, and then for real.
            let admitted = world.provisioner.admit("s");
            assert_eq!(admitted.is_err(), event == Kind::Refused, "{admitted:?}");
            assert!(world.provision("s").await.is_err());
        }
        audit.close(PATIENCE).await.unwrap().unwrap();
        let records = read(place.path());
        let denied: Vec<_> = records.iter().filter(|record| record.decision == Some(Verdict::Denied)).collect();
        assert_eq!(denied.len(), 1, "{records:?}");
        assert_eq!((denied[0].event, denied[0].outcome.as_deref()), (event, Some("refused")), "{records:?}");
        // Which bytes were refused can be told, whatever lies at their place by now.
        assert_eq!(denied[0].digest.is_some(), event == Kind::Loaded, "{records:?}");
        let rule = denied[0].rule.as_ref().unwrap();
        assert_eq!((rule.file.as_deref(), rule.line), (Some("policy.yaml"), Some(line)), "{rule:?}");
        assert!(denied[0].error.as_deref().unwrap().contains("policy.yaml:"), "{records:?}");
        assert!(!records.iter().any(|record| record.event == Kind::Begun), "it was not asked: {records:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_recorded_with_what_was_asked_for_and_what_refused_it() {
    let records = recorded(hostile(), "rename-secret").await;
    let start = records.iter().find(|record| record.decision == Some(Verdict::Denied) && record.server.is_some());
    let start = start.unwrap();
    assert_eq!(start.function.as_deref(), Some("start"));
    assert_eq!(start.rule.as_ref().unwrap().text, "envelope");
    assert_eq!(start.outcome.as_deref(), Some("access-denied"));
    assert!(start.error.as_deref().unwrap().contains("add-env=PUBLIC"), "{start:?}");
    let asked = start.arguments["environment"].as_array().unwrap();
    assert!(asked.contains(&json!("PUBLIC=<secret:rename-secret.token>")), "{asked:?}");
    assert_eq!(ended(&records, "provision").outcome.as_deref(), Some("access-denied"));
    // Outside of any server's scope there is nothing to resolve.
    assert_eq!(calls(&records, "initialize"), ["secret-resolver.resolve-secrets access-denied"]);
}

#[tokio::test]
async fn how_a_guest_was_ended_is_recorded_with_what_it_used_up() {
    let limits = Limits::default();
    for (name, outcome, error) in [
        ("spin", "stopped", "computing time"),
        ("flood-calls", "stopped", "too many host calls"),
        ("hoard-text", "stopped", "too much text"),
        ("start-many", "stopped", "too many containers"),
        ("eat-memory", "trapped", "failed"),
        ("trap-after-start", "trapped", "unreachable"),
    ] {
        let records = recorded(hostile(), name).await;
        let end = ended(&records, "provision");
        assert_eq!(end.outcome.as_deref(), Some(outcome), "{name}: {end:?}");
        assert!(end.error.as_deref().unwrap().contains(error), "{name}: {end:?}");
        let used = end.used.unwrap();
        match name {
            "spin" => assert_eq!(used.guest_ms, 2000),
            "flood-calls" => assert_eq!(used.host_calls, u64::from(limits.host_calls)),
            "hoard-text" => assert!(used.value_bytes > limits.value_bytes as u64 * 3 / 4, "{used:?}"),
            "start-many" => assert_eq!(used.containers, u64::from(limits.containers)),
            "eat-memory" => assert!(used.memory_bytes > limits.memory_bytes as u64 / 2, "{used:?}"),
            _ => assert!(used.containers == 1),
        }
    }
}

#[tokio::test]
async fn a_component_can_neither_fill_the_log_nor_write_lines_of_its_own() {
    let records = recorded(hostile(), "flood-calls").await;
    let end = ended(&records, "provision");
    assert!(records.len() < 300, "{}", records.len());
    assert_eq!(end.calls["container-runtime.name"], 10_001);
    assert_eq!(end.unlisted, Some(10_001 - 256));
    // What it does outside is recorded, however much came before; so is text of any size, bounded.
    let records = recorded(hostile(), "start-many").await;
    assert_eq!(records.iter().filter(|record| record.event == Kind::Asked).count(), 17);
    let place = TempDir::new().unwrap();
    let audit = open(place.path());
    let world = World::audited(hostile(), ALL, "flood-log", audit.clone());
    assert!(world.provision("flood-log").await.is_ok());
    audit.close(PATIENCE).await.unwrap().unwrap();
    let text = std::fs::read_to_string(place.path().join("s.000001.jsonl")).unwrap();
    assert!(text.contains(r"line 0\\n\\u{1b}[31mforged"), "{text}");
    assert!(!text.lines().any(|line| line.contains(|c: char| c.is_control()) || !line.starts_with("{\"seq\":")));
    let bytes = recorded(hostile(), "copy-much").await;
    assert!(serde_json::to_string(&bytes).unwrap().len() < 50_000);
}

/// A home of its own for the binary.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
        command.env_clear().env("HOME", self.0.path()).env("DOCKER_MCP_CACHE", world::cache()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command().args(arguments.split_whitespace()).output().unwrap()
    }

    /// Expects success, and returns what is on stdout.
    fn shows(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments}: {stdout}{stderr}");
        stdout
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.shows(&format!("{arguments} --format json"))).unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join(".local/state/docker-mcp/audit")
    }

    fn files(&self) -> Vec<PathBuf> {
        Directory::at(self.directory()).files().unwrap().into_iter().map(|file| file.path).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const CALL: &str =
    "tools call calculate expression=6*7 --catalog builtin:sample --servers sample --max-server-startup-timeout 90";

#[test]
fn the_commands_show_what_gateways_did_and_find_what_was_done_to_the_log() {
    let home = Home::new();
    let missing = home.run("provisioner audit ls");
    assert!(text(&missing.stderr).contains("there is no audit log in"), "{missing:?}");
    // A plan does nothing and records nothing.
    home.shows("provisioner plan --catalog builtin:sample sample");
    assert!(!home.directory().exists());
    assert_eq!(home.shows(CALL), "42\n");
    assert_eq!(home.shows(&format!("{CALL} --no-audit")), "42\n");
    assert_eq!(home.files().len(), 1);
    let output = home.run("gateway run --catalog builtin:sample --servers sample");
    let log = text(&output.stderr);
    let head = log.split("head=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();

    let sessions = home.json("provisioner audit ls");
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2, "{sessions}");
    assert_eq!(sessions["sessions"][0]["end"], "closed");
    let listed = home.shows("provisioner audit ls");
    assert!(listed.starts_with("SESSION ") && listed.contains(" sample\n"), "{listed}");
    let shown = home.shows("provisioner audit show --server sample");
    assert!(shown.contains("container-runtime.start: allowed by envelope, ok in"), "{shown}");
    let is_image = |line: &str| line.trim_start().starts_with("image ") && line.ends_with(" embedded:sample");
    assert!(shown.lines().any(is_image), "{shown}");
    assert_eq!(home.shows("provisioner audit show --denied"), "");
    let last = home.shows("provisioner audit show --last 1 --format json");
    assert!(serde_json::from_str::<Value>(&last).unwrap()["event"] == "closed", "{last}");
    assert_eq!(home.shows("provisioner audit show --server other --since 1h --component docker"), "");
    let stats = home.json("provisioner audit stats");
    let calls = stats["calls"].as_array().unwrap();
    assert!(calls.iter().any(|call| call["function"] == "container-runtime.start" && call["count"].as_u64() > Some(0)));
    assert!(home.shows("provisioner audit stats").contains("memory_bytes"));

    let verified = home.shows(&format!("provisioner audit verify --head {head}"));
    assert!(verified.ends_with("ok\n") && verified.contains(&head), "{verified}");
    let file =
        home.files().into_iter().find(|path| std::fs::read_to_string(path).unwrap().contains(&head[3..])).unwrap();
    let content = std::fs::read_to_string(&file).unwrap();
    // The last line is cut off: only the head tells.
    let cut = content.trim_end().rsplit_once('\n').unwrap().0;
    std::fs::write(&file, format!("{cut}\n")).unwrap();
    home.shows("provisioner audit verify");
    let output = home.run(&format!("provisioner audit verify --head {head}"));
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("MISSING") && text(&output.stdout).ends_with("NOT OK\n"));
    // A changed one needs no head.
    std::fs::write(&file, content.replacen("\"event\":\"opened\"", "\"event\":\"loaded\"", 1)).unwrap();
    let output = home.run(&format!("provisioner audit verify {}", file.display()));
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("it was changed"), "{}", text(&output.stdout));
    let report: Value = serde_json::from_slice(&home.run("provisioner audit verify --format json").stdout).unwrap();
    assert_eq!(report["ok"], false);
}

#[test]
fn a_directory_that_was_asked_for_must_be_usable_and_the_default_one_need_not() {
    let home = Home::new();
    std::fs::write(home.0.path().join("file"), "").unwrap();
    let output = home.run(&format!("{CALL} --audit-dir {}", home.0.path().join("file").display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be used for the audit log"), "{}", text(&output.stderr));
    std::fs::create_dir_all(home.directory().parent().unwrap()).unwrap();
    std::fs::write(home.directory(), "").unwrap();
    let output = home.run(CALL);
    assert!(output.status.success() && text(&output.stderr).contains("nothing is recorded in an audit log"));
    let elsewhere = home.0.path().join("elsewhere");
    home.shows(&format!("{CALL} --audit-dir {} --audit-keep 2m", elsewhere.display()));
    let place = format!("--audit-dir {}", elsewhere.display());
    assert!(home.shows(&format!("provisioner audit verify {place}")).ends_with("ok\n"));
}

#[test]
fn a_policy_can_require_the_log_and_no_flag_gets_around_it() {
    let home = Home::new();
    let place = |name: &str| home.0.path().join(name);
    let policy = |audit: &str| {
        std::fs::write(place("policy.yaml"), format!("version: 1\naudit: {audit}\n")).unwrap();
    };
    let call = format!("{CALL} --policy {}", place("policy.yaml").display());
    let refused = |arguments: &str, expected: &str| {
        let output = home.run(arguments);
        let log = text(&output.stderr);
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{log}");
        assert!(log.contains(expected), "{expected}: {log}");
    };
    policy("{required: true}");
    refused(&format!("{call} --no-audit"), "`--no-audit` is refused by rule `audit` (");
    home.shows(&format!("{call} --audit-dir {}", place("own").display()));
    // Without it a warning is not enough.
    std::fs::remove_dir_all(home.directory()).ok();
    std::fs::create_dir_all(home.directory().parent().unwrap()).unwrap();
    std::fs::write(home.directory(), "").unwrap();
    refused(&call, "requires the audit log");

    policy("{required: true, directory: '~/kept/here', keep: 2Mi}");
    refused(&format!("{call} --audit-dir {}", place("own").display()), "demands that the audit log is in");
    home.shows(&call);
    assert_eq!(Directory::at(place("kept/here")).files().unwrap().len(), 1);
    let shown = home.shows(&format!("policy show --policy {}", place("policy.yaml").display()));
    assert!(shown.contains("audit       require  the audit log") && shown.contains("~/kept/here"), "{shown}");
    std::fs::write(place("blocked"), "").unwrap();
    policy(&format!("{{directory: '{}'}}", place("blocked").display()));
    refused(&call, "demands it there");
    home.shows(&format!("{call} --no-audit"));
    for (audit, expected) in [
        ("{}", "`audit` says nothing"),
        ("{directory: here}", "`here` is no directory"),
        ("{directory: '/a/../b'}", "is no directory"),
        ("{keep: 5k}", "too little for a log"),
        ("{required: maybe}", "2:"),
    ] {
        policy(audit);
        let output = home.run(&format!("policy check {}", place("policy.yaml").display()));
        assert!(output.status.code() == Some(3) && text(&output.stdout).contains(expected), "{}", text(&output.stdout));
    }
}

#[test]
fn a_component_that_is_refused_is_counted_with_what_is_denied() {
    let home = Home::new();
    let policy = home.0.path().join("policy.yaml");
    std::fs::write(&policy, "version: 1\ncomponents: {deny: ['builtin:docker']}\n").unwrap();
    assert!(!home.run(&format!("{CALL} --policy {}", policy.display())).status.success());
    let listed = home.shows("provisioner audit ls");
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    // No operation and no call, but one denial.
    assert_eq!(row[4..8], ["0", "0", "1", "0"], "{listed}");
    let stats = home.shows("provisioner audit stats");
    let load = stats.lines().find(|line| line.starts_with("load ")).unwrap_or_default();
    assert_eq!(load.split_whitespace().take(4).collect::<Vec<_>>(), ["load", "1", "1", "0"], "{stats}");
}

/// Starts a gateway, waits until it has recorded a provisioning, and returns it.
fn gateway(mut command: Command, directory: &Path) -> std::process::Child {
    command.args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let stdin = child.stdin.as_mut().unwrap();
    for message in [initialize, initialized, list] {
        writeln!(stdin, "{message}").unwrap();
    }
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"id\":2")), "the gateway should list its tools");
    let started = Instant::now();
    let is_recorded =
        || directory.is_dir() && read(directory).iter().any(|record| record.function.as_deref() == Some("start"));
    while !is_recorded() {
        assert!(started.elapsed() < PATIENCE, "nothing is recorded");
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_killed_gateway_leaves_a_sound_log_and_the_next_one_ends_it() {
    let home = Home::new();
    let mut child = gateway(home.command(), &home.directory());
    assert!(home.shows("provisioner audit verify").contains(" running "));
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = home.files().remove(0);
    // Its last line may be torn.
    let mut content = std::fs::read(&killed).unwrap();
    content.truncate(content.len() - 7);
    std::fs::write(&killed, &content).unwrap();
    let verified = home.shows("provisioner audit verify");
    assert!(verified.contains(" without end ") && verified.contains("the last line is torn"), "{verified}");

    assert_eq!(home.shows(CALL), "42\n");
    let verified = home.shows("provisioner audit verify");
    assert!(verified.contains(" killed ") && verified.contains("was killed while it wrote this line"), "{verified}");
    assert!(home.shows("provisioner audit show").contains("the gateway was killed; session"));
    // The new session has seen the end of the old one, so that it cannot be cut off any more.
    let content = std::fs::read_to_string(&killed).unwrap();
    let kept: Vec<&str> = content.lines().take(3).collect();
    std::fs::write(&killed, kept.join("\n") + "\n").unwrap();
    assert_eq!(home.run("provisioner audit verify").status.code(), Some(3));
}

#[cfg(unix)]
#[test]
fn a_full_disk_stops_neither_the_gateway_nor_its_servers_unless_a_policy_requires_the_log() {
    let home = Home::new();
    home.shows(CALL);
    // A file system with room for one page of a file, in a mount namespace of its own.
    let disk = home.0.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o mode=700,size=8k disk \"$DISK\" && \"$0\" \"$@\"; code=$?; cp \"$DISK\"/* \"$COPY\"; exit $code";
    let copy = home.0.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--map-root-user", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_docker-mcp")])
            .args(CALL.split_whitespace())
            .arg("--audit-dir")
            .arg(&disk)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", home.0.path())
            .env("DISK", &disk)
            .env("COPY", &copy)
            .env("DOCKER_MCP_CACHE", world::cache());
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = run(&[]);
    let log = text(&output.stderr);
    assert_eq!(text(&output.stdout), "42\n", "{log}");
    assert!(log.contains("the audit log cannot be written") && log.contains("records are missing"), "{log}");
    // It does not go back and forth as single records find room.
    assert!(!log.contains("is written again"), "{log}");
    let full = Directory::at(copy.clone()).files().unwrap().remove(0).path;
    let report = verify::file(&full).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(std::fs::metadata(full).unwrap().len() <= 8192);

    let policy = home.0.path().join("policy.yaml");
    std::fs::write(&policy, "version: 1\naudit: {required: true}\n").unwrap();
    let output = run(&["--policy", policy.to_str().unwrap()]);
    let log = text(&output.stderr);
    assert!(output.stdout.is_empty() && output.status.code() == Some(1), "{log}");
    assert!(log.contains("is there room left?"), "{log}");
}

#[test]
fn the_documentation_describes_every_member_of_a_record() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let source = include_str!("../host/src/audit/record.rs");
    let (_, record) = source.split_once("pub struct Record<'a> {").unwrap();
    let (record, _) = record.split_once("\n}").unwrap();
    let members = record.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    let names: Vec<&str> = members.map(|(name, _)| name).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names.into_iter().chain(["prev", "hash"]) {
        assert!(docs.contains(&format!("| `{name}`")), "docs/audit.md does not describe `{name}`");
    }
    for event in [
        "opened",
        "continued",
        "removed",
        "loaded",
        "refused",
        "begun",
        "asked",
        "call",
        "ended",
        "lost",
        "closed",
        "recovered",
    ] {
        assert!(docs.contains(&format!("| `{event}`")), "docs/audit.md does not describe the event `{event}`");
    }
}
