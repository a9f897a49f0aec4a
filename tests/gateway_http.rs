//! The HTTP front on loopback: who may come in, and whose servers are whose.

use std::net::SocketAddr;
use std::time::Duration;

use docker_mcp::gateway::{Connections, Gateway, GatewayOptions, HttpOptions, HttpTransport};
use docker_mcp::secrets::SecretText;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::mcp_servers::{Behaviour, gateway, until};

async fn serve(gateway: &Gateway, options: HttpOptions) -> (SocketAddr, DropGuard) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (gateway, cancel) = (gateway.clone(), CancellationToken::new());
    let ends = cancel.clone().drop_guard();
    tokio::spawn(async move { gateway.serve_http(listener, options, cancel).await });
    (address, ends)
}

fn long_lived() -> GatewayOptions {
    GatewayOptions { long_lived: true, ..GatewayOptions::default() }
}

fn post(address: SocketAddr, body: &Value) -> RequestBuilder {
    let request = Client::new().post(format!("http://{address}/mcp"));
    let accept = "application/json, text/event-stream";
    request.header("accept", accept).header("content-type", "application/json").body(body.to_string())
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
        "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

/// Runs a scenario whose limits are multiples of a unit, with a longer one if it fails: a machine that stands still for as long
/// as a limit shows nothing of the gateway.
async fn at_some_pace<F>(scenario: fn(Duration) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for unit in [Duration::from_millis(100), Duration::from_secs(1)] {
        if tokio::spawn(scenario(unit)).await.is_ok() {
            return;
        }
    }
    scenario(Duration::from_secs(8)).await;
}

/// The response among the events.
async fn message(response: Response) -> Value {
    let status = response.status();
    let text = tokio::time::timeout(Duration::from_secs(60), response.text()).await.unwrap().unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:").or(Some(line)));
    let mut messages = data.filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok());
    messages.find(|message| message.get("id").is_some()).unwrap_or_else(|| panic!("{status}: {text}"))
}

struct Session {
    address: SocketAddr,
    id: String,
}

impl Session {
    async fn open(address: SocketAddr) -> Self {
        let response = post(address, &initialize()).send().await.unwrap();
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        assert_eq!(message(response).await["result"]["serverInfo"]["name"], "docker-mcp");
        let session = Self { address, id };
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        session
    }

    async fn send(&self, body: &Value) -> Response {
        post(self.address, body).header("mcp-session-id", &self.id).send().await.unwrap()
    }

    async fn count(&self) -> Value {
        let params = json!({"name": "a_count", "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        message(self.send(&call).await).await["result"]["content"][0]["text"].clone()
    }

    async fn end(self) {
        let request = Client::new().delete(format!("http://{}/mcp", self.address));
        assert!(request.header("mcp-session-id", &self.id).send().await.unwrap().status().is_success());
    }
}

#[tokio::test]
async fn each_http_session_has_its_own_long_lived_server_which_ends_with_it() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let (one, two) = (Session::open(address).await, Session::open(address).await);
    assert_eq!(one.count().await, "1");
    assert_eq!(one.count().await, "2");
    assert_eq!(two.count().await, "1");
    until("discovery released its server", || servers.running() == 2).await;
    one.end().await;
    until("the first session's server is released", || servers.running() == 1).await;
    assert_eq!(two.count().await, "2");
    two.end().await;
    until("the second session's server is released", || servers.running() == 0).await;
}

#[tokio::test]
async fn a_request_of_the_stateless_revision_uses_its_principals_server_which_ends_when_idle() {
    at_some_pace(stateless_requests).await;
}

async fn stateless_requests(unit: Duration) {
    let options = GatewayOptions { principal_idle: 4 * unit, ..long_lived() };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], options);
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    for expected in ["1", "2"] {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}});
        let params = json!({"name": "a_count", "arguments": {}, "_meta": meta});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let request = post(address, &call).header("mcp-protocol-version", "2026-07-28");
        let response = request.header("mcp-method", "tools/call").header("mcp-name", "a_count").send().await.unwrap();
        let answer = message(response).await;
        assert_eq!(answer["result"]["content"][0]["text"], expected, "{answer}");
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    }
    until("the idle server is released", || servers.running() == 0).await;
}

