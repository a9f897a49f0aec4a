//! What a client asks of an API server: each request, by verb and resource.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Request;
use kube::client::Body;
use tower::{Layer, Service};

/// Keeps account of requests. Every attempt counts.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<BTreeMap<String, usize>>>);

impl Requests {
    /// What was asked since this was last looked at, and how often.
    pub(crate) fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// As one line: `create pods, get pods/attach`, with a number where it is not once for each.
pub(crate) fn line(requests: &BTreeMap<String, usize>, each: usize) -> String {
    let times = |(name, count): (&String, &usize)| match count / each.max(1) {
        1 if count % each.max(1) == 0 => name.clone(),
        _ if each == 1 => format!("{count} x {name}"),
        _ => format!("{count} x {name} in {each}"),
    };
    requests.iter().map(times).collect::<Vec<_>>().join(", ")
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A service whose requests are counted.
pub(crate) struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let name = name(request.method().as_str(), request.uri().path(), request.uri().query().unwrap_or_default());
        *self.requests.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        self.inner.call(request)
    }
}

/// The verb and the resource, as a Role names them.
fn name(method: &str, path: &str, query: &str) -> String {
    let mut rest = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
    let resource = rest.next().unwrap_or(path);
    let object = rest.next();
    let verb = match (method, object) {
        ("POST", _) => "create",
        ("GET", None) if query.contains("watch=true") => "watch",
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        (other, _) => other,
    };
    match rest.next() {
        Some(part) => format!("{verb} {resource}/{part}"),
        None => format!("{verb} {resource}"),
    }
}
