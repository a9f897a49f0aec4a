//! The main job on a real Kubernetes cluster with real third-party MCP servers: a client connects to the built gateway,
//! servers are provisioned as pods, with values from this machine, from the cluster, or mixed, and nothing remains.
//!
//! Tests are named after what the reference implementation got wrong. Needs `KUBECONFIG` and the test images in the
//! cluster. What single parts do is tested with the parts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{EnvVar, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use cluster::{Cluster, until};
use gateway::{Gateway, STUBBORN, Setup};

#[path = "end_to_end/cluster.rs"]
mod cluster;
#[path = "end_to_end/gateway.rs"]
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod gateway;
#[path = "end_to_end/kubernetes_mishaps.rs"]
mod mishaps;

const HERE: &str = "docker-engine";
const CLUSTER: &str = "cluster";
const SECRETS: &str = "mcp-gateway-secrets";
const CONFIG: &str = "mcp-gateway-config";

async fn start(cluster: &Cluster, setup: &Setup, servers: &[&str], sources: (&str, &str), more: &[&str]) -> Gateway {
    let mut flags = cluster.flags(setup, sources.0, sources.1);
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    setup.gateway(servers, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Secrets and configuration of `everything` in files.
fn files(setup: &Setup, secret: &str, greeting: &str) -> (String, String) {
    let secrets = setup.file("secrets.env", &format!("everything.token={secret}\n"));
    let config = setup.file("config.yaml", &format!("{}:\n  greeting: {greeting}\n", setup.name("everything")));
    (secrets.display().to_string(), config.display().to_string())
}

/// The variables of the one container of a pod.
fn variables(pod: &Pod) -> Vec<EnvVar> {
    pod.spec.as_ref().unwrap().containers[0].env.clone().unwrap_or_default()
}

/// `KIND/OBJECT/KEY` of what a variable refers to.
fn reference(variables: &[EnvVar], name: &str) -> (String, String, String) {
    let variable = variables.iter().find(|variable| variable.name == name).unwrap_or_else(|| panic!("{variables:?}"));
    let from = variable.value_from.as_ref().unwrap_or_else(|| panic!("{variable:?} should be a reference"));
    match (&from.secret_key_ref, &from.config_map_key_ref) {
        (Some(secret), None) => ("secret".to_owned(), secret.name.clone(), secret.key.clone()),
        (None, Some(map)) => ("config".to_owned(), map.name.clone(), map.key.clone()),
        _ => panic!("{from:?}"),
    }
}

async fn environment(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.text("get-env", json!({})).await).unwrap()
}

#[tokio::test]
async fn values_of_this_machine_reach_the_server_through_objects_of_its_own_and_stand_nowhere_else() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let (secrets, config) = files(&setup, "tok$(PATH)en-xyzzy", "good-$(HOME)-plugh");
    let more = ["--long-lived", "--secrets", &secrets, "--config", &config, "--verbose", "--block-secrets=false"];
    let gateway = start(&cluster, &setup, &["everything", "time"], (HERE, HERE), &more).await;

    let seen = environment(&gateway).await;
    assert_eq!(seen["EVERYTHING_TOKEN"], "tok$(PATH)en-xyzzy", "nothing is expanded in what is no template");
    assert_eq!(seen["GREETING"], "good-$(HOME)-plugh");
    let time = gateway.text("get_current_time", json!({"timezone": "Europe/Paris"})).await;
    assert!(time.contains("Europe/Paris"), "{time}");

    let pods = cluster.wait_for_pods(2).await;
    let owned = pods.iter().find(|pod| !variables(pod).is_empty()).unwrap();
    let variables = variables(owned);
    let (kind, own_secret, key) = reference(&variables, "EVERYTHING_TOKEN");
    assert_eq!((kind.as_str(), key.as_str()), ("secret", "EVERYTHING_TOKEN"));
    let (kind, own_map, _) = reference(&variables, "GREETING");
    assert_eq!(kind, "config");
    let held = cluster.api::<Secret>().get(&own_secret).await.unwrap();
    assert_eq!(held.data.unwrap().keys().collect::<Vec<_>>(), ["EVERYTHING_TOKEN"], "only what this server uses");
    assert!(held.metadata.owner_references.is_some_and(|owners| !owners.is_empty()));
    assert!(own_secret.starts_with("mcp-") && own_map.starts_with("mcp-"), "{own_secret} {own_map}");
    let pods = serde_json::to_string(&pods).unwrap();
    assert!(!pods.contains("xyzzy") && !pods.contains("plugh"), "a private value is in a pod: {pods}");
    let log = gateway.finish().await;
    assert!(!log.contains("xyzzy") && !log.contains("plugh"), "a private value is in the log:\n{log}");
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn values_of_the_cluster_are_referred_to_and_never_read() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let greeting = format!("{}.greeting", setup.name("everything"));
    cluster.secret(SECRETS, &[("everything.token", "tok-xyzzy"), ("other.token", "not-this")]).await;
    cluster.config_map(CONFIG, &[(&greeting, "good-plugh"), ("other.key", "not-this")]).await;
    let more = ["--long-lived", "--block-secrets=false", "--verbose"];
    let gateway = start(&cluster, &setup, &["everything"], (CLUSTER, CLUSTER), &more).await;

    let seen = environment(&gateway).await;
    assert_eq!((&seen["EVERYTHING_TOKEN"], &seen["GREETING"]), (&json!("tok-xyzzy"), &json!("good-plugh")));
    assert!(!seen.to_string().contains("not-this"), "the server gets its own keys only: {seen:#}");
    let pods = cluster.wait_for_pods(1).await;
    let variables = variables(&pods[0]);
    assert_eq!(
        reference(&variables, "EVERYTHING_TOKEN"),
        ("secret".to_owned(), SECRETS.to_owned(), "everything.token".to_owned())
    );
    assert_eq!(reference(&variables, "GREETING"), ("config".to_owned(), CONFIG.to_owned(), greeting));
    assert!(!cluster.everything().await.contains("xyzzy"));
    let log = gateway.finish().await;
    assert!(!log.contains("xyzzy") && !log.contains("plugh"), "{log}");
    cluster.wait_until_empty().await;
    assert!(cluster.api::<Secret>().get(SECRETS).await.is_ok(), "what the gateway did not make stays");
}

