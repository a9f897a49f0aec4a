//! Interceptors that are web services: the message is posted, the body of the answer counts.

use std::sync::OnceLock;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url, redirect};

use super::MAX_ANSWER;

/// Reads an address; without a scheme it is `http`.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let address = Url::parse(&whole).map_err(|error| format!("the address cannot be read: {error}"))?;
    match address.scheme() {
        "http" | "https" if address.has_host() => Ok(address),
        "http" | "https" => Err("the address names no host; add it".to_owned()),
        other => Err(format!("`{other}` is not spoken here; use an address with `http` or `https`")),
    }
}

/// Posts a message; the body of the answer.
pub(super) async fn run(address: Url, message: Vec<u8>) -> Result<Vec<u8>, String> {
    let request = client()?.post(address).header(CONTENT_TYPE, "application/json").body(message);
    // Errors of the library quote the address.
    let mut response = request.send().await.map_err(|error| explain(error.without_url()))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it answered HTTP {}", status.as_u16()));
    }
    let mut answer = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| explain(error.without_url()))? {
        if answer.len() + piece.len() > MAX_ANSWER {
            return Err(format!("it answered more than {} MiB", MAX_ANSWER >> 20));
        }
        answer.extend_from_slice(&piece);
    }
    Ok(answer)
}

fn explain(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("it cannot be reached: {cause}")
}

/// One client for all, so that connections are kept. It follows no redirect: what is posted goes where the operator
/// said and nowhere else.
fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Option<Client>> = OnceLock::new();
    let build = || {
        // Fails only if there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder().redirect(redirect::Policy::none()).build().ok()
    };
    CLIENT.get_or_init(build).as_ref().ok_or_else(|| "there is no TLS on this system".to_owned())
}
