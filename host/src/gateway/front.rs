//! The MCP server that clients see: one [`Front`] per stdio connection, HTTP session, or request without a session.
//!
//! It answers from the inventory and hands everything else to the relay. Errors that the model can act upon are
//! results of the tool; only what cannot be routed is a protocol error.

// Logging and its like are deprecated by the current revision, but clients of the others rely on them.
#![expect(deprecated, reason = "older protocol revisions are served too")]

use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult, ContentBlock,
    ErrorCode, ErrorData, GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Reference, RequestMetaObject,
    ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, SubscriptionContext};
use rmcp::{Peer, ServerHandler};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::guard::Call;
use super::http::Principal;
use super::inventory::LateChanges;
use super::relay::{CallError, Caller, forward, turn};
use super::room::Exchange;
use super::servers::Server;
use super::session::Session;
use super::upstream::UpstreamError;
use super::{Core, ephemeral, guard};

/// What clients are told about the gateway.
const INSTRUCTIONS: &str = "This gateway joins several MCP servers. Each runs in isolation and may be started for a \
                            single call, so tools do not share state unless their descriptions say so.";

/// The server's side of one client.
pub(crate) struct Front {
    core: Arc<Core>,
    session: Arc<Session>,
    log_level: Mutex<Option<String>>,
    ends: CancellationToken,
    _ended: DropGuard,
}

