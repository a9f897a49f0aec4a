//! The HTTP transports, with the client of the Python SDK as it is on PyPI.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::PATIENTLY;
use crate::gateway::{PATIENCE, Setup};

/// The version of the client. Pinned: a test that fails must fail because of us.
const SDK: &str = "mcp==2.3.0";
const TOKEN: &str = "a-token-for-the-test";

/// A gateway over the sample server that serves HTTP.
struct Served {
    _child: Child,
    address: String,
}

impl Served {
    async fn start(setup: &Setup, more: &[&str]) -> Self {
        let mut command = setup.command();
        command
            .args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample", "--port", "0"])
            .args(PATIENTLY)
            .args(more);
        command.env("MCP_GATEWAY_AUTH_TOKEN", TOKEN).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("an address");
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("gateway: {line}")
            }
        });
        Self { _child: child, address }
    }
}

/// The SDK for Python in a directory of its own, fetched once; none, with a line that says so, if this machine cannot
/// have it and need not.
async fn sdk() -> Option<&'static Path> {
    static DIRECTORY: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    let directory = DIRECTORY.get_or_init(|| async {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(SDK.replace("==", "-"));
        let is_there = async || succeeds(python(&directory).args(["-c", "import mcp.client.sse"])).await;
        if is_there().await {
            return Some(directory);
        }
        // Registries fail now and then.
        for attempt in 0..4 {
            tokio::time::sleep(Duration::from_secs(5 * attempt)).await;
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--upgrade", SDK, "--target"]).arg(&directory);
            if succeeds(&mut pip).await && is_there().await {
                return Some(directory);
            }
        }
        let reason = format!("no Python with pip and `{SDK}` from PyPI");
        assert!(std::env::var_os("DOCKER_MCP_REQUIRE_ENGINE").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        None
    });
    directory.await.as_deref()
}

fn python(sdk: &Path) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", sdk).kill_on_drop(true);
    python
}

async fn succeeds(command: &mut Command) -> bool {
    command.output().await.is_ok_and(|output| output.status.success())
}

/// Lists the tools, calls one that works and one that is not there, and prints what came of it.
const PROGRAM: &str = r#"
import asyncio, json, sys
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

async def talk(streams):
    async with ClientSession(streams[0], streams[1]) as session:
        hello = await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        calls = await asyncio.gather(*(session.call_tool("greet", {"name": f"Ada{n}"}) for n in range(20)))
        try:
            unknown = (await session.call_tool("nothing", {})).content[0].text
        except Exception as error:
            unknown = str(error)
        print(json.dumps({"tools": tools, "texts": [call.content[0].text for call in calls], "unknown": unknown}))

async def main():
    address, token, transport = sys.argv[1:]
    headers = {"Authorization": f"Bearer {token}"}
    if transport == "sse":
        async with sse_client(address, headers=headers) as streams:
            await talk(streams)
    else:
        async with create_mcp_http_client(headers=headers) as http, streamable_http_client(address, http_client=http) as streams:
            await talk(streams)

asyncio.run(main())
"#;

#[tokio::test]
async fn the_client_of_the_python_sdk_is_served_over_both_http_transports() {
    let Some(sdk) = sdk().await else { return };
    let setup = Setup::new();
    for (transport, path) in [("sse", "/sse"), ("streaming", "/mcp"), ("HTTP", "/mcp")] {
        let served = Served::start(&setup, &["--transport", transport]).await;
        assert!(served.address.ends_with(path), "{}", served.address);
        let mut client = python(sdk);
        client.args(["-c", PROGRAM, &served.address, TOKEN, transport]);
        let output = tokio::time::timeout(PATIENCE, client.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{transport}: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(said["tools"].as_array().unwrap().contains(&json!("greet")), "{said:#}");
        for (number, text) in said["texts"].as_array().unwrap().iter().enumerate() {
            assert!(text.as_str().unwrap().contains(&format!("Ada{number}")), "{said:#}");
        }
        assert!(said["unknown"].as_str().unwrap().contains("not known to the gateway"), "{said:#}");
    }
}

/// The endpoint that a stream names first.
async fn endpoint(response: &mut reqwest::Response) -> String {
    let mut text = String::new();
    while !text.contains("\n\n") {
        let piece = tokio::time::timeout(PATIENCE, response.chunk()).await.unwrap().unwrap().expect("an event");
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    let endpoint = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    assert!(text.contains("event: endpoint") && endpoint.starts_with("/message?sessionId="), "{text}");
    endpoint
}

#[tokio::test]
async fn the_older_transport_has_the_bounds_of_the_newer() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let setup = Setup::new();
    let served = Served::start(&setup, &["--transport", "sse", "--max-sessions", "1"]).await;
    let base = served.address.strip_suffix("/sse").unwrap().to_owned();
    let client = Client::new();
    let open = || client.get(&served.address).bearer_auth(TOKEN);
    assert_eq!(client.get(&served.address).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.get(format!("{base}/health")).send().await.unwrap().status(), StatusCode::OK);
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
        assert_eq!(open().header(name, value).send().await.unwrap().status(), StatusCode::FORBIDDEN, "{name}");
    }
    let mut stream = open().header("origin", "http://localhost:3000").send().await.unwrap();
    let endpoint = format!("{base}{}", endpoint(&mut stream).await);
    let turned_away = open().send().await.unwrap();
    assert_eq!(turned_away.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(turned_away.headers()["retry-after"], "30");

    let post = |body: String| client.post(&endpoint).bearer_auth(TOKEN).body(body);
    assert_eq!(post("no json".to_owned()).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(5 << 20)}}).to_string();
    assert_eq!(post(large).send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let stranger = client.post(format!("{base}/message?sessionId=0")).bearer_auth(TOKEN).body("{}");
    assert_eq!(stranger.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let unauthorized = client.post(&endpoint).body("{}").send().await.unwrap();
    assert_eq!(unauthorized.status(), StatusCode::UNAUTHORIZED);

    // A client that goes away makes room at once.
    drop(stream);
    again(open).await;

    // Without requests a session ends, and with it the stream; then there is room for another.
    let served = Served::start(&setup, &["--transport", "sse", "--max-sessions", "1", "--session-timeout", "2"]).await;
    let open = || client.get(&served.address).bearer_auth(TOKEN);
    let mut stream = open().send().await.unwrap();
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("an idle session should end");
    again(open).await;
}

/// Opens a session, once there is room for it.
async fn again(open: impl Fn() -> reqwest::RequestBuilder) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while open().send().await.unwrap().status() != StatusCode::OK {
        assert!(tokio::time::Instant::now() < deadline, "the session before should end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
