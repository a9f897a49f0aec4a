//! Tests of connections over pipes.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, DuplexStream};

use super::super::room::LARGE;
use super::*;

fn pair() -> (Connection, BufReader<DuplexStream>, DuplexStream) {
    let (stdin, server_in) = tokio::io::duplex(1 << 16);
    let (server_out, stdout) = tokio::io::duplex(1 << 16);
    (Connection::over_streams(stdin, stdout, Room::default()), BufReader::new(server_in), server_out)
}

async fn line(server: &mut BufReader<DuplexStream>) -> Value {
    let mut text = String::new();
    server.read_line(&mut text).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn progress_arrives_in_order_and_before_the_response() {
    let (connection, mut input, mut output) = pair();
    let mut call = connection.request("tools/call", json!({}), true, Place::default()).await;
    let request = line(&mut input).await;
    let token = request["params"]["_meta"]["progressToken"].clone();
    for progress in 0..200 {
        let message = json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": progress}});
        let message = format!("{message}\n");
        if progress < 40 {
            output.write_all(message.as_bytes()).await.unwrap();
        } else {
            break;
        }
    }
    let response = json!({"jsonrpc": "2.0", "id": request["id"], "result": {"odd": {"field": 1}}});
    output.write_all(format!("{response}\n").as_bytes()).await.unwrap();
    for expected in 0..40 {
        match call.next().await {
            Event::Notification { params, .. } => assert_eq!(params["progress"], expected),
            other => panic!("{other:?}"),
        }
    }
    match call.next().await {
        Event::Response(Ok(result)) => assert_eq!(result, json!({"odd": {"field": 1}})),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_at_the_server() {
    let (connection, mut input, _output) = pair();
    let call = connection.request("tools/call", json!({}), false, Place::default()).await;
    let request = line(&mut input).await;
    drop(call);
    let cancelled = line(&mut input).await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], request["id"]);
}

#[tokio::test]
async fn some_garbage_is_skipped_and_much_of_it_ends_the_connection() {
    let (connection, mut input, mut output) = pair();
    let answer = async {
        let request = line(&mut input).await;
        output.write_all(b"Listening...\n").await.unwrap();
        let response = json!({"jsonrpc": "2.0", "id": request["id"], "result": {}});
        output.write_all(format!("{response}\n").as_bytes()).await.unwrap();
    };
    let (result, ()) = tokio::join!(connection.ask("tools/list", json!({})), answer);
    assert_eq!(result.unwrap(), json!({}));
    assert_eq!(connection.garbage().as_deref(), Some("Listening..."));
    let noise = output.write_all(b"x\nx\nx\nx\nx\nx\nx\n");
    let (result, noise) = tokio::join!(connection.ask("tools/list", json!({})), noise);
    noise.unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with("wrote something that is not MCP on its standard output: `Listening...`"), "{error}");
    assert!(connection.is_closed());
}

#[tokio::test]
async fn a_ping_is_answered_without_a_call() {
    let (_connection, mut input, mut output) = pair();
    output.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n").await.unwrap();
    assert_eq!(line(&mut input).await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
}

#[tokio::test]
async fn dropping_the_connection_closes_the_servers_input() {
    let (connection, mut input, _output) = pair();
    drop(connection);
    let mut rest = String::new();
    assert_eq!(input.read_line(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn a_large_request_keeps_its_place_until_it_is_written_even_if_it_was_given_up() {
    let (connection, mut input, _output) = pair();
    let room = Room::of(100 * LARGE);
    let place = room.try_take(100 * LARGE).unwrap();
    let params = json!({"text": "x".repeat(100 * LARGE)});
    drop(connection.request("tools/call", params, false, place).await);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(room.try_take(LARGE).is_none(), "it waits for a server that does not read");
    assert_eq!(line(&mut input).await["method"], "tools/call");
    assert_eq!(line(&mut input).await["method"], "notifications/cancelled");
    assert!(room.try_take(100 * LARGE).is_some());
}

#[tokio::test]
async fn large_messages_that_nobody_takes_wait_at_the_server() {
    let (stdin, server_in) = tokio::io::duplex(1 << 16);
    let (mut output, stdout) = tokio::io::duplex(1 << 16);
    let connection = Connection::over_streams(stdin, stdout, Room::of(4 * LARGE));
    let mut call = connection.request("tools/call", json!({}), true, Place::default()).await;
    let request = line(&mut BufReader::new(server_in)).await;
    let params = json!({"progressToken": request["params"]["_meta"]["progressToken"], "message": "x".repeat(LARGE)});
    let message = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
    // Fewer than the queue has places for.
    let (all, message) = (60, format!("{message}\n"));
    let mut writing = tokio::spawn(async move {
        for _ in 0..all {
            output.write_all(message.as_bytes()).await.unwrap();
        }
        output
    });
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), &mut writing).await;
    assert!(waited.is_err(), "there is room for no more than 4");
    for _ in 0..all {
        assert!(matches!(call.next().await, Event::Notification { .. }));
    }
    writing.await.unwrap();
}
