//! The main job against a real Docker Engine and real third-party MCP servers: a client connects to the built
//! gateway, servers are provisioned from a catalog, calls reach them, and nothing remains.
//!
//! Needs the images of `scripts/test-images`. What single parts do is tested with the parts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, GetPromptRequestParams, ReadResourceRequestParams,
};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};

use engine::{Engine, History};
use gateway::{PATIENCE, STUBBORN, Setup, call};

#[path = "end_to_end/engine.rs"]
mod engine;
#[path = "end_to_end/gateway.rs"]
mod gateway;

#[tokio::test]
async fn tools_of_two_real_servers_are_listed_and_called() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["everything", "time"], &[]).await;

    let tools = gateway.tools().await;
    for tool in ["echo", "get-sum", "get_current_time", "convert_time"] {
        assert!(tools.iter().any(|own| own == tool), "`{tool}` is missing in {tools:?}");
    }
    assert_eq!(gateway.text("echo", json!({"message": "hello"})).await, "Echo: hello");
    let time: Value =
        serde_json::from_str(&gateway.text("get_current_time", json!({"timezone": "Europe/Paris"})).await).unwrap();
    assert_eq!(time["timezone"], "Europe/Paris");

    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("everything"), 0).await;
    engine.wait_for(&setup.name("time"), 0).await;
}

#[tokio::test]
async fn prompts_and_resources_are_forwarded() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["everything"], &[]).await;
    let client = gateway.client();

    let prompts = client.list_all_prompts().await.unwrap();
    assert!(prompts.iter().any(|prompt| prompt.name == "args-prompt"), "{prompts:?}");
    let arguments = serde_json::from_value(json!({"city": "Oslo"})).unwrap();
    let prompt = client.get_prompt(GetPromptRequestParams::new("args-prompt").with_arguments(arguments)).await;
    assert!(serde_json::to_string(&prompt.unwrap()).unwrap().contains("Oslo"));

    let resources = client.list_all_resources().await.unwrap();
    let uri = "demo://resource/static/document/features.md";
    assert!(resources.iter().any(|resource| resource.uri == uri), "{resources:?}");
    let read = client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap();
    let read = serde_json::to_value(read).unwrap();
    assert_eq!(read["contents"][0]["uri"], uri);
    assert!(read["contents"][0]["text"].as_str().is_some_and(|text| !text.is_empty()));
    let templates = client.list_all_resource_templates().await.unwrap();
    assert_eq!(templates.len(), 2, "{templates:?}");

    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("everything"), 0).await;
}

#[tokio::test]
async fn a_container_carries_the_gateways_labels_and_hardening() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["time"], &["--long-lived", "--cpus", "2", "--memory", "512Mb"]).await;
    gateway.text("get_current_time", json!({"timezone": "UTC"})).await;

    let server = setup.name("time");
    let containers = engine.wait_for(&server, 1).await;
    let container = engine.inspect(&containers[0]).await;
    let labels = container.config.unwrap().labels.unwrap();
    for (key, text) in [
        ("docker-mcp", "true"),
        ("docker-mcp-tool-type", "mcp"),
        ("docker-mcp-name", &server),
        ("docker-mcp-transport", "stdio"),
    ] {
        assert_eq!(labels.get(key).map(String::as_str), Some(text), "{labels:?}");
    }
    let host = container.host_config.unwrap();
    assert_eq!(host.init, Some(true));
    assert_eq!(host.nano_cpus, Some(2_000_000_000));
    assert_eq!(host.memory, Some(512 << 20));
    assert!(host.security_opt.unwrap().iter().any(|option| option.starts_with("no-new-privileges")));
    assert_eq!(host.network_mode.as_deref(), Some("none"), "the entry says `disableNetwork`");

    assert!(gateway.close().await.success());
    engine.wait_for(&server, 0).await;
}

