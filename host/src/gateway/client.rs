//! A small MCP client for commands: it lists and calls, over a gateway in this process, a child process or any pair
//! of streams. Results are plain JSON.

use std::process::Stdio;

use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Gateway;
use super::connection::{AskError, Closed, Connection, Event, RpcError};
use super::room::{Place, Room};

/// How much is in flight between this client and a gateway in the same process.
const PIPE: usize = 64 << 10;

/// Why a client has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server answered with an error.
    #[error("{method} failed: {error}")]
    Refused {
        /// What was asked.
        method: String,
        /// The answer.
        error: RpcError,
    },
    /// The server is gone or does not speak MCP.
    #[error("the server {0}")]
    Closed(String),
}

/// A notification that came while a request was under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The method, such as `notifications/progress`.
    pub method: String,
    /// The parameters.
    pub params: Value,
}

/// A connected client. Dropping it disconnects.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    server: Value,
    child: Option<Child>,
    _ends: Option<DropGuard>,
}

impl Client {
    /// Connects to a gateway in this process.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn to_gateway(gateway: &Gateway) -> Result<Self, ClientError> {
        let (client, server) = tokio::io::duplex(PIPE);
        let ((client_read, client_write), (read, write)) = (tokio::io::split(client), tokio::io::split(server));
        let ends = CancellationToken::new();
        let (gateway, served) = (gateway.clone(), ends.clone());
        tokio::spawn(async move {
            if let Err(error) = gateway.serve(read, write, served).await {
                tracing::error!(%error, "a client in this process was not served");
            }
        });
        let mut client = Self::over(client_write, client_read).await?;
        client._ends = Some(ends.drop_guard());
        Ok(client)
    }

    /// Starts a program that serves MCP on its standard streams. Its standard error is this process's own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn spawn(mut command: Command) -> Result<Self, ClientError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = spawned.map_err(|source| ClientError::Start { program, source })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ClientError::Closed("has no standard streams".to_owned()));
        };
        let mut client = Self::over(stdin, stdout).await?;
        client.child = Some(child);
        Ok(client)
    }

    /// Connects over a server's standard streams.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn over(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Self, ClientError> {
        let connection = Connection::over_streams(stdin, stdout, Room::default());
        let mut client = Self { connection, server: Value::Null, child: None, _ends: None };
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "docker-mcp-cli", "version": env!("CARGO_PKG_VERSION") },
        });
        client.server = client.ask("initialize", params).await?;
        client.connection.notify("notifications/initialized", json!({})).await;
        Ok(client)
    }

    /// What the server said about itself: the result of `initialize`.
    pub fn server(&self) -> &Value {
        &self.server
    }

    /// Lists the tools.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_tools(&self) -> Result<Vec<Value>, ClientError> {
        self.list("tools/list", "tools").await
    }

    /// Lists the prompts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_prompts(&self) -> Result<Vec<Value>, ClientError> {
        self.list("prompts/list", "prompts").await
    }

    /// Lists the resources.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_resources(&self) -> Result<Vec<Value>, ClientError> {
        self.list("resources/list", "resources").await
    }

    /// Calls a tool. The result is the server's: `content`, `isError` and so on. `heard` gets progress and log
    /// messages in order.
    ///
    /// # Errors
    /// See [`ClientError`]. A tool that fails is no error.
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        mut heard: impl FnMut(Notification),
    ) -> Result<Value, ClientError> {
        let method = "tools/call";
        let params = json!({ "name": name, "arguments": arguments });
        let mut call = self.connection.request(method, params, true, Place::default()).await;
        loop {
            match call.next().await {
                Event::Response(result) => return result.map_err(|error| refused(method, error)),
                Event::Closed(reason) => return Err(closed(&reason)),
                Event::Notification { method, params } => heard(Notification { method, params }),
                Event::Request { id, method, .. } => {
                    self.connection.answer(id, Err(RpcError::method_not_found(&method))).await;
                }
            }
        }
    }

    /// Sends any request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        self.connection.ask(method, params).await.map_err(|error| match error {
            AskError::Rpc(error) => refused(method, error),
            AskError::Closed(reason) => closed(&reason),
        })
    }

    /// Disconnects and, for a child process, waits until it has ended by itself.
    pub async fn close(self) {
        let Self { connection, child, .. } = self;
        drop(connection);
        if let Some(mut child) = child {
            // A child that cannot be waited for is killed when dropped.
            let _ = child.wait().await;
        }
    }

    async fn list(&self, method: &str, field: &str) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut params = json!({});
        loop {
            let mut page = self.ask(method, params).await?;
            if let Some(Value::Array(page)) = page.get_mut(field).map(Value::take) {
                items.extend(page);
            }
            match page.get_mut("nextCursor").map(Value::take) {
                Some(cursor) if !cursor.is_null() => params = json!({ "cursor": cursor }),
                _ => return Ok(items),
            }
        }
    }
}

fn refused(method: &str, error: RpcError) -> ClientError {
    ClientError::Refused { method: method.to_owned(), error }
}

fn closed(reason: &Closed) -> ClientError {
    ClientError::Closed(reason.to_string())
}