impl Front {
    /// A front with a session of its own, which ends with it.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let ends = CancellationToken::new();
        Self {
            core,
            session: Arc::default(),
            log_level: Mutex::default(),
            ends: ends.clone(),
            _ended: ends.drop_guard(),
        }
    }

    /// Everything that the relay needs to know about who asks.
    fn caller(&self, context: &RequestContext<RoleServer>) -> Caller {
        let is_modern = context.meta.protocol_version().is_some_and(|version| !version.has_initialize());
        // Requests of clients to servers went away with sessions, so such a client cannot be asked anything.
        let capabilities = if is_modern { None } else { context.client_capabilities() };
        let (log_level, wants_logs) = if is_modern {
            let level = context.meta.get("io.modelcontextprotocol/logLevel").and_then(Value::as_str);
            (level.map(str::to_owned), level.is_some())
        } else {
            (self.log_level.lock().unwrap_or_else(PoisonError::into_inner).clone(), true)
        };
        Caller {
            peer: context.peer.clone(),
            cancel: context.ct.clone(),
            capabilities,
            client_info: context.client_info(),
            progress_token: context.meta.get_progress_token(),
            log_level,
            wants_logs,
            session: self.session_of(context),
            exchange: exchange_of(context),
        }
    }

    /// The session of this front, or that of the principal for a request that belongs to no session.
    fn session_of(&self, context: &RequestContext<RoleServer>) -> Arc<Session> {
        let parts = context.extensions.get::<::http::request::Parts>();
        match parts {
            Some(parts) if !parts.headers.contains_key("mcp-session-id") => {
                let principal = parts.extensions.get::<Principal>().map_or("", |principal| principal.0);
                self.core.principals.session(principal)
            }
            _ => Arc::clone(&self.session),
        }
    }

    async fn forward<T: DeserializeOwned>(
        &self,
        server: usize,
        method: &str,
        params: Value,
        caller: &Caller,
    ) -> Result<T, ErrorData> {
        guard::screen_request(&self.core, &params).map_err(protocol_error)?;
        let result = Box::pin(forward(&self.core, server, method, params, caller)).await;
        let result = result.and_then(|result| guard::screen_result(&self.core, result)).map_err(protocol_error)?;
        self.typed(server, method, result)
    }

    fn typed<T: DeserializeOwned>(&self, server: usize, method: &str, mut result: Value) -> Result<T, ErrorData> {
        // Servers of older revisions do not say it, the current one requires it, and rmcp removes it for older clients.
        if let Some(object) = result.as_object_mut() {
            object.entry("resultType").or_insert_with(|| json!("complete"));
        }
        serde_json::from_value(result).map_err(|error| {
            let name = self.core.servers.get(server).map_or_else(String::new, |server| server.name.clone());
            ErrorData::internal_error(
                format!("server `{name}` answered `{method}` with a malformed result: {error}"),
                None,
            )
        })
    }

    /// Why a name is not there.
    fn unknown(&self, kind: &str, name: &str) -> ErrorData {
        let excuses = self.core.inventory.excuses((kind == "tool").then_some(name));
        if kind == "tool" && self.core.inventory.now().left_out.contains(name) {
            let message = format!("tool `{name}` is not enabled; `--tools` leaves it out");
            return ErrorData::invalid_params(message, None);
        }
        let mut message = format!("{kind} `{name}` is not known to the gateway");
        if !excuses.is_empty() {
            message.push_str("; not every server is there: ");
            message.push_str(&excuses.join("; "));
        }
        ErrorData::invalid_params(message, None)
    }

    async fn run_ephemeral(
        &self,
        server: &Server,
        tool: &str,
        params: &Value,
        caller: &Caller,
    ) -> Result<Value, CallError> {
        let _under_way = self.core.tracker.token();
        let _turn = tokio::select! {
            turn = turn(&self.core, server) => turn?,
            () = caller.cancel.cancelled() => return Err(UpstreamError::Cancelled.into()),
        };
        let cancel = self.core.cancel.child_token();
        let _cancels = cancel.clone().drop_guard();
        let run = self.core.provision.run_tool(&server.name, tool, ephemeral::arguments(params), cancel.clone());
        let limit = self.core.options.call_timeout;
        let completed = tokio::select! {
            completed = tokio::time::timeout(limit, run) => completed,
            () = caller.cancel.cancelled() => return Err(UpstreamError::Cancelled.into()),
        };
        // Dropping the run ends and removes the container.
        let completed = completed
            .map_err(|_| CallError::TimedOut { server: server.name.clone(), seconds: limit.as_secs() })?
            .map_err(|source| UpstreamError::from_provision(&server.name, source))?;
        Ok(ephemeral::result(tool, &completed))
    }
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_completions()
            .enable_logging()
            .build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("docker-mcp", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(INSTRUCTIONS.to_owned());
        info
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let announcing = announce(Arc::clone(&self.core), context.peer);
        let ends = self.ends.clone();
        tokio::spawn(async move { ends.run_until_cancelled(announcing).await });
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let level = serde_json::to_value(request.level).ok().and_then(|level| level.as_str().map(str::to_owned));
        *self.log_level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        Ok(())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.core.inventory.now().tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        first_page(request)?;
        Ok(ListToolsResult::with_all_items(self.core.inventory.settled().await.tools.clone()))
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        first_page(request)?;
        Ok(ListPromptsResult::with_all_items(self.core.inventory.settled().await.prompts.clone()))
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        first_page(request)?;
        Ok(ListResourcesResult::with_all_items(self.core.inventory.settled().await.resources.clone()))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        first_page(request)?;
        let snapshot = self.core.inventory.settled().await;
        let templates = snapshot.templates.iter().map(|(template, _)| template.clone()).collect();
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let known = self.core.inventory.now().tool_routes.get(request.name.as_ref()).cloned();
        let route = match known {
            Some(route) => route,
            None => {
                let snapshot = self.core.inventory.settled().await;
                let route = snapshot.tool_routes.get(request.name.as_ref()).cloned();
                route.ok_or_else(|| self.unknown("tool", &request.name))?
            }
        };
        let Some(definition) = self.core.servers.get(route.server) else {
            return Err(self.unknown("tool", &request.name));
        };
        let caller = self.caller(&context);
        let tool = request.name.clone();
        let mut request = request;
        request.name = route.name.clone().into();
        let params = params(&request, &context.meta)?;
        let started = Instant::now();
        let call = Call { tool: &tool, progress_token: caller.progress_token.as_ref() };
        let work = async |params: Value| {
            if ephemeral::is_ephemeral_tool(&definition.entry, &route.name) {
                self.run_ephemeral(&definition, &route.name, &params, &caller).await
            } else {
                forward(&self.core, route.server, "tools/call", params, &caller).await
            }
        };
        // In a place of its own: what handles a request is moved several times.
        let result = Box::pin(guard::guarded(&self.core, call, params, &caller.cancel, work)).await;
        if self.core.options.log_calls {
            let outcome = match &result {
                Ok(result) if result.get("isError") == Some(&Value::Bool(true)) => "tool error",
                Ok(_) => "ok",
                Err(CallError::Upstream(UpstreamError::Cancelled)) => "cancelled",
                Err(_) => "error",
            };
            let (tool, definition, milliseconds) = (tool.clone(), definition.clone(), started.elapsed().as_millis());
            let line = async move {
                tracing::info!(tool = tool.as_ref(), server = definition.name, milliseconds, outcome, "call");
            };
            // The client need not wait until it is written.
            self.core.tracker.spawn(line.in_current_span());
        }
        match result {
            Ok(result) => self.typed::<CallToolResult>(route.server, "tools/call", result).map(Into::into),
            Err(error @ (CallError::Rpc(_) | CallError::Upstream(UpstreamError::Cancelled))) => {
                Err(protocol_error(error))
            }
            Err(error) => {
                tracing::warn!(tool = tool.as_ref(), server = definition.name, %error, "call failed");
                Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into())
            }
        }
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let snapshot = self.core.inventory.settled().await;
        let Some(route) = snapshot.prompt_routes.get(&request.name) else {
            return Err(self.unknown("prompt", &request.name));
        };
        let mut request = request;
        request.name.clone_from(&route.name);
        let params = params(&request, &context.meta)?;
        let result: GetPromptResult = self.forward(route.server, "prompts/get", params, &self.caller(&context)).await?;
        Ok(result.into())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let snapshot = self.core.inventory.settled().await;
        let Some(server) = snapshot.resource_route(&request.uri) else {
            let message = self.unknown("resource", &request.uri).message;
            return Err(ErrorData::resource_not_found(message, Some(json!({ "uri": request.uri }))));
        };
        let params = params(&request, &context.meta)?;
        let result: ReadResourceResult = self.forward(server, "resources/read", params, &self.caller(&context)).await?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let snapshot = self.core.inventory.settled().await;
        let mut request = request;
        let server = match &mut request.r#ref {
            Reference::Prompt(prompt) => {
                let route = snapshot.prompt_routes.get(&prompt.name).cloned();
                let route = route.ok_or_else(|| self.unknown("prompt", &prompt.name))?;
                prompt.name = route.name;
                route.server
            }
            Reference::Resource(resource) => {
                let template = snapshot.templates.iter().find(|(template, _)| template.uri_template == resource.uri);
                let server = template.map(|(_, server)| *server).or_else(|| snapshot.resource_route(&resource.uri));
                server.ok_or_else(|| self.unknown("resource", &resource.uri))?
            }
            _ => return Err(ErrorData::invalid_params("the gateway cannot complete this kind of reference", None)),
        };
        let params = params(&request, &context.meta)?;
        self.forward(server, "completion/complete", params, &self.caller(&context)).await
    }

    fn accepted_subscription_filter(&self, _requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut filter = SubscriptionFilter::new();
        filter.tools_list_changed = Some(true);
        filter.prompts_list_changed = Some(true);
        filter.resources_list_changed = Some(true);
        Some(filter)
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.core.inventory.subscribe();
        let mut told = changes.borrow_and_update().late;
        loop {
            tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                () = self.core.cancel.cancelled() => return Ok(()),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
            let late = changes.borrow_and_update().late;
            let sink = subscription.sink();
            // A client that did not ask for one of them is not told of it: that error is expected.
            if late.tools != told.tools {
                let _ = sink.notify_tool_list_changed().await;
            }
            if late.prompts != told.prompts {
                let _ = sink.notify_prompt_list_changed().await;
            }
            if late.resources != told.resources {
                let _ = sink.notify_resource_list_changed().await;
            }
            told = late;
        }
    }
}

