//! What goes wrong around pods, what operators set for them, and what is not the gateway's: on the real cluster.

use std::process::Stdio;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cluster::{Cluster, until};
use super::gateway::{PATIENCE, STUBBORN, Setup};
use super::{HERE, start};

/// `flags` with another text for one of them.
fn with(mut flags: Vec<String>, flag: &str, text: &str) -> Vec<String> {
    let position = flags.iter().position(|found| found == flag).unwrap();
    text.clone_into(&mut flags[position + 1]);
    flags
}

/// The reference left the pod of a failed handshake, ignored `--max-server-startup-timeout`, and let one server that
/// hangs keep everybody from `initialize`.
#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time_leaves_no_pod_and_holds_up_no_other() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    setup.add("mute", "image: mcp-test/busybox:1\ncommand: [sleep, '600']");
    let flags = with(cluster.flags(&setup, HERE, HERE), "--max-server-startup-timeout", "60");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let gateway = setup.gateway(&["mute", "time"], &flags).await;
    let began = Instant::now();
    let tools = gateway.tools().await;
    assert!(tools.iter().any(|tool| tool == "get_current_time"), "{tools:?}");
    gateway.logged(&["did not finish the MCP handshake", &setup.name("mute")]).await;
    assert!(began.elapsed() < Duration::from_secs(150), "{:?}", began.elapsed());
    cluster.wait_for_pods(0).await;
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

/// The reference wrote nine lines for people between its messages for each such call.
#[tokio::test]
async fn only_messages_are_on_standard_output_while_tools_run_in_pods() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let mut command = setup.command();
    command.args(["gateway", "run", "--verbose"]).args(setup.selection(&["shell"]));
    command.args(cluster.flags(&setup, HERE, HERE)).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let words = json!({"name": "words", "arguments": {"text": "one"}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": words});
    for message in [initialize, initialized, call] {
        stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }
    let mut stdin = Some(stdin);
    let conversation = async {
        let mut texts = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}"));
            if message["id"] == json!(2) {
                texts.push(message["result"]["content"][0]["text"].clone());
                drop(stdin.take());
            }
        }
        texts
    };
    assert_eq!(tokio::time::timeout(PATIENCE, conversation).await.unwrap(), ["one\n"]);
    assert!(child.wait().await.unwrap().success());
    cluster.wait_until_empty().await;
}

/// The reference left the pod of a cancelled call, and beside it one that slept for an hour.
#[tokio::test]
async fn a_cancelled_tool_leaves_no_pod() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let tool = "{image: mcp-test/busybox:1, command: [sh, -c, 'trap \"\" TERM; sleep 600']}";
    setup.add("kit", &format!("type: poci\ntools:\n  - name: sleeps\n    container: {tool}"));
    let gateway = start(&cluster, &setup, &["kit"], (HERE, HERE), &[]).await;
    gateway.tools().await;
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(CallToolRequestParams::new("sleeps")));
    let pending = gateway.client().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    cluster.wait_for_pods(1).await;
    pending.cancel(Some("no longer wanted".to_owned())).await.unwrap();
    cluster.wait_for_pods(0).await;
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

