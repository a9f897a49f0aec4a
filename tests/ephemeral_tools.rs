//! Ephemeral tools and mounts with a real Docker Engine, through the built gateway and a real MCP client: one container
//! for each call, arguments as they are, and nothing left.
//!
//! Several of these hold what the existing gateway gets wrong; such tests say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use engine::Engine;
use gateway::{Gateway, PATIENCE, Setup};

#[path = "end_to_end/engine.rs"]
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod engine;
#[path = "end_to_end/gateway.rs"]
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod gateway;

/// An entry with tools made of shell commands, `name: [argument, …]`, and more lines for the entry itself.
fn tools(more: &str, tools: &[(&str, &str)]) -> String {
    let mut entry = format!("type: poci\n{more}\ntools:\n");
    for (name, container) in tools {
        entry.push_str(&format!(
            "  - name: {name}\n    container:\n      image: mcp-test/busybox:1\n      {container}\n"
        ));
    }
    entry
}

fn texts(result: &Value) -> Vec<&str> {
    result["content"].as_array().unwrap().iter().map(|content| content["text"].as_str().unwrap()).collect()
}

/// The existing gateway joins arguments into a shell command, and loses the schema and the arguments altogether in a
/// cluster.
#[tokio::test]
async fn arguments_arrive_as_they_are_and_the_schema_is_complete() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let schema = json!({
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to say", "default": "x", "enum": ["x", "y"]},
            "list": {"type": "array", "items": {"type": "string", "description": "one"}, "minItems": 0},
            "number": {"type": "integer", "minimum": 1},
            "flag": {"type": "boolean"},
            "nested": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}}}},
        },
        "required": ["text"],
    });
    let words = "command: [printf, '[%s]\\n', 'a  b', '{{text}}', '{{list|into}}', 'n={{number}}', '{{flag}}', \
                 '{{nested}}', '$HOME']";
    let mut entry = tools("", &[("words", words)]);
    entry.push_str(&format!("    description: Shows arguments\n    parameters: {schema}\n"));
    setup.add("kit", &entry);
    let gateway = setup.gateway(&["kit"], &[]).await;

    let listed = gateway.client().list_all_tools().await.unwrap();
    let listed = serde_json::to_value(&listed[0]).unwrap();
    assert_eq!((&listed["inputSchema"], &listed["description"]), (&schema, &json!("Shows arguments")));

    let hostile = "$(id); `id` && 'a\"b\\ {{number}} \n --privileged";
    let arguments = json!({
        "text": hostile, "list": ["two words", "", "$PATH", "-x"], "number": 10_000_000, "flag": false,
        "nested": {"a": [1, 2.5, null]},
    });
    let text = gateway.text("words", arguments).await;
    let expected = format!(
        "[a  b]\n[{hostile}]\n[two words]\n[]\n[$PATH]\n[-x]\n[n=10000000]\n[false]\n[{{\"a\":[1,2.5,null]}}]\n[]\n"
    );
    assert_eq!(text, expected, "`$HOME` in the entry is expanded, and there is none");
    // An empty list adds nothing.
    let text = gateway.text("words", json!({"text": "t", "list": []})).await;
    assert!(text.starts_with("[a  b]\n[t]\n[n=]\n"), "{text}");
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("kit"), 0).await;
}

/// In the existing gateway a failed tool looks like success in a cluster, without its standard error.
#[tokio::test]
async fn the_exit_code_decides_and_standard_error_goes_to_the_log_and_into_the_error() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let entry = tools(
        "",
        &[
            ("fails", "command: [sh, -c, 'echo partial; echo the reason >&2; exit 3']"),
            ("mute", "command: [sh, -c, 'echo only the reason >&2; exit 1']"),
            ("warns", "command: [sh, -c, 'echo fine; echo a warning >&2']"),
            ("binary", "command: [printf, 'a\\377\\000b']"),
            ("huge", "command: [sh, -c, 'yes 0123456789 | head -c 6000000; echo end >&2; exit {{code}}']"),
            ("absent", "command: [/no/such/program]"),
        ],
    );
    setup.add("kit", &entry);
    let gateway = setup.gateway(&["kit"], &[]).await;

    let failed = gateway.call("fails", json!({})).await.unwrap();
    assert_eq!(failed["isError"], json!(true));
    assert_eq!(texts(&failed), ["partial\n", "the reason\n", "tool `fails` ended with exit code 3"]);
    let mute = gateway.call("mute", json!({})).await.unwrap();
    assert_eq!(mute["isError"], json!(true));
    assert_eq!(texts(&mute), ["", "only the reason\n", "tool `mute` ended with exit code 1"]);
    let warns = gateway.call("warns", json!({})).await.unwrap();
    assert_eq!((texts(&warns), &warns["isError"]), (vec!["fine\n"], &json!(false)));
    assert_eq!(gateway.text("binary", json!({})).await, "a\u{fffd}\0b");

    for code in [0, 4] {
        let huge = gateway.call("huge", json!({ "code": code })).await.unwrap();
        assert_eq!(huge["isError"], json!(code != 0));
        let text = texts(&huge)[0];
        assert!(text.starts_with("0123456789\n") && text.len() < (4 << 20) + 200, "{} bytes", text.len());
        let dropped = 6_000_000 - (4 << 20);
        assert!(text.ends_with(&format!("[standard output was cut here: {dropped} more bytes]")), "the end is cut");
    }
    let absent = gateway.call("absent", json!({})).await.unwrap();
    assert_eq!(absent["isError"], json!(true));
    assert!(texts(&absent).concat().contains("/no/such/program"), "{absent}");

    let log = gateway.finish().await;
    for line in ["the reason", "only the reason", "a warning"] {
        assert!(log.contains(line), "`{line}` is missing in:\n{log}");
    }
    engine.wait_for(&setup.name("kit"), 0).await;
}

