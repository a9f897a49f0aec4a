//! What passes between one client and one server besides calls: log levels, questions, completion, changed lists.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_log_level_of_a_client_reaches_the_server_before_the_call() {
    let (gateway, servers) = gateway(&[("a", Behaviour::Good)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}})).await;
    assert_eq!(client.next().await["result"], json!({}));
    client.call(2, "a_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
    let received = servers.received.lock().unwrap().clone();
    let place = |method: &str| received.iter().position(|received| received == method).unwrap();
    assert!(place("logging/setLevel") < place("tools/call"), "{received:?}");
}

#[tokio::test(start_paused = true)]
async fn log_messages_of_a_server_reach_the_client_that_called() {
    let log = br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}
{"jsonrpc":"2.0","id":<id>,"result":{"content":[{"type":"text","text":"done"}]}}
"#;
    let odd = Behaviour::Odd(vec![("log", mcp_servers::Answer::Bytes(log.to_vec()))]);
    let (gateway, _) = gateway(&[("odd", odd)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.call(1, "odd_log").await;
    let message = client.next().await;
    assert_eq!((&message["method"], &message["params"]["data"]), (&json!("notifications/message"), &json!("working")));
    assert_eq!(text(&client.next().await["result"]), "done");
}

#[tokio::test(start_paused = true)]
async fn elicitation_and_roots_are_relayed_to_a_client_that_can() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good)], quick());
    let mut able = RawClient::connect(&gateway, json!({"elicitation": {}, "roots": {"listChanged": true}})).await;
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let elicit = json!({"message": "who?", "requestedSchema": schema});
    for (id, method, params, answer) in [
        (1, "elicitation/create", elicit.clone(), json!({"action": "accept", "content": {"name": "Ada"}})),
        (2, "roots/list", json!({}), json!({"roots": [{"uri": "file:///work", "name": "work"}]})),
    ] {
        able.call_with(id, "a_ask", json!({"method": method, "params": params})).await;
        let request = able.next().await;
        assert_eq!(request["method"], method, "{request}");
        able.send(json!({"jsonrpc": "2.0", "id": request["id"], "result": answer})).await;
        let relayed: Value = serde_json::from_str(text(&able.next().await["result"])).unwrap();
        assert_eq!(relayed, answer);
    }
    let mut unable = RawClient::connect(&gateway, json!({})).await;
    for (id, method, params) in [(1, "elicitation/create", elicit), (2, "roots/list", json!({}))] {
        unable.call_with(id, "a_ask", json!({"method": method, "params": params})).await;
        let answer = unable.next().await;
        assert!(text(&answer["result"]).contains("-32601"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn completion_goes_to_the_server_that_has_the_prompt_or_the_template() {
    let (gateway, _) = gateway(&[("a", Behaviour::Good), ("b", Behaviour::Good)], quick());
    let client = Client::to_gateway(&gateway).await.unwrap();
    client.list_prompts().await.unwrap();
    for (reference, server) in [
        (json!({"type": "ref/prompt", "name": "b_prompt"}), "b"),
        (json!({"type": "ref/resource", "uri": "a://rows/{id}"}), "a"),
    ] {
        let params = json!({"ref": reference, "argument": {"name": "x", "value": "y"}});
        let result = client.ask("completion/complete", params).await.unwrap();
        assert_eq!(result["completion"]["values"], json!([format!("completed by {server}")]));
    }
    let params = json!({"ref": {"type": "ref/prompt", "name": "none"}, "argument": {"name": "x", "value": "y"}});
    let error = client.ask("completion/complete", params).await.unwrap_err().to_string();
    assert!(error.contains("prompt `none` is not known to the gateway"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_kept_server_that_changes_its_lists_is_asked_again_and_clients_are_told() {
    let options = GatewayOptions { long_lived: true, ..GatewayOptions::default() };
    let (gateway, _) = gateway(&[("a", Behaviour::Grows)], options);
    let mut one = RawClient::connect(&gateway, json!({})).await;
    let mut two = RawClient::connect(&gateway, json!({})).await;
    one.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(one.next().await["result"]["tools"].as_array().unwrap().len(), 1);
    one.call(2, "a_grow").await;
    // The result, and once that the tools changed; the prompts are the same as before.
    let mut heard = [one.next().await, one.next().await];
    heard.sort_by_key(|message| message.get("id").is_none());
    assert_eq!(text(&heard[0]["result"]), "growing");
    assert_eq!(heard[1]["method"], "notifications/tools/list_changed");
    assert_eq!(two.next().await["method"], "notifications/tools/list_changed");
    for client in [&mut one, &mut two] {
        client.send(json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})).await;
        let answer = client.next().await;
        assert_eq!(names(answer["result"]["tools"].as_array().unwrap()), ["a_grow", "a_grown"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_of_the_stateless_revision_is_told_what_it_asked_for() {
    let told = Arc::new(Notify::new());
    let (gateway, _) = gateway(&[("late", Behaviour::Late(Arc::clone(&told)))], quick());
    let mut client = RawClient::open(&gateway).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})).await;
    let listed = client.next().await;
    assert_eq!(listed["result"]["tools"], json!([]), "{listed}");
    let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta});
    client.send(json!({"jsonrpc": "2.0", "id": 2, "method": "subscriptions/listen", "params": params})).await;
    let acknowledged = client.next().await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{acknowledged}");
    told.notify_one();
    let changed = client.next().await;
    assert_eq!(changed["method"], "notifications/tools/list_changed", "{changed}");
    client.send(json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {"_meta": meta}})).await;
    // Nothing about prompts and resources came between.
    let listed = client.next().await;
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(6), "{listed}");
}

#[tokio::test(start_paused = true)]
async fn cancelling_while_a_server_is_provisioned_gives_that_up() {
    let (gateway, servers) = gateway(&[("a", Behaviour::StartsOnce)], quick());
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    client.next().await;
    until("discovery released its server", || servers.running() == 0).await;
    client.call(7, "a_count").await;
    until("a server is asked for", || servers.asked.load(Ordering::SeqCst) == 2).await;
    client.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})).await;
    until("provisioning was given up", || servers.given_up.load(Ordering::SeqCst) == 1).await;
    assert_eq!(servers.running(), 0);
    assert!(gateway.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_kept_server_whose_call_is_given_up_is_replaced_if_it_does_not_answer_any_more() {
    let options = GatewayOptions { long_lived: true, ..GatewayOptions::default() };
    let servers = [("deaf", Behaviour::Deaf(&["tools/call", "ping"])), ("good", Behaviour::Good)];
    let (gateway, servers) = gateway(&servers, options);
    let mut client = RawClient::connect(&gateway, json!({})).await;
    client.send(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    client.next().await;
    until("discovery released its servers", || servers.running() == 0).await;
    client.call(2, "good_count").await;
    assert_eq!(text(&client.next().await["result"]), "1");
    for (number, tool) in ["deaf_count", "good_slow"].into_iter().enumerate() {
        let id = 3 + number as u64;
        client.call(id, tool).await;
        until("the call is under way", || servers.count_of("tools/call") == number + 2).await;
        client.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})).await;
        until("the server is asked whether it lives", || servers.count_of("ping") == number + 1).await;
    }
    // It has a minute for it.
    tokio::time::sleep(Duration::from_secs(61)).await;
    until("the one that does not answer is let go", || servers.running() == 1).await;
    client.call(5, "good_count").await;
    assert_eq!(text(&client.next().await["result"]), "2", "the other one is kept");
    drop(client);
    until("nobody keeps it for a client that is gone", || servers.running() == 0).await;
}