#[tokio::test]
async fn every_call_gets_a_fresh_container_that_is_removed_afterwards() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["time"], &[]).await;
    let server = setup.name("time");
    gateway.tools().await;
    engine.wait_for(&server, 0).await;
    let before = engine.history(&server).await;

    for _ in 0..3 {
        gateway.text("get_current_time", json!({"timezone": "UTC"})).await;
        engine.wait_for(&server, 0).await;
    }
    let after = engine.history(&server).await;
    assert_eq!(after, History { created: before.created + 3, destroyed: before.destroyed + 3 });
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_long_lived_server_keeps_one_container_and_its_state() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    // The entry says `longLived`.
    let gateway = setup.gateway(&["memory"], &[]).await;
    let entity = json!({"name": "Ada", "entityType": "person", "observations": ["writes programs"]});
    gateway.text("create_entities", json!({"entities": [entity]})).await;
    let first = engine.wait_for(&setup.name("memory"), 1).await;
    let graph = gateway.text("read_graph", json!({})).await;
    assert!(graph.contains("Ada"), "{graph}");
    assert_eq!(engine.containers(&setup.name("memory")).await, first);
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("memory"), 0).await;
}

#[tokio::test]
async fn a_long_lived_server_that_was_removed_is_provisioned_again() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["memory"], &["--long-lived"]).await;
    let server = setup.name("memory");
    gateway.text("read_graph", json!({})).await;
    let first = engine.wait_for(&server, 1).await;
    engine.remove(&first[0]).await;
    // A call that is faster than the news gets the one error.
    let answer = gateway.call("read_graph", json!({})).await.unwrap();
    if answer["isError"] == json!(true) {
        let text = answer["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("the next call starts the server again"), "{text}");
        gateway.text("read_graph", json!({})).await;
    }
    assert_ne!(engine.wait_for(&server, 1).await, first);
    assert!(gateway.close().await.success());
    engine.wait_for(&server, 0).await;
}

#[tokio::test]
async fn a_call_whose_container_is_removed_gets_an_error_and_the_next_a_new_container() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["everything"], &["--long-lived"]).await;
    let server = setup.name("everything");
    assert_eq!(gateway.text("echo", json!({"message": "one"})).await, "Echo: one");
    let first = engine.wait_for(&server, 1).await;
    let arguments = serde_json::from_value(json!({"duration": 60, "steps": 2})).unwrap();
    let request = CallToolRequestParams::new("trigger-long-running-operation").with_arguments(arguments);
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(request));
    let pending = gateway.client().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    // Calls are relayed in order, so the long one is under way when this one is answered.
    assert_eq!(gateway.text("echo", json!({"message": "two"})).await, "Echo: two");
    engine.remove(&first[0]).await;
    let lost = tokio::time::timeout(PATIENCE, pending.await_response()).await.unwrap().unwrap();
    let lost = serde_json::to_value(lost).unwrap();
    let text = lost["content"][0]["text"].as_str().unwrap();
    assert!(
        lost["isError"] == json!(true) && text.contains(&server) && text.contains("the next call starts"),
        "{text}"
    );
    assert_eq!(gateway.text("echo", json!({"message": "three"})).await, "Echo: three");
    assert_ne!(engine.wait_for(&server, 1).await, first);
    assert!(gateway.close().await.success());
    engine.wait_for(&server, 0).await;
}

#[tokio::test]
async fn configuration_and_secrets_reach_the_server_and_nobody_else() {
    let Some(_engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let secrets = setup.file("secrets.env", "everything.token=tok$en-xyzzy\n");
    let section = format!("{}:\n  greeting: good-morning-plugh\n", setup.name("everything"));
    let config = setup.file("config.yaml", &section);
    let (secrets, config) = (secrets.to_str().unwrap(), config.to_str().unwrap());
    // The server shows what it got, which is refused unless it is allowed.
    let more = ["--secrets", secrets, "--config", config, "--verbose", "--block-secrets=false"];
    let gateway = setup.gateway(&["everything"], &more).await;

    let environment: Value = serde_json::from_str(&gateway.text("get-env", json!({})).await).unwrap();
    assert_eq!(environment["EVERYTHING_TOKEN"], "tok$en-xyzzy");
    assert_eq!(environment["GREETING"], "good-morning-plugh");
    let log = gateway.finish().await;
    assert!(!log.contains("xyzzy") && !log.contains("plugh"), "a private value is in the log:\n{log}");
}

#[tokio::test]
async fn an_ephemeral_tool_gets_its_arguments_as_they_are() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["shell"], &[]).await;
    assert_eq!(gateway.tools().await, ["words"]);
    let hostile = "$(id); `id` 'a\"b\\";
    let text = gateway.text("words", json!({"text": hostile, "more": ["two words", ""]})).await;
    assert_eq!(text, format!("{hostile}\ntwo words\n\n"));
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("shell"), 0).await;
}

