//! Real third-party servers behind remote transports: `server-everything` from npm, which speaks streamable HTTP and
//! the older HTTP+SSE on loopback, and the built gateway in front of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use engine::Engine;
use gateway::{Gateway, PATIENCE, Setup};

#[path = "end_to_end/engine.rs"]
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod engine;
#[path = "end_to_end/gateway.rs"]
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod gateway;

/// `server-everything` on a port of loopback, in a container that shares this machine's network. Removed when dropped.
struct Everything {
    container: String,
    port: u16,
}

impl Everything {
    /// Starts it with `sse` or `streamableHttp`.
    async fn start(transport: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "-d", "--network", "host", "-e", &format!("PORT={port}"), "mcp-test/everything:1"]);
        let output = docker.arg(transport).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let server = Self { container: String::from_utf8(output.stdout).unwrap().trim().to_owned(), port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "`server-everything {transport}` does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.container]).output();
    }
}

#[tokio::test]
async fn real_servers_are_used_over_both_remote_transports_once_their_host_is_allowed() {
    let Some(_engine) = Engine::find().await else { return };
    for (transport, kind, path) in [("sse", "sse", "sse"), ("streamableHttp", "streamable-http", "mcp")] {
        let server = Everything::start(transport).await;
        let setup = Setup::new();
        let url = format!("http://127.0.0.1:{}/{path}", server.port);
        setup.add("far", &format!("type: remote\nremote:\n  url: {url}\n  transport_type: {kind}"));
        if kind == "sse" {
            setup.add("older", &format!("type: remote\nsseEndpoint: {url}"));
        }

        // The flag names another port: that is not enough.
        let gateway = setup.gateway(&["far"], &["--allow-private-remote", "127.0.0.1:1"]).await;
        assert_eq!(gateway.tools().await, Vec::<String>::new());
        let log = gateway.finish().await;
        assert!(log.contains("--allow-private-remote"), "{log}");

        let names: &[&str] = if kind == "sse" { &["far", "older"] } else { &["far"] };
        for name in names {
            let gateway = setup.gateway(&[name], &["--allow-private-remote", "127.0.0.1"]).await;
            let tools = gateway.tools().await;
            assert!(tools.iter().any(|tool| tool == "get-sum"), "{kind}: {tools:?}");
            assert_eq!(gateway.text("echo", json!({"message": "héllo"})).await, "Echo: héllo");
            assert!(gateway.text("get-sum", json!({"a": 2, "b": 40})).await.contains("42"));
            let slow = json!({"duration": 1, "steps": 3});
            let text = gateway.text("trigger-long-running-operation", slow).await;
            assert!(text.contains("completed"), "{text}");
            let resources = gateway.client().list_all_resources().await.unwrap();
            assert!(!resources.is_empty());

            // The server goes away and comes back: one error, then it works again.
            if *name == "far" {
                let gone = Command::new("docker").args(["restart", "-t", "0", &server.container]).output().unwrap();
                assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
                let deadline = Instant::now() + PATIENCE;
                loop {
                    let answer = gateway.call("echo", json!({"message": "again"})).await.unwrap();
                    if answer["isError"] != json!(true) {
                        assert_eq!(answer["content"][0]["text"], "Echo: again");
                        break;
                    }
                    let text = answer["content"][0]["text"].as_str().unwrap();
                    assert!(text.contains(&setup.name("far")), "{text}");
                    assert!(Instant::now() < deadline, "it is never connected to again: {text}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            assert!(gateway.close().await.success());
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_oauth_takes_its_token_from_the_secrets_or_says_so() {
    let setup = Setup::new();
    let entry = |oauth: &str| {
        format!("type: remote\nremote: {{url: 'https://mcp.example.com/mcp', transport_type: sse}}\noauth: {oauth}")
    };
    setup.add("listed", &entry("[{provider: p, secret: p.token, env: P_TOKEN}]"));
    setup.add("own", &entry("{providers: [{provider: p}]}"));
    setup.add("bare", &entry("{enabled: true, provider: p}"));
    let named = format!("{}.oauth_token", setup.name("own"));
    let secrets = setup.file("secrets.env", &format!("p.token=t-xyzzy-1\n{named}=t-xyzzy-2\n"));
    let mut command = vec!["provisioner".to_owned(), "plan".to_owned()];
    command.extend(setup.selection(&["listed", "own", "bare"]));
    command.extend(["--secrets".to_owned(), secrets.display().to_string()]);
    let output = setup.run(&command).await;
    let plan = String::from_utf8(output.stdout).unwrap();
    for line in ["Authorization: Bearer <secret:p.token>", &format!("Authorization: Bearer <secret:{named}>")] {
        assert!(plan.contains(line), "`{line}` is missing in:\n{plan}");
    }
    let missing = format!("`{}.oauth_token`", setup.name("bare"));
    assert!(plan.contains("wants OAuth") && plan.contains(&missing), "{plan}");
    assert!(!plan.contains("xyzzy"), "{plan}");
}

#[tokio::test]
async fn images_that_would_have_to_be_verified_are_refused_and_others_are_not() {
    let setup = Setup::new();
    setup.add("signed", &format!("image: docker.io/mcp/time@sha256:{:064}", 0));
    let run = |server: &str, more: &[&str]| {
        let mut command = vec!["gateway".to_owned(), "run".to_owned(), "--dry-run".to_owned()];
        command.extend(setup.selection(&[server]));
        command.extend(more.iter().map(|argument| (*argument).to_owned()));
        command
    };
    let refused = setup.run(&run("signed", &["--verify-signatures"])).await;
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("cannot be honoured") && text.contains("mcp/time"), "{text}");
    assert!(refused.stdout.is_empty());
    for (server, more) in
        [("time", vec!["--verify-signatures"]), ("signed", vec!["--verify-signatures=false"]), ("signed", vec![])]
    {
        let planned = setup.run(&run(server, &more)).await;
        assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_although_it_is_private_and_is_no_way_to_private_numbers() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut line = String::new();
            let _ = BufReader::new(&mut stream).read_line(&mut line).await;
            notes.lock().unwrap().push(line);
            let _ =
                stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    let setup = Setup::new();
    let remote = |host: &str| format!("type: remote\nremote: {{url: 'http://{host}/mcp'}}");
    setup.add("far", &remote("mcp.invalid"));
    setup.add("near", &remote("10.255.255.1"));
    setup.add("itself", &remote("localhost"));
    let mut command = setup.command();
    command.env("HTTP_PROXY", &proxy).env_remove("NO_PROXY").env_remove("no_proxy");
    command.args(["gateway", "run"]).args(setup.selection(&["far", "near", "itself"]));
    let gateway = Gateway::connect(command).await;
    assert_eq!(gateway.tools().await, Vec::<String>::new());
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.contains("http://mcp.invalid/mcp")), "{asked:?}");
    let log = gateway.finish().await;
    for refused in ["near", "itself"] {
        let name = setup.name(refused);
        assert!(log.lines().any(|line| line.contains(&name) && line.contains("--allow-private-remote")), "{log}");
    }
}
