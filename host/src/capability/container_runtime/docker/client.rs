//! The connection to the engine: made on first use, with a version check, and a time limit on every request.
//!
//! It knows nothing of containers or images.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use provisioning_core::text::one_line;
use tokio::sync::OnceCell;

use super::Greeting;
use super::connect::{self, Endpoint, EngineAddress, Surroundings};
use super::error::{Step, engine_error};
use crate::capability::container_runtime::RuntimeError;

/// The oldest Engine API that is spoken: Docker 20.10.
const OLDEST_API: (usize, usize) = (1, 41);

/// How long an engine may take to say its version.
const GREETING: Duration = Duration::from_secs(10);

/// How long any request may take until its answer begins. Longer ones are bounded where they are made.
const REQUEST_SECONDS: u64 = 60;

/// An engine that is found and greeted on first use, so that one which is away delays or fails nothing before.
pub(super) struct Engine {
    surroundings: Surroundings,
    client: OnceCell<Client>,
}

impl Engine {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, client: OnceCell::new() }
    }

    /// The client. A failure is not remembered: the engine may be started later.
    pub(super) async fn client(&self) -> Result<&Client, RuntimeError> {
        self.client.get_or_try_init(|| Client::connect(&self.surroundings)).await
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }
}

/// A connected client.
#[derive(Clone)]
pub(super) struct Client {
    docker: Docker,
    address: Arc<EngineAddress>,
}

impl Client {
    pub(super) async fn connect(surroundings: &Surroundings) -> Result<Self, RuntimeError> {
        let around = surroundings.clone();
        let address = tokio::task::spawn_blocking(move || connect::find(&around))
            .await
            .map_err(|error| RuntimeError::Engine(format!("the search for the Docker Engine failed: {error}")))??;
        let docker = open(&address).map_err(|error| engine_error(error, Step::Connect, &address))?;
        let client = Self { docker: docker.with_request_modifier(url_safe_credentials), address: Arc::new(address) };
        let greeted = client.call(Step::Connect, GREETING, client.docker.clone().negotiate_version()).await?;
        let version = greeted.client_version();
        let spoken = (version.major_version, version.minor_version);
        if spoken < OLDEST_API {
            return Err(RuntimeError::Unavailable(format!(
                "the Docker Engine at `{}` speaks API {}.{}, and {}.{} is needed; update it to Docker 20.10 or newer",
                client.address.endpoint, spoken.0, spoken.1, OLDEST_API.0, OLDEST_API.1
            )));
        }
        Ok(Self { docker: greeted, ..client })
    }

    /// Who the engine is.
    pub(super) async fn greeting(&self) -> Result<Greeting, RuntimeError> {
        let version = self.call(Step::Connect, GREETING, self.docker.version()).await?;
        let name = version.platform.map(|platform| platform.name).filter(|name| !name.is_empty());
        let spoken = self.docker.client_version();
        // The engine is as much a stranger as anybody.
        let product = format!("{} {}", name.unwrap_or_default(), version.version.unwrap_or_default());
        Ok(Greeting {
            address: (*self.address).clone(),
            product: one_line(product.trim(), 100),
            api: format!("{}.{}", spoken.major_version, spoken.minor_version),
        })
    }

    /// The API, for making requests; they are awaited with [`Client::call`].
    pub(super) fn api(&self) -> &Docker {
        &self.docker
    }

    /// Awaits a request for at most `limit`.
    pub(super) async fn call<T>(
        &self,
        step: Step<'_>,
        limit: Duration,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(error, step)),
            Err(_) => Err(self.error(bollard::errors::Error::RequestTimeoutError, step)),
        }
    }

    /// What an error of the engine means.
    pub(super) fn error(&self, error: bollard::errors::Error, step: Step<'_>) -> RuntimeError {
        engine_error(error, step, &self.address)
    }
}

fn open(address: &EngineAddress) -> Result<Docker, bollard::errors::Error> {
    match &address.endpoint {
        Endpoint::Unix(path) => {
            Docker::connect_with_unix(&path.to_string_lossy(), REQUEST_SECONDS, API_DEFAULT_VERSION)
        }
        Endpoint::Tcp(host) => Docker::connect_with_http(host, REQUEST_SECONDS, API_DEFAULT_VERSION),
        Endpoint::Tls { host, ca, certificate, key } => {
            // Fails if there is a provider already, which then is the one to use.
            let _ = rustls::crypto::ring::default_provider().install_default();
            Docker::connect_with_ssl(host, key, certificate, ca, REQUEST_SECONDS, API_DEFAULT_VERSION)
        }
    }
}

/// The engine reads registry credentials as URL-safe base64 and ignores what it cannot decode, while the client
/// library writes the standard alphabet.
fn url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(header) = request.headers_mut().get_mut("X-Registry-Auth")
        && let Ok(text) = header.to_str()
        && let Ok(mut safe) = http::HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
    {
        safe.set_sensitive(true);
        *header = safe;
    }
    request
}
