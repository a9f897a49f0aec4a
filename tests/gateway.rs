//! The gateway over servers in this process: discovery, calls, sessions, cancellation and bad servers. Where no socket is
//! involved, time passes only while everybody waits, so that limits hold on a machine of any speed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "gateway_bounds.rs"]
mod bounds;
#[path = "gateway_http.rs"]
mod http;
#[path = "support/mcp_servers.rs"]
mod mcp_servers;
#[path = "gateway_relay.rs"]
mod relay;
#[path = "gateway_remote.rs"]
mod remote;
#[path = "gateway_remote_faults.rs"]
mod remote_faults;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use docker_mcp::catalog::Entry;
use docker_mcp::gateway::client::{Client, ClientError};
use docker_mcp::gateway::{Gateway, GatewayOptions};
use mcp_servers::{Behaviour, Servers, definition, gateway, until};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn quick() -> GatewayOptions {
    GatewayOptions { startup_timeout: Duration::from_millis(700), ..GatewayOptions::default() }
}

async fn call(client: &Client, tool: &str) -> Result<Value, ClientError> {
    client.call_tool(tool, Map::new(), |_| {}).await
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

fn names(tools: &[Value]) -> Vec<&str> {
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// A client that sees every message.
struct RawClient {
    output: BufReader<DuplexStream>,
    input: DuplexStream,
    serving: tokio::task::JoinHandle<Result<(), docker_mcp::gateway::GatewayError>>,
}

impl RawClient {
    /// Connects and says nothing.
    async fn open(gateway: &Gateway) -> Self {
        let (input, read) = tokio::io::duplex(1 << 16);
        let (write, output) = tokio::io::duplex(1 << 16);
        let gateway = gateway.clone();
        let serving = tokio::spawn(async move { gateway.serve(read, write, CancellationToken::new()).await });
        Self { output: BufReader::new(output), input, serving }
    }

    async fn connect(gateway: &Gateway, capabilities: Value) -> Self {
        let mut client = Self::open(gateway).await;
        client
            .send(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
                "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}}))
            .await;
        assert_eq!(client.next().await["result"]["serverInfo"]["name"], "docker-mcp");
        client.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    async fn send(&mut self, message: Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn call(&mut self, id: u64, tool: &str) {
        self.call_with(id, tool, json!({})).await;
    }

    async fn call_with(&mut self, id: u64, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "mine"}});
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await;
    }

    async fn next(&mut self) -> Value {
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(60), self.output.read_line(&mut line)).await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_delays_neither_initialize_nor_calls_of_others() {
    let (gateway, _) = gateway(&[("bad", Behaviour::Hangs), ("a", Behaviour::Good)], quick());
    let started = Instant::now();
    let client = Client::to_gateway(&gateway).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500));
    let tools = client.list_tools().await.unwrap();
    assert_eq!(names(&tools), ["a_echo", "a_count", "a_progress", "a_slow", "a_ask", "a_die"]);
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    gateway.complete().await;
    let error = call(&client, "bad_echo").await.unwrap_err().to_string();
    assert!(error.contains("server `bad` did not finish the MCP handshake within"), "{error}");
    assert!(gateway.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn servers_that_stay_keep_their_state_and_those_that_go_are_released() {
    let options = GatewayOptions { long_lived: true, ..quick() };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good), ("b", Behaviour::Good)], options);
    let client = Client::to_gateway(&gateway).await.unwrap();
    gateway.complete().await;
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    assert_eq!(text(&call(&client, "b_count").await.unwrap()), "1");
    until("both are kept and nothing else runs", || servers.running() == 2).await;

    gateway.replace(vec![definition("a", Entry::default())], &BTreeSet::new());
    until("the server that went is released", || servers.running() == 1).await;
    assert_eq!(names(&client.list_tools().await.unwrap()).iter().filter(|name| name.starts_with("b_")).count(), 0);
    assert!(call(&client, "b_count").await.unwrap_err().to_string().contains("not known to the gateway"));
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "2");

    // The same entry with another configuration is another server.
    gateway.replace(vec![definition("a", Entry::default())], &BTreeSet::from(["a".to_owned()]));
    gateway.complete().await;
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    until("the server of the old configuration is released", || servers.running() == 1).await;
    assert!(gateway.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn each_bad_server_is_reported_and_nothing_is_left_behind() {
    let servers = [
        ("garbage", Behaviour::Garbage),
        ("exits", Behaviour::Exits),
        ("fails", Behaviour::Fails),
        ("a", Behaviour::Good),
    ];
    let (gateway, servers) = gateway(&servers, quick());
    gateway.complete().await;
    let status = format!("{:?}", gateway.status());
    for expected in [
        "server `garbage` wrote something that is not MCP on its standard output: `Server listening on port 3000`",
        "server `exits` closed its standard output",
        "server `fails` could not be provisioned: image `x` cannot be had: set `image`",
        "Ready { tools: 6, prompts: 1, resources: 2 }",
    ] {
        assert!(status.contains(expected), "{expected} is not in {status}");
    }
    assert!(gateway.shutdown().await);
    assert_eq!(servers.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_server_is_announced_and_then_callable() {
    let told = Arc::new(Notify::new());
    let (gateway, _) = gateway(&[("late", Behaviour::Late(Arc::clone(&told))), ("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(client.next().await["result"]["tools"].as_array().unwrap().len(), 6);
    told.notify_one();
    for kind in ["tools", "prompts", "resources"] {
        assert_eq!(client.next().await["method"], format!("notifications/{kind}/list_changed"));
    }
    client.call(2, "late_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_engine_is_away_at_first_is_there_once_the_engine_is() {
    let began = Instant::now();
    let (gateway, servers) = gateway(&[("a", Behaviour::Away(3))], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(client.next().await["result"]["tools"], json!([]), "nobody waits for it");
    for kind in ["tools", "prompts", "resources"] {
        assert_eq!(client.next().await["method"], format!("notifications/{kind}/list_changed"));
    }
    assert!(began.elapsed() >= Duration::from_secs(7), "pauses of 1, 2 and 4 s, not {:?}", began.elapsed());
    assert_eq!(servers.asked.load(Ordering::SeqCst), 4);
    client.call(2, "a_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_engine_stays_away_is_asked_for_less_and_less_often_until_it_is_not_wanted() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Fails)], quick());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let asked = servers.asked.load(Ordering::SeqCst);
    assert!((60..70).contains(&asked), "{asked}");
    assert!(gateway.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn every_call_gets_a_fresh_server_and_none_is_left() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], quick());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    let calls = (0..20).map(|_| call(&client, "a_count"));
    for result in futures::future::join_all(calls).await {
        assert_eq!(text(&result.unwrap()), "1");
    }
    assert_eq!(servers.started.load(Ordering::SeqCst), 21);
    until("all are released", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_lived_server_is_kept_for_a_connection_and_replaced_when_it_dies() {
    let (gateway, servers) =
        gateway(&[("a", Behaviour::Good)], GatewayOptions { long_lived: true, ..GatewayOptions::default() });
    let (one, two) = (Client::to_gateway(&gateway).await.unwrap(), Client::to_gateway(&gateway).await.unwrap());
    one.list_tools().await.unwrap();
    for expected in ["1", "2"] {
        assert_eq!(text(&call(&one, "a_count").await.unwrap()), expected);
    }
    assert_eq!(text(&call(&two, "a_count").await.unwrap()), "1");
    let died = call(&one, "a_die").await.unwrap();
    assert_eq!(died["isError"], true);
    let expected = "server `a` closed its standard output; what the call did is not known, and the next call starts";
    assert!(text(&died).starts_with(expected), "{died}");
    assert_eq!(text(&call(&one, "a_count").await.unwrap()), "1");
    until("the dead one is released", || servers.running() == 2).await;
    one.close().await;
    until("the first client's is released", || servers.running() == 1).await;
    two.close().await;
    until("the second client's is released", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn progress_reaches_the_client_in_order_under_its_own_token_before_the_result() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.call(1, "a_progress").await;
    for progress in 0..50 {
        let message = client.next().await;
        assert_eq!(message["params"]["progress"].as_f64(), Some(f64::from(progress)), "{message}");
        assert_eq!(message["params"]["progressToken"], "mine");
    }
    assert_eq!(text(&client.next().await["result"]), "done");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_cancelled_at_the_server_which_is_released() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.call(7, "a_slow").await;
    until("the call arrived", || servers.has_received("tools/call")).await;
    client.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})).await;
    until("the server is told", || servers.has_received("notifications/cancelled")).await;
    until("the server is released", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_cancelled_with_a_clear_result() {
    let options = GatewayOptions { call_timeout: Duration::from_millis(100), ..quick() };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], options);
    let client = Client::to_gateway(&gateway).await.unwrap();
    let result = call(&client, "a_slow").await.unwrap();
    assert!(text(&result).starts_with("server `a` did not answer within"), "{result}");
    until("the server is released", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_input_ends_serving_and_releases_everything() {
    let (gateway, servers) =
        gateway(&[("a", Behaviour::Good)], GatewayOptions { long_lived: true, ..GatewayOptions::default() });
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.call(1, "a_slow").await;
    until("the call arrived", || servers.has_received("tools/call")).await;
    drop(client.input);
    tokio::time::timeout(Duration::from_secs(4), client.serving).await.unwrap().unwrap().unwrap();
    until("the server is released", || servers.running() == 0).await;
    assert!(gateway.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn sampling_is_relayed_to_a_client_that_can_and_refused_for_one_that_cannot() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut able = RawClient::connect(&gateway, json!({"sampling": {}})).await;
    able.call(1, "a_ask").await;
    let request = able.next().await;
    assert_eq!(request["method"], "sampling/createMessage");
    let result = json!({"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "m"});
    able.send(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
    let answer = able.next().await;
    assert!(text(&answer["result"]).contains("\"yes\""), "{answer}");
    let mut unable = RawClient::connect(&gateway, json!({})).await;
    unable.call(1, "a_ask").await;
    let answer = unable.next().await;
    assert!(text(&answer["result"]).contains("-32601"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn prompts_and_resources_are_joined_and_forwarded() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good), ("b", Behaviour::Good)], quick());
    let client = Client::to_gateway(&gateway).await.unwrap();
    assert_eq!(names(&client.list_prompts().await.unwrap()), ["a_prompt", "b_prompt"]);
    let prompt = client.ask("prompts/get", json!({"name": "b_prompt"})).await.unwrap();
    assert_eq!(prompt["messages"][0]["content"]["text"], "hi");
    assert_eq!(client.list_resources().await.unwrap().len(), 2);
    for (uri, server) in [("a://one", "a"), ("b://rows/7", "b")] {
        let read = client.ask("resources/read", json!({"uri": uri})).await.unwrap();
        assert_eq!(read["contents"][0]["text"], format!("read by {server}"));
    }
    let error = client.ask("resources/read", json!({"uri": "c://x"})).await.unwrap_err().to_string();
    assert!(error.contains("resource `c://x` is not known to the gateway"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn ephemeral_tools_are_run_with_their_arguments() {
    let entry: Entry = serde_json::from_value(json!({"type": "poci", "tools": [
        {"name": "ok", "container": {"image": "busybox"}, "parameters": {"type": "object",
            "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
        {"name": "fail", "container": {"image": "busybox"}}]}))
    .unwrap();
    let gateway = Gateway::start(vec![definition("p", entry)], Servers::new(&[]), quick());
    let client = Client::to_gateway(&gateway).await.unwrap();
    let tools = client.list_tools().await.unwrap();
    assert_eq!(tools[0]["inputSchema"]["required"], json!(["x"]));
    let arguments = json!({"x": 1}).as_object().cloned().unwrap();
    let result = client.call_tool("ok", arguments, |_| {}).await.unwrap();
    assert_eq!(text(&result), "{\"x\":1}");
    let failed = call(&client, "fail").await.unwrap();
    assert_eq!((failed["isError"].clone(), failed["content"][1]["text"].clone()), (json!(true), json!("oh")));
}

#[tokio::test(start_paused = true)]
async fn garbage_from_the_client_is_survived() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.input.write_all(b"\xff\xfe{{{\n\n[]\n{\"jsonrpc\":\"1\"}\n").await.unwrap();
    client.call(5, "a_count").await;
    loop {
        let message = client.next().await;
        if message["id"] == 5 {
            assert_eq!(text(&message["result"]), "1");
            return;
        }
        assert!(message["error"].is_object(), "{message}");
    }
}