/// The reference dropped `--cpus` and `--memory` in clusters and had no settings for pods at all.
#[tokio::test]
async fn what_operators_set_for_pods_is_in_the_pod() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let classes: Api<RuntimeClass> = Api::all(cluster.client.clone());
    let class: RuntimeClass =
        serde_json::from_value(json!({"metadata": {"name": cluster.namespace}, "handler": "runc"})).unwrap();
    classes.create(&PostParams::default(), &class).await.unwrap();
    let more = [
        ["--cpus", "0.5"],
        ["--memory", "300m"],
        ["--pod-node-selector", "kubernetes.io/os=linux"],
        ["--pod-toleration", "dedicated=mcp:NoSchedule,spot"],
        ["--pod-runtime-class", &cluster.namespace],
        ["--pod-pull-secret", "registry-one,registry-two"],
        ["--pod-deadline", "900"],
    ]
    .concat();
    let gateway = start(&cluster, &setup, &["memory"], (HERE, HERE), &more).await;
    gateway.text("read_graph", json!({})).await;
    let pod: Value = serde_json::to_value(cluster.wait_for_pods(1).await.remove(0)).unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(spec["runtimeClassName"], json!(cluster.namespace));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry-one"}, {"name": "registry-two"}]));
    assert_eq!(spec["activeDeadlineSeconds"], json!(900));
    let tolerations = spec["tolerations"].as_array().unwrap();
    let dedicated = json!({"key": "dedicated", "operator": "Equal", "value": "mcp", "effect": "NoSchedule"});
    let spot = json!({"key": "spot", "operator": "Exists"});
    assert!(tolerations.contains(&dedicated) && tolerations.contains(&spot), "{tolerations:#?}");
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], json!("Never"));
    assert_eq!(container["resources"]["limits"]["cpu"], json!("500m"));
    assert_eq!(container["resources"]["limits"]["memory"], json!((300 << 20).to_string()));
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
    classes.delete(&cluster.namespace, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_policy_says_in_which_namespaces_pods_may_run() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let policy = |pattern: &str| {
        let text = format!("version: 1\nrules:\n  - name: where\n    namespaces: {{allow: ['{pattern}']}}\n");
        setup.file("policy.yaml", &text).display().to_string()
    };
    let file = policy("tools-*");
    let gateway = start(&cluster, &setup, &["time"], (HERE, HERE), &["--policy", &file]).await;
    assert_eq!(gateway.tools().await, Vec::<String>::new());
    let log = gateway.finish().await;
    assert!(log.contains(&format!("`{}`", cluster.namespace)) && log.contains("policy.yaml:"), "{log}");
    cluster.wait_until_empty().await;

    let file = policy("docker-mcp-e2e-*");
    let gateway = start(&cluster, &setup, &["time"], (HERE, HERE), &["--policy", &file]).await;
    assert!(gateway.text("get_current_time", json!({"timezone": "UTC"})).await.contains("UTC"));
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

/// A way to the API server that can be cut. Gives the path of a kubeconfig that takes it, and what cuts it: with `true`
/// all connections break and no new ones are taken, until it is `false` again.
async fn severable(setup: &Setup) -> (String, watch::Sender<bool>) {
    let config = std::fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&config).unwrap();
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let server = server.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    let name = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host).to_owned();
    cluster["server"] = json!(format!("https://{}", listener.local_addr().unwrap()));
    cluster["tls-server-name"] = json!(name);
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut is_cut, server) = (is_cut.clone(), server.clone());
            if *is_cut.borrow() {
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_cut.wait_for(|cut| *cut) => {}
                }
            });
        }
    });
    (setup.file("kubeconfig", &config.to_string()).display().to_string(), cut)
}

#[tokio::test]
async fn a_lost_connection_to_the_cluster_is_one_clear_error_and_the_next_call_has_a_new_pod() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    setup.add("stubborn", STUBBORN);
    let (kubeconfig, cut) = severable(&setup).await;
    let more = ["--kubeconfig", &kubeconfig, "--long-lived"];
    let gateway = start(&cluster, &setup, &["stubborn"], (HERE, HERE), &more).await;
    assert_eq!(gateway.text("greet", json!({})).await, "hello");
    let first = cluster.wait_for_pods(1).await.remove(0).metadata.name.unwrap();

    cut.send(true).unwrap();
    let error = gateway.call("greet", json!({})).await;
    let text = format!("{error:?}");
    assert!(text.contains("lost the connection to pod") && text.contains(&first), "{text}");
    cut.send(false).unwrap();
    until("calls should reach a new pod", async || {
        gateway.call("greet", json!({})).await.is_ok_and(|answer| answer["isError"] != json!(true))
    })
    .await;
    until("the pod that was lost should be deleted", async || {
        cluster.api::<Pod>().get_opt(&first).await.unwrap().is_none()
    })
    .await;
    assert_eq!(cluster.pods().await.len(), 1);
    assert!(gateway.close().await.success());
    cluster.wait_until_empty().await;
}

#[tokio::test]
async fn who_may_nothing_is_told_what_is_missing_before_and_when_it_is_needed() {
    let Some(cluster) = Cluster::find().await else { return };
    let setup = Setup::new();
    let config = std::fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&config).unwrap();
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{}:default", cluster.namespace));
    let kubeconfig = setup.file("kubeconfig", &config.to_string()).display().to_string();
    let place = format!("in namespace `{}`", cluster.namespace);

    let mut dry_run = vec!["gateway".to_owned(), "run".to_owned(), "--dry-run".to_owned()];
    dry_run.extend(setup.selection(&["time", "shell"]));
    dry_run.extend(cluster.flags(&setup, HERE, HERE));
    dry_run.extend(["--kubeconfig".to_owned(), kubeconfig.clone()]);
    let output = setup.run(&dry_run).await;
    let (plan, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!output.status.success(), "{plan}{error}");
    assert!(plan.contains("  may not   create leases, ") && plan.contains(&kubeconfig), "{plan}");
    for words in [place.as_str(), "create pods", "kind: Role", "resources: [\"leases\"]"] {
        assert!(error.contains(words), "{words}: {error}");
    }

    let gateway = start(&cluster, &setup, &["time", "shell"], (HERE, HERE), &["--kubeconfig", &kubeconfig]).await;
    for (tool, arguments) in [("get_current_time", json!({"timezone": "UTC"})), ("words", json!({}))] {
        let text = format!("{:?}", gateway.call(tool, arguments).await);
        for words in ["may not `create` `leases`", &place, "kubectl create role"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
    assert!(gateway.close().await.success());
}
