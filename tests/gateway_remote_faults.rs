//! Remote servers that are somewhere else than they should be, break off, forget sessions or speak HTTP+SSE, made of
//! canned answers.

use std::collections::HashMap;
use std::sync::Mutex;

use super::remote::{Elsewhere, allowed, canned, failure, near, near_at};
use super::*;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use docker_mcp::gateway::ServerStatus;
use docker_mcp::provision::RemoteTransport;
use provisioning_core::policy::DeniedAddresses;
use tokio::sync::mpsc;

/// How a scripted server answers a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Over HTTP+SSE.
    Sse,
    /// Over HTTP+SSE, but messages are to go to somebody else.
    SseElsewhere(std::net::SocketAddr),
    /// In a stream that breaks off and is taken up again.
    Resumed,
    /// By forgetting the session of the first call.
    Forgetful,
    /// At the third try: the first connection is dropped, and the first request answered with 503.
    Late,
    /// Not at all the first time.
    Mute,
}

/// What a scripted server saw: method, path, headers and body.
type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap, Value)>>>;

/// Serves a script; its address and what it saw.
async fn serve(script: Script) -> (String, Seen) {
    let seen = Seen::default();
    let streams = Arc::new(Mutex::new(HashMap::<String, mpsc::UnboundedSender<String>>::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let notes = Arc::clone(&seen);
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let (notes, streams) = (Arc::clone(&notes), Arc::clone(&streams));
        async move {
            let message: Value = serde_json::from_slice(&body).unwrap_or_default();
            let number = {
                let mut notes = notes.lock().unwrap();
                notes.push((method.clone(), uri.to_string(), headers.clone(), message.clone()));
                notes.len()
            };
            let is_stream = method == Method::GET;
            match script {
                Script::Sse | Script::SseElsewhere(_) if is_stream => {
                    let (events, stream) = mpsc::unbounded_channel();
                    let endpoint = match script {
                        Script::SseElsewhere(other) => format!("http://{other}/m"),
                        _ => format!("/m?s={number}"),
                    };
                    events.send(format!(": hello\n\nevent: endpoint\ndata: {endpoint}\n\n")).unwrap();
                    streams.lock().unwrap().insert(number.to_string(), events);
                    let stream = futures::stream::unfold(stream, |mut stream| async {
                        stream.recv().await.map(|event| (Ok::<_, std::io::Error>(event), stream))
                    });
                    answer(StatusCode::OK, "text/event-stream", Body::from_stream(stream))
                }
                Script::Sse | Script::SseElsewhere(_) => {
                    let key = uri.query().unwrap().trim_start_matches("s=").to_owned();
                    let mut streams = streams.lock().unwrap();
                    if message["params"]["name"] == "break" {
                        streams.remove(&key);
                    } else if let (Some(reply), Some(events)) = (reply(&message), streams.get(&key)) {
                        // Lines of the data are put together again.
                        let reply = serde_json::to_string_pretty(&reply).unwrap().replace('\n', "\ndata: ");
                        events.send(format!("event: message\ndata: {reply}\n\n")).unwrap();
                    }
                    answer(StatusCode::ACCEPTED, "text/plain", Body::from("Accepted"))
                }
                Script::Resumed if is_stream => match headers.get("last-event-id") {
                    Some(id) => {
                        let reply = reply(&json!({"id": id.to_str().unwrap().parse::<u64>().unwrap(),
                            "method": "tools/call"}));
                        answer(StatusCode::OK, "text/event-stream", Body::from(format!("data: {}\n\n", reply.unwrap())))
                    }
                    None => answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Body::empty()),
                },
                Script::Resumed if message["method"] == "tools/call" => {
                    let stream = format!("id: {}\nretry: 10\ndata:\n\n", message["id"]);
                    answer(StatusCode::OK, "text/event-stream; charset=utf-8", Body::from(stream))
                }
                Script::Late if number == 1 => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", Body::empty()),
                Script::Mute if number == 1 => std::future::pending().await,
                Script::Late | Script::Mute if is_stream => {
                    answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Body::empty())
                }
                Script::Forgetful if is_stream => answer(StatusCode::NOT_FOUND, "text/plain", Body::empty()),
                Script::Forgetful if message["method"] == "tools/call" && headers["mcp-session-id"] == "2" => {
                    answer(StatusCode::NOT_FOUND, "text/plain", Body::from("no such session"))
                }
                Script::Resumed | Script::Forgetful | Script::Late | Script::Mute => match reply(&message) {
                    Some(reply) => {
                        let mut answer = answer(StatusCode::OK, "application/json", Body::from(reply.to_string()));
                        if message["method"] == "initialize" {
                            let opened = notes.lock().unwrap();
                            let opened = opened.iter().filter(|(_, _, _, body)| body["method"] == "initialize").count();
                            answer.headers_mut().insert("mcp-session-id", opened.to_string().parse().unwrap());
                        }
                        answer
                    }
                    None => answer(StatusCode::ACCEPTED, "text/plain", Body::empty()),
                },
            }
        }
    };
    tokio::spawn(async move {
        if script == Script::Late {
            drop(listener.accept().await);
        }
        axum::serve(listener, Router::new().fallback(handler)).await
    });
    (format!("http://{address}/entry"), seen)
}

