//! Finding out what servers offer: each is opened on its own, asked for its lists and released.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::Tool;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::Closed;
use super::ephemeral;
use super::inventory::{Inventory, Offer, Status};
use super::servers::Server;
use super::upstream::{Introduction, Opening, Upstream, UpstreamError};
use crate::provision::ProvisionError;

/// How soon a server is tried again that could not be discovered because it, or what would run it, is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between such attempts, which each take twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many pages of one list are read. A server that has more is taken to repeat itself.
const MAX_PAGES: usize = 100;
/// How many items of one list are taken. No model could choose among more.
const MAX_ITEMS: usize = 2_000;
/// How much text the items of one list may be together.
const MAX_BYTES: usize = 16 << 20;

/// Discovers one server and records the outcome. While it, or what would run it, is away, it is tried again, less and less
/// often, until the server is no longer one of the gateway's.
pub(crate) async fn discover(opening: &Opening<'_>, definition: &Server, index: usize, inventory: &Inventory) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = tokio::time::Instant::now();
        let error = match offer(opening, definition, &definition.retired).await {
            Ok(offer) => {
                tracing::info!(
                    server = definition.name,
                    tools = offer.tools.len(),
                    prompts = offer.prompts.len(),
                    resources = offer.resources.len() + offer.templates.len(),
                    milliseconds = started.elapsed().as_millis(),
                    "server discovered"
                );
                return inventory.record(index, Status::Ready(Arc::new(offer)));
            }
            Err(error) => error,
        };
        let (is_away, is_first) = (is_away(&error), pause == FIRST_PAUSE);
        inventory.record(index, Status::Failed(error.to_string()));
        match error {
            UpstreamError::Cancelled => {}
            error if is_away && is_first => {
                tracing::error!(server = definition.name, %error, "server left out until that changes");
            }
            error if is_away => tracing::debug!(server = definition.name, %error, "server still left out"),
            error => tracing::error!(server = definition.name, %error, "server left out"),
        }
        if !is_away || definition.retired.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether what would run the server is away, an engine, a cluster or a store, or a remote server itself.
fn is_away(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Provision { source: ProvisionError::Unavailable(_), .. }
            | UpstreamError::Broken { reason: Closed::Away(_), .. }
    )
}

async fn offer(opening: &Opening<'_>, definition: &Server, cancel: &CancellationToken) -> Result<Offer, UpstreamError> {
    let admitted = opening.provision.admit(&definition.name);
    admitted.map_err(|source| UpstreamError::Provision { server: definition.name.clone(), source })?;
    let ephemeral: Vec<Tool> = definition.entry.tools.iter().filter_map(ephemeral::definition).collect();
    if !ephemeral.is_empty() {
        let prepared = opening.provision.prepare(&definition.name, cancel.child_token()).await;
        prepared.map_err(|source| UpstreamError::from_provision(&definition.name, source))?;
    }
    if definition.entry.is_poci() {
        return Ok(Offer { tools: ephemeral, ..Offer::default() });
    }
    let upstream = Upstream::open(opening, &definition.name, &Introduction::gateway(), cancel).await?;
    let lists = tokio::select! {
        lists = tokio::time::timeout(opening.timeout, lists(&upstream)) => lists,
        () = cancel.cancelled() => return Err(UpstreamError::Cancelled),
    };
    let mut offer = match lists {
        Ok(Ok(offer)) => offer,
        Ok(Err(error)) => {
            upstream.log_last_words(&error).await;
            return Err(error);
        }
        Err(_) if upstream.is_remote() => return Err(upstream.mute(opening.timeout)),
        Err(_) => return Err(hangs(&upstream, opening.timeout)),
    };
    offer.tools.extend(ephemeral);
    Ok(offer)
}

fn hangs(upstream: &Upstream, timeout: Duration) -> UpstreamError {
    UpstreamError::Unusable {
        server: upstream.server().to_owned(),
        reason: format!(
            "did not list what it offers within {} s; raise `--max-server-startup-timeout` if it is just slow",
            timeout.as_secs()
        ),
    }
}

/// Asks a server for everything that it offers.
///
/// # Errors
/// If it refuses or is gone.
pub(crate) async fn lists(upstream: &Upstream) -> Result<Offer, UpstreamError> {
    let mut offer = Offer::default();
    let has = |capability: &str| upstream.capabilities().get(capability).is_some_and(|value| !value.is_null());
    if has("tools") {
        offer.tools = list(upstream, "tools/list", "tools").await?;
    }
    if has("prompts") {
        offer.prompts = list(upstream, "prompts/list", "prompts").await?;
    }
    if has("resources") {
        offer.resources = optional(list(upstream, "resources/list", "resources").await)?;
        offer.templates = optional(list(upstream, "resources/templates/list", "resourceTemplates").await)?;
    }
    Ok(offer)
}

/// Servers may have resources without templates or the other way round, and some then refuse the other list.
fn optional<T>(list: Result<Vec<T>, UpstreamError>) -> Result<Vec<T>, UpstreamError> {
    match list {
        Err(UpstreamError::Refused { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// Reads a list, page by page. Items that are not as the protocol has them are left out with a warning.
async fn list<T: DeserializeOwned>(
    upstream: &Upstream,
    method: &'static str,
    field: &str,
) -> Result<Vec<T>, UpstreamError> {
    let mut items = Vec::new();
    let (mut cursor, mut bytes) = (Value::Null, 0);
    for _ in 0..MAX_PAGES {
        let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
        let mut page = upstream.ask(method, params).await?;
        if let Some(Value::Array(entries)) = page.get_mut(field).map(Value::take) {
            for entry in entries {
                bytes += entry.to_string().len();
                if items.len() >= MAX_ITEMS || bytes > MAX_BYTES {
                    let (server, taken) = (upstream.server(), items.len());
                    tracing::warn!(server, method, taken, "a list is too long; the rest is left out");
                    return Ok(items);
                }
                match serde_json::from_value(entry) {
                    Ok(item) => items.push(item),
                    Err(error) => {
                        tracing::warn!(server = upstream.server(), method, %error, "left out an item that is malformed");
                    }
                }
            }
        }
        cursor = page.get_mut("nextCursor").map(Value::take).unwrap_or_default();
        if cursor.is_null() {
            return Ok(items);
        }
    }
    tracing::warn!(server = upstream.server(), method, pages = MAX_PAGES, "a list does not end; the rest is left out");
    Ok(items)
}
