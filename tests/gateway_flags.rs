//! Flags of `gateway run` that change what passes between clients and servers, with the built binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "gateway_flags/clients.rs"]
mod clients;
#[path = "gateway_flags/deployment.rs"]
mod deployment;
#[allow(dead_code, reason = "shared with tests of other things")]
#[path = "end_to_end/engine.rs"]
mod engine;
#[allow(dead_code, reason = "shared with tests of other things")]
#[path = "end_to_end/gateway.rs"]
mod gateway;
#[path = "gateway_flags/watch.rs"]
mod watch;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use docker_mcp::audit::files::Directory;
use docker_mcp::audit::reader::{Filter, Records};
use docker_mcp::audit::record::{Kind, Record};
use docker_mcp::audit::verify;
use engine::Engine;
use gateway::{Gateway, Setup};

/// A gateway over the embedded sample server, which needs no engine.
async fn sample(setup: &Setup, more: &[&str]) -> Gateway {
    let mut command = setup.command();
    command.args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample"]).args(PATIENTLY).args(more);
    Gateway::connect(command).await
}

/// Where how long a server takes to start is not what is looked at.
const PATIENTLY: [&str; 2] = ["--max-server-startup-timeout", "90"];

async fn greet(gateway: &Gateway, name: &str) -> Value {
    gateway.call("greet", json!({ "name": name })).await.unwrap()
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result:#}"))
}

/// The text of a call that was refused.
async fn refused(gateway: &Gateway, name: &str) -> String {
    let result = greet(gateway, name).await;
    assert_eq!(result["isError"], true, "{result:#}");
    text(&result).to_owned()
}

