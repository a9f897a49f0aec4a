//! Ephemeral tools: a container that is run once per call, whose output is the result. There is no MCP server.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};

use crate::capability::container_runtime::{Captured, Completed};
use crate::catalog::Entry;
use crate::catalog::entry::ToolEntry;

/// How many lines of standard error are logged; the result of a tool that failed has more.
const LOGGED_LINES: usize = 100;
/// How much of each.
const LOGGED_CHARS: usize = 1000;

/// What clients are told of an ephemeral tool. `None` for tools of a server.
pub(crate) fn definition(tool: &ToolEntry) -> Option<Tool> {
    tool.container.as_ref()?;
    let mut schema = tool.parameters.clone();
    // Clients insist on both; catalogs leave them out for tools without parameters.
    schema.entry("type").or_insert_with(|| json!("object"));
    schema.entry("properties").or_insert_with(|| json!({}));
    let mut definition = json!({ "name": tool.name, "inputSchema": schema });
    if let Some(object) = definition.as_object_mut() {
        if let Some(description) = &tool.description {
            object.insert("description".to_owned(), json!(description));
        }
        if let Some(annotations) = &tool.annotations {
            object.insert("annotations".to_owned(), Value::Object(annotations.clone()));
        }
    }
    match serde_json::from_value(definition) {
        Ok(definition) => Some(definition),
        Err(error) => {
            tracing::error!(tool = tool.name, %error, "left out a tool whose catalog entry is malformed");
            None
        }
    }
}

/// Whether a server's tool of this name is ephemeral.
pub(crate) fn is_ephemeral_tool(entry: &Entry, tool: &str) -> bool {
    entry.tools.iter().any(|candidate| candidate.name == tool && candidate.container.is_some())
}

/// The result of a call: standard output, and for a tool that failed its standard error and exit code too.
pub(crate) fn result(tool: &str, completed: &Completed) -> Value {
    let failed = completed.exit_code != 0;
    let mut content = vec![text(&completed.stdout, "standard output")];
    if failed {
        let stderr = text(&completed.stderr, "standard error");
        if stderr.get("text").and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
            content.push(stderr);
        }
        let mut note = format!("tool `{tool}` ended with exit code {}", completed.exit_code);
        if let Some(why) = &completed.note {
            note.push_str(&format!(": {why}"));
        }
        content.push(json!({ "type": "text", "text": note }));
    }
    for line in String::from_utf8_lossy(&completed.stderr.bytes).lines().take(LOGGED_LINES) {
        let line: String = line.chars().take(LOGGED_CHARS).collect();
        tracing::info!(tool, line, "standard error");
    }
    json!({ "content": content, "isError": failed })
}

fn text(captured: &Captured, stream: &str) -> Value {
    let mut text = String::from_utf8_lossy(&captured.bytes).into_owned();
    if captured.dropped > 0 {
        text.push_str(&format!("\n[{stream} was cut here: {} more bytes]", captured.dropped));
    }
    json!({ "type": "text", "text": text })
}

/// The arguments of a call, which are absent if there are none.
pub(crate) fn arguments(params: &Value) -> Map<String, Value> {
    params.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry::ToolContainer;

    #[test]
    fn a_definition_keeps_the_whole_schema_and_the_annotations() {
        let tool: ToolEntry = serde_json::from_value(json!({
            "name": "grep", "description": "search", "container": {"image": "busybox"},
            "parameters": {"type": "object", "properties": {"p": {"type": "array", "items": {"type": "string"}}},
                "required": ["p"]},
            "annotations": {"readOnlyHint": true}
        }))
        .unwrap();
        let definition = serde_json::to_value(definition(&tool).unwrap()).unwrap();
        assert_eq!(definition["inputSchema"], Value::Object(tool.parameters));
        assert_eq!(definition["annotations"]["readOnlyHint"], true);
    }

    #[test]
    fn a_tool_without_parameters_still_has_a_schema() {
        let tool = ToolEntry { name: "t".into(), container: Some(ToolContainer::default()), ..ToolEntry::default() };
        let definition = serde_json::to_value(definition(&tool).unwrap()).unwrap();
        assert_eq!(definition["inputSchema"], json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn a_failure_shows_standard_error_and_the_exit_code() {
        let captured = |text: &str, dropped| Captured { bytes: text.as_bytes().to_vec(), dropped };
        let failed = Completed { exit_code: 3, stdout: captured("out", 0), stderr: captured("bad", 7), note: None };
        let result = result("t", &failed);
        assert_eq!(result["isError"], true);
        let texts: Vec<_> = result["content"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect();
        assert_eq!(
            texts,
            ["out", "bad\n[standard error was cut here: 7 more bytes]", "tool `t` ended with exit code 3"]
        );
    }

    #[test]
    fn what_the_engine_knows_of_the_end_is_said_with_the_exit_code() {
        let note = Some(Completed::OUT_OF_MEMORY.to_owned());
        let killed = Completed { exit_code: 137, stdout: Captured::default(), stderr: Captured::default(), note };
        let result = result("t", &killed);
        let text = result["content"][1]["text"].as_str().unwrap();
        assert!(text.starts_with("tool `t` ended with exit code 137: ") && text.contains("raise `--memory`"), "{text}");
    }

    #[test]
    fn success_is_standard_output_alone() {
        let done = Completed {
            exit_code: 0,
            stdout: Captured { bytes: vec![b'o', 0xff], dropped: 0 },
            stderr: Captured { bytes: b"note".to_vec(), dropped: 0 },
            note: None,
        };
        assert_eq!(result("t", &done), json!({"content": [{"type": "text", "text": "o\u{fffd}"}], "isError": false}));
    }
}
