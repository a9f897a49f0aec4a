//! The way from a catalog to values in a cluster, command by command, as the specification has it.

use serde_json::Value as Json;

use crate::namespace::Namespace;

const CATALOG: &str = "\
registry:
  firewalla-mcp-server:
    image: mcp-test/busybox:1
    env: [{name: FIREWALLA_BOX_ID, value: '{{firewalla-mcp-server.box_id}}'}, {name: NODE_ENV, value: production}]
    secrets: [{name: firewalla-mcp-server.msp_token, env: FIREWALLA_MSP_TOKEN}]
  apify-mcp-server:
    image: mcp-test/busybox:1
    command: ['--tools={{apify-mcp-server.tools}}']
    secrets: [{name: apify-mcp-server.apify_token, env: APIFY_TOKEN}]
";

#[tokio::test(flavor = "multi_thread")]
async fn from_a_catalog_to_a_cluster_command_by_command() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    let name = namespace.name.as_str();
    tools.file(".docker/mcp/catalogs/team.yaml", CATALOG);
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
    fill("multi-config.env", [("firewalla-mcp-server.box_id", "box 7"), ("apify-mcp-server.tools", "actors")]);
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
}