#[tokio::test]
async fn without_the_token_only_health_is_open() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], long_lived());
    let options = HttpOptions { token: Some(SecretText::new("right".to_owned())), ..HttpOptions::default() };
    let (address, _ends) = serve(&gateway, options).await;
    let health = Client::new().get(format!("http://{address}/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    for credentials in [None, Some("Bearer wrong"), Some("Basic right"), Some("Bearer")] {
        let mut request = post(address, &initialize());
        if let Some(credentials) = credentials {
            request = request.header("authorization", credentials);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    }
    // Also to one that is still sending.
    let huge = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(30 << 20)}});
    assert_eq!(post(address, &huge).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let response = post(address, &initialize()).header("authorization", "Bearer right").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn foreign_origins_hosts_and_huge_bodies_are_refused() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let status = async |header: &'static str, value: &'static str| {
        post(address, &initialize()).header(header, value).send().await.unwrap().status()
    };
    assert_eq!(status("origin", "https://evil.example").await, StatusCode::FORBIDDEN);
    assert_eq!(status("origin", "null").await, StatusCode::FORBIDDEN);
    assert_eq!(status("origin", "http://localhost:6274").await, StatusCode::OK);
    assert_eq!(status("host", "evil.example").await, StatusCode::FORBIDDEN);
    let huge = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(5 << 20)}});
    assert_eq!(post(address, &huge).send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!post(address, &json!("garbage")).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn ending_the_front_ends_its_sessions() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, ends) = serve(&gateway, HttpOptions::default()).await;
    let session = Session::open(address).await;
    assert_eq!(session.count().await, "1");
    drop(ends);
    until("the session's server is released", || servers.running() == 0).await;
    assert!(gateway.shutdown().await);
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_told_to_come_again() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions { max_sessions: 2, ..HttpOptions::default() }).await;
    let (one, _two) = (Session::open(address).await, Session::open(address).await);
    let refused = post(address, &initialize()).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "30");
    assert!(refused.text().await.unwrap().contains("raise `--max-sessions`"));
    assert_eq!(one.count().await, "1", "those that are there go on");
    one.end().await;
    Session::open(address).await;
}

