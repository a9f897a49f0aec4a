//! Remote servers: a second gateway, served over HTTP with a token, is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use async_trait::async_trait;
use docker_mcp::capability::container_runtime::Completed;
use docker_mcp::gateway::{HttpOptions, ServerStatus};
use docker_mcp::policy::remote_hosts::RemoteHosts;
use docker_mcp::provision::{Endpoint, Provision, ProvisionError, Remote, RemoteTransport};
use docker_mcp::secrets::SecretText;
use provisioning_core::policy::{DeniedAddresses, Who};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const TOKEN: &str = "right-xyzzy";

/// Says where the remote server is.
pub(crate) struct Elsewhere {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) transport: RemoteTransport,
    pub(crate) denied: DeniedAddresses,
}

#[async_trait]
impl Provision for Elsewhere {
    async fn provision(&self, _server: &str, _cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        let headers = self.headers.iter().map(|(name, value)| ((*name).to_owned(), SecretText::new(value.clone())));
        let url = SecretText::new(self.url.clone());
        let headers = BTreeMap::from_iter(headers);
        Ok(Endpoint::Remote(Remote { url, transport: self.transport, headers, denied: self.denied.clone() }))
    }

    async fn run_tool(
        &self,
        _server: &str,
        _tool: &str,
        _arguments: Map<String, Value>,
        _cancel: CancellationToken,
    ) -> Result<Completed, ProvisionError> {
        Err(ProvisionError::Invalid("it has no ephemeral tools".to_owned()))
    }
}

/// A gateway in front of one remote server on this machine.
pub(crate) fn near(elsewhere: Elsewhere) -> Gateway {
    near_at(elsewhere, allowed(&["127.0.0.1", "localhost"]))
}

/// A gateway in front of one remote server, with other rules about where it may be.
pub(crate) fn near_at(elsewhere: Elsewhere, remote_hosts: Arc<RemoteHosts>) -> Gateway {
    let entry: Entry = serde_json::from_value(json!({"type": "remote", "remote": {"url": "https://x/mcp"}})).unwrap();
    let options =
        GatewayOptions { startup_timeout: Duration::from_secs(120), remote_hosts, ..GatewayOptions::default() };
    Gateway::start(vec![definition("far", entry)], Arc::new(elsewhere), options)
}

/// Private addresses are allowed for these hosts.
pub(crate) fn allowed(hosts: &[&str]) -> Arc<RemoteHosts> {
    Arc::new(RemoteHosts::new(hosts.iter().map(|host| host.parse().unwrap()).collect(), |_| None))
}

fn bearer(url: String, token: &str) -> Elsewhere {
    let headers = vec![("Authorization", format!("Bearer {token}"))];
    Elsewhere { url, headers, transport: RemoteTransport::StreamableHttp, denied: DeniedAddresses::default() }
}

/// A remote server with the tools of a good one, and how to reach it.
async fn far() -> (Gateway, Arc<Servers>, String, tokio_util::sync::DropGuard) {
    let (gateway, servers) =
        gateway(&[("a", Behaviour::Good)], GatewayOptions { long_lived: true, ..GatewayOptions::default() });
    gateway.complete().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (serving, cancel) = (gateway.clone(), CancellationToken::new());
    let options = HttpOptions { token: Some(SecretText::new(TOKEN.to_owned())), ..HttpOptions::default() };
    let ends = cancel.clone().drop_guard();
    tokio::spawn(async move { serving.serve_http(listener, options, cancel).await });
    until("discovery released its server", || servers.running() == 0).await;
    (gateway, servers, url, ends)
}

/// Why the remote server of a gateway is left out.
pub(crate) async fn failure(gateway: &Gateway) -> String {
    gateway.complete().await;
    match gateway.status().pop() {
        Some((_, ServerStatus::Failed(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

/// A server that answers every request with these bytes, and how often it was asked.
pub(crate) async fn canned(answer: String) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 16 << 10];
            if stream.read(&mut request).await.is_ok() {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_remote_server_is_listed_called_kept_and_its_session_ended() {
    let (_far, servers, url, _ends) = far().await;
    let near = near(bearer(url, TOKEN));
    let client = Client::to_gateway(&near).await.unwrap();
    let tools = client.list_tools().await.unwrap();
    assert!(names(&tools).contains(&"a_count"), "{tools:?}");
    for expected in ["1", "2"] {
        assert_eq!(text(&call(&client, "a_count").await.unwrap()), expected);
    }
    let mut progress = Vec::new();
    let result = client.call_tool("a_progress", Map::new(), |heard| {
        progress.push(heard.params["progress"].as_f64().unwrap());
    });
    assert_eq!(text(&result.await.unwrap()), "done");
    assert_eq!(progress, (0..50).map(f64::from).collect::<Vec<_>>());
    let read = client.ask("resources/read", json!({"uri": "a://one"})).await.unwrap();
    assert_eq!(read["contents"][0]["text"], "read by a");
    assert_eq!(servers.running(), 1);
    client.close().await;
    // Far sooner than its idle sessions end.
    until("the remote session is ended", || servers.running() == 0).await;
    assert!(near.shutdown().await);
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_remote_server() {
    let (_far, servers, url, _ends) = far().await;
    let near = near(bearer(url, TOKEN));
    let mut client = RawClient::connect(&near, json!({})).await;
    client.call(7, "a_slow").await;
    until("the call arrived", || servers.has_received("tools/call")).await;
    client.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})).await;
    until("the remote server is told", || servers.has_received("notifications/cancelled")).await;
}

#[tokio::test]
async fn a_client_of_the_stateless_revision_reaches_a_remote_server() {
    let (_far, _servers, url, _ends) = far().await;
    let near = near(bearer(url, TOKEN));
    let mut client = RawClient::open(&near).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"name": "a_count", "arguments": {}, "_meta": meta});
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})).await;
    let answer = client.next().await;
    assert_eq!((text(&answer["result"]), &answer["result"]["resultType"]), ("1", &json!("complete")), "{answer}");
}