fn answer(status: StatusCode, kind: &str, body: Body) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body).unwrap()
}

/// What a server with the tool `greet` replies.
fn reply(message: &Value) -> Option<Value> {
    let result = match message["method"].as_str()? {
        "initialize" => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "scripted", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "greet", "inputSchema": {"type": "object"}},
            {"name": "break", "inputSchema": {"type": "object"}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "hello"}]}),
        _ => return None,
    };
    Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

fn scripted(url: String, transport: RemoteTransport) -> Elsewhere {
    let headers = vec![("X-Key", "key-xyzzy".to_owned()), ("Accept", "text/html".to_owned())];
    Elsewhere { url, headers, transport, denied: DeniedAddresses::default() }
}

#[tokio::test]
async fn an_sse_server_gets_the_headers_with_every_request_and_is_connected_to_anew_when_its_stream_ends() {
    let (url, seen) = serve(Script::Sse).await;
    let near = near(scripted(url, RemoteTransport::Sse));
    let client = Client::to_gateway(&near).await.unwrap();
    assert_eq!(text(&call(&client, "greet").await.unwrap()), "hello");
    let lost = call(&client, "break").await.unwrap();
    assert!(lost["isError"] == json!(true) && text(&lost).contains("server `far`"), "{lost}");
    assert_eq!(text(&call(&client, "greet").await.unwrap()), "hello");

    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(_, _, headers, _)| headers["x-key"] == "key-xyzzy"));
    for (method, path, headers, _) in seen.iter() {
        match *method {
            Method::GET => assert!(path == "/entry" && headers["accept"] == "text/event-stream", "{path}"),
            _ => assert!(path.starts_with("/m?s="), "{path}"),
        }
    }
    // Discovery, the first session, and the one after the stream ended.
    assert_eq!(seen.iter().filter(|(method, ..)| method == Method::GET).count(), 3);
}