#[tokio::test]
async fn large_requests_of_a_session_are_refused_beyond_a_bound_and_others_are_not() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let (session, other) = (Session::open(address).await, Session::open(address).await);
    let call = |id: usize, tool: &str| {
        let params = json!({"name": tool, "arguments": {"text": "x".repeat(4_000_000)}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let calls: Vec<_> = (0..16)
        .map(|id| {
            let request = post(address, &call(id, "a_slow")).header("mcp-session-id", &session.id);
            tokio::spawn(async move { request.send().await?.text().await })
        })
        .collect();
    until("all of them are at the server", || servers.count_of("tools/call") == 16).await;
    let refused = session.send(&call(16, "a_slow")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.unwrap().contains("wait for answers, or send less at once"));
    assert_eq!(session.count().await, "1", "small ones go on");
    let echoed = message(other.send(&call(17, "a_echo")).await).await;
    assert!(echoed["result"]["content"][0]["text"].as_str().unwrap().len() > 4_000_000, "and so do other sessions");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_request_of_many_small_values_is_weighed_before_it_is_parsed() {
    let (gateway, _servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let session = Session::open(address).await;
    let values = json!(vec![0; 1 << 20]);
    let heavy = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "a_echo", "arguments": {"values": values}}});
    let refused = post(address, &heavy).header("mcp-session-id", &session.id).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let text = refused.text().await.unwrap();
    assert!(text.contains("MiB of memory because of its many values"), "{text}");
    assert_eq!(session.count().await, "1", "others go on");
}

#[tokio::test]
async fn connections_that_send_nothing_keep_nobody_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (gateway, _servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let connections = Connections { at_once: 4, head: Duration::from_millis(300) };
    let (address, _ends) = serve(&gateway, HttpOptions { connections, ..HttpOptions::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
        idle.push(stream);
    }
    // Whoever comes after them waits for a while, and is served.
    let health = Client::new().get(format!("http://{address}/health")).send();
    let health = tokio::time::timeout(Duration::from_secs(30), health).await.unwrap().unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), idle[0].read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a connection without a request is closed");
}

#[tokio::test]
async fn a_session_whose_client_waits_for_an_answer_is_not_idle() {
    at_some_pace(a_client_that_waits).await;
}

async fn a_client_that_waits(unit: Duration) {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let options = HttpOptions { session_idle: 4 * unit, ..HttpOptions::default() };
    let (address, _ends) = serve(&gateway, options).await;
    let session = Session::open(address).await;
    assert_eq!(session.count().await, "1");
    let params = json!({"name": "a_slow", "arguments": {}});
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
    let waiting = post(address, &call).header("mcp-session-id", &session.id);
    let waiting = tokio::spawn(async move { waiting.send().await?.text().await });
    tokio::time::sleep(15 * unit).await;
    assert!(!waiting.is_finished(), "the session ended under the call");
    assert_eq!(session.count().await, "2");
    waiting.abort();
    until("the idle session ends", || servers.running() == 0).await;
}

#[tokio::test]
async fn a_session_of_the_older_transport_that_owes_an_answer_is_not_idle() {
    at_some_pace(an_answer_that_is_owed).await;
}

async fn an_answer_that_is_owed(unit: Duration) {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let options = HttpOptions { transport: HttpTransport::Sse, session_idle: 4 * unit, ..HttpOptions::default() };
    let (address, _ends) = serve(&gateway, options).await;
    let mut events = Client::new().get(format!("http://{address}/sse")).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("\n\n") {
        text.push_str(&String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()));
    }
    let place = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    let send = async |message: Value| {
        let request = Client::new().post(format!("http://{address}{place}")).body(message.to_string());
        request.send().await.unwrap().status()
    };
    let slow =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "a_slow", "arguments": {}}});
    for message in [initialize(), json!({"jsonrpc": "2.0", "method": "notifications/initialized"}), slow] {
        assert_eq!(send(message).await, StatusCode::ACCEPTED);
    }
    tokio::time::sleep(15 * unit).await;
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    assert_eq!(send(cancelled).await, StatusCode::ACCEPTED, "the session ended under the call");
    until("the idle session ends", || servers.running() == 0).await;
}

#[tokio::test]
async fn the_servers_of_a_client_that_vanished_in_a_call_are_released() {
    at_some_pace(a_client_that_vanishes).await;
}

async fn a_client_that_vanishes(unit: Duration) {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let options = HttpOptions { session_idle: 5 * unit, ..HttpOptions::default() };
    let (address, _ends) = serve(&gateway, options).await;
    let session = Session::open(address).await;
    let params = json!({"name": "a_slow", "arguments": {}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let calling = tokio::spawn(async move { session.send(&call).await.text().await });
    until("the call arrived", || servers.has_received("tools/call")).await;
    calling.abort();
    until("the server is released", || servers.running() == 0).await;
}

#[tokio::test]
async fn a_client_of_the_stateless_revision_that_vanished_in_a_call_cancels_it() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], GatewayOptions::default());
    gateway.complete().await;
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"name": "a_slow", "arguments": {}, "_meta": meta});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let request = post(address, &call).header("mcp-protocol-version", "2026-07-28");
    let request = request.header("mcp-method", "tools/call").header("mcp-name", "a_slow");
    let calling = tokio::spawn(async move { request.send().await?.text().await });
    until("the call arrived", || servers.has_received("tools/call")).await;
    calling.abort();
    until("the server is told", || servers.has_received("notifications/cancelled")).await;
    until("the server is released", || servers.running() == 0).await;
}

#[tokio::test]
async fn what_cannot_be_read_over_http_is_refused_and_the_session_goes_on() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], long_lived());
    let (address, _ends) = serve(&gateway, HttpOptions::default()).await;
    let session = Session::open(address).await;
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{}{}}}",
        "{\"x\":".repeat(10_000),
        "}".repeat(10_000)
    );
    let latin = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xe9\"}}".to_vec();
    let huge = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(50 << 20)}});
    for body in [deep.into_bytes(), latin, huge.to_string().into_bytes()] {
        let response = post(address, &json!({})).header("mcp-session-id", &session.id).body(body).send().await.unwrap();
        assert!(response.status().is_client_error(), "{}", response.status());
    }
    assert_eq!(session.count().await, "1");
}
