//! Connections to remote servers over streamable HTTP, by way of rmcp's transport.
//!
//! The deprecated HTTP+SSE transport is not spoken.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rmcp::RoleClient;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use serde_json::Value;
use tokio::task::JoinSet;

use super::connection::{Closed, Connection, Shared, TransportSide};
use crate::provision::{Remote, RemoteTransport};

/// Connects to a remote server. Nothing is sent before the first request.
///
/// # Errors
/// A text that says what is wrong with the entry, without any header's value.
pub(crate) fn connect(remote: &Remote) -> Result<Connection, String> {
    if remote.transport == RemoteTransport::Sse {
        return Err("is reached by the deprecated HTTP+SSE transport, which is not supported; most such servers also \
                    offer streamable HTTP: set `remote.transport_type: streamable-http` and its URL"
            .to_owned());
    }
    crate::tls::install_provider();
    let mut headers = HashMap::new();
    for (name, value) in &remote.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("has a header with the impossible name `{name}`; correct it in the catalog"))?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| {
            format!("has a value for header `{name}` that HTTP cannot carry; look for line breaks in the secret")
        })?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(remote.url.expose());
    config.custom_headers = headers;
    let transport = StreamableHttpClientTransport::from_config(config);
    let (connection, side) = Connection::unconnected();
    tokio::spawn(pump(transport, connection.shared(), side));
    Ok(connection)
}

async fn pump(
    mut transport: impl Transport<RoleClient, Error = StreamableHttpError<reqwest::Error>>,
    shared: Arc<Shared>,
    side: TransportSide,
) {
    let TransportSide { mut messages, ends, written } = side;
    let mut sends: JoinSet<(Option<u64>, Result<(), String>)> = JoinSet::new();
    let mut initialized = false;
    let reason = loop {
        tokio::select! {
            () = ends.cancelled() => break Closed::Dropped,
            Some(message) = messages.recv() => {
                let id = message.get("method").and(message.get("id")).and_then(Value::as_u64);
                match serde_json::from_value::<ClientJsonRpcMessage>(message) {
                    Ok(message) => {
                        let send = transport.send(message);
                        let send = async move { (id, send.await.map_err(|error| explain(&error))) };
                        if initialized {
                            sends.spawn(send);
                        } else {
                            // The transport's own handshake is strictly one after the other.
                            let (id, result) = send.await;
                            if let (Some(id), Err(reason)) = (id, result) {
                                shared.failed_to_send(id, Closed::Transport(reason)).await;
                            }
                            initialized = id.is_none();
                        }
                    }
                    Err(error) => {
                        if let Some(id) = id {
                            shared.failed_to_send(id, Closed::Transport(format!("cannot be asked this: {error}"))).await;
                        }
                    }
                }
            }
            Some(sent) = sends.join_next(), if !sends.is_empty() => {
                if let Ok((Some(id), Err(reason))) = sent {
                    shared.failed_to_send(id, Closed::Transport(reason)).await;
                }
            }
            message = transport.receive() => match message.map(serde_json::to_value) {
                Some(Ok(message)) => shared.receive(message).await,
                Some(Err(error)) => break Closed::Transport(format!("sent what cannot be understood: {error}")),
                None => break Closed::Transport("ended the connection".to_owned()),
            },
        }
    };
    // What was queued before the end, such as a cancellation, is still sent if the transport lets it.
    messages.close();
    while let Ok(message) = messages.try_recv() {
        if let Ok(message) = serde_json::from_value::<ClientJsonRpcMessage>(message) {
            let _ = transport.send(message).await;
        }
    }
    shared.close(reason);
    // Ends the session at the server; whether that works changes nothing here.
    let _ = transport.close().await;
    drop(written);
}

/// What went wrong, for people. Addresses and what the server wrote are no part of it: either may hold a secret.
fn explain(error: &StreamableHttpError<reqwest::Error>) -> String {
    match error {
        StreamableHttpError::Client(error) => unreachable_because(error),
        StreamableHttpError::AuthRequired(_) => refused("HTTP 401 Unauthorized"),
        StreamableHttpError::InsufficientScope(_) => refused("HTTP 403 Forbidden"),
        StreamableHttpError::HttpStatus(_) => {
            "answered that it cannot serve now (HTTP 429 or 5xx); try again later".to_owned()
        }
        // Everything after the status is what the server wrote.
        StreamableHttpError::UnexpectedServerResponse(text) => match text.split_once(':') {
            Some((status, _)) if status.starts_with("HTTP 401") || status.starts_with("HTTP 403") => refused(status),
            Some((status, _)) if status.starts_with("HTTP 3") => format!(
                "answered with {status}: it sends clients to another address, and headers are never sent there; \
                 correct `remote.url`"
            ),
            Some((status, _)) if status.starts_with("HTTP ") => {
                format!("answered with {status}; check `remote.url`")
            }
            _ => "answered with something that is not MCP; check `remote.url`".to_owned(),
        },
        StreamableHttpError::UnexpectedContentType(_) | StreamableHttpError::Deserialize(_) => {
            "answered with something that is not MCP; check `remote.url`".to_owned()
        }
        StreamableHttpError::SessionExpired => "ended the session".to_owned(),
        StreamableHttpError::ResponseBodyTooLarge { .. } => "sent a message that is too long".to_owned(),
        StreamableHttpError::ReservedHeaderConflict(name) => {
            format!("has the header `{name}`, which the transport sets itself; remove it from the catalog entry")
        }
        StreamableHttpError::TransportChannelClosed => "ended the connection".to_owned(),
        _ => "broke the transport".to_owned(),
    }
}

fn refused(status: &str) -> String {
    format!("refuses the credentials ({status}); check the secrets that its `headers` use")
}

fn unreachable_because(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "cannot be reached: no answer in time".to_owned();
    }
    // The innermost cause is the system's; those around it quote the address.
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => format!("cannot be reached: {cause}; check `remote.url` and the network"),
        None => "cannot be reached; check `remote.url` and the network".to_owned(),
    }
}
