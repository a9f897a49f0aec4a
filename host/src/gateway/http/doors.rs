//! Which origins and host names the HTTP+SSE front answers to. For streamable HTTP rmcp checks the same things.
//!
//! Without this a page of any web site could reach a gateway on loopback through the browser of the person in front
//! of it, under the site's own name.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{HttpOptions, LOCAL_ORIGINS};

/// Names of this machine.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The rules.
#[derive(Debug)]
pub(super) struct Doors {
    origins: Vec<String>,
    /// Empty means any.
    hosts: Vec<String>,
}

impl Doors {
    /// The rules of a listener.
    pub(super) fn new(options: &HttpOptions, is_loopback: bool) -> Self {
        let local = LOCAL_ORIGINS.iter().map(|origin| (*origin).to_owned());
        let hosts = match options.allowed_hosts.is_empty() {
            true if is_loopback => LOCAL_HOSTS.iter().map(|host| (*host).to_owned()).collect(),
            _ => options.allowed_hosts.clone(),
        };
        Self { origins: local.chain(options.allowed_origins.iter().cloned()).collect(), hosts }
    }

    /// Whether a page of this origin may call. `*` stands for any port.
    fn allows_origin(&self, origin: &str) -> bool {
        let Some((scheme, host, port)) = origin_of(origin) else { return false };
        self.origins.iter().any(|allowed| match allowed.strip_suffix(":*") {
            Some(base) => origin_of(base).is_some_and(|(s, h, _)| s == scheme && h == host),
            None => origin_of(allowed) == Some((scheme.clone(), host.clone(), port)),
        })
    }

    /// Whether the gateway may be addressed so. A port counts only where the rule has one.
    fn allows_host(&self, host: &str) -> bool {
        let Ok(given) = host.parse::<Authority>() else { return false };
        self.hosts.is_empty()
            || self.hosts.iter().any(|allowed| {
                allowed.parse::<Authority>().is_ok_and(|allowed| {
                    allowed.host().eq_ignore_ascii_case(given.host())
                        && allowed.port_u16().is_none_or(|port| given.port_u16() == Some(port))
                })
            })
    }
}

/// Scheme, host and port, with the usual port if there is none.
fn origin_of(text: &str) -> Option<(String, String, u16)> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(usual);
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Turns away requests under a name, or from a page, that is not allowed.
pub(super) async fn check(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // A request with two of them could mean either to whoever else reads it.
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or_default());
        if values.next().is_some() { Some("") } else { value }
    };
    let host = one(header::HOST).or_else(|| request.uri().authority().map(Authority::as_str));
    if !host.is_some_and(|host| doors.allows_host(host)) {
        return (StatusCode::FORBIDDEN, "the gateway is not to be addressed by this name (`Host`)\n").into_response();
    }
    if one(header::ORIGIN).is_some_and(|origin| !doors.allows_origin(origin)) {
        return (StatusCode::FORBIDDEN, "pages of this origin may not call the gateway\n").into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_of_named_origins_may_call() {
        let options =
            HttpOptions { allowed_origins: vec!["https://app.example.com".to_owned()], ..HttpOptions::default() };
        let doors = Doors::new(&options, true);
        for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8", "https://APP.example.com:443"] {
            assert!(doors.allows_origin(origin), "{origin}");
        }
        for origin in ["http://evil.example", "null", "", "http://localhost.evil.example", "http://app.example.com"] {
            assert!(!doors.allows_origin(origin), "{origin}");
        }
    }

    #[test]
    fn a_listener_on_loopback_answers_to_names_of_this_machine_only() {
        let doors = Doors::new(&HttpOptions::default(), true);
        for host in ["localhost:8811", "127.0.0.1", "[::1]:8811", "LOCALHOST"] {
            assert!(doors.allows_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8811", "", "a b"] {
            assert!(!doors.allows_host(host), "{host}");
        }
        assert!(Doors::new(&HttpOptions::default(), false).allows_host("any.example:1"));
        let named = HttpOptions { allowed_hosts: vec!["gate.example:443".to_owned()], ..HttpOptions::default() };
        let doors = Doors::new(&named, true);
        assert!(doors.allows_host("gate.example:443") && !doors.allows_host("gate.example:80"));
        assert!(!doors.allows_host("localhost"));
    }
}