#[tokio::test]
async fn messages_and_headers_go_only_to_the_origin_of_the_stream() {
    let (other, asked) = canned("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let (url, _seen) = serve(Script::SseElsewhere(other)).await;
    let reason = failure(&near(scripted(url, RemoteTransport::Sse))).await;
    assert!(reason.contains("to another origin than its own"), "{reason}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_taken_up_again_where_it_broke_off() {
    let (url, seen) = serve(Script::Resumed).await;
    let near = near(scripted(url, RemoteTransport::StreamableHttp));
    let client = Client::to_gateway(&near).await.unwrap();
    assert_eq!(text(&call(&client, "greet").await.unwrap()), "hello");
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(method, _, headers, _)| method == Method::GET && headers.contains_key("last-event-id")));
    let calls: Vec<_> = seen.iter().filter(|(_, _, _, body)| body["method"] == "tools/call").collect();
    assert_eq!(calls.len(), 1, "the call itself is not repeated");
    let headers = &calls[0].2;
    assert!(headers["mcp-protocol-version"] == "2025-06-18" && headers["x-key"] == "key-xyzzy", "{headers:?}");
    assert!(headers["accept"].to_str().unwrap().contains("application/json"), "the transport's own wins");
    assert!(headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn a_session_that_the_server_forgot_fails_one_call_and_the_next_has_a_new_one() {
    let (url, seen) = serve(Script::Forgetful).await;
    let near = near(scripted(url, RemoteTransport::StreamableHttp));
    near.complete().await;
    let client = Client::to_gateway(&near).await.unwrap();
    let lost = call(&client, "greet").await.unwrap();
    assert!(lost["isError"] == json!(true) && text(&lost).contains("ended the session"), "{lost}");
    assert_eq!(text(&call(&client, "greet").await.unwrap()), "hello");
    let sessions = seen.lock().unwrap().iter().filter(|(_, _, _, body)| body["method"] == "initialize").count();
    assert_eq!(sessions, 3, "discovery, the forgotten one, and the new one");
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_there_once_it_is_back() {
    let (url, seen) = serve(Script::Late).await;
    let near = near(scripted(url, RemoteTransport::StreamableHttp));
    let client = Client::to_gateway(&near).await.unwrap();
    until("it is found", || matches!(near.status().pop(), Some((_, ServerStatus::Ready { .. })))).await;
    assert_eq!(names(&client.list_tools().await.unwrap()), ["greet", "break"]);
    assert_eq!(text(&call(&client, "greet").await.unwrap()), "hello");
    assert_eq!(seen.lock().unwrap()[1].3["method"], "initialize", "the first one was refused");
}

#[tokio::test]
async fn a_server_that_does_not_answer_at_the_start_is_tried_again() {
    let (url, _seen) = serve(Script::Mute).await;
    let entry: Entry = serde_json::from_value(json!({"type": "remote", "remote": {"url": "https://x/mcp"}})).unwrap();
    let (startup_timeout, remote_hosts) = (Duration::from_secs(2), allowed(&["127.0.0.1"]));
    let options = GatewayOptions { startup_timeout, remote_hosts, ..GatewayOptions::default() };
    let servers = Arc::new(scripted(url, RemoteTransport::StreamableHttp));
    let near = Gateway::start(vec![definition("far", entry)], servers, options);
    let reason = failure(&near).await;
    assert!(reason.contains("did not answer within 2 s; check `remote.url` and the network"), "{reason}");
    until("it is found", || matches!(near.status().pop(), Some((_, ServerStatus::Ready { .. })))).await;
}

#[tokio::test]
async fn addresses_of_this_machine_and_of_private_networks_are_refused_before_anything_is_sent() {
    let (address, asked) = canned("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let port = address.port();
    // A name is judged by the address that would be dialled, a number whatever way it is written.
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        for transport in [RemoteTransport::StreamableHttp, RemoteTransport::Sse] {
            let elsewhere = scripted(format!("http://{host}:{port}/mcp"), transport);
            let reason = failure(&near_at(elsewhere, allowed(&["127.0.0.1:1", "other.example"]))).await;
            assert!(reason.contains("`--allow-private-remote HOST`"), "{host}: {reason}");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_does_not_speak_tls_and_what_is_no_address_is_said() {
    let (address, _) = canned("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let tls = scripted(format!("https://{address}/mcp?key=xyzzy"), RemoteTransport::StreamableHttp);
    let reason = failure(&near(tls)).await;
    assert!(reason.contains("does not speak TLS") && !reason.contains("xyzzy"), "{reason}");
    for wrong in ["ftp://x.example/xyzzy", "xyzzy", "http://"] {
        let reason = failure(&near(scripted(wrong.to_owned(), RemoteTransport::Sse))).await;
        assert!(reason.contains("correct `remote.url`") && !reason.contains("xyzzy"), "{reason}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_said() {
    use rustls::pki_types::PrivateKeyDer;
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shaken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&shaken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if acceptor.accept(stream).await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for transport in [RemoteTransport::StreamableHttp, RemoteTransport::Sse] {
        let reason = failure(&near(scripted(format!("https://localhost:{port}/mcp"), transport))).await;
        assert!(reason.contains("certificate that is not accepted") && reason.contains("SSL_CERT_FILE"), "{reason}");
    }
    assert_eq!(shaken.load(Ordering::SeqCst), 0, "nothing is sent to it");
}