#[tokio::test]
async fn a_tool_that_the_filter_leaves_out_is_neither_listed_nor_called() {
    let setup = Setup::new();
    // A selection by the flag stands in for that of the file.
    let own = setup.directory.path().join(".docker/mcp");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("tools.yaml"), "sample: [calculate]\n").unwrap();
    let gateway = sample(&setup, &["--tools", "SAMPLE:Greet,nothing"]).await;
    assert_eq!(gateway.tools().await, ["greet"]);
    assert!(text(&greet(&gateway, "Ada").await).contains("Ada"));
    let error = gateway.call("text_stats", json!({"text": "x"})).await.unwrap_err().to_string();
    assert!(error.contains("tool `text_stats` is not enabled; `--tools` leaves it out"), "{error}");
    assert!(gateway.close().await.success());
    let gateway = sample(&setup, &["--tools", "sample:*", "--long-lived=true", "--block-network=false"]).await;
    assert!(gateway.tools().await.len() > 3);
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn commands_see_the_call_and_its_result_and_may_answer_in_their_place() {
    let setup = Setup::new();
    let seen = |name: &str| setup.directory.path().join(name);
    let read = |name: &str| serde_json::from_str::<Value>(&std::fs::read_to_string(seen(name)).unwrap()).unwrap();
    let before = format!("before:exec:cat > {}", seen("before").display());
    let after = format!("after:exec:tee {} | sed s/Ada/Grace/", seen("after").display());
    // The first of them has the last word.
    let last = "after:exec:sed s/Grace/Grace,first/";
    let gateway = sample(&setup, &["--interceptor", &before, "--interceptor", last, "--interceptor", &after]).await;
    assert!(text(&greet(&gateway, "Ada").await).contains("Grace,first"));
    let request = read("before");
    assert_eq!(request["method"], "tools/call");
    assert_eq!(request["params"]["name"], "greet");
    assert_eq!(request["params"]["arguments"], json!({"name": "Ada"}));
    assert!(text(&read("after")).contains("Ada"));
    assert!(gateway.close().await.success());

    // One that answers before the call is the result, and what it encloses does not run.
    let answer = r#"before:exec:echo '{"content": [{"type": "text", "text": "not today"}]}'"#;
    let unseen = format!("after:exec:cat > {}", seen("unseen").display());
    let outer = "after:exec:sed s/today/tomorrow/";
    let gateway = sample(&setup, &["--interceptor", outer, "--interceptor", answer, "--interceptor", &unseen]).await;
    assert_eq!(text(&greet(&gateway, "Ada").await), "not tomorrow");
    assert!(!seen("unseen").exists());
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_call_whose_interceptor_fails_is_refused_with_the_reason() {
    let setup = Setup::new();
    for (interceptor, reason) in [
        ("before:exec:exit 3", "interceptor 1 (`before:exec`) gave no usable answer: it failed: exit status: 3"),
        ("after:exec:echo no json", "interceptor 1 (`after:exec`) gave no usable answer: it is no JSON"),
        ("after:exec:echo '{}'", "it is no result of a tool"),
        ("before:http:127.0.0.1:1/closed", "interceptor 1 (`before:http`) gave no usable answer: it cannot be reached"),
        ("before:exec:sleep 100", "it did not answer within 2 s"),
    ] {
        let timeout = if reason.contains("within 2 s") { "2" } else { "60" };
        let gateway = sample(&setup, &["--interceptor", interceptor, "--call-timeout", timeout]).await;
        let error = refused(&gateway, "Ada").await;
        assert!(error.starts_with("refused: ") && error.contains(reason), "{interceptor}: {error}");
        assert!(gateway.close().await.success());
    }
}

#[tokio::test]
async fn a_web_service_intercepts() {
    let posted = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&posted);
    let handler = move |body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap();
        let name = message["params"]["arguments"]["name"].clone();
        sink.lock().unwrap().push(message);
        match name.as_str() {
            Some("Eve") => {
                (StatusCode::OK, json!({"content": [{"type": "text", "text": "no"}], "isError": true}).to_string())
            }
            Some("Trent") => (StatusCode::FORBIDDEN, String::new()),
            _ => (StatusCode::OK, String::new()),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("before:http:http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(handler))).await });
    let setup = Setup::new();
    let gateway = sample(&setup, &["--interceptor", &target]).await;
    assert!(text(&greet(&gateway, "Ada").await).contains("Ada"));
    let refusal = greet(&gateway, "Eve").await;
    assert_eq!((text(&refusal), &refusal["isError"]), ("no", &json!(true)));
    assert!(refused(&gateway, "Trent").await.contains("it answered HTTP 403"));
    assert_eq!(posted.lock().unwrap().len(), 3);
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_container_intercepts_and_is_removed() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let before = engine.containers("interceptor").await.len();
    let edit = "after:docker:mcp-test/busybox:1 sed 's/Ada/Ada, from a container/'";
    let gateway = sample(&setup, &["--interceptor", edit]).await;
    assert!(text(&greet(&gateway, "Ada").await).contains("Ada, from a container"));
    assert!(gateway.close().await.success());
    assert!(engine.containers("interceptor").await.len() <= before);
    let gateway = sample(&setup, &["--interceptor", "before:docker:mcp-test/busybox:1 false"]).await;
    assert!(refused(&gateway, "Ada").await.contains("it failed with exit code 1"));
    assert!(gateway.close().await.success());
    // Policies hold for what the operator's flags run, too.
    let policy = "version: 1\nrules: [{name: few, images: {deny: ['docker.io/mcp-test/**']}}]\n";
    let policy = setup.file("policy.yaml", policy).display().to_string();
    let gateway = sample(&setup, &["--interceptor", edit, "--policy", &policy]).await;
    let error = refused(&gateway, "Ada").await;
    assert!(error.contains("a policy refuses the interceptor") && error.contains("policy.yaml:2"), "{error}");
    assert!(gateway.close().await.success());

    let records = own_calls(&setup);
    let told: Vec<String> = records.iter().map(|record| told(record)).collect();
    assert_eq!(told, ["ok by operator", "other by operator", "access-denied by rule `few`"]);
    for (record, when) in records.iter().zip(["after", "before", "after"]) {
        assert_eq!(record.arguments["interceptor"], format!("{when}:docker:mcp-test/busybox:1"));
        assert_eq!(record.arguments["image"], "mcp-test/busybox:1");
    }
    assert_eq!(records[2].rule.as_ref().unwrap().line, Some(2));
}

/// The calls that no component made, of all gateways of a test.
fn own_calls(setup: &Setup) -> Vec<Record<'static>> {
    let directory = Directory::at(setup.directory.path().join(".local/state/docker-mcp/audit"));
    assert!(verify::directory(&directory).unwrap().is_sound());
    let records = Records::open(&directory, Filter::default()).unwrap().map(|found| found.record);
    let (own, others): (Vec<_>, Vec<_>) =
        records.partition(|record| record.interface.as_deref() == Some(docker_mcp::audit::OWN));
    // Each is announced before it is made, and neither says that a component was there.
    let (asked, calls): (Vec<_>, Vec<_>) = own.into_iter().partition(|record| record.event == Kind::Asked);
    assert_eq!(asked.len(), calls.len());
    for record in asked.iter().chain(&calls) {
        assert!(record.component.is_none() && record.task.is_none() && record.operation.is_some(), "{record:?}");
    }
    assert!(others.iter().filter(|record| record.operation.is_some()).all(|record| record.component.is_some()));
    calls
}

fn told(record: &Record<'_>) -> String {
    format!("{} by {}", record.outcome.as_deref().unwrap(), record.rule.as_ref().unwrap().text)
}

#[tokio::test]
async fn every_run_of_an_interceptor_is_in_the_audit_log_without_what_it_was_told() {
    let setup = Setup::new();
    let flags = ["--interceptor", "before:exec:true s3cret", "--interceptor", "before:http:http://127.0.0.1:1/s3cret"];
    let gateway = sample(&setup, &flags).await;
    refused(&gateway, "Ada").await;
    assert!(gateway.close().await.success());
    let gateway = sample(&setup, &["--interceptor", "before:exec:sleep 60", "--call-timeout", "1"]).await;
    refused(&gateway, "Ada").await;
    assert!(gateway.close().await.success());
    let records = own_calls(&setup);
    let told: Vec<String> =
        records.iter().map(|record| format!("{} {}", record.arguments["interceptor"], told(record))).collect();
    assert_eq!(
        told,
        [
            "\"before:exec\" ok by operator",
            "\"before:http\" other by operator",
            "\"before:exec\" timed-out by operator"
        ]
    );
    assert!(!serde_json::to_string(&records).unwrap().contains("s3cret"));
    let shown = setup.run(&["provisioner", "audit", "show"].map(str::to_owned)).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("gateway.intercept: allowed by operator, ok in"), "{shown}");
}

