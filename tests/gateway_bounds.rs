//! What the gateway does about too much, too long, too deep, too often, and about servers that keep dying.

use super::*;
use docker_mcp::gateway::{RestartPolicy, ServerStatus};
use mcp_servers::Answer;

fn long_lived() -> GatewayOptions {
    GatewayOptions { long_lived: true, ..quick() }
}

fn patient() -> GatewayOptions {
    GatewayOptions { startup_timeout: Duration::from_secs(20), ..GatewayOptions::default() }
}

fn result(content: &[u8]) -> Answer {
    let start = b"{\"jsonrpc\":\"2.0\",\"id\":<id>,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"";
    Answer::Bytes([start, content, b"\"}]}}\n"].concat())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_from_a_server_fails_that_call_and_nothing_else() {
    let deep =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":<id>,\"result\":{}1{}}}\n", "[".repeat(10_000), "]".repeat(10_000));
    // Short as it is, hundreds of megabytes once it is parsed.
    let heavy = format!("{{\"jsonrpc\":\"2.0\",\"id\":<id>,\"result\":[{}1]}}\n", "{\"\":0},".repeat(1 << 20));
    let odd = vec![
        ("huge", result(&vec![b'x'; 50 << 20])),
        ("latin", result(b"caf\xe9")),
        ("deep", Answer::Bytes(deep.into_bytes())),
        ("heavy", Answer::Bytes(heavy.into_bytes())),
        ("endless", Answer::Forever(vec![b'x'; 1 << 16])),
        ("fine", result(b"fine")),
    ];
    let options = GatewayOptions { call_timeout: Duration::from_secs(60), ..long_lived() };
    let (gateway, servers) = gateway(&[("odd", Behaviour::Odd(odd)), ("a", Behaviour::Good)], options);
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    for (tool, expected) in [
        ("odd_huge", "server `odd` sent a message of more than 16 MiB"),
        ("odd_latin", "the server sent an answer that cannot be read: invalid unicode code point"),
        ("odd_deep", "the server sent an answer that cannot be read: recursion limit exceeded"),
        ("odd_heavy", "the server sent an answer that cannot be read: the message would take 4"),
        ("odd_endless", "server `odd` sent a message of more than 16 MiB"),
    ] {
        let outcome = match call(&client, tool).await {
            Ok(result) => {
                assert_eq!(result["isError"], true, "{tool}");
                text(&result).to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert!(outcome.contains(expected), "{tool}: {outcome}");
        assert!(!text(&call(&client, "a_count").await.unwrap()).is_empty(), "another server is unaffected");
    }
    // One that broke is replaced; it ended twice in a row, so there is a pause.
    let paused = call(&client, "odd_fine").await.unwrap();
    assert!(text(&paused).contains("is tried again in 1 s"), "{paused}");
    client.close().await;
    until("everything is released", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_notifications_during_a_call_is_passed_on_without_loss() {
    let mut flood = Vec::new();
    for progress in 0..20_000 {
        let params = format!("{{\"progressToken\":<token>,\"progress\":{progress}}}");
        let line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{params}}}\n");
        flood.extend(line.into_bytes());
    }
    let Answer::Bytes(answer) = result(b"survived") else { unreachable!() };
    flood.extend(answer);
    let odd = Behaviour::Odd(vec![("flood", Answer::Bytes(flood))]);
    let (gateway, _) = gateway(&[("odd", odd)], patient());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    let mut next = 0.0;
    let result = client.call_tool("odd_flood", Map::new(), |heard| {
        assert_eq!(heard.params["progress"].as_f64(), Some(next));
        next += 1.0;
    });
    assert_eq!(text(&result.await.unwrap()), "survived");
    assert!((next - 20_000.0).abs() < 0.5, "{next}");
}

#[tokio::test(start_paused = true)]
async fn lists_that_do_not_end_are_cut() {
    let servers = [("pages", Behaviour::Endless(1)), ("many", Behaviour::Endless(30_000))];
    let (gateway, _) = gateway(&servers, patient());
    gateway.complete().await;
    let tools: Vec<_> = gateway
        .status()
        .into_iter()
        .map(|(name, status)| match status {
            ServerStatus::Ready { tools, .. } => tools,
            other => panic!("{name}: {other:?}"),
        })
        .collect();
    assert_eq!(tools, [100, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_wait_for_their_turn_and_those_beyond_are_refused() {
    let options = GatewayOptions { calls_at_once: Some(2), queue: 1, ..patient() };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], options);
    let mut client = RawClient::connect(&gateway, json!({})).await;
    for id in [1, 2] {
        client.call(id, "a_slow").await;
    }
    until("two calls are under way", || servers.count_of("tools/call") == 2).await;
    // One of these waits, the other is refused.
    for id in [3, 4] {
        client.call(id, "a_slow").await;
    }
    let refused = client.next().await;
    let (waiting, expected) = (if refused["id"] == 3 { 4 } else { 3 }, "server `a` is busy: it serves 2 calls at once");
    assert!(text(&refused["result"]).starts_with(expected), "{refused}");
    let cancel = |id: u64| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    client.send(cancel(waiting)).await;
    // A call that is cancelled leaves the queue: after a while the next one finds its place.
    let mut id = 5;
    loop {
        client.call(id, "a_count").await;
        client.send(json!({"jsonrpc": "2.0", "id": 1_000 + id, "method": "ping"})).await;
        let answer = client.next().await;
        if answer["id"] == 1_000 + id {
            break;
        }
        assert!(text(&answer["result"]).contains("is busy"), "{answer}");
        assert_eq!(client.next().await["id"], 1_000 + id);
        id += 1;
        assert!(id < 500, "the cancelled call is still in the queue");
    }
    client.send(cancel(1)).await;
    let answer = client.next().await;
    assert_eq!((answer["id"].as_u64(), text(&answer["result"])), (Some(id), "1"));
    assert_eq!(servers.count_of("tools/call"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_dying_is_restarted_later_and_later() {
    let restart = RestartPolicy {
        first: Duration::from_millis(400),
        longest: Duration::from_millis(400),
        ..RestartPolicy::default()
    };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], GatewayOptions { restart, ..long_lived() });
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    for _ in 0..2 {
        assert!(text(&call(&client, "a_die").await.unwrap()).contains("closed its standard output"));
    }
    let started = servers.started.load(Ordering::SeqCst);
    let paused = call(&client, "a_count").await.unwrap();
    let expected = "server `a` failed 2 times in a row and is tried again in 1 s; the last time: server `a` closed its \
                    standard output";
    assert_eq!((paused["isError"].clone(), text(&paused)), (json!(true), expected));
    assert_eq!(servers.started.load(Ordering::SeqCst), started, "nothing is started during the pause");
    let deadline = Instant::now() + Duration::from_secs(10);
    while call(&client, "a_count").await.unwrap()["isError"] == true {
        assert!(Instant::now() < deadline, "the pause does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "2");
}

#[tokio::test(start_paused = true)]
async fn how_long_a_server_took_to_start_is_no_part_of_its_life() {
    let slow = Behaviour::Slow(Duration::from_secs(90));
    let options = GatewayOptions { startup_timeout: Duration::from_secs(120), ..long_lived() };
    let (gateway, _) = gateway(&[("a", slow)], options);
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    for _ in 0..2 {
        assert!(text(&call(&client, "a_die").await.unwrap()).contains("closed its standard output"));
    }
    let paused = call(&client, "a_count").await.unwrap();
    assert!(text(&paused).contains("failed 2 times in a row"), "{paused}");
}

#[tokio::test(start_paused = true)]
async fn what_passes_between_the_end_of_a_server_and_the_next_call_is_no_part_of_its_life() {
    let restart = RestartPolicy { first: Duration::from_secs(100), ..RestartPolicy::default() };
    let restart = RestartPolicy { longest: Duration::from_secs(1000), ..restart };
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], GatewayOptions { restart, ..long_lived() });
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    for _ in 0..2 {
        assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
        servers.kill();
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    // The pause of 100 s began when it was killed, 90 s ago.
    let paused = call(&client, "a_count").await.unwrap();
    assert!(text(&paused).contains("failed 2 times in a row and is tried again in 1"), "{paused}");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_killed_between_calls_is_replaced_without_an_error() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], long_lived());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    until("discovery released its server", || servers.running() == 1).await;
    servers.kill();
    // The end of the streams is noticed by a task; a call that is faster than it gets the one error.
    let mut outcomes = vec![call(&client, "a_count").await.unwrap()];
    if outcomes[0]["isError"] == true {
        assert!(text(&outcomes[0]).contains("the next call starts the server again"), "{outcomes:?}");
        outcomes.push(call(&client, "a_count").await.unwrap());
    }
    assert_eq!(text(outcomes.last().unwrap()), "1");
}

#[tokio::test(start_paused = true)]
async fn a_kept_server_that_hangs_is_told_and_then_replaced() {
    let options = GatewayOptions { call_timeout: Duration::from_millis(200), ..long_lived() };
    let odd = Behaviour::Odd(vec![("mute", Answer::Bytes(Vec::new()))]);
    let (gateway, servers) = gateway(&[("odd", odd)], options);
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    let outcome = call(&client, "odd_mute").await.unwrap();
    assert!(text(&outcome).starts_with("server `odd` did not answer within"), "{outcome}");
    until("the server is told", || servers.has_received("notifications/cancelled")).await;
    until("the server is asked whether it lives", || servers.has_received("ping")).await;
    until("a server that does not answer that either is let go", || servers.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_bounds_every_request_that_is_passed_on() {
    let requests = [
        ("tools/call", json!({"name": "a_count", "arguments": {}})),
        ("prompts/get", json!({"name": "a_prompt"})),
        ("resources/read", json!({"uri": "a://one"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "a_prompt"}, "argument": {"name": "x", "value": ""}}),
        ),
    ];
    let deaf = Behaviour::Deaf(&["tools/call", "prompts/get", "resources/read", "completion/complete", "ping"]);
    let (gateway, servers) = gateway(&[("a", deaf)], long_lived());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    for (number, (method, params)) in requests.into_iter().enumerate() {
        let began = Instant::now();
        let outcome = match client.ask(method, params).await {
            Ok(result) => text(&result).to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(outcome.contains("server `a` did not answer within 600 s"), "{method}: {outcome}");
        assert!(began.elapsed() < Duration::from_secs(601), "{method}: {:?}", began.elapsed());
        until("the server is told", || servers.count_of("notifications/cancelled") > number).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_to_a_log_level_still_serves() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Deaf(&["logging/setLevel"]))], long_lived());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_tools().await.unwrap();
    client.ask("logging/setLevel", json!({"level": "debug"})).await.unwrap();
    let began = Instant::now();
    assert_eq!(text(&call(&client, "a_count").await.unwrap()), "1");
    assert!(servers.has_received("logging/setLevel"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_from_a_client_is_answered_under_its_own_id() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], patient());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":22,\"method\":\"tools/call\",\"params\":{}{}}}\n",
        "{\"x\":".repeat(10_000),
        "}".repeat(10_000)
    );
    let huge = format!(
        "{{\"method\":\"tools/call\",\"params\":{{\"name\":\"a_echo\",\"arguments\":{{\"x\":\"{}\"}}}},\"jsonrpc\":\"2.0\",\"id\":23}}\n",
        "x".repeat(50 << 20)
    );
    let latin = b"{\"jsonrpc\":\"2.0\",\"id\":\"latin\",\"method\":\"tools/call\",\"params\":{\"name\":\"\xe9\"}}\n";
    for (message, id, reason) in [
        (deep.as_bytes(), json!(22), "nested too deeply"),
        (huge.as_bytes(), json!(23), "longer than 16 MiB"),
        (latin, json!("latin"), "not UTF-8"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":24,\"method\":\"tools/call\",\"params\":7}\n", json!(24), "not as MCP has it"),
    ] {
        client.input.write_all(message).await.unwrap();
        let answer = client.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(reason), "{answer}");
    }
    client.call(25, "a_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
}

#[tokio::test(start_paused = true)]
async fn large_answers_that_are_not_read_are_dropped_beyond_a_bound_and_the_client_is_told() {
    let odd = Behaviour::Odd(vec![("big", result(&vec![b'x'; 15 << 20])), ("small", result(b"small"))]);
    let options = GatewayOptions { long_lived: true, call_timeout: Duration::from_secs(120), ..patient() };
    let (gateway, servers) = gateway(&[("odd", odd)], options);
    gateway.complete().await;
    let mut client = RawClient::connect(&gateway, json!({})).await;
    for id in 1..=6 {
        client.call(id, "odd_big").await;
    }
    client.call(7, "odd_small").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while servers.count_of("tools/call") < 7 {
        assert!(Instant::now() < deadline, "the server should get all calls although nothing is read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 7 {
        let answer = client.next().await;
        answers.insert(answer["id"].as_u64().unwrap(), answer);
    }
    assert_eq!(text(&answers[&7]["result"]), "small", "small ones are not dropped");
    let (dropped, whole): (Vec<_>, Vec<_>) = answers.range(1..=6).partition(|(_, answer)| answer["error"].is_object());
    assert_eq!((whole.len(), dropped.len()), (4, 2), "64 MiB are four times 15 MiB");
    for (_, answer) in dropped {
        let reason = answer["error"]["message"].as_str().unwrap();
        assert!(reason.contains("earlier answers is not read yet; read them, and ask again"), "{reason}");
    }
    // Now there is room again.
    client.call(8, "odd_big").await;
    assert_eq!(text(&client.next().await["result"]).len(), 15 << 20);
}

#[tokio::test(start_paused = true)]
async fn large_requests_under_way_are_refused_beyond_a_bound_and_small_ones_are_not() {
    let options = GatewayOptions { long_lived: true, call_timeout: Duration::from_secs(120), ..patient() };
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], options);
    gateway.complete().await;
    let mut client = RawClient::connect(&gateway, json!({})).await;
    for id in 1..=6 {
        client.call_with(id, "a_slow", json!({"text": "x".repeat(15 << 20)})).await;
    }
    for id in [5, 6] {
        let refused = client.next().await;
        let reason = refused["error"]["message"].as_str().unwrap();
        assert!(refused["id"] == id && reason.contains("wait for answers, or send less at once"), "{refused}");
    }
    client.call(7, "a_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
    // One that is cancelled makes room.
    client.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})).await;
    client.call(8, "a_count").await;
    assert_eq!(text(&client.next().await["result"]), "2");
    client.call_with(9, "a_echo", json!({"text": "x".repeat(15 << 20)})).await;
    assert!(text(&client.next().await["result"]).len() > 15 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_but_garbage_is_let_go() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    let reading = async {
        let mut everything = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut client.output, &mut everything).await.unwrap();
        everything
    };
    let writing = async {
        while client.input.write_all(b"this is not MCP\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let (everything, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(reading, writing) }).await.unwrap();
    let refusals = everything.lines().filter(|line| line.contains("it is not JSON")).count();
    assert!((1..=101).contains(&refusals), "{refusals}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_read_from_for_ever() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    let mut id = 1;
    loop {
        let ping = client.send(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        // A write that waits: the pipe is full, because nobody takes from it.
        if tokio::time::timeout(Duration::from_secs(1), ping).await.is_err() {
            break;
        }
        id += 1;
        assert!(id < 50_000, "it reads without bound");
    }
    // It goes on once the client reads.
    for _ in 0..2_000 {
        client.next().await;
    }
}
