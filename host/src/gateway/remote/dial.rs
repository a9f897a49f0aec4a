//! The HTTP client that reaches one remote server, and nothing else: no redirects, no private addresses unless they
//! are allowed, the entry's headers on every request.
//!
//! The address that is dialled is the one that was judged, by this rule and by those of policies: names are resolved
//! here, so a name that leads elsewhere the next time gains nothing. Through a proxy of the environment the proxy resolves
//! and decides.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use provisioning_core::policy::{Decision, DeniedAddresses};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, Url};

use super::super::connection::Closed;
use crate::policy::remote_hosts::{RemoteHosts, is_public};
use crate::provision::Remote;

/// How long connecting may take, TLS and names included.
const CONNECT: Duration = Duration::from_secs(10);

/// Headers that the transport or HTTP itself sets.
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
    "upgrade",
];

/// Headers of an entry that are left out, because the transport knows better.
const OVERRIDDEN: [&str; 2] = ["accept", "content-type"];

/// How to reach one server.
pub(super) struct Http {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

impl Http {
    /// Checks the address and the headers. Nothing is sent.
    ///
    /// # Errors
    /// What is wrong with the entry, without any private text.
    pub(super) fn new(remote: &Remote, hosts: &Arc<RemoteHosts>) -> Result<Self, String> {
        let url = Url::parse(remote.url.expose())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or("has an address that is no URL; correct `remote.url`, and the configuration that it uses")?;
        let headers = headers(remote)?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let may_be_private = hosts.may_be_private(host, url.port_or_known_default().unwrap_or_default());
        let literal = host.parse::<IpAddr>().ok();
        if let Some(denied) =
            literal.and_then(|address| remote.denied.refusal(host, address, url.port_or_known_default()))
        {
            return Err(Denied(denied).to_string());
        }
        let is_private = literal.is_some_and(|address| !is_public(address));
        if !may_be_private && (is_private || hosts.is_proxy(host)) {
            return Err(Private.to_string());
        }
        if !may_be_private && url.scheme() == "http" && !headers.is_empty() {
            tracing::warn!("headers go to a remote server without encryption; use an `https` address if it has one");
        }
        crate::tls::install_provider();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true);
        if may_be_private {
            // What the operator named is reached directly: a proxy would look for it on its own machine.
            builder = builder.no_proxy();
        }
        let (hosts, denied, port) = (Arc::clone(hosts), remote.denied.clone(), url.port_or_known_default());
        builder = builder.dns_resolver(Arc::new(Judged { hosts, may_be_private, denied, port }));
        let client = builder.build().map_err(|error| format!("cannot be reached: {}", innermost(&error)))?;
        Ok(Self { client, url, headers })
    }

    /// The server's address.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A request with the entry's headers.
    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone()).headers(self.headers.clone())
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, status: StatusCode) -> Closed {
        Closed::Transport(match status.as_u16() {
            401 | 403 if self.headers.is_empty() => format!(
                "wants credentials (HTTP {status}); if its documentation has a token for it, send that as a header: \
                 `remote.headers` with a secret in it"
            ),
            401 | 403 => {
                format!("refuses the credentials (HTTP {status}); check the secrets that its `headers` use")
            }
            429 | 500.. => {
                return Closed::Away("answered that it cannot serve now (HTTP 429 or 5xx); try again later".to_owned());
            }
            301..=399 => format!(
                "answered with HTTP {status}: it sends clients to another address, and headers are never sent there; \
                 correct `remote.url`"
            ),
            _ => format!("answered with HTTP {status}; check `remote.url`"),
        })
    }
}

fn headers(remote: &Remote) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &remote.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("has a header with the impossible name `{name}`; correct it in the catalog"))?;
        if OVERRIDDEN.contains(&parsed.as_str()) {
            continue;
        }
        if RESERVED.contains(&parsed.as_str()) {
            return Err(format!("has the header `{name}`, which the transport sets itself; remove it from the entry"));
        }
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| {
            format!("has a value for header `{name}` that HTTP cannot carry; look for line breaks in the secret")
        })?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// Resolves names to addresses that the server may have: public ones, unless it may be private, and none that a policy
/// denies.
struct Judged {
    hosts: Arc<RemoteHosts>,
    may_be_private: bool,
    denied: DeniedAddresses,
    /// Of the server.
    port: Option<u16>,
}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let (is_private_fine, denied, port) = match !self.may_be_private && self.hosts.is_proxy(name.as_str()) {
            // Where the operator's proxy is no policy about servers says.
            true => (true, DeniedAddresses::default(), None),
            false => (self.may_be_private, self.denied.clone(), self.port),
        };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One that is denied refuses the name, as it would if it were written out: whoever has the name could lead to it
            // at any time.
            if let Some(refusal) = found.iter().find_map(|found| denied.refusal(name.as_str(), found.ip(), port)) {
                return Err(Box::new(Denied(refusal)) as Box<dyn Error + Send + Sync>);
            }
            let fit: Vec<_> = found.iter().copied().filter(|found| is_private_fine || is_public(found.ip())).collect();
            if fit.is_empty() && !found.is_empty() {
                return Err(Box::new(Private) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}

/// The server's name leads to where a policy forbids it to be.
#[derive(Debug)]
struct Denied(Decision);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is refused: {}", self.0)
    }
}

impl Error for Denied {}

/// The server is where it may not be.
#[derive(Debug)]
struct Private;

impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "is at an address of this machine or a private network, which a catalog entry may not reach by itself; \
             if it is meant, name its host with `--allow-private-remote HOST`",
        )
    }
}

impl Error for Private {}

/// Why a request did not get an answer. The address is no part of it: it may hold a secret.
pub(super) fn unreachable_because(error: &reqwest::Error) -> Closed {
    if chain(error).any(|cause| cause.is::<Private>()) {
        return Closed::Transport(Private.to_string());
    }
    if let Some(denied) = chain(error).find_map(|cause| cause.downcast_ref::<Denied>()) {
        return Closed::Transport(denied.to_string());
    }
    if let Some(tls) = chain(error).find_map(tls) {
        return Closed::Transport(explain_tls(tls));
    }
    // A network that is not up yet looks like a name that is wrong.
    if error.is_timeout() {
        return Closed::Away("cannot be reached: no answer in time; check `remote.url` and the network".to_owned());
    }
    Closed::Away(format!("cannot be reached: {}; check `remote.url` and the network", innermost(error)))
}

fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => format!(
            "has a certificate that is not accepted ({reason:?}); check `remote.url`, and if its authority is your \
             own, name the authority's file with SSL_CERT_FILE"
        ),
        rustls::Error::InvalidMessage(_) => {
            "does not speak TLS at this address; check whether `remote.url` should begin with `http:`".to_owned()
        }
        other => format!("cannot be reached: TLS failed: {other}"),
    }
}

/// An error and what caused it, from the outside in.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

/// The error of TLS that this is, or that an error of input and output wraps: such a one is not its source.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => tls(inner),
        None => error.downcast_ref(),
    }
}

/// The innermost cause is the system's; those around it quote the address.
fn innermost(error: &(dyn Error + 'static)) -> String {
    match chain(error).skip(1).last() {
        Some(cause) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}
