//! Flags that say which servers are deployed, and how.

use std::process::Command;

use serde_json::json;

use crate::engine::Engine;
use crate::gateway::{Gateway, PATIENCE, Setup};
use crate::{PATIENTLY, greet, text};

#[tokio::test]
async fn a_server_with_allowed_hosts_is_refused_where_the_network_is_to_be_blocked() {
    let setup = Setup::new();
    let path = setup.file(
        "hosts.yaml",
        "registry:\n  open: {image: 'embedded:sample'}\n  limited: {image: mcp-test/nothing, allowHosts: ['a.example:443']}\n  \
         tools: {type: poci, allowHosts: ['a.example'], tools: [{name: t, container: {image: mcp-test/busybox:1}}]}\n",
    );
    let start = async |more: &[&str]| {
        let mut command = setup.command();
        command.args(["gateway", "run", "--enable-all-servers", "--catalog"]).arg(&path).args(PATIENTLY).args(more);
        Gateway::connect(command).await
    };
    let gateway = start(&["--block-network"]).await;
    let tools = gateway.tools().await;
    assert!(tools.contains(&"greet".to_owned()) && !tools.contains(&"t".to_owned()), "{tools:?}");
    let error = gateway.call("t", json!({})).await.unwrap_err().to_string();
    assert!(
        error.contains(
            "server `tools` could not be provisioned: it may reach only a.example, which cannot be enforced yet"
        ),
        "{error}"
    );
    let log = gateway.finish().await;
    assert!(log.contains("it may reach only a.example:443, which cannot be enforced yet"), "{log}");
    let gateway = start(&[]).await;
    assert!(gateway.tools().await.contains(&"t".to_owned()));
    let log = gateway.finish().await;
    assert!(log.contains("`allowHosts` is not enforced yet"), "{log}");
}

#[tokio::test]
async fn flags_of_clusters_are_named_as_without_effect() {
    let setup = Setup::new();
    let mut command = setup.command();
    command.args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample"]);
    command.args(PATIENTLY).args([
        "--namespace",
        "tools",
        "--cluster-secret-provider",
        "cluster",
        "--cluster-config-name",
        "a.b",
    ]);
    let gateway = Gateway::connect(command).await;
    assert!(text(&greet(&gateway, "Ada").await).contains("Ada"));
    let named = "--namespace, --cluster-secret-provider, --cluster-config-name without effect";
    let log = gateway.finish().await;
    assert!(log.contains(named), "{log}");
}

#[tokio::test]
async fn a_server_of_an_mcp_registry_is_enabled_with_those_of_the_catalog() {
    let Some(_engine) = Engine::find().await else { return };
    let described = json!({"server": {"name": "io.example/everything", "description": "Everything", "packages": [
        {"registryType": "npm", "identifier": "everything"},
        {"registryType": "oci", "identifier": "mcp-test/everything", "version": "1", "transport": {"type": "stdio"},
         "environmentVariables": [{"name": "GREETING", "value": "hello from the registry"}]}]}, "_meta": {}});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v0/servers/everything/versions/latest", listener.local_addr().unwrap());
    let route = axum::routing::get(|| async move { described.to_string() });
    let registry = axum::Router::new().route("/v0/servers/everything/versions/latest", route);
    tokio::spawn(async move { axum::serve(listener, registry).await });
    let setup = Setup::new();
    let mut command = setup.command();
    command.args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample", "--mcp-registry", &address]);
    command.args(PATIENTLY);
    let gateway = Gateway::connect(command).await;
    let tools = gateway.tools().await;
    assert!(tools.contains(&"greet".to_owned()) && tools.contains(&"echo".to_owned()), "{tools:?}");
    assert!(gateway.text("get-env", json!({})).await.contains("hello from the registry"));
    assert!(gateway.close().await.success());
}

/// Removes containers and a network when the test ends, however it does.
struct Compose(Vec<String>, String);

impl Drop for Compose {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("docker").args(["rm", "-f", name]).output();
        }
        let _ = Command::new("docker").args(["network", "rm", &self.1]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As a Compose file has it: a server behind a port in one container, the gateway in another, on one network.
#[tokio::test]
async fn a_gateway_in_a_container_reaches_servers_that_run_already() {
    let Some(_engine) = Engine::find().await else { return };
    let unique = format!("static-{}", std::process::id());
    let server = format!("mcp-{unique}");
    let compose = Compose(vec![server.clone(), format!("{unique}-gateway")], unique.clone());
    docker(&["network", "create", &unique]);
    let bridge = "require('net').createServer(s => { const c = require('child_process').spawn('/bin/node', \
                  ['/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js']); s.pipe(c.stdin); \
                  c.stdout.pipe(s); s.on('error', () => {}); s.on('close', () => c.kill()) }).listen(4444)";
    docker(&[
        "run",
        "-d",
        "--name",
        &server,
        "--network",
        &unique,
        "--entrypoint",
        "/bin/node",
        "mcp-test/everything:1",
        "-e",
        bridge,
    ]);
    let setup = Setup::new();
    let entry = format!("registry:\n  {unique}: {{image: 'mcp-test/never-run:1'}}\n");
    let catalog = setup.file("static.yaml", &entry);
    let mut command = tokio::process::Command::new("docker");
    let mount = |from: &std::path::Path, to: &str| format!("{}:{to}:ro", from.display());
    // The image has the libraries that the binary is linked to.
    command.args(["run", "-i", "--rm", "--name", &format!("{unique}-gateway"), "--network", &unique]);
    command.args(["-e", "HOME=/tmp", "-e", "DOCKER_MCP_IN_CONTAINER=1", "--entrypoint", "/docker-mcp"]);
    command.args(["-v", &mount(std::path::Path::new(env!("CARGO_BIN_EXE_docker-mcp")), "/docker-mcp")]);
    command.args(["-v", &mount(&catalog, "/catalog.yaml"), "mcp-test/everything:1"]);
    command.args(["gateway", "run", "--static", "--long-lived", "--catalog", "/catalog.yaml", "--servers", &unique]);
    command.args(PATIENTLY);
    let gateway = Gateway::connect(command).await;
    // Its server may not listen yet; it is tried again then.
    let started = std::time::Instant::now();
    while !gateway.tools().await.contains(&"echo".to_owned()) {
        assert!(started.elapsed() < PATIENCE, "{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(gateway.text("echo", json!({"message": "hello"})).await, "Echo: hello");
    assert!(gateway.close().await.success());
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Running}}", &server]).trim(),
        "true",
        "it is not the gateway's to end"
    );
    drop(compose);
}