#[tokio::test]
async fn secrets_and_configuration_may_come_from_different_places() {
    let Some(cluster) = Cluster::find().await else { return };
    for (number, sources) in [(CLUSTER, HERE), (HERE, CLUSTER)].into_iter().enumerate() {
        let setup = Setup::new();
        setup.add(
            "both",
            &format!(
                "image: mcp-test/everything:1\nsecrets: [{{name: everything.token, env: T}}]\nenv: [{{name: URL, value: \
                 'https://{{{{{0}.greeting}}}}:{{{{everything.token}}}}@h/$x$$'}}]",
                setup.name("both")
            ),
        );
        let secrets = setup.file("secrets.env", "everything.token=tok-xyzzy\n").display().to_string();
        let section = format!("{}:\n  greeting: hi\n", setup.name("both"));
        let config = setup.file("config.yaml", &section).display().to_string();
        let (secret_name, config_name) = (format!("secrets-{number}"), format!("config-{number}"));
        let mut more = vec!["--cluster-secret-name", &secret_name, "--cluster-config-name", &config_name];
        more.extend(["--block-secrets=false", "--long-lived"]);
        if sources.0 == CLUSTER {
            cluster.secret(&secret_name, &[("everything.token", "tok-xyzzy")]).await;
            more.extend(["--config", &config]);
        } else {
            cluster.config_map(&config_name, &[(&format!("{}.greeting", setup.name("both")), "hi")]).await;
            more.extend(["--secrets", &secrets]);
        }
        let gateway = start(&cluster, &setup, &["both"], sources, &more).await;
        let seen = environment(&gateway).await;
        assert_eq!(seen["URL"], "https://hi:tok-xyzzy@h/$x$$", "{sources:?}");
        let pods = serde_json::to_string(&cluster.wait_for_pods(1).await).unwrap();
        assert!(!pods.contains("xyzzy"), "{pods}");
        assert!(gateway.close().await.success());
        cluster.wait_until_empty().await;
    }
}

