//! The way from a catalog to values in a cluster, command by command, as the specification has it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::Tools;
use crate::namespace::Namespace;

const CATALOG: &str = "\
registry:
  firewalla-mcp-server:
    image: mcp-test/everything:1
    env: [{name: FIREWALLA_BOX_ID, value: 'id {{firewalla-mcp-server.box_id}}!'}, {name: NODE_ENV, value: production}]
    secrets: [{name: firewalla-mcp-server.msp_token, env: FIREWALLA_MSP_TOKEN}]
  apify-mcp-server:
    image: mcp-test/time:1
    command: ['--local-timezone={{apify-mcp-server.timezone}}']
    secrets: [{name: apify-mcp-server.apify_token, env: APIFY_TOKEN}]
";

#[tokio::test(flavor = "multi_thread")]
async fn from_a_catalog_to_a_running_gateway_command_by_command() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    let name = namespace.name.as_str();
    tools.file(".docker/mcp/catalogs/team.yaml", CATALOG);
    tools.file(".docker/mcp/registry.yaml", "registry: {firewalla-mcp-server: {}, apify-mcp-server: {}}\n");
    tools.file(".docker/config.json", r#"{"features": {"kubernetes-provisioning": "enabled"}}"#);
    let servers = "firewalla-mcp-server,apify-mcp-server";

    // 1. Configuration discovery.
    let found = tools.run(&["extract-data", "firewalla-mcp-server"]).ok();
    assert!(found.contains("  FIREWALLA_BOX_ID -> firewalla-mcp-server.box_id\n"), "{found}");
    assert!(found.contains("  FIREWALLA_MSP_TOKEN -> firewalla-mcp-server.msp_token (secret)\n"), "{found}");

    // 2. Template generation: the variables that have templates, and all secrets.
    tools.run(&["generate-env", servers, "multi"]).ok();
    let fill = |file: &str, values: [(&str, &str); 2]| {
        let mut text = tools.read(file);
        for (key, value) in values {
            let kind = if file.ends_with("secret.env") { "SECRET" } else { "VALUE" };
            let line = format!("{key}=<REPLACE_WITH_YOUR_{kind}>\n");
            assert!(text.contains(&line), "{text}");
            text = text.replace(&line, &format!("{key}={value}\n"));
        }
        assert!(!text.contains("<REPLACE") && !text.contains("NODE_ENV"), "{text}");
        tools.file(file, &text);
    };
    fill("multi-config.env", [("firewalla-mcp-server.box_id", "box 7"), ("apify-mcp-server.timezone", "Asia/Tokyo")]);
    fill(
        "multi-secret.env",
        [("firewalla-mcp-server.msp_token", "canary-msp"), ("apify-mcp-server.apify_token", "\"canary\n$(apify)\"")],
    );

    // 3. Resource provisioning.
    let names = ["--cluster-config-name", "my-mcp-config", "--cluster-secret-name", "my-mcp-secrets"];
    let check = [&["check", servers, name][..], &names].concat();
    assert_eq!(tools.run(&check).code, 3);
    tools.run(&["populate-configmap", "multi-config.env", "my-mcp-config", name]).ok();
    tools.run(&["populate-secret", "multi-secret.env", "my-mcp-secrets", name]).ok();
    let told: Json = serde_json::from_str(&tools.run(&[&check[..], &["--format", "json"]].concat()).ok()).unwrap();
    assert!(told["keys"].as_array().unwrap().iter().all(|key| key["state"] == "set"), "{told}");
    assert_eq!(
        namespace.config_map("my-mcp-config").await.unwrap().data.unwrap()["firewalla-mcp-server.box_id"],
        "box 7"
    );
    assert_eq!(namespace.secret("my-mcp-secrets").await["apify-mcp-server.apify_token"], "canary\n$(apify)");

    // 4. Gateway execution. The context has the namespace.
    let (told, log) = gateway(
        &tools,
        &[
            "gateway",
            "run",
            "--provisioner=kubernetes",
            "--cluster-config-provider",
            "cluster",
            "--cluster-secret-provider",
            "cluster",
            "--cluster-config-name",
            "my-mcp-config",
            "--cluster-secret-name",
            "my-mcp-secrets",
            "--max-server-startup-timeout",
            "60",
        ],
        &[("tools/list", json!({})), ("tools/call", json!({ "name": "get-env", "arguments": {} }))],
    )
    .await;
    let listed = told[0].to_string();
    assert!(listed.contains("get_current_time") && listed.contains("Asia/Tokyo"), "{listed}\n{log}");
    let text = told[1]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{}\n{log}", told[1]));
    let environment: Json = serde_json::from_str(text).unwrap();
    for (variable, value) in
        [("FIREWALLA_BOX_ID", "id box 7!"), ("FIREWALLA_MSP_TOKEN", "canary-msp"), ("NODE_ENV", "production")]
    {
        assert_eq!(environment[variable], value, "{log}");
    }
    assert!(!log.contains("canary"), "{log}");
    assert!(tools.run(&["list"]).ok().ends_with("Total: 0 pods\n"));
}

/// Runs the gateway as a client on its standard streams does. Gives the results of the requests, and what it logged.
async fn gateway(tools: &Tools, words: &[&str], requests: &[(&str, Json)]) -> (Vec<Json>, String) {
    let mut command = tokio::process::Command::from(tools.command(env!("CARGO_BIN_EXE_docker-mcp")));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let log = tokio::spawn(async move {
        let mut log = String::new();
        stderr.read_to_string(&mut log).await.unwrap();
        log
    });
    let client = json!({ "name": "test", "version": "1" });
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let mut results = Vec::new();
    let talk = async {
        for (id, (method, params)) in [("initialize", hello)].iter().chain(requests).enumerate() {
            let mut message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
            message.push('\n');
            stdin.write_all(message.as_bytes()).await.unwrap();
            while let Some(line) = lines.next_line().await.unwrap() {
                let answer: Json = serde_json::from_str(&line).unwrap();
                if answer["id"] == id {
                    results.push(answer["result"].clone());
                    break;
                }
            }
            if id == 0 {
                stdin.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.unwrap();
            }
        }
        drop(stdin);
        child.wait().await.unwrap()
    };
    let talked = tokio::time::timeout(Duration::from_secs(180), talk).await;
    let log = if talked.is_ok() { log.await.unwrap() } else { "it hangs".to_owned() };
    assert_eq!(results.len(), requests.len() + 1, "{log}");
    results.remove(0);
    (results, log)
}
