//! Fetching a text that the user asks for by its address: bounded in size, time and redirects.
//!
//! Private addresses are fine, because the user names them; plain HTTP is not, except on this machine.

use std::time::Duration;

use reqwest::{Client, Response, Url, redirect};
use thiserror::Error;

use crate::catalog::MAX_FILE_BYTES;

/// How long the whole of it may take.
const TIME: Duration = Duration::from_secs(60);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// Why something cannot be fetched.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// The address is none, or not one to fetch from.
    #[error("cannot fetch from `{url}`: {reason}")]
    Address {
        /// The address.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
    /// There is no answer.
    #[error("cannot fetch `{url}`: {reason}; check the address and the network")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer is not what was asked for.
    #[error("`{url}` answered {status}; check the address")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: reqwest::StatusCode,
    },
    /// The answer is too large.
    #[error("what `{url}` sends is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The address.
        url: String,
    },
    /// The answer is not text.
    #[error("what `{url}` sends is no UTF-8 text; check the address")]
    NotText {
        /// The address.
        url: String,
    },
}

/// True if a text is meant as an address rather than as a file.
pub fn is_address(text: &str) -> bool {
    text.contains("://")
}

/// Fetches a text. `progress` is told the bytes so far, and how many there will be if that is known.
///
/// # Errors
/// See [`DownloadError`].
pub async fn fetch(
    address: &str,
    allow_http: bool,
    progress: impl Fn(u64, Option<u64>),
) -> Result<String, DownloadError> {
    let wrong = |url: &str, reason: &str| DownloadError::Address { url: url.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(address).map_err(|error| wrong(&without_secrets(address), &format!("{error}; correct it")))?;
    let shown = shown(&url);
    check(&url, allow_http).map_err(|reason| wrong(&shown, &reason))?;
    crate::tls::install_provider();
    let follow = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error(format!("more than {REDIRECTS} redirects"));
        }
        match check(attempt.url(), allow_http) {
            Ok(()) => attempt.follow(),
            Err(reason) => {
                let reason = format!("it redirects to `{}`: {reason}", self::shown(attempt.url()));
                attempt.error(reason)
            }
        }
    });
    let unreachable = |error: reqwest::Error| DownloadError::Unreachable {
        url: shown.clone(),
        reason: because(&error.without_url()),
    };
    let client = Client::builder().redirect(follow).connect_timeout(CONNECT).timeout(TIME).build();
    let client = client.map_err(unreachable)?;
    let response = client.get(url).header("accept", "*/*").send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(DownloadError::Status { url: shown, status: response.status() });
    }
    let bytes = read(response, &progress).await.map_err(|error| match error {
        Some(error) => unreachable(error),
        None => DownloadError::TooLarge { url: shown.clone() },
    })?;
    String::from_utf8(bytes).map_err(|_| DownloadError::NotText { url: shown })
}

/// The body; an error of none means that it is too large.
async fn read(mut response: Response, progress: &impl Fn(u64, Option<u64>)) -> Result<Vec<u8>, Option<reqwest::Error>> {
    let total = response.content_length();
    if total.is_some_and(|total| total > MAX_FILE_BYTES) {
        return Err(None);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(None);
        }
        progress(bytes.len() as u64, total);
    }
    Ok(bytes)
}

/// Whether an address may be fetched from.
fn check(url: &Url, allow_http: bool) -> Result<(), String> {
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_http || local => Ok(()),
        "http" => {
            Err("plain HTTP can be changed on its way; use `https://`, or allow it with `--allow-http`".to_owned())
        }
        other => Err(format!("`{other}://` cannot be fetched; use `https://` or the path of a file")),
    }
}

/// An address without what may be a secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for addresses that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    provisioning_core::text::one_line(url.as_str(), 200)
}

fn without_secrets(address: &str) -> String {
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    let plain = plain.rsplit_once('@').map_or(plain, |(_, rest)| rest);
    provisioning_core::text::one_line(plain, 200)
}

/// The innermost cause: the outer ones say no more than that a request failed.
fn because(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("it takes longer than {} s", TIME.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    provisioning_core::text::one_line(&cause.to_string(), 300)
}