#[tokio::test]
async fn a_wrong_token_is_reported_with_the_servers_name_and_without_the_token() {
    let (_far, _servers, url, _ends) = far().await;
    let near = near(bearer(url, "wrong-plugh"));
    let reason = failure(&near).await;
    assert!(reason.starts_with("server `far` refuses the credentials (HTTP 401"), "{reason}");
    assert!(!reason.contains("plugh"), "{reason}");
}

#[tokio::test]
async fn a_remote_server_that_is_away_is_reported_without_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let near = near(bearer(format!("http://{free}/mcp?key=hidden-plugh"), TOKEN));
    let reason = failure(&near).await;
    assert!(reason.starts_with("server `far` cannot be reached: Connection refused"), "{reason}");
    assert!(!reason.contains("plugh") && !reason.contains("xyzzy"), "{reason}");
}

#[tokio::test]
async fn a_remote_server_that_goes_away_during_a_session_fails_the_call() {
    let (far, _servers, url, ends) = far().await;
    let near = near(bearer(url, TOKEN));
    let client = Client::to_gateway(&near).await.unwrap();
    client.list_tools().await.unwrap();
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    drop(ends);
    assert!(far.shutdown().await);
    let outcome = match tokio::time::timeout(Duration::from_secs(20), call(&client, "a_count")).await.unwrap() {
        Ok(result) => text(&result).to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(outcome.contains("server `far`"), "{outcome}");
    assert!(!outcome.contains("xyzzy"), "{outcome}");
}

#[tokio::test]
async fn a_name_that_leads_to_a_denied_address_is_refused_when_it_is_dialled() {
    let (_far, _servers, url, _ends) = far().await;
    let by_name = url.replace("127.0.0.1", "localhost");
    let port = by_name.rsplit_once(':').unwrap().1.trim_end_matches("/mcp").to_owned();
    for (url, pattern, is_refused) in [
        (&by_name, "127.0.0.0/8".to_owned(), true),
        (&by_name, format!("127.0.0.1:{port}"), true),
        (&by_name, "::ffff:127.0.0.0/104".to_owned(), true),
        (&by_name, "127.0.0.1:1".to_owned(), false),
        (&by_name, "10.0.0.0/8".to_owned(), false),
        (&url, "127.0.0.0/8".to_owned(), true),
        (&url.replace("127.0.0.1", "[::ffff:127.0.0.1]"), "127.0.0.1".to_owned(), true),
    ] {
        let text = format!("version: 1\nrules:\n  - name: inside\n    hosts: {{deny: ['{pattern}']}}\n");
        let policy = docker_mcp::policy::file::parse(&text, std::path::Path::new("p.yaml")).unwrap();
        let policies = provisioning_core::policy::Policies { files: vec![policy] };
        let denied = policies.holding(Who::default()).denied_addresses();
        // However private the operator lets it be.
        let hosts = allowed(&["127.0.0.1", "localhost", "::ffff:7f00:1"]);
        let near = near_at(Elsewhere { denied, ..bearer(url.clone(), TOKEN) }, hosts);
        if is_refused {
            let reason = failure(&near).await;
            assert!(reason.contains("denied by rule `inside` (p.yaml:4)") && !reason.contains("/mcp"), "{reason}");
        } else {
            near.complete().await;
            assert!(matches!(near.status().pop(), Some((_, ServerStatus::Ready { .. }))), "{:?}", near.status());
        }
    }
}

#[tokio::test]
async fn headers_are_not_sent_to_where_a_remote_server_points() {
    let (other, asked) = canned("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: http://{other}/mcp\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let (first, _) = canned(answer).await;
        let near = near(bearer(format!("http://{first}/mcp"), TOKEN));
        let reason = failure(&near).await;
        assert!(
            reason.contains("server `far` answered with HTTP 30") && reason.contains("correct `remote.url`"),
            "{reason}"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_a_remote_server_writes_into_an_error_is_not_shown() {
    for (status, expected) in [
        ("403 Forbidden", "refuses the credentials (HTTP 403 Forbidden)"),
        ("404 Not Found", "check `remote.url`"),
        ("500 Internal Server Error", "try again later"),
        ("200 OK", "something that is not MCP"),
    ] {
        let body = "your token is right-xyzzy";
        let (address, _) = canned(format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let near = near(bearer(format!("http://{address}/mcp"), TOKEN));
        let reason = failure(&near).await;
        assert!(reason.starts_with("server `far` ") && reason.contains(expected), "{reason}");
        assert!(!reason.contains("xyzzy"), "{reason}");
    }
}

#[tokio::test]
async fn impossible_headers_are_refused_with_advice() {
    let reason = failure(&near(bearer("http://127.0.0.1:1/mcp".to_owned(), "two\nlines-xyzzy"))).await;
    assert!(reason.contains("look for line breaks in the secret") && !reason.contains("xyzzy"), "{reason}");
    let reserved = Elsewhere {
        url: "http://127.0.0.1:1/mcp".to_owned(),
        headers: vec![("Mcp-Session-Id", "xyzzy".to_owned())],
        transport: RemoteTransport::StreamableHttp,
        denied: DeniedAddresses::default(),
    };
    let reason = failure(&near(reserved)).await;
    assert!(reason.contains("`Mcp-Session-Id`, which the transport sets itself"), "{reason}");
}