/// The existing gateway prints nine lines on standard output for each such call.
#[tokio::test]
async fn only_messages_are_on_standard_output_while_tools_run() {
    let Some(_engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("kit", &tools("", &[("fails", "command: [sh, -c, 'echo out; echo err >&2; exit 3']")]));
    let mut command = setup.command();
    command.args(["gateway", "run", "--verbose"]).args(setup.selection(&["kit"]));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "fails"}});
    for message in [initialize, initialized, call] {
        stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }
    let answered = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the call should be answered");
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}"));
            if message["id"] == json!(2) {
                return message;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(answer["result"]["isError"], json!(true), "{answer}");
    drop(stdin);
    while let Some(line) = lines.next_line().await.unwrap() {
        serde_json::from_str::<Value>(&line).unwrap();
    }
    assert!(child.wait().await.unwrap().success());
}

/// In the existing gateway a cancelled call leaves its container in a cluster, without a label that finds it.
#[tokio::test]
async fn a_cancelled_tool_and_one_that_takes_too_long_leave_nothing() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("kit", &tools("", &[("sleeps", "command: [sh, -c, 'trap \"\" TERM; echo begun; sleep 600']")]));
    let server = setup.name("kit");
    let gateway = setup.gateway(&["kit"], &[]).await;
    gateway.tools().await;

    let request = ClientRequest::CallToolRequest(CallToolRequest::new(CallToolRequestParams::new("sleeps")));
    let pending = gateway.client().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let containers = engine.wait_for(&server, 1).await;
    let labels = engine.inspect(&containers[0]).await.config.unwrap().labels.unwrap();
    assert!(labels.contains_key("docker-mcp-session"), "{labels:?}");
    pending.cancel(Some("no longer wanted".to_owned())).await.unwrap();
    engine.wait_for(&server, 0).await;
    assert!(gateway.close().await.success());

    let gateway = setup.gateway(&["kit"], &["--call-timeout", "5"]).await;
    gateway.tools().await;
    let began = Instant::now();
    let late = gateway.call("sleeps", json!({})).await.unwrap();
    assert_eq!(late["isError"], json!(true));
    assert!(
        texts(&late)[0].contains("did not answer within 5 s") && texts(&late)[0].contains("`--call-timeout`"),
        "{late}"
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    engine.wait_for(&server, 0).await;
    assert!(gateway.close().await.success());
}

