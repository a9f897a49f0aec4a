//! The resources: what a model may want to read before it uses the tools.

use serde_json::{Value, json};

use crate::protocol::RpcError;

const RESOURCES: [(&str, &str, &str, &str); 2] = [
    (
        "sample://guide/expressions",
        "Expressions",
        "What the tool `calculate` understands.",
        "# Expressions\n\nOperators, weakest first: `+ -`, `* / %`, unary `-`, `^` (right-associative). Parentheses \
         group.\n\nFunctions: `abs`, `ceil`, `floor`, `round`, `sqrt`, `ln`, `log10`, `sin`, `cos`, `tan` (radians), \
         `min(a, b, ...)`, `max(a, b, ...)`.\n\nConstants: `pi`, `e`.\n",
    ),
    (
        "sample://guide/pointers",
        "JSON pointers",
        "What the tool `json_query` understands.",
        "# JSON pointers\n\nRFC 6901: `/users/0/name`. Write `~1` for a slash and `~0` for a tilde in a key. The \
         empty pointer is the whole document.\n",
    ),
];

/// What `resources/list` shows.
pub(crate) fn list() -> Value {
    RESOURCES
        .iter()
        .map(|(uri, title, description, text)| {
            json!({"uri": uri, "name": title, "title": title, "description": description,
                   "mimeType": "text/markdown", "size": text.len()})
        })
        .collect()
}

/// What `resources/read` answers.
pub(crate) fn read(uri: &str) -> Result<Value, RpcError> {
    let (uri, .., text) =
        RESOURCES.iter().find(|(known, ..)| *known == uri).ok_or_else(|| RpcError::resource_not_found(uri))?;
    Ok(json!({"contents": [{"uri": uri, "mimeType": "text/markdown", "text": text}]}))
}
