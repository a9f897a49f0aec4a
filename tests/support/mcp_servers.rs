//! MCP servers in this process, provisioned through streams like those of containers, that behave well or badly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use docker_mcp::capability::container_runtime::{Captured, Completed, Running, StderrTail, Streams};
use docker_mcp::catalog::Entry;
use docker_mcp::gateway::{Gateway, GatewayOptions, ServerDefinition};
use docker_mcp::lease::Reaper;
use docker_mcp::provision::{Endpoint, Provision, ProvisionError};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How a server behaves.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Has the tools `NAME_echo`, `NAME_count`, `NAME_progress`, `NAME_slow` and `NAME_ask`.
    Good,
    /// Never answers.
    Hangs,
    /// Ends at once, leaving a word on standard error.
    Exits,
    /// Writes a banner and no MCP.
    Garbage,
    /// Cannot be provisioned.
    Fails,
    /// Is provisioned when told, and then good.
    Late(Arc<Notify>),
}

/// Provisions such servers and counts.
pub(crate) struct Servers {
    behaviours: HashMap<String, Behaviour>,
    reaper: Reaper,
    pub started: AtomicUsize,
    pub released: Arc<AtomicUsize>,
    /// The methods that servers received, in order.
    pub received: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    pub(crate) fn new(servers: &[(&str, Behaviour)]) -> Arc<Self> {
        Arc::new(Self {
            behaviours: servers.iter().map(|(name, behaviour)| ((*name).to_owned(), behaviour.clone())).collect(),
            reaper: Reaper::new(),
            started: AtomicUsize::new(0),
            released: Arc::default(),
            received: Arc::default(),
        })
    }

    pub(crate) fn running(&self) -> usize {
        self.started.load(Ordering::SeqCst) - self.released.load(Ordering::SeqCst)
    }

    pub(crate) fn has_received(&self, method: &str) -> bool {
        self.received.lock().unwrap().iter().any(|received| received == method)
    }
}

#[async_trait]
impl Provision for Servers {
    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        let behaviour = self.behaviours[server].clone();
        match &behaviour {
            Behaviour::Fails => {
                return Err(ProvisionError::Unavailable("image `x` cannot be had: set `image`".to_owned()));
            }
            Behaviour::Late(told) => tokio::select! {
                () = told.notified() => told.notify_one(),
                () = cancel.cancelled() => return Err(ProvisionError::Cancelled),
            },
            _ => {}
        }
        self.started.fetch_add(1, Ordering::SeqCst);
        let (stdin, input) = tokio::io::duplex(1 << 16);
        let (output, stdout) = tokio::io::duplex(1 << 16);
        let stderr = StderrTail::default();
        stderr.push("last words");
        let work = tokio::spawn(run(server.to_owned(), behaviour, input, output, Arc::clone(&self.received)));
        let released = Arc::clone(&self.released);
        let lease = self.reaper.lease(server, move || async move {
            work.abort();
            released.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Endpoint::Container(Running {
            lease,
            streams: Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr },
        }))
    }

    async fn run_tool(
        &self,
        _server: &str,
        tool: &str,
        arguments: Map<String, Value>,
        cancel: CancellationToken,
    ) -> Result<Completed, ProvisionError> {
        if tool == "hang" {
            cancel.cancelled().await;
            return Err(ProvisionError::Cancelled);
        }
        let stdout = Captured { bytes: Value::Object(arguments).to_string().into_bytes(), dropped: 0 };
        let stderr = Captured { bytes: b"oh".to_vec(), dropped: 0 };
        Ok(Completed { exit_code: i64::from(tool == "fail"), stdout, stderr })
    }
}

async fn run(
    name: String,
    behaviour: Behaviour,
    input: DuplexStream,
    mut output: DuplexStream,
    received: Arc<Mutex<Vec<String>>>,
) {
    match behaviour {
        Behaviour::Exits => return,
        Behaviour::Garbage => {
            output.write_all(b"Server listening on port 3000\n").await.unwrap();
            return std::future::pending().await;
        }
        Behaviour::Hangs => return std::future::pending().await,
        _ => {}
    }
    let (mut lines, mut count, mut asking) = (BufReader::new(input).lines(), 0, None);
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).unwrap();
        let method = message["method"].as_str().unwrap_or("response").to_owned();
        received.lock().unwrap().push(method.clone());
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        let tool = tool.strip_prefix(&format!("{name}_")).unwrap_or(tool);
        let mut replies = Vec::new();
        let result = match method.as_str() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": name, "version": "1"},
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "logging": {}}}),
            "tools/list" => {
                let tool = |tool: &str| json!({"name": format!("{name}_{tool}"), "inputSchema": {"type": "object"}});
                // Two pages.
                if message["params"]["cursor"] == "2" {
                    json!({"tools": [tool("progress"), tool("slow"), tool("ask"), tool("die")]})
                } else {
                    json!({"tools": [tool("echo"), tool("count")], "nextCursor": "2"})
                }
            }
            "prompts/list" => json!({"prompts": [{"name": format!("{name}_prompt")}]}),
            "prompts/get" => json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]}),
            "resources/list" => json!({"resources": [{"uri": format!("{name}://one"), "name": "one"}]}),
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": format!("{name}://rows/{{id}}"), "name": "rows"}]})
            }
            "resources/read" => {
                json!({"contents": [{"uri": message["params"]["uri"], "text": format!("read by {name}")}]})
            }
            "tools/call" => match tool {
                "slow" => continue,
                "die" => return,
                "ask" => {
                    asking = Some(message["id"].clone());
                    let params = json!({"messages": [], "maxTokens": 10});
                    replies.push(json!({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage",
                        "params": params}));
                    json!(null)
                }
                "count" => {
                    count += 1;
                    text(&count.to_string())
                }
                "progress" => {
                    let token = message["params"]["_meta"]["progressToken"].clone();
                    for progress in 0..50 {
                        replies.push(json!({"jsonrpc": "2.0", "method": "notifications/progress",
                            "params": {"progressToken": token, "progress": progress}}));
                    }
                    text("done")
                }
                _ => text(&message["params"]["arguments"].to_string()),
            },
            "response" => {
                let text = text(&message.get("result").or(message.get("error")).unwrap().to_string());
                replies.push(json!({"jsonrpc": "2.0", "id": asking.take(), "result": text}));
                json!(null)
            }
            _ => json!(null),
        };
        if !result.is_null() {
            replies.push(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
        }
        for reply in replies {
            output.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
        }
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

/// A gateway over servers with plain catalog entries.
pub(crate) fn gateway(servers: &[(&str, Behaviour)], options: GatewayOptions) -> (Gateway, Arc<Servers>) {
    let definitions = servers.iter().map(|(name, _)| definition(name, Entry::default())).collect();
    let servers = Servers::new(servers);
    (Gateway::start(definitions, servers.clone(), options), servers)
}

pub(crate) fn definition(name: &str, entry: Entry) -> ServerDefinition {
    ServerDefinition { name: name.to_owned(), entry: Arc::new(entry) }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