/// What the request takes up, if that is counted: over HTTP, or because it is large.
fn exchange_of(context: &RequestContext<RoleServer>) -> Option<Arc<Exchange>> {
    let parts = context.extensions.get::<::http::request::Parts>();
    let of_http = parts.and_then(|parts| parts.extensions.get::<Arc<Exchange>>());
    of_http.or_else(|| context.extensions.get::<Arc<Exchange>>()).map(Arc::clone)
}

/// Tells a client of servers that arrive after the start-up timeout, until it is gone.
async fn announce(core: Arc<Core>, peer: Peer<RoleServer>) {
    let mut changes = core.inventory.subscribe();
    // What arrived before the client was there is in the lists that it has yet to ask for, or it asked early: in
    // doubt it is told once too often.
    let mut told = LateChanges::default();
    loop {
        let late = changes.borrow_and_update().late;
        let mut sent = Ok(());
        if late.tools != told.tools {
            sent = sent.and(peer.notify_tool_list_changed().await);
        }
        if late.prompts != told.prompts {
            sent = sent.and(peer.notify_prompt_list_changed().await);
        }
        if late.resources != told.resources {
            sent = sent.and(peer.notify_resource_list_changed().await);
        }
        told = late;
        if sent.is_err() || changes.changed().await.is_err() {
            return;
        }
    }
}

/// The parameters for the server: those of the client with its metadata, but not what is between client and gateway.
fn params(request: &impl Serialize, meta: &RequestMetaObject) -> Result<Value, ErrorData> {
    let mut params =
        serde_json::to_value(request).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let meta = serde_json::to_value(meta).unwrap_or_default();
    let passed: Map<String, Value> = meta
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "progressToken" && !name.starts_with("io.modelcontextprotocol/"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(object) = params.as_object_mut() {
        object.remove("_meta");
        if !passed.is_empty() {
            object.insert("_meta".to_owned(), Value::Object(passed));
        }
    }
    Ok(params)
}

/// Lists come in one page, so a cursor cannot be one of ours.
fn first_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        None => Ok(()),
        Some(_) => Err(ErrorData::invalid_params("the cursor is unknown: this gateway lists everything at once", None)),
    }
}

fn protocol_error(error: CallError) -> ErrorData {
    match error {
        CallError::Rpc(error) => {
            let code = i32::try_from(error.code).map_or(ErrorCode::INTERNAL_ERROR, ErrorCode);
            ErrorData::new(code, error.message, error.data.map(|data| *data))
        }
        error => ErrorData::internal_error(error.to_string(), None),
    }
}