#[tokio::test]
async fn a_missing_key_is_named_at_once_with_the_command_that_adds_it_and_stops_no_other_server() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    setup.add(
        "wants",
        &format!("image: mcp-test/everything:1\nenv: [{{name: A, value: '{{{{{}.absent}}}}'}}]", setup.name("wants")),
    );
    setup.add("secretive", "image: mcp-test/everything:1\nsecrets: [{name: absent.token, env: TOKEN}]");
    cluster.secret(SECRETS, &[("x", "y")]).await;
    cluster.config_map(CONFIG, &[("x", "y")]).await;
    let began = Instant::now();
    let gateway = start(&cluster, &setup, &["wants", "secretive", "time"], (CLUSTER, CLUSTER), &[]).await;
    let tools = gateway.tools().await;
    assert!(tools.iter().any(|tool| tool == "get_current_time"), "{tools:?}");
    let elapsed = began.elapsed();
    let log = gateway.finish().await;
    let absent = format!("ConfigMap `{CONFIG}` has no `{}.absent`", setup.name("wants"));
    assert!(log.contains(&absent) && log.contains("cluster-tools populate-configmap"), "{log}");
    assert!(log.contains("absent.token") && log.contains("cluster-tools populate-secret"), "{log}");
    assert!(elapsed < Duration::from_secs(75), "nothing waits for what cannot come: {elapsed:?}");
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn two_gateways_in_one_namespace_have_values_and_objects_of_their_own() {
    let Some(cluster) = Cluster::find().await else { return };
    let (one, two) = (Setup::new(), Setup::new());
    let mut gateways = Vec::new();
    for (setup, secret) in [(&one, "token-of-one"), (&two, "token-of-two")] {
        let (secrets, config) = files(setup, secret, secret);
        let more = ["--long-lived", "--block-secrets=false", "--secrets", &secrets, "--config", &config];
        gateways.push(start(&cluster, setup, &["everything"], (HERE, HERE), &more).await);
    }
    assert_eq!(environment(&gateways[0]).await["EVERYTHING_TOKEN"], "token-of-one");
    assert_eq!(environment(&gateways[1]).await["EVERYTHING_TOKEN"], "token-of-two");
    cluster.wait_for_pods(2).await;
    assert!(gateways.remove(0).close().await.success());
    cluster.wait_for_pods(1).await;
    assert_eq!(environment(&gateways[0]).await["GREETING"], "token-of-two", "the other one stopping changes nothing");
    assert!(gateways.remove(0).close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn names_that_look_alike_are_different_keys_and_a_name_that_is_no_key_is_refused() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let secrets = "[{name: a_b, env: ONE}, {name: a-b, env: TWO}, {name: a.b, env: THREE}]";
    setup.add("alike", &format!("image: mcp-test/everything:1\nsecrets: {secrets}"));
    setup.add("odd", "image: mcp-test/everything:1\nsecrets: [{name: 'a/b', env: ONE}]");
    cluster.secret(SECRETS, &[("a_b", "1"), ("a-b", "2"), ("a.b", "3")]).await;
    let gateway = start(&cluster, &setup, &["alike", "odd"], (CLUSTER, HERE), &["--block-secrets=false"]).await;
    let seen = environment(&gateway).await;
    assert_eq!([&seen["ONE"], &seen["TWO"], &seen["THREE"]], ["1", "2", "3"]);
    let log = gateway.finish().await;
    assert!(log.contains("`a/b` cannot be a key of a Secret or ConfigMap"), "{log}");
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn an_ephemeral_tool_gets_its_arguments_as_they_are_and_its_failure_is_told() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    setup.add(
        "fails",
        "type: poci\ntools:\n  - name: fails\n    container: {image: mcp-test/busybox:1, command: [sh, -c, 'echo out; echo \
         err >&2; exit 7']}",
    );
    let gateway = start(&cluster, &setup, &["shell", "fails"], (HERE, HERE), &[]).await;
    let listed = gateway.client().list_all_tools().await.unwrap();
    let words = listed.iter().find(|tool| tool.name == "words").unwrap();
    assert_eq!(words.input_schema["properties"]["more"]["type"], "array");
    assert_eq!(words.input_schema["required"], json!(["text"]));
    let hostile = "$(id); `id` $(PATH) 'a\"b\\";
    let text = gateway.text("words", json!({"text": hostile, "more": ["two words", ""]})).await;
    assert_eq!(text, format!("{hostile}\ntwo words\n\n"));
    let failed = gateway.call("fails", json!({})).await.unwrap();
    assert_eq!(failed["isError"], true, "{failed:#}");
    let shown = failed.to_string();
    assert!(shown.contains("out") && shown.contains("err") && shown.contains('7'), "{shown}");
    cluster.wait_for_pods(0).await;
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn a_remote_server_needs_no_image_and_a_grant_for_secrets_of_the_cluster() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    server.set_nonblocking(true).unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let notes = std::sync::Arc::clone(&seen);
    let answer = move |headers: axum::http::HeaderMap, body: String| {
        let notes = std::sync::Arc::clone(&notes);
        async move {
            let token = headers.get("authorization").and_then(|token| token.to_str().ok()).unwrap_or("none");
            notes.lock().unwrap().push(token.to_owned());
            let request: Value = serde_json::from_str(&body).unwrap();
            let result = match request["method"].as_str().unwrap() {
                "initialize" => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                                       "serverInfo": {"name": "r", "version": "1"}}),
                "tools/list" => json!({"tools": [{"name": "far", "inputSchema": {"type": "object"}}]}),
                _ => json!({}),
            };
            let status = if request.get("id").is_some() { 200 } else { 202 };
            let body = json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
            axum::http::Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(if status == 200 { body } else { String::new() })
                .unwrap()
        }
    };
    let app = axum::Router::new().route("/mcp", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::from_std(server).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let entry = format!(
        "type: remote\nsecrets: [{{name: r.token, env: TOKEN}}]\nremote: {{url: 'http://{address}/{{{{{}.path}}}}', \
         transport_type: streamable-http, headers: {{Authorization: 'Bearer $TOKEN'}}}}",
        setup.name("remote")
    );
    setup.add("remote", &entry);
    cluster.secret(SECRETS, &[("r.token", "tok-xyzzy")]).await;
    cluster.config_map(CONFIG, &[(&format!("{}.path", setup.name("remote")), "mcp")]).await;
    let near = ["--allow-private-remote", "127.0.0.1"];
    let gateway = start(&cluster, &setup, &["remote"], (CLUSTER, CLUSTER), &near).await;
    assert_eq!(gateway.tools().await, Vec::<String>::new());
    let log = gateway.finish().await;
    assert!(log.contains("--grant remote-secrets"), "{log}");
    assert!(seen.lock().unwrap().is_empty(), "nothing is sent without the grant");

    let granted = [&near[..], &["--grant", "remote-secrets"]].concat();
    let gateway = start(&cluster, &setup, &["remote"], (CLUSTER, CLUSTER), &granted).await;
    assert_eq!(gateway.tools().await, ["far"]);
    let log = gateway.finish().await;
    assert!(!log.contains("xyzzy"), "{log}");
    assert!(seen.lock().unwrap().iter().all(|token| token == "Bearer tok-xyzzy"), "{:?}", seen.lock().unwrap());
    assert!(cluster.pods().await.is_empty());
}

