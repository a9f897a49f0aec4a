//! The least MCP client there is, one over streams and one over HTTP: what it costs is the same on both sides of a
//! comparison.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

fn introduction() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": { "name": "bench", "version": "1" },
    })
}

/// Speaks over a pair of streams.
pub(crate) struct Client {
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    stdout: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    line: String,
    last: u64,
}

impl Client {
    pub(crate) fn over(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        Self { stdin: Box::new(stdin), stdout: BufReader::new(Box::new(stdout)), line: String::new(), last: 0 }
    }

    /// `initialize`, up to its answer.
    pub(crate) async fn initialize(&mut self) -> anyhow::Result<()> {
        self.ask("initialize", introduction()).await.map(drop)
    }

    /// The notification after it.
    pub(crate) async fn initialized(&mut self) -> anyhow::Result<()> {
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await
    }

    /// Calls a tool and checks the text of its result.
    pub(crate) async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let result = self.ask("tools/call", call.params()).await?;
        call.check(&result)
    }

    /// Sends a request and reads up to its answer.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let id = self.last;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        loop {
            self.line.clear();
            ensure!(
                self.stdout.read_line(&mut self.line).await? > 0,
                "the server ended instead of answering `{method}`"
            );
            let message: Value =
                serde_json::from_str(&self.line).with_context(|| format!("not JSON: {}", self.line))?;
            if message.get("id").and_then(Value::as_u64) == Some(id) && message.get("method").is_none() {
                return result(method, message);
            }
        }
    }

    async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let mut line = message.to_string();
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }
}

/// Speaks over streamable HTTP.
pub(crate) struct HttpClient {
    http: reqwest::Client,
    url: String,
    session: String,
    last: u64,
}

impl HttpClient {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        // The HTTP library wants one even for what is not encrypted. Fails if there is one already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Self { http: reqwest::Client::new(), url: url.to_owned(), session: String::new(), last: 0 };
        client.ask("initialize", introduction()).await?;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        client.post(&initialized).await?;
        Ok(client)
    }

    pub(crate) async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let result = self.ask("tools/call", call.params()).await?;
        call.check(&result)
    }

    async fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let body = self.post(&json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params })).await?;
        // Plain JSON, or events of which one is the answer.
        for line in body.lines() {
            let line = line.strip_prefix("data:").unwrap_or(line);
            if let Ok(message) = serde_json::from_str::<Value>(line)
                && message.get("id").and_then(Value::as_u64) == Some(self.last)
            {
                return result(method, message);
            }
        }
        bail!("no answer to `{method}` in {body}")
    }

    async fn post(&mut self, message: &Value) -> anyhow::Result<String> {
        let mut request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string());
        if !self.session.is_empty() {
            request = request.header("mcp-session-id", &self.session).header("mcp-protocol-version", "2025-06-18");
        }
        let response = request.send().await?.error_for_status()?;
        if let Some(session) = response.headers().get("mcp-session-id") {
            session.to_str()?.clone_into(&mut self.session);
        }
        Ok(response.text().await?)
    }
}

fn result(method: &str, mut message: Value) -> anyhow::Result<Value> {
    match message.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => bail!("`{method}` failed: {message}"),
    }
}

/// A call of a tool, and how its result begins.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) tool: String,
    pub(crate) arguments: Value,
    pub(crate) answer: &'static str,
}

impl Call {
    fn params(&self) -> Value {
        json!({ "name": self.tool, "arguments": self.arguments })
    }

    fn check(&self, result: &Value) -> anyhow::Result<()> {
        let text = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
        ensure!(text.contains(self.answer), "`{}` answered {result} and not `{}`", self.tool, self.answer);
        Ok(())
    }
}
