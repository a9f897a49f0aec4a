//! Serving many clients over HTTP: streamable at `/mcp`, or the older HTTP+SSE at `/sse`; `/health` beside it.
//!
//! rmcp speaks the protocol; who may come in is decided here.

mod connections;
mod doors;
mod rooms;
mod sessions;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::{BodyExt as _, Limited};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::connections::Connections;
use self::doors::Doors;
use self::rooms::Rooms;
use self::sessions::Sessions;
use super::front::Front;
use super::room::{Exchange, Place};
use super::{Gateway, GatewayError};
use crate::secrets::SecretText;

/// The largest request body.
const MAX_BODY: usize = 4 << 20;
/// How much of the body of a request that is refused is read, and for how long.
const MAX_SKIPPED: usize = 64 << 20;
const SKIPPING: Duration = Duration::from_secs(5);
/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// Browser pages that may call: those served from this machine.
const LOCAL_ORIGINS: [&str; 4] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*", "https://localhost:*"];

/// Which of the protocol's transports over HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpTransport {
    /// Streamable HTTP, at `/mcp`.
    #[default]
    Streamable,
    /// The deprecated HTTP+SSE: events from `/sse`, messages to `/message`.
    Sse,
}

/// Who may come in over HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Which transport is spoken.
    pub transport: HttpTransport,
    /// The bearer token that clients must send. `None` lets everybody in.
    pub token: Option<SecretText>,
    /// Origins of browser pages that may call besides those of this machine, such as `https://app.example.com:443`.
    pub allowed_origins: Vec<String>,
    /// Names under which the gateway may be addressed (`Host`). Empty means those of this machine if the listener is
    /// on loopback, and any otherwise.
    pub allowed_hosts: Vec<String>,
    /// How long a session lives without requests. One whose client waits for an answer is not idle.
    pub session_idle: Duration,
    /// How many sessions there may be at once; clients beyond are told to come again.
    pub max_sessions: usize,
    /// What connections there may be.
    pub connections: Connections,
}

impl Default for HttpOptions {
    /// No token, pages of this machine only, at most 256 sessions, which end after fifteen idle minutes.
    fn default() -> Self {
        Self {
            transport: HttpTransport::default(),
            token: None,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            session_idle: Duration::from_secs(900),
            max_sessions: 256,
            connections: Connections::default(),
        }
    }
}

/// Who sent a request, for what outlives it. Derived from the credential, never the credential itself.
#[derive(Clone, Debug)]
pub(crate) struct Principal(pub(crate) &'static str);

impl Gateway {
    /// Serves clients until `cancel` is cancelled; all sessions then end.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve_http(
        &self,
        listener: TcpListener,
        options: HttpOptions,
        cancel: CancellationToken,
    ) -> Result<(), GatewayError> {
        let ends = cancel.child_token();
        let is_loopback = listener.local_addr()?.ip().is_loopback();
        let core = Arc::clone(&self.core);
        let protocol = match options.transport {
            HttpTransport::Streamable => {
                let sessions = Arc::new(Sessions::new(options.max_sessions, options.session_idle));
                let (kept, served) = (Arc::clone(&sessions), ends.clone());
                tokio::spawn(async move { served.run_until_cancelled(kept.keep_awake()).await });
                let service = StreamableHttpService::new(
                    move || Ok(Front::new(Arc::clone(&core))),
                    sessions,
                    config(&options, is_loopback, ends.clone()),
                );
                let router = Router::new().route_service("/mcp", service);
                router.layer(from_fn_with_state(options.max_sessions, sessions::explain))
            }
            HttpTransport::Sse => {
                let doors = Doors::new(&options, is_loopback);
                sse::router(core, &options, ends.clone()).layer(from_fn_with_state(Arc::new(doors), doors::check))
            }
        };
        let token = options.token.as_ref().map(|token| digest(token.expose().as_bytes()));
        let gate = Arc::new(Gate { token, rooms: Rooms::default() });
        let protected = protocol.layer(from_fn_with_state(gate, admit));
        let router = Router::new().route("/health", get(|| async { StatusCode::OK })).merge(protected);
        let serving = connections::serve(listener, router, options.connections, &ends);
        let ended = async {
            tokio::select! {
                () = ends.cancelled() => {}
                () = self.core.cancel.cancelled() => ends.cancel(),
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = serving => {}
            () = ended => {}
        }
        Ok(())
    }
}

fn config(options: &HttpOptions, is_loopback: bool, ends: CancellationToken) -> StreamableHttpServerConfig {
    let origins =
        LOCAL_ORIGINS.iter().map(|origin| (*origin).to_owned()).chain(options.allowed_origins.iter().cloned());
    let config = StreamableHttpServerConfig::default()
        .with_cancellation_token(ends)
        .with_max_request_body_bytes(MAX_BODY)
        .with_allowed_origins(origins)
        .enforce_origin_validation();
    if !options.allowed_hosts.is_empty() {
        config.with_allowed_hosts(options.allowed_hosts.clone())
    } else if is_loopback {
        config
    } else {
        config.disable_allowed_hosts()
    }
}

/// Lets in who knows the token, and no more at once than there is room for.
struct Gate {
    token: Option<[u8; 32]>,
    rooms: Rooms,
}

impl Gate {
    /// Who sends a request, and the room that it takes. The body of a large one is read.
    ///
    /// # Errors
    /// What the client gets.
    async fn judge(&self, request: &mut Request) -> Result<(Principal, Place), Box<Response>> {
        let principal = match self.token {
            None => "anonymous",
            Some(expected) => match bearer(request).map(digest) {
                Some(given) if is_same(&given, &expected) => "bearer",
                _ => return Err(Box::new(refuse())),
            },
        };
        let too_large = || {
            let text = format!("the body is larger than {} MiB, or broke off\n", MAX_BODY >> 20);
            Box::new((StatusCode::PAYLOAD_TOO_LARGE, text).into_response())
        };
        if request.body().size_hint().lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let mut place = self.rooms.place(request).ok_or_else(|| Box::new(rooms::turn_away()))?;
        if place.is_taken() {
            let body = Limited::new(request.body_mut(), MAX_BODY).collect().await.map_err(|_| too_large())?;
            let body = body.to_bytes();
            place = self.rooms.weighed(request, &body, place)?;
            *request.body_mut() = Body::from(body);
        }
        Ok((Principal(principal), place))
    }
}

async fn admit(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let (principal, place) = match gate.judge(&mut request).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            skip_body(request).await;
            return *refusal;
        }
    };
    let exchange = Arc::new(Exchange::new(place));
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(Arc::clone(&exchange));
    // The stream of a session's answer holds it by itself.
    let has_session = request.headers().contains_key(rooms::SESSION);
    let response = next.run(request).await;
    if has_session { response } else { rooms::hold(response, exchange) }
}

/// Reads what is left of the body of a request that is refused, within bounds. The answer to a client that is still sending
/// would often be lost: what is not read when the connection closes resets it.
async fn skip_body(request: Request) {
    // It sends no body unless it is told to go on, which reading would do.
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut rest = Limited::new(request.into_body(), MAX_SKIPPED);
    let skip = async { while let Some(Ok(_)) = rest.frame().await {} };
    let _ = tokio::time::timeout(SKIPPING, skip).await;
}

fn refuse() -> Response {
    let text = "a bearer token is required: send `Authorization: Bearer TOKEN` with the gateway's token\n";
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"docker-mcp\""))];
    (StatusCode::UNAUTHORIZED, challenge, text).into_response()
}

fn bearer(request: &Request) -> Option<&[u8]> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Compares digests, so neither the time nor the length tells anything about the token.
fn is_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
}
