//! The prompts.

use serde_json::{Map, Value, json};

use crate::protocol::RpcError;

/// What `prompts/list` shows.
pub(crate) fn list() -> Value {
    json!([{
        "name": "review_text",
        "title": "Review a text",
        "description": "Asks for a review of a text, with its statistics taken first.",
        "arguments": [{"name": "text", "description": "The text to review.", "required": true}],
    }])
}

/// What `prompts/get` answers.
pub(crate) fn get(name: &str, arguments: Map<String, Value>) -> Result<Value, RpcError> {
    if name != "review_text" {
        return Err(RpcError::invalid_params(format!("there is no prompt `{name}`; see `prompts/list`")));
    }
    let text = arguments
        .get("text")
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::invalid_params("the prompt `review_text` needs the argument `text`, a string"))?;
    let request = format!(
        "Use the tool `text_stats` on the following text, then say in three points how to make it clearer.\n\n{text}"
    );
    Ok(json!({
        "description": "A review of a text.",
        "messages": [{"role": "user", "content": {"type": "text", "text": request}}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_part_of_the_prompt_and_required() {
        let arguments = json!({"text": "lorem ipsum"}).as_object().cloned().unwrap();
        assert!(get("review_text", arguments).unwrap().to_string().contains("lorem ipsum"));
        assert!(get("review_text", Map::new()).unwrap_err().message.contains("`text`"));
    }
}
