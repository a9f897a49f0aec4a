//! HTTP+SSE, the transport of the 2024-11-05 revision: one stream of events brings everything; its first event says
//! where to POST messages.
//!
//! The session is the stream. One that ends cannot be taken up again, so the connection ends with it, and a server
//! that is kept is connected to anew by the next call.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::connection::{Closed, Shared, TransportSide};
use super::super::room::Place;
use super::dial::{Http, unreachable_because};
use super::events::{Broken, Events};
use super::{NO_MCP, TOO_LONG, content_type, deliver};

/// How long the server may take to take a message. It answers on the stream.
const POST: Duration = Duration::from_secs(60);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Carries messages until the connection is dropped or the stream ends.
pub(super) async fn run(http: Http, shared: Arc<Shared>, side: TransportSide) {
    let TransportSide { mut messages, ends, written } = side;
    let mut endpoint = None;
    let reason = tokio::select! {
        () = ends.cancelled() => Closed::Dropped,
        reason = converse(&http, &shared, &mut messages, &mut endpoint) => reason,
    };
    let is_over = reason != Closed::Dropped;
    shared.close(reason);
    messages.close();
    if let Some(endpoint) = endpoint.filter(|_| !is_over) {
        // Notifications that were queued before the end, such as a cancellation; nobody waits for requests any more.
        let goodbye = async {
            while let Ok((message, _)) = messages.try_recv() {
                if message.get("id").is_none() {
                    let _ = post(&http, &endpoint, &message).await;
                }
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
    drop(written);
}

/// Returns why the conversation is over.
async fn converse(
    http: &Http,
    shared: &Shared,
    messages: &mut mpsc::Receiver<(Value, Place)>,
    endpoint: &mut Option<Url>,
) -> Closed {
    let mut events = match open(http).await {
        Ok(events) => events,
        Err(reason) => return reason,
    };
    let target = match find_endpoint(http.url(), &mut events).await {
        Ok(target) => &*endpoint.insert(target),
        Err(reason) => return Closed::Transport(reason),
    };
    let send = async {
        // One after the other, which keeps their order: the server takes them at once and answers later.
        while let Some((message, _place)) = messages.recv().await {
            let Err(reason) = post(http, target, &message).await else { continue };
            match message.get("method").and(message.get("id")).and_then(Value::as_u64) {
                Some(id) => shared.failed_to_send(id, reason).await,
                None => tracing::debug!(%reason, "a notification did not arrive"),
            }
        }
        "ended the connection".to_owned()
    };
    let receive = async {
        loop {
            match events.next().await {
                Ok(Some(event)) if matches!(event.name.as_str(), "" | "message") => {
                    deliver(shared, event.data.as_bytes(), |_| {}).await;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Broken::Connection) => return "ended the connection".to_owned(),
                Err(Broken::TooLong) => return TOO_LONG.to_owned(),
            }
        }
    };
    Closed::Transport(tokio::select! {
        reason = send => reason,
        reason = receive => reason,
    })
}

async fn open(http: &Http) -> Result<Events, Closed> {
    let request = http.request(Method::GET, http.url());
    let request = request.header(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let response = request.send().await.map_err(|error| unreachable_because(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(match http.refusal(status) {
            Closed::Transport(reason) if matches!(status.as_u16(), 404 | 405) => Closed::Transport(
                reason + "; if the server speaks streamable HTTP, set `remote.transport_type: streamable-http`",
            ),
            reason => reason,
        });
    }
    if content_type(&response) != "text/event-stream" {
        return Err(Closed::Transport(NO_MCP.to_owned()));
    }
    Ok(Events::new(response))
}

/// Where to send messages: only to where the stream came from, since the headers go there too.
async fn find_endpoint(url: &Url, events: &mut Events) -> Result<Url, String> {
    loop {
        match events.next().await {
            Ok(Some(event)) if event.name == "endpoint" => {
                let target = url.join(event.data.trim()).map_err(|_| NO_MCP.to_owned())?;
                if target.origin() != url.origin() {
                    return Err("wants messages to be sent to another origin than its own, which is refused: the \
                                headers are not for others"
                        .to_owned());
                }
                return Ok(target);
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Broken::Connection) => {
                return Err("ended the stream before it said where to send messages".to_owned());
            }
            Err(Broken::TooLong) => return Err(TOO_LONG.to_owned()),
        }
    }
}

async fn post(http: &Http, endpoint: &Url, message: &Value) -> Result<(), Closed> {
    let request = http
        .request(Method::POST, endpoint)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .timeout(POST)
        .body(message.to_string());
    let response = request.send().await.map_err(|error| unreachable_because(&error))?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(http.refusal(status)) }
}
