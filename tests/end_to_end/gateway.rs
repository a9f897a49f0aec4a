//! The built gateway as a process, driven by a real MCP client over its standard streams.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequestParams, JsonObject};
use rmcp::service::{RoleClient, RunningService};
use rmcp::{Peer, ServiceError, ServiceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long anything may take before the test gives up. Longer than whatever the gateway itself is told to wait for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// How long servers may take to start, where a test says nothing else: an unoptimised build on a busy machine.
const STARTUP: &str = "--max-server-startup-timeout=90";

/// The entry of a server with the tool `greet`, which goes on for minutes after its standard input has ended. What a
/// killed gateway leaves of it does not go away by itself, as it does with servers that behave.
pub(crate) const STUBBORN: &str = r#"image: mcp-test/busybox:1
disableNetwork: true
command:
  - busybox
  - awk
  - |
    BEGIN {
      while ((getline line) > 0) {
        if (!match(line, /"id":[0-9]+/)) continue
        id = substr(line, RSTART + 5, RLENGTH - 5)
        result = "{}"
        if (line ~ /"method":"initialize"/)
          result = "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"s\",\"version\":\"1\"}}"
        if (line ~ /"method":"tools.list"/)
          result = "{\"tools\":[{\"name\":\"greet\",\"inputSchema\":{\"type\":\"object\"}}]}"
        if (line ~ /"method":"tools.call"/)
          result = "{\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}"
        printf "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n", id, result
        fflush()
      }
      system("sleep 600")
    }"#;

/// A catalog and a home directory of a test's own. Server names carry a suffix, so that tests which run at the same
/// time do not see each other's containers.
pub(crate) struct Setup {
    pub(crate) directory: TempDir,
    suffix: String,
}

impl Setup {
    /// The servers of `tests/fixtures/real-servers.yaml`.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let suffix = format!("-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let setup = Self { directory: TempDir::new().unwrap(), suffix };
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/real-servers.yaml");
        let mut catalog = std::fs::read_to_string(fixture).unwrap();
        for server in ["everything", "time", "memory", "filesystem", "shell"] {
            catalog = catalog.replace(&format!("\n  {server}:\n"), &format!("\n  {}:\n", setup.name(server)));
            // Templates name the section of the server itself.
            catalog = catalog.replace(&format!("{{{{{server}."), &format!("{{{{{}.", setup.name(server)));
        }
        std::fs::write(setup.catalog(), catalog).unwrap();
        setup
    }

    /// The name of a fixture's server in this test's catalog.
    pub(crate) fn name(&self, server: &str) -> String {
        format!("{server}{}", self.suffix)
    }

    /// The catalog's path.
    pub(crate) fn catalog(&self) -> PathBuf {
        self.directory.path().join("catalog.yaml")
    }

    /// Adds a server to the catalog: lines of YAML, without indentation.
    pub(crate) fn add(&self, server: &str, entry: &str) {
        let mut catalog = std::fs::read_to_string(self.catalog()).unwrap();
        catalog.push_str(&format!("  {}:\n", self.name(server)));
        for line in entry.lines() {
            catalog.push_str(&format!("    {line}\n"));
        }
        std::fs::write(self.catalog(), catalog).unwrap();
    }

    /// Writes a file next to the catalog.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `--catalog … --servers …`, and more time to start than there is by default.
    pub(crate) fn selection(&self, servers: &[&str]) -> Vec<String> {
        let names: Vec<String> = servers.iter().map(|server| self.name(server)).collect();
        vec![
            "--catalog".to_owned(),
            self.catalog().display().to_string(),
            "--servers".to_owned(),
            names.join(","),
            STARTUP.to_owned(),
        ]
    }

    /// The binary, with a home of its own and the compiled components of all tests in one place.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
        command
            .env("HOME", self.directory.path())
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("MCP_GATEWAY_AUTH_TOKEN");
        command
    }

    /// Runs the binary to its end with empty standard input.
    pub(crate) async fn run(&self, arguments: &[String]) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("the command should end").unwrap()
    }

    /// Runs `gateway run` over standard streams and connects to it.
    pub(crate) async fn gateway(&self, servers: &[&str], more: &[&str]) -> Gateway {
        let mut command = self.command();
        command.args(["gateway", "run"]).args(self.selection(servers)).args(more);
        Gateway::connect(command).await
    }
}

/// A running gateway and a client that is connected to it.
pub(crate) struct Gateway {
    child: Child,
    client: Option<RunningService<RoleClient, ()>>,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Gateway {
    /// Runs a command that serves on standard streams and connects to it.
    pub(crate) async fn connect(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // Shown by the test runner when the test fails.
                eprintln!("gateway: {line}");
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let client = tokio::time::timeout(PATIENCE, ().serve((stdout, stdin))).await;
        let client = client.expect("`initialize` should be answered").expect("the handshake should succeed");
        Self { child, client: Some(client), log, reader }
    }

    /// The client.
    pub(crate) fn client(&self) -> &Peer<RoleClient> {
        self.client.as_ref().expect("the client is connected until the test ends it")
    }

    /// The names of all tools.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let tools = tokio::time::timeout(PATIENCE, self.client().list_all_tools()).await;
        tools.expect("`tools/list` should be answered").unwrap().into_iter().map(|tool| tool.name.into()).collect()
    }

    /// Calls a tool; its result as JSON.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, ServiceError> {
        let result = tokio::time::timeout(PATIENCE, call(self.client(), tool, arguments)).await;
        result.unwrap_or_else(|_| panic!("the call of `{tool}` should be answered"))
    }

    /// Calls a tool that must succeed; the text of its result.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await.unwrap();
        assert_ne!(result["isError"], json!(true), "{result:#}");
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result:#}")).to_owned()
    }

    /// What the gateway wrote to standard error so far. What belongs to an answer may come after it: to see whether
    /// something is there, wait for it with [`Self::logged`], or ask [`Self::finish`] for all of it.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until each of these texts was written to standard error.
    pub(crate) async fn logged(&self, texts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(missing) = texts.iter().find(|text| !self.log.lock().unwrap().contains(**text)) {
            assert!(Instant::now() < deadline, "`{missing}` is missing in:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Closes standard input and waits for the end.
    pub(crate) async fn close(mut self) -> ExitStatus {
        self.client.take().unwrap().cancel().await.unwrap();
        self.end().await
    }

    /// Closes standard input and waits for the end, which must be a success; all that was written to standard error.
    pub(crate) async fn finish(mut self) -> String {
        self.client.take().unwrap().cancel().await.unwrap();
        let status = self.end().await;
        let read = tokio::time::timeout(PATIENCE, &mut self.reader).await;
        read.expect("standard error should end with the gateway").unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        self.log()
    }

    /// Sends a signal, such as `TERM`, and waits for the end. Standard input stays open.
    pub(crate) async fn signal(mut self, signal: &str) -> ExitStatus {
        kill(&self.child, signal);
        self.end().await
    }

    async fn end(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the gateway should end").unwrap()
    }
}

impl Drop for Gateway {
    /// A test that failed lets the gateway clean up after itself.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(&self.child, "TERM");
        }
    }
}

/// Calls a tool; its result as JSON. For calls that are made beside others.
pub(crate) async fn call(client: &Peer<RoleClient>, tool: &str, arguments: Value) -> Result<Value, ServiceError> {
    let arguments: JsonObject = serde_json::from_value(arguments).unwrap();
    let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    Ok(serde_json::to_value(client.call_tool(request).await?).unwrap())
}

fn kill(child: &Child, signal: &str) {
    if let Some(id) = child.id() {
        let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(id.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{signal} should be sent to process {id}");
    }
}