#[tokio::test]
async fn a_pod_that_died_is_provisioned_again() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let gateway = start(&cluster, &setup, &["memory"], (HERE, HERE), &[]).await;
    gateway.text("read_graph", json!({})).await;
    let first = cluster.wait_for_pods(1).await.remove(0).metadata.name.unwrap();
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.api::<Pod>().delete(&first, &at_once).await.unwrap();
    // The process ends a little later, and a call that is faster than the news gets the one error.
    until("calls should reach a new pod", async || {
        let answer = gateway.call("read_graph", json!({})).await.unwrap();
        let pods = cluster.pods().await;
        let is_new = pods.len() == 1 && pods[0].metadata.name.as_deref() != Some(first.as_str());
        is_new && answer["isError"] != json!(true)
    })
    .await;
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn a_fresh_server_has_a_pod_for_each_call_and_calls_at_the_same_time_do_not_collide() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let gateway = start(&cluster, &setup, &["time"], (HERE, HERE), &[]).await;
    gateway.tools().await;
    let calls = (0..3).map(|_| gateway.text("get_current_time", json!({"timezone": "UTC"})));
    assert!(futures::future::join_all(calls).await.iter().all(|text| text.contains("UTC")));
    cluster.wait_for_pods(0).await;
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn a_missing_image_is_told_without_waiting_and_stops_no_other_server() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    setup.add("absent", "image: localhost:1/mcp-test/no-such-image:1");
    let began = Instant::now();
    let gateway = start(&cluster, &setup, &["absent", "time"], (HERE, HERE), &[]).await;
    let tools = gateway.tools().await;
    assert!(tools.iter().any(|tool| tool == "get_current_time"), "{tools:?}");
    let elapsed = began.elapsed();
    let log = gateway.finish().await;
    assert!(log.contains("no-such-image") && log.contains(&setup.name("absent")), "{log}");
    assert!(elapsed < Duration::from_secs(75), "nothing waits for what cannot come: {elapsed:?}");
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn a_closed_http_session_takes_its_pods_along() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut command = setup.command();
    command.args(["gateway", "run", "--transport", "streaming", "--port", &port.to_string()]);
    command
        .args(["--allow-unauthenticated"])
        .args(setup.selection(&["memory"]))
        .args(cluster.flags(&setup, HERE, HERE));
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let (http, url) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}/mcp"));
    until("the gateway should listen", async || {
        http.get(format!("http://127.0.0.1:{port}/health")).send().await.is_ok()
    })
    .await;
    let send = |session: Option<String>, body: Value| {
        let request = http.post(&url).header("accept", "application/json, text/event-stream");
        let request = request.header("content-type", "application/json").body(body.to_string());
        let request = match session {
            Some(session) => request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-06-18"),
            None => request,
        };
        async move { request.send().await.unwrap() }
    };
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let answer = send(None, hello).await;
    let session = answer.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    answer.text().await.unwrap();
    send(Some(session.clone()), json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let call =
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "read_graph", "arguments": {}}});
    let graph = send(Some(session.clone()), call).await.text().await.unwrap();
    assert!(graph.contains("result"), "{graph}");
    cluster.wait_for_pods(1).await;

    let closed = http.delete(&url).header("mcp-session-id", &session).header("mcp-protocol-version", "2025-06-18");
    assert!(closed.send().await.unwrap().status().is_success());
    cluster.wait_for_pods(0).await;
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(child.wait().await.unwrap().success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn what_a_killed_gateway_left_is_removed_by_the_next_once_its_lease_has_expired() {
    let Some(cluster) = Cluster::find().await else { return };
    let (victim, bystander) = (Setup::new(), Setup::new());
    victim.add("victim", STUBBORN);
    bystander.add("bystander", STUBBORN);
    let living = start(&cluster, &bystander, &["bystander"], (HERE, HERE), &["--long-lived"]).await;
    living.text("greet", json!({})).await;
    let kept = cluster.wait_for_pods(1).await.remove(0).metadata.name.unwrap();
    let leases = cluster.api::<Lease>().list(&ListParams::default()).await.unwrap();
    let of_living: Vec<_> = leases.items.into_iter().filter_map(|lease| lease.metadata.name).collect();
    let dead = start(&cluster, &victim, &["victim"], (HERE, HERE), &["--long-lived"]).await;
    dead.text("greet", json!({})).await;
    cluster.wait_for_pods(2).await;
    dead.signal("KILL").await;
    assert_eq!(cluster.pods().await.len(), 2, "it should outlive its gateway");

    // As if two minutes had passed.
    let leases = cluster.api::<Lease>();
    for lease in leases.list(&ListParams::default()).await.unwrap() {
        let name = lease.metadata.name.unwrap();
        if !of_living.contains(&name) {
            let long_ago = json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}});
            leases.patch(&name, &PatchParams::default(), &Patch::Merge(&long_ago)).await.unwrap();
        }
    }
    let mut reap = ["gateway", "reap", "--runtime", "kubernetes", "--dry-run", "--format", "json", "--namespace"]
        .map(str::to_owned)
        .to_vec();
    reap.push(cluster.namespace.clone());
    let forecast = bystander.run(&reap).await;
    let forecast: Value = serde_json::from_slice(&forecast.stdout).unwrap();
    assert_eq!(forecast["dead"].as_array().map(Vec::len), Some(1), "{forecast:#}");
    assert_eq!(forecast["living"].as_array().map(Vec::len), Some(1), "{forecast:#}");

    let next = start(&cluster, &Setup::new(), &["time"], (HERE, HERE), &[]).await;
    until("only the pod of the living gateway should be left", async || {
        let pods = cluster.pods().await;
        pods.iter().all(|pod| pod.metadata.name.as_deref() == Some(kept.as_str()))
    })
    .await;
    assert_eq!(living.text("greet", json!({})).await, "hello");
    assert!(next.close().await.success());
    assert!(living.close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn a_plan_shows_the_objects_without_values_and_without_a_cluster() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let (secrets, config) = files(&setup, "tok-xyzzy", "good-plugh");
    for sources in [(HERE, HERE), (CLUSTER, CLUSTER)] {
        let mut command = setup.command();
        command.env("KUBECONFIG", "/nonexistent").args(["provisioner", "plan", "-o", "json"]);
        command.args(setup.selection(&["everything"])).args(cluster.flags(&setup, sources.0, sources.1));
        if sources.0 == HERE {
            command.args(["--secrets", &secrets, "--config", &config]);
        }
        let output = command.output().await.unwrap();
        let (plan, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{log}\n{plan}");
        assert!(!plan.contains("xyzzy") && !plan.contains("plugh"), "{plan}");
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let objects = plan["plan"][0]["objects"].as_array().unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        let expected: &[&str] = if sources.0 == HERE { &["Secret", "ConfigMap", "Pod"] } else { &["Pod"] };
        assert_eq!(kinds, expected, "{plan:#}");
    }
}

#[tokio::test]
async fn a_dry_run_asks_the_cluster_what_it_has_and_what_the_gateway_may_do() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    cluster.config_map(CONFIG, &[("x", "y")]).await;
    let mut dry_run = vec!["gateway".to_owned(), "run".to_owned(), "--dry-run".to_owned()];
    dry_run.extend(setup.selection(&["everything", "time"]));
    dry_run.extend(cluster.flags(&setup, HERE, CLUSTER));
    let output = setup.run(&dry_run).await;
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    let namespace = &cluster.namespace;
    assert!(plan.contains(&format!("runs in a pod in namespace `{namespace}`")), "{plan}");
    assert!(plan.contains("mcp-test/time:1"), "{plan}");
    for words in
        ["cluster https://", "  from      context `", &format!("  namespace {namespace}"), "  may       create leases"]
    {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(!plan.contains("  may not"), "{plan}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("the gateway may not"), "an administrator may do everything: {error}");
    assert!(cluster.pods().await.is_empty());
}

#[tokio::test]
async fn without_the_feature_or_the_sources_the_gateway_says_what_to_write() {
    let setup = Setup::new();
    let mut run = vec!["gateway".to_owned(), "run".to_owned(), "--provisioner".to_owned(), "k8s".to_owned()];
    run.extend(setup.selection(&["time"]));
    let error = String::from_utf8(setup.run(&run).await.stderr).unwrap();
    assert!(error.contains("docker mcp feature enable kubernetes-provisioning"), "{error}");

    std::fs::create_dir_all(setup.directory.path().join(".docker")).unwrap();
    setup.file(".docker/config.json", r#"{"features": {"kubernetes-provisioning": "enabled"}}"#);
    run.extend(["--cluster-config-provider", "cluster"].map(str::to_owned));
    let error = String::from_utf8(setup.run(&run).await.stderr).unwrap();
    assert!(error.contains("`--cluster-secret-provider docker-engine|cluster`"), "{error}");
}