#[tokio::test]
async fn credentials_are_refused_in_both_directions_and_not_repeated() {
    let setup = Setup::new();
    let token = format!("ghp_{}", "T".repeat(36));
    let gateway = sample(&setup, &[]).await;
    let error = refused(&gateway, &token).await;
    assert!(error.contains("the arguments hold what looks like a GitHub token"), "{error}");
    assert!(!error.contains(&token) && !gateway.finish().await.contains(&token));
    // What an interceptor puts into a result is a result.
    let leak = format!("after:exec:sed s/Ada/{token}/");
    let gateway = sample(&setup, &["--interceptor", &leak]).await;
    let error = refused(&gateway, "Ada").await;
    assert!(error.contains("the result holds what looks like a GitHub token"), "{error}");
    assert!(!error.contains(&token) && !gateway.finish().await.contains(&token));
    let gateway = sample(&setup, &["--block-secrets=false"]).await;
    assert!(text(&greet(&gateway, &token).await).contains(&token));
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_secret_of_the_gateway_does_not_leave_in_a_result() {
    let Some(_engine) = Engine::find().await else { return };
    let setup = Setup::new();
    let secret = "a-plain-looking-password";
    setup.add(
        "teller",
        "type: poci\nsecrets:\n  - {name: teller.password, env: PASSWORD}\ntools:\n  - name: tell\n    parameters: {type: \
         object, properties: {}}\n    container: {image: 'mcp-test/busybox:1', command: [printf, 'it is %s', '$PASSWORD']}",
    );
    let secrets = setup.file("secrets.env", &format!("teller.password={secret}\n")).display().to_string();
    let gateway = setup.gateway(&["teller"], &["--secrets", &secrets]).await;
    let result = gateway.call("tell", json!({})).await.unwrap();
    assert_eq!(result["isError"], true, "{result:#}");
    assert!(text(&result).contains("the result holds the secret `teller.password`"), "{result:#}");
    assert!(!result.to_string().contains(secret) && !gateway.finish().await.contains(secret));
    let gateway = setup.gateway(&["teller"], &["--secrets", &secrets, "--block-secrets=false"]).await;
    assert_eq!(gateway.text("tell", json!({})).await, format!("it is {secret}"));
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn calls_are_logged_unless_that_is_turned_off() {
    let setup = Setup::new();
    for (flag, is_logged) in [("--log-calls", true), ("--log-calls=false", false)] {
        let gateway = sample(&setup, &[flag]).await;
        greet(&gateway, "Ada").await;
        let log = gateway.finish().await;
        assert_eq!(log.contains("greet"), is_logged, "{flag}: {log}");
    }
}