#[tokio::test]
async fn sigterm_during_a_call_removes_the_container() {
    ends_cleanly_during_a_call(Some("TERM")).await;
}

#[tokio::test]
async fn sigint_during_a_call_removes_the_container() {
    ends_cleanly_during_a_call(Some("INT")).await;
}

#[tokio::test]
async fn a_client_that_vanishes_during_a_call_leaves_nothing() {
    ends_cleanly_during_a_call(None).await;
}

/// Ends the gateway by a signal, or by closing its standard input, while a server works for a call.
async fn ends_cleanly_during_a_call(signal: Option<&str>) {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["everything"], &[]).await;
    let server = setup.name("everything");
    gateway.tools().await;
    engine.wait_for(&server, 0).await;
    let client = gateway.client().clone();
    let arguments = json!({"duration": 60, "steps": 2});
    let pending = tokio::spawn(async move { call(&client, "trigger-long-running-operation", arguments).await });
    engine.wait_for(&server, 1).await;

    let start = Instant::now();
    let status = match signal {
        Some(signal) => gateway.signal(signal).await,
        None => gateway.close().await,
    };
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < Duration::from_secs(45), "took {:?} to end", start.elapsed());
    // The gateway waits for its containers before it ends; the engine may list them a moment longer.
    engine.wait_for(&server, 0).await;
    tokio::time::timeout(PATIENCE, pending).await.unwrap().unwrap().unwrap_err();
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing_and_the_next_one_works() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let gateway = setup.gateway(&["everything"], &[]).await;
    let server = setup.name("everything");
    gateway.tools().await;
    engine.wait_for(&server, 0).await;
    let arguments = serde_json::from_value(json!({"duration": 60, "steps": 2})).unwrap();
    let request = CallToolRequestParams::new("trigger-long-running-operation").with_arguments(arguments);
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(request));
    let pending = gateway.client().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    engine.wait_for(&server, 1).await;

    pending.cancel(Some("no longer wanted".to_owned())).await.unwrap();
    engine.wait_for(&server, 0).await;
    assert_eq!(gateway.text("echo", json!({"message": "hello"})).await, "Echo: hello");
    assert!(gateway.close().await.success());
    engine.wait_for(&server, 0).await;
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_removed() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("mute", "image: mcp-test/busybox:1\ncommand: [sleep, '600']");
    let gateway = setup.gateway(&["mute"], &["--max-server-startup-timeout", "20"]).await;
    engine.wait_for(&setup.name("mute"), 1).await;
    engine.wait_for(&setup.name("mute"), 0).await;
    assert_eq!(gateway.tools().await, Vec::<String>::new());
    let log = gateway.finish().await;
    assert!(log.contains("did not finish the MCP handshake"), "{log}");
}

#[tokio::test]
async fn the_next_gateway_removes_what_a_killed_one_left_and_nothing_of_a_living_one() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("victim", STUBBORN);
    setup.add("bystander", STUBBORN);
    let bystander = setup.gateway(&["bystander"], &["--long-lived"]).await;
    bystander.text("greet", json!({})).await;
    let victim = setup.gateway(&["victim"], &["--long-lived"]).await;
    victim.text("greet", json!({})).await;
    let living = engine.wait_for(&setup.name("bystander"), 1).await;
    let left = engine.wait_for(&setup.name("victim"), 1).await;
    victim.signal("KILL").await;
    assert_eq!(engine.containers(&setup.name("victim")).await, left, "it should outlive its gateway");

    let forecast = setup.run(&["gateway", "reap", "--dry-run", "--format", "json"].map(str::to_owned)).await;
    let forecast: Value = serde_json::from_slice(&forecast.stdout).unwrap();
    assert_eq!(forecast["dead"][0]["containers"][0]["id"], left[0], "{forecast:#}");
    assert_eq!(forecast["living"].as_array().map(Vec::len), Some(1), "{forecast:#}");
    assert_eq!(engine.containers(&setup.name("victim")).await, left);

    let next = setup.gateway(&["time"], &[]).await;
    engine.wait_for(&setup.name("victim"), 0).await;
    assert_eq!(engine.containers(&setup.name("bystander")).await, living);
    assert_eq!(bystander.text("greet", json!({})).await, "hello");
    let locks = || {
        let directory = std::fs::read_dir(setup.directory.path().join(".local/state/docker-mcp/sessions")).unwrap();
        directory.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    let start = Instant::now();
    // The two that live, and the identity of the place.
    while locks().len() > 3 {
        assert!(start.elapsed() < PATIENCE, "the lock file of the dead session should go: {:?}", locks());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(next.close().await.success());
    assert!(bystander.close().await.success());
    assert_eq!(locks(), ["identity"], "sessions that ended leave no lock files");
}

#[tokio::test]
async fn a_gateway_without_a_place_for_its_lock_says_so_once_and_works() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.file(".local", "not a directory");
    let gateway = setup.gateway(&["time"], &["--long-lived"]).await;
    gateway.text("get_current_time", json!({"timezone": "UTC"})).await;
    let containers = engine.wait_for(&setup.name("time"), 1).await;
    let labels = engine.inspect(&containers[0]).await.config.unwrap().labels.unwrap();
    assert_eq!(labels["docker-mcp-sessions-at"], "nowhere");
    let log = gateway.finish().await;
    assert_eq!(log.matches("it cannot be marked as alive").count(), 1, "{log}");
    engine.wait_for(&setup.name("time"), 0).await;
}

