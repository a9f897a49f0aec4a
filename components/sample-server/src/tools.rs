//! The tools: what they are called, what they take and how a call is answered. Each does its work in a module.

mod calculate;
mod dates;
mod text;

use serde_json::{Map, Value, json};

use crate::protocol::RpcError;

/// Why a tool could not do what it was asked. Shown to the model, which can then do better.
type ToolError = String;

type Arguments = Map<String, Value>;

/// What `tools/list` shows. None of them changes anything or reaches outside.
pub(crate) fn list() -> Value {
    let tool = |name: &str, title: &str, description: &str, properties: Value, required: &[&str]| {
        json!({
            "name": name,
            "title": title,
            "description": description,
            "inputSchema": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            },
            "annotations": {
                "title": title, "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true,
                "openWorldHint": false,
            },
        })
    };
    json!([
        tool(
            "greet",
            "Greet",
            "Greets somebody.",
            json!({"name": {"type": "string", "description": "Whom to greet.", "minLength": 1}}),
            &["name"],
        ),
        tool(
            "calculate",
            "Calculate",
            "Evaluates an arithmetic expression, such as `2 * (3 + 4) ^ 2 / sqrt(16)`.",
            json!({"expression": {"type": "string", "description": "Operators + - * / % ^, parentheses, functions \
                such as sqrt, round, min, max, and the constants pi and e.", "maxLength": calculate::MAX_BYTES}}),
            &["expression"],
        ),
        tool(
            "text_stats",
            "Text statistics",
            "Counts characters, words, lines and sentences of a text and names its most frequent words.",
            json!({"text": {"type": "string", "description": "The text."}}),
            &["text"],
        ),
        tool(
            "date_math",
            "Date arithmetic",
            "Adds days, hours, minutes and seconds to a point in time and shows it at another UTC offset.",
            json!({
                "time": {"type": "string", "description": "RFC 3339, such as 2026-02-28T23:30:00+01:00."},
                "days": {"type": "integer", "description": "Days to add; may be negative."},
                "hours": {"type": "integer", "description": "Hours to add; may be negative."},
                "minutes": {"type": "integer", "description": "Minutes to add; may be negative."},
                "seconds": {"type": "integer", "description": "Seconds to add; may be negative."},
                "offset": {"type": "string", "description": "The UTC offset of the result: Z, +05:30, -08:00. \
                    Without it, the offset of `time`.", "pattern": "^(Z|[+-][0-9]{2}:[0-9]{2})$"},
            }),
            &["time"],
        ),
        tool(
            "json_query",
            "JSON query",
            "Takes the part of a JSON document that a JSON pointer (RFC 6901) names.",
            json!({
                "document": {"type": "string", "description": "The JSON document, as text."},
                "pointer": {"type": "string", "description": "For example /users/0/name; empty for everything."},
            }),
            &["document", "pointer"],
        ),
    ])
}

/// What `tools/call` answers. A tool that fails is a result with `isError`, not a protocol error.
pub(crate) fn call(name: &str, arguments: Arguments, greeting: &str) -> Result<Value, RpcError> {
    let done = match name {
        "greet" => string(&arguments, "name").map(|name| format!("{greeting}, {name}!")),
        "calculate" => string(&arguments, "expression").and_then(calculate::evaluate),
        "text_stats" => string(&arguments, "text").map(text::statistics),
        "date_math" => dates::date_math(&arguments),
        "json_query" => query(&arguments),
        _ => return Err(RpcError::invalid_params(format!("there is no tool `{name}`; see `tools/list`"))),
    };
    let (text, is_error) = match done {
        Ok(text) => (text, false),
        Err(error) => (error, true),
    };
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn string<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, ToolError> {
    arguments
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("the argument `{name}` is required and must be a string"))
}

/// An integer that may be left out.
fn integer(arguments: &Arguments, name: &str) -> Result<i64, ToolError> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| format!("the argument `{name}` must be an integer")),
    }
}

fn query(arguments: &Arguments) -> Result<String, ToolError> {
    let (document, pointer) = (string(arguments, "document")?, string(arguments, "pointer")?);
    let document: Value =
        serde_json::from_str(document).map_err(|error| format!("the document is not valid JSON: {error}"))?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("the pointer `{pointer}` must be empty or start with `/`"));
    }
    let found = document.pointer(pointer).ok_or_else(|| format!("there is nothing at `{pointer}`"))?;
    serde_json::to_string_pretty(found).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, arguments: Value) -> (String, bool) {
        let result = call(name, arguments.as_object().cloned().unwrap(), "Hello").unwrap();
        (result["content"][0]["text"].as_str().unwrap().to_owned(), result["isError"].as_bool().unwrap())
    }

    #[test]
    fn every_listed_tool_can_be_called_and_says_what_is_missing() {
        for tool in list().as_array().unwrap() {
            let (text, is_error) = run(tool["name"].as_str().unwrap(), json!({}));
            assert!(is_error && text.contains("is required"), "{text}");
        }
    }

    #[test]
    fn a_pointer_finds_what_it_names_or_says_that_there_is_nothing() {
        let document = r#"{"a/b": [1, {"c": "x"}]}"#;
        assert_eq!(run("json_query", json!({"document": document, "pointer": "/a~1b/1/c"})), ("\"x\"".into(), false));
        assert!(run("json_query", json!({"document": document, "pointer": "/a~1b/7"})).1);
        assert!(run("json_query", json!({"document": "{", "pointer": ""})).0.contains("not valid JSON"));
    }
}
