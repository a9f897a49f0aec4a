//! What stands between a client's request and the server: the screen, and the operator's interceptors.
//!
//! Everything here fails closed: what cannot be looked at does not pass. Interceptors enclose each other as they are
//! given: the first `before` sees the call first, the first `after` has the last word. One that answers before the call
//! takes the place of everything within.

use rmcp::model::{CallToolResult, ProgressToken};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::relay::CallError;
use super::upstream::UpstreamError;
use crate::intercept::{Interceptor, When};

/// What interceptors are told of a call besides its parameters.
pub(super) struct Call<'a> {
    /// The tool, under the name that clients see.
    pub(super) tool: &'a str,
    /// The client's token for progress.
    pub(super) progress_token: Option<&'a ProgressToken>,
}

/// Does the work of a call if everybody lets it pass; the result that everybody lets pass.
///
/// # Errors
/// Those of the work, and [`CallError::Refused`].
pub(super) async fn guarded(
    core: &Core,
    call: Call<'_>,
    params: Value,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(Value) -> Result<Value, CallError>,
) -> Result<Value, CallError> {
    screen_request(core, &params)?;
    let interceptors = &core.options.interceptors;
    if interceptors.is_empty() {
        return screen_result(core, work(params).await?);
    }
    let mut request = None;
    let mut enclosing: Vec<(usize, &Interceptor)> = Vec::new();
    let mut early = None;
    for (number, interceptor) in interceptors.iter().enumerate() {
        match interceptor.when() {
            When::After => enclosing.push((number, interceptor)),
            When::Before => {
                let message = request.get_or_insert_with(|| message(&call, &params)).clone();
                early = ask(number, interceptor, message, cancel).await?;
                if early.is_some() {
                    break;
                }
            }
        }
    }
    let mut result = match early {
        Some(result) => result,
        None => match work(params).await.and_then(|result| screen_result(core, result)) {
            Ok(result) => result,
            Err(error @ (CallError::Rpc(_) | CallError::Upstream(UpstreamError::Cancelled))) => return Err(error),
            // As the client would see it.
            Err(error) if !enclosing.is_empty() => {
                tracing::warn!(tool = call.tool, %error, "call failed");
                json!({ "content": [{ "type": "text", "text": error.to_string() }], "isError": true })
            }
            Err(error) => return Err(error),
        },
    };
    for (number, interceptor) in enclosing.into_iter().rev() {
        if let Some(replaced) = ask(number, interceptor, result.to_string().into_bytes(), cancel).await? {
            result = replaced;
        }
    }
    screen_result(core, result)
}

/// Refuses a request that holds a secret.
///
/// # Errors
/// [`CallError::Refused`].
pub(super) fn screen_request(core: &Core, params: &Value) -> Result<(), CallError> {
    let found = core.options.screen.as_ref().and_then(|screen| screen.find(params));
    found.map_or(Ok(()), |found| {
        Err(CallError::Refused(format!(
            "refused: the arguments hold {found}; leave it out, or start the gateway with `--block-secrets=false`"
        )))
    })
}

/// Refuses a result that holds a secret.
///
/// # Errors
/// [`CallError::Refused`].
pub(super) fn screen_result(core: &Core, result: Value) -> Result<Value, CallError> {
    match core.options.screen.as_ref().and_then(|screen| screen.find_in_result(&result)) {
        None => Ok(result),
        Some(found) => Err(CallError::Refused(format!(
            "refused: the result holds {found}, and is not passed on; `--block-secrets=false` would let it pass"
        ))),
    }
}

/// The request as interceptors see it.
fn message(call: &Call<'_>, params: &Value) -> Vec<u8> {
    let mut params = params.clone();
    if let Some(fields) = params.as_object_mut() {
        fields.insert("name".to_owned(), json!(call.tool));
        if let Some(token) = call.progress_token {
            let meta = fields.entry("_meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("progressToken".to_owned(), json!(token));
            }
        }
    }
    json!({ "method": "tools/call", "params": params }).to_string().into_bytes()
}

/// Shows an interceptor a message. Its answer, if it has one, is a tool's result.
async fn ask(
    number: usize,
    interceptor: &Interceptor,
    message: Vec<u8>,
    cancel: &CancellationToken,
) -> Result<Option<Value>, CallError> {
    let answer = tokio::select! {
        answer = interceptor.run(message) => answer.map_err(|error| error.to_string()),
        () = cancel.cancelled() => return Err(UpstreamError::Cancelled.into()),
    };
    let result = answer.and_then(|answer| match answer.as_slice() {
        [] => Ok(None),
        answer => result(answer).map(Some),
    });
    result.map_err(|reason| {
        let (number, name) = (number + 1, interceptor.name());
        CallError::Refused(format!("refused: interceptor {number} (`{name}`) gave no usable answer: {reason}"))
    })
}

/// Reads an answer. It becomes the client's, so it must be as the protocol has it.
fn result(answer: &[u8]) -> Result<Value, String> {
    let result: Value = serde_json::from_slice(answer).map_err(|error| {
        format!(
            "it is no JSON (line {} column {}); it must be a tool's result, or nothing",
            error.line(),
            error.column()
        )
    })?;
    let has_content = result.get("content").is_some_and(Value::is_array) || result.get("structuredContent").is_some();
    let mut whole = result.clone();
    if let Some(fields) = whole.as_object_mut() {
        fields.entry("resultType").or_insert_with(|| json!("complete"));
        fields.entry("content").or_insert_with(|| json!([]));
    }
    if !has_content || serde_json::from_value::<CallToolResult>(whole).is_err() {
        return Err(
            "it is no result of a tool, such as `{\"content\": [{\"type\": \"text\", \"text\": \"…\"}]}`".to_owned()
        );
    }
    Ok(result)
}
