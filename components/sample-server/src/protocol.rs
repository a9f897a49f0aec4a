//! JSON-RPC and the life cycle of MCP: which method answers what, and which error means what.

use serde_json::{Map, Value, json};

use crate::{prompts, resources, tools};

/// The protocol revisions that this server speaks, newest first.
const REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// A JSON-RPC error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl RpcError {
    const PARSE: i32 = -32700;
    const INVALID_REQUEST: i32 = -32600;
    const METHOD_NOT_FOUND: i32 = -32601;
    const INVALID_PARAMS: i32 = -32602;
    const RESOURCE_NOT_FOUND: i32 = -32002;

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: Self::INVALID_PARAMS, message: message.into() }
    }

    pub(crate) fn resource_not_found(uri: &str) -> Self {
        Self { code: Self::RESOURCE_NOT_FOUND, message: format!("there is no resource `{uri}`; see `resources/list`") }
    }
}

/// What the environment and the arguments decide. The protocol itself needs no state.
pub(crate) struct Server {
    /// The word that `greet` greets with.
    pub(crate) greeting: String,
    /// Tools only.
    pub(crate) brief: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { greeting: "Hello".to_owned(), brief: false }
    }
}

impl Server {
    /// The answer to one line, or none if it needs none.
    pub(crate) fn answer(&self, line: &str) -> Option<Value> {
        if line.trim().is_empty() {
            return None;
        }
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return Some(failure(&Value::Null, RpcError::PARSE, "this line is not JSON; send one message per line"));
        };
        let id = message.get("id").cloned();
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            // The answer to a request of ours, of which there are none, needs no answer.
            let is_answer = message.get("result").is_some() || message.get("error").is_some();
            return (!is_answer).then(|| {
                failure(&id.unwrap_or_default(), RpcError::INVALID_REQUEST, "a request needs a `method`, a string")
            });
        };
        let id = id?;
        let empty = Map::new();
        let params = match message.get("params") {
            None => &empty,
            Some(Value::Object(params)) => params,
            Some(_) => return Some(failure(&id, RpcError::INVALID_PARAMS, "`params` must be an object")),
        };
        Some(match self.handle(method, params) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => failure(&id, error.code, &error.message),
        })
    }

    fn handle(&self, method: &str, params: &Map<String, Value>) -> Result<Value, RpcError> {
        match method {
            "initialize" => Ok(self.initialize(params)),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({"tools": tools::list()})),
            "tools/call" => tools::call(required(params, "name")?, arguments(params)?, &self.greeting),
            "prompts/list" if !self.brief => Ok(json!({"prompts": prompts::list()})),
            "prompts/get" if !self.brief => prompts::get(required(params, "name")?, arguments(params)?),
            "resources/list" if !self.brief => Ok(json!({"resources": resources::list()})),
            "resources/templates/list" if !self.brief => Ok(json!({"resourceTemplates": []})),
            "resources/read" if !self.brief => resources::read(required(params, "uri")?),
            other => Err(RpcError {
                code: RpcError::METHOD_NOT_FOUND,
                message: format!("the method `{other}` is not known here"),
            }),
        }
    }

    /// Agrees on the client's revision if it is known, else offers the newest.
    fn initialize(&self, params: &Map<String, Value>) -> Value {
        let asked = params.get("protocolVersion").and_then(Value::as_str);
        let agreed = REVISIONS.into_iter().find(|&revision| Some(revision) == asked).unwrap_or(REVISIONS[0]);
        let mut capabilities = json!({"tools": {}});
        if !self.brief {
            capabilities = json!({"tools": {}, "prompts": {}, "resources": {}});
        }
        json!({
            "protocolVersion": agreed,
            "capabilities": capabilities,
            "serverInfo": {"name": "sample-server", "title": "Sample server", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "Small exact helpers: arithmetic, text statistics, dates across UTC offsets, JSON queries.",
        })
    }
}

fn required<'a>(params: &'a Map<String, Value>, name: &str) -> Result<&'a str, RpcError> {
    params
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::invalid_params(format!("`params.{name}` is required and must be a string")))
}

fn arguments(params: &Map<String, Value>) -> Result<Map<String, Value>, RpcError> {
    match params.get("arguments") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(RpcError::invalid_params("`params.arguments` must be an object")),
    }
}

fn failure(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(message: &Value) -> Value {
        Server::default().answer(&message.to_string()).unwrap()
    }

    #[test]
    fn a_known_revision_is_agreed_on_and_an_unknown_one_is_answered_with_the_newest() {
        for (asked, agreed) in [("2024-11-05", "2024-11-05"), ("1999-01-01", "2025-11-25")] {
            let answer =
                ask(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": asked}}));
            assert_eq!(answer["result"]["protocolVersion"], agreed);
        }
    }

    #[test]
    fn each_kind_of_wrong_message_has_its_own_code() {
        let server = Server::default();
        let code = |line: &str| server.answer(line).unwrap()["error"]["code"].as_i64().unwrap();
        assert_eq!(code("{"), -32700);
        assert_eq!(code(r#"{"id":1}"#), -32600);
        assert_eq!(code(r#"{"id":1,"method":"no/such"}"#), -32601);
        assert_eq!(code(r#"{"id":1,"method":"tools/call","params":{}}"#), -32602);
        assert_eq!(code(r#"{"id":1,"method":"tools/call","params":{"name":"none"}}"#), -32602);
        assert_eq!(code(r#"{"id":1,"method":"prompts/get","params":{"name":"none"}}"#), -32602);
        assert_eq!(code(r#"{"id":1,"method":"resources/read","params":{"uri":"x:y"}}"#), -32002);
    }

    #[test]
    fn notifications_and_answers_get_no_answer() {
        let server = Server::default();
        assert_eq!(server.answer(r#"{"method":"notifications/initialized"}"#), None);
        assert_eq!(server.answer(r#"{"id":1,"result":{}}"#), None);
        assert_eq!(server.answer("  "), None);
    }

    #[test]
    fn a_brief_server_has_only_tools() {
        let server = Server { brief: true, ..Server::default() };
        let answer = server.answer(r#"{"id":1,"method":"initialize","params":{}}"#).unwrap();
        assert_eq!(answer["result"]["capabilities"], json!({"tools": {}}));
        let answer = server.answer(r#"{"id":1,"method":"prompts/list"}"#).unwrap();
        assert_eq!(answer["error"]["code"], -32601);
    }
}