/// The existing gateway lets ephemeral tools have any network, and maps secrets with different names to one.
#[tokio::test]
async fn environment_secrets_user_and_network_rules_are_those_of_the_entry() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let more = "disableNetwork: true\nsecrets:\n  - {name: a/b, env: FIRST}\n  - {name: 'a:b', env: SECOND}\n\
                env:\n  - {name: GREETING, value: '{{NAME.greeting}}, $FIRST'}";
    let more = more.replace("NAME", &setup.name("kit"));
    let entry = tools(
        &more,
        &[
            ("variables", "command: [env]"),
            ("identity", "command: [id]\n      user: '{{who}}'"),
            ("interfaces", "command: [ls, /sys/class/net]"),
        ],
    );
    setup.add("kit", &entry);
    let open = "allowHosts: ['example.com:443']\nextraHosts: ['printer.test:10.1.2.3']";
    setup.add("open", &tools(open, &[("hosts", "command: [cat, /etc/hosts]")]));
    let secrets = setup.file("secrets.env", "a/b=one-xyzzy\na:b=two-xyzzy\n");
    let config = setup.file("config.yaml", &format!("{}:\n  greeting: hello-plugh\n", setup.name("kit")));
    let (secrets, config) = (secrets.to_str().unwrap(), config.to_str().unwrap());
    // The tool shows what it got, which is refused unless it is allowed.
    let more = ["--secrets", secrets, "--config", config, "--block-secrets=false"];
    let gateway = setup.gateway(&["kit", "open"], &more).await;

    let variables = gateway.text("variables", json!({})).await;
    for line in ["FIRST=one-xyzzy", "SECOND=two-xyzzy", "GREETING=hello-plugh, $FIRST"] {
        assert!(variables.lines().any(|found| found == line), "`{line}` is missing in:\n{variables}");
    }
    let identity = gateway.text("identity", json!({"who": "1234:5678"})).await;
    assert!(identity.starts_with("uid=1234 gid=5678"), "{identity}");
    assert_eq!(gateway.text("interfaces", json!({})).await.trim(), "lo");
    let hosts = gateway.text("hosts", json!({})).await;
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["10.1.2.3", "printer.test"])), "{hosts}");
    let log = gateway.finish().await;
    assert!(!log.contains("xyzzy") && !log.contains("plugh"), "a private value is in the log:\n{log}");
    assert!(log.contains("allowHosts") && log.contains(&setup.name("open")), "it is never silently open:\n{log}");
    engine.wait_for(&setup.name("kit"), 0).await;
}

#[tokio::test]
async fn mounts_are_read_only_and_inside_the_allowed_directories_unless_the_operator_says_otherwise() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let root = directory.path().canonicalize().unwrap();
    for name in ["data", "work", ".ssh"] {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("file"), name).unwrap();
    }
    symlink(root.join("data"), root.join("inside")).unwrap();
    symlink("/etc", root.join("outside")).unwrap();
    let volume = format!("docker-mcp-test-{}", std::process::id());
    let mount = "volumes: ['{{bind}}']";
    let entry = tools(
        "disableNetwork: true",
        &[
            ("read", &format!("command: [cat, /mnt/file]\n      {mount}")),
            ("write", &format!("command: [sh, -c, 'echo new >/mnt/new && cat /mnt/new']\n      {mount}")),
        ],
    );
    setup.add("kit", &entry);
    let mut command = setup.command();
    command.env("MCP_GATEWAY_DOCKER_BIND_ALLOW_WRITABLE_PATHS", root.join("work"));
    command.args(["gateway", "run"]).args(setup.selection(&["kit"]));
    let gateway = Gateway::connect(command).await;
    let arguments = |path: &str, mode: &str| json!({"bind": format!("{}:/mnt{mode}", root.join(path).display())});

    for path in ["data", "inside", "work"] {
        let name = if path == "inside" { "data" } else { path };
        assert_eq!(gateway.text("read", arguments(path, "")).await, name);
    }
    for (path, mode) in [("data", ""), ("inside", ""), ("work", ":ro")] {
        let refused = gateway.call("write", arguments(path, mode)).await.unwrap();
        assert!(texts(&refused).concat().contains("Read-only file system"), "{path}: {refused}");
    }
    assert_eq!(gateway.text("write", arguments("work", "")).await, "new\n");
    assert!(root.join("work/new").exists() && !root.join("data/new").exists());

    let outside = [
        (arguments("outside", ""), "/etc"),
        (arguments(".ssh", ""), ".ssh"),
        (arguments("data", ":rw"), "MCP_GATEWAY_DOCKER_BIND_ALLOW_WRITABLE_PATHS"),
        (arguments("data", ":ro,shared"), "mode"),
        (json!({"bind": "/:/mnt"}), "/"),
        (json!({"bind": "/var/run/docker.sock:/mnt"}), "/var/run"),
        (json!({"bind": "/home/somebody:/mnt"}), "MCP_GATEWAY_DOCKER_BIND_ALLOWED_PATHS"),
        (json!({"bind": "/tmp/../etc:/mnt"}), "/etc"),
    ];
    for (arguments, expected) in outside {
        let refused = gateway.call("read", arguments.clone()).await.unwrap();
        let text = texts(&refused).concat();
        assert!(refused["isError"] == json!(true) && text.contains(expected), "{arguments}: {text}");
        // The volume is named by where it comes from.
        assert!(text.contains("`<argument:bind>`"), "{text}");
    }

    // A named volume is writable and keeps what is in it.
    let named = json!({"bind": format!("{volume}:/mnt")});
    assert_eq!(gateway.text("write", named.clone()).await, "new\n");
    let kept = gateway.call("read", named).await.unwrap();
    assert!(texts(&kept).concat().contains("No such file"), "{kept}");
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("kit"), 0).await;
    engine.remove_volume(&volume).await;
}
