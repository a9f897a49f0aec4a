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
    /// Cannot be provisioned so often, because the engine is away, and is then good.
    Away(usize),
    /// Is good the first time, and after that is never done with being provisioned.
    StartsOnce,
    /// Takes so long for the handshake, and is then good.
    Slow(Duration),
    /// Is good, but does not answer these methods.
    Deaf(&'static [&'static str]),
    /// Has these tools, which answer like this.
    Odd(Vec<(&'static str, Answer)>),
    /// Has a tool `NAME_grow`, after which it has `NAME_grown` too, and says so.
    Grows,
    /// Has tools without end, so many on each page.
    Endless(usize),
}

/// How an odd tool answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// With these bytes, in which `<id>` and `<token>` stand for those of the call.
    Bytes(Vec<u8>),
    /// With these bytes for ever.
    Forever(Vec<u8>),
}

/// Provisions such servers and counts.
pub(crate) struct Servers {
    behaviours: HashMap<String, Behaviour>,
    reaper: Reaper,
    pub started: AtomicUsize,
    /// How often a server was asked for.
    pub asked: AtomicUsize,
    /// How often provisioning was given up in the middle.
    pub given_up: Arc<AtomicUsize>,
    /// How to kill those that were started.
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
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
            asked: AtomicUsize::new(0),
            given_up: Arc::default(),
            tasks: Mutex::default(),
            released: Arc::default(),
            received: Arc::default(),
        })
    }

    pub(crate) fn running(&self) -> usize {
        self.started.load(Ordering::SeqCst) - self.released.load(Ordering::SeqCst)
    }

    pub(crate) fn has_received(&self, method: &str) -> bool {
        self.count_of(method) > 0
    }

    pub(crate) fn count_of(&self, method: &str) -> usize {
        self.received.lock().unwrap().iter().filter(|received| *received == method).count()
    }

    /// Ends every server that runs, as a crash would.
    pub(crate) fn kill(&self) {
        self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

#[async_trait]
impl Provision for Servers {
    async fn provision(&self, server: &str, cancel: CancellationToken) -> Result<Endpoint, ProvisionError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let behaviour = self.behaviours[server].clone();
        match &behaviour {
            Behaviour::Fails => {
                return Err(ProvisionError::Unavailable("image `x` cannot be had: set `image`".to_owned()));
            }
            Behaviour::Away(times) if asked < *times => {
                return Err(ProvisionError::Unavailable("cannot reach the engine".to_owned()));
            }
            Behaviour::Late(told) => tokio::select! {
                () = told.notified() => told.notify_one(),
                () = cancel.cancelled() => return Err(ProvisionError::Cancelled),
            },
            Behaviour::StartsOnce if self.started.load(Ordering::SeqCst) > 0 => {
                let _given_up = OnDrop(Arc::clone(&self.given_up));
                cancel.cancelled().await;
                return Err(ProvisionError::Cancelled);
            }
            _ => {}
        }
        self.started.fetch_add(1, Ordering::SeqCst);
        let (stdin, input) = tokio::io::duplex(1 << 16);
        let (output, stdout) = tokio::io::duplex(1 << 16);
        let stderr = StderrTail::default();
        stderr.push("last words");
        let work = tokio::spawn(run(server.to_owned(), behaviour, input, output, Arc::clone(&self.received)));
        self.tasks.lock().unwrap().push(work.abort_handle());
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
        Ok(Completed { exit_code: i64::from(tool == "fail"), stdout, stderr, note: None })
    }
}

/// Counts when it is dropped.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
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
    let (mut lines, mut count, mut asking, mut grown) = (BufReader::new(input).lines(), 0, None, false);
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).unwrap();
        let method = message["method"].as_str().unwrap_or("response").to_owned();
        received.lock().unwrap().push(method.clone());
        if let Behaviour::Deaf(methods) = &behaviour
            && methods.contains(&method.as_str())
        {
            continue;
        }
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        let tool = tool.strip_prefix(&format!("{name}_")).unwrap_or(tool);
        let mut replies = Vec::new();
        if let (Behaviour::Slow(time), "initialize") = (&behaviour, method.as_str()) {
            tokio::time::sleep(*time).await;
        }
        let result = match method.as_str() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": name, "version": "1"},
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "logging": {}, "completions": {}}}),
            // The odd ones do not.
            "ping" if !matches!(behaviour, Behaviour::Odd(_)) => json!({}),
            "tools/list" => {
                let tool = |tool: &str| json!({"name": format!("{name}_{tool}"), "inputSchema": {"type": "object"}});
                match &behaviour {
                    Behaviour::Odd(tools) => {
                        json!({"tools": tools.iter().map(|(name, _)| tool(name)).collect::<Vec<_>>()})
                    }
                    Behaviour::Grows if grown => json!({"tools": [tool("grow"), tool("grown")]}),
                    Behaviour::Grows => json!({"tools": [tool("grow")]}),
                    Behaviour::Endless(page) => {
                        let first = message["params"]["cursor"].as_str().map_or(0, |text| text.parse().unwrap());
                        let tools: Vec<_> = (first..first + page).map(|number| tool(&number.to_string())).collect();
                        json!({"tools": tools, "nextCursor": (first + page).to_string()})
                    }
                    // Two pages.
                    _ if message["params"]["cursor"] == "2" => {
                        json!({"tools": [tool("progress"), tool("slow"), tool("ask"), tool("die")]})
                    }
                    _ => json!({"tools": [tool("echo"), tool("count")], "nextCursor": "2"}),
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
            "completion/complete" => {
                json!({"completion": {"values": [format!("completed by {name}")], "total": 1, "hasMore": false}})
            }
            "logging/setLevel" => json!({}),
            "tools/call" if let Behaviour::Odd(tools) = &behaviour => {
                let (_, answer) = tools.iter().find(|(name, _)| *name == tool).unwrap();
                answer_oddly(answer, &message, &mut output).await;
                continue;
            }
            "tools/call" => match tool {
                "grow" => {
                    grown = true;
                    for kind in ["tools", "tools", "prompts"] {
                        let method = format!("notifications/{kind}/list_changed");
                        replies.push(json!({"jsonrpc": "2.0", "method": method}));
                    }
                    text("growing")
                }
                "slow" => continue,
                "die" => return,
                "ask" => {
                    asking = Some(message["id"].clone());
                    let arguments = &message["params"]["arguments"];
                    let method = arguments["method"].as_str().unwrap_or("sampling/createMessage");
                    let params = match &arguments["params"] {
                        Value::Null => json!({"messages": [], "maxTokens": 10}),
                        params => params.clone(),
                    };
                    replies.push(json!({"jsonrpc": "2.0", "id": "s1", "method": method, "params": params}));
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

async fn answer_oddly(answer: &Answer, call: &Value, output: &mut DuplexStream) {
    let (id, token) = (call["id"].to_string(), call["params"]["_meta"]["progressToken"].to_string());
    match answer {
        Answer::Bytes(bytes) => {
            let bytes = replace(&replace(bytes, b"<id>", id.as_bytes()), b"<token>", token.as_bytes());
            // Fails if the gateway has had enough.
            let _ = output.write_all(&bytes).await;
        }
        Answer::Forever(bytes) => while output.write_all(bytes).await.is_ok() {},
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(place) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..place]);
        replaced.extend_from_slice(to);
        rest = &rest[place + from.len()..];
        if from == b"<id>" {
            break;
        }
    }
    replaced.extend_from_slice(rest);
    replaced
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
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