#[tokio::test]
async fn a_missing_image_stops_only_its_own_server() {
    let Some(_engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("absent", "image: localhost:1/mcp-test/no-such-image:1");
    let gateway = setup.gateway(&["absent", "time"], &[]).await;
    let tools = gateway.tools().await;
    assert!(tools.iter().any(|tool| tool == "get_current_time"), "{tools:?}");
    let log = gateway.finish().await;
    assert!(log.contains("no-such-image") && log.contains(&setup.name("absent")), "{log}");
}

#[tokio::test]
async fn a_server_that_ends_at_once_or_talks_garbage_is_reported_and_removed() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    setup.add("ends", "image: mcp-test/busybox:1\ncommand: [sh, -c, 'echo cannot find my licence >&2; exit 3']");
    setup.add("garbage", "image: mcp-test/busybox:1\ncommand: [sh, -c, 'yes this is no protocol | head -n 100; cat']");
    let more = ["--max-server-startup-timeout", "30"];
    let gateway = setup.gateway(&["ends", "garbage", "time"], &more).await;
    assert!(gateway.tools().await.iter().any(|tool| tool == "get_current_time"));
    // They are removed while the gateway runs.
    for server in ["ends", "garbage"] {
        gateway.logged(&[&setup.name(server)]).await;
        engine.wait_for(&setup.name(server), 0).await;
    }
    gateway.logged(&["cannot find my licence"]).await;
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_without_an_engine() {
    let setup = Setup::new();
    let secrets = setup.file("secrets.env", "everything.token=tok$en-xyzzy\n");
    let mut command = setup.command();
    command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock").args(["gateway", "run", "--dry-run"]);
    command.arg("--secrets").arg(secrets).args(setup.selection(&["everything", "time"]));
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let (plan, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{log}");
    for text in ["mcp-test/everything:1", "mcp-test/time:1", "--local-timezone=UTC", "EVERYTHING_TOKEN"] {
        assert!(plan.contains(text), "`{text}` is missing in:\n{plan}");
    }
    assert!(!plan.contains("xyzzy") && !log.contains("xyzzy"), "a secret is in the plan");
}

#[tokio::test]
async fn the_tools_commands_list_and_call() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let listed = setup.run(&tools_command(&setup, &["ls"])).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(text.contains("get_current_time") && text.contains("convert_time"), "{text}");

    let called = setup.run(&tools_command(&setup, &["call", "get_current_time", "timezone=Asia/Tokyo"])).await;
    assert!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
    assert!(String::from_utf8_lossy(&called.stdout).contains("Asia/Tokyo"));

    let unknown = setup.run(&tools_command(&setup, &["call", "no_such_tool"])).await;
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no_such_tool"));
    engine.wait_for(&setup.name("time"), 0).await;
}

/// `docker-mcp tools …` with the flags of `gateway run`.
fn tools_command(setup: &Setup, arguments: &[&str]) -> Vec<String> {
    let mut command = vec!["tools".to_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command.extend(setup.selection(&["time"]));
    command
}
