//! What an image runs, from its registry: the entry point and the arguments, which a cluster does not tell.
//!
//! Each image is looked at once. The answer comes with the digest that it is true of, and the pod gets that very image.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use docker_credential::DockerCredential;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::config::ConfigFile;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::ImageIndexEntry;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use provisioning_core::text::one_line;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::client::{Cluster, QUICK};
use crate::capability::container_runtime::credentials;

/// How long looking at an image may take.
const INSPECT: Duration = Duration::from_secs(15);
/// How long it is taken for granted that an image cannot be looked at.
const FORGET: Duration = Duration::from_secs(300);
/// How many images are remembered.
const IMAGES: usize = 1024;

/// What an image runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inspected {
    /// The reference with the digest that this is true of.
    pub(super) pinned: String,
    /// The entry point.
    pub(super) entry_point: Vec<String>,
    /// The arguments where there are no others.
    pub(super) arguments: Vec<String>,
    /// The user, as `USER[:GROUP]`; empty for root.
    pub(super) user: String,
    /// The names of its variables.
    pub(super) variables: Vec<String>,
}

/// What is known of an image for one kind of processor; the reason if nothing can be found out.
type Known = Result<Arc<Inspected>, (Instant, Arc<str>)>;

/// What is known of images.
pub(super) struct Images {
    docker_config: Option<PathBuf>,
    known: Mutex<HashMap<(String, &'static str), Known>>,
}

impl Images {
    pub(super) fn new(docker_config: Option<PathBuf>) -> Self {
        Self { docker_config, known: Mutex::default() }
    }

    /// Looks at an image. The reason if that cannot be done.
    pub(super) async fn inspect(
        &self,
        cluster: &Cluster,
        image: &str,
        architecture: &'static str,
        pull_secrets: &[String],
    ) -> Result<Arc<Inspected>, Arc<str>> {
        let key = (image.to_owned(), architecture);
        match self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            Some(Ok(found)) => return Ok(Arc::clone(found)),
            Some(Err((at, reason))) if at.elapsed() < FORGET => return Err(Arc::clone(reason)),
            _ => {}
        }
        let looked = tokio::time::timeout(INSPECT, self.look(cluster, image, architecture, pull_secrets)).await;
        let looked =
            looked.unwrap_or_else(|_| Err(format!("its registry did not answer within {} s", INSPECT.as_secs())));
        let known = looked.map(Arc::new).map_err(Arc::<str>::from);
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= IMAGES {
            all.clear();
        }
        all.insert(key, known.clone().map_err(|reason| (Instant::now(), reason)));
        known
    }

    async fn look(
        &self,
        cluster: &Cluster,
        image: &str,
        architecture: &'static str,
        pull_secrets: &[String],
    ) -> Result<Inspected, String> {
        let reference: Reference = image.parse().map_err(|error| format!("its name cannot be read: {error}"))?;
        let registry = reference.registry();
        let docker = credentials::find(self.docker_config.clone(), registry).await;
        let auth = docker.map_or(RegistryAuth::Anonymous, authority);
        match pull(&reference, &auth, architecture).await {
            Err(error) if is_refusal(&error) => {
                for auth in of_pull_secrets(cluster, registry, pull_secrets).await {
                    if let Ok(found) = pull(&reference, &auth, architecture).await {
                        return Ok(found);
                    }
                }
                Err(format!("registry `{registry}` does not let the gateway read it; run `docker login {registry}`"))
            }
            Err(error) => Err(one_line(&error.to_string(), 300)),
            Ok(found) => Ok(found),
        }
    }
}

fn authority(credential: DockerCredential) -> RegistryAuth {
    match credential {
        DockerCredential::UsernamePassword(user, password) => RegistryAuth::Basic(user, password),
        DockerCredential::IdentityToken(token) => RegistryAuth::Bearer(token),
    }
}

/// Whether better credentials may help.
fn is_refusal(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => true,
        OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied))
        }
        _ => false,
    }
}

async fn pull(
    reference: &Reference,
    auth: &RegistryAuth,
    architecture: &'static str,
) -> Result<Inspected, OciDistributionError> {
    crate::tls::install_provider();
    let resolve = move |entries: &[ImageIndexEntry]| {
        let fits = |entry: &&ImageIndexEntry| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|platform| {
                platform.os.to_string() == "linux" && platform.architecture.to_string() == architecture
            })
        };
        entries.iter().find(fits).map(|entry| entry.digest.clone())
    };
    let config = ClientConfig {
        protocol: protocol(reference.registry()),
        platform_resolver: Some(Box::new(resolve)),
        connect_timeout: Some(INSPECT),
        read_timeout: Some(INSPECT),
        user_agent: concat!("docker-mcp/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    let client = Client::try_from(config)?;
    let (_, digest, config) = client.pull_manifest_and_config(reference, auth).await?;
    let config: ConfigFile = serde_json::from_str(&config)?;
    let of_platform = config.architecture.to_string();
    if of_platform != architecture {
        return Err(OciDistributionError::GenericError(Some(format!(
            "it is for {of_platform}, not for {architecture}"
        ))));
    }
    let run = config.config.unwrap_or_default();
    let pinned = format!("{}/{}@{digest}", reference.registry(), reference.repository());
    Ok(Inspected {
        pinned,
        entry_point: run.entrypoint.unwrap_or_default(),
        arguments: run.cmd.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        variables: run.env.iter().flatten().filter_map(|variable| name(variable)).collect(),
    })
}

/// The name of a variable, as `NAME=TEXT`.
fn name(variable: &str) -> Option<String> {
    variable.split_once('=').map(|(name, _)| name.to_owned())
}

/// Registries on this machine speak plain HTTP, as engines and clusters have it too.
fn protocol(registry: &str) -> ClientProtocol {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback { ClientProtocol::Http } else { ClientProtocol::Https }
}

/// The credentials for a registry in the pull secrets, as far as the gateway may read them.
async fn of_pull_secrets(cluster: &Cluster, registry: &str, names: &[String]) -> Vec<RegistryAuth> {
    let api: Api<Secret> = cluster.api();
    let mut found = Vec::new();
    for name in names {
        let secret = match tokio::time::timeout(QUICK, api.get(name)).await {
            Ok(Ok(secret)) => secret,
            _ => {
                tracing::debug!(secret = name, "a pull secret cannot be read");
                continue;
            }
        };
        let data = secret.data.unwrap_or_default();
        let Some(text) = data.get(".dockerconfigjson") else { continue };
        let config: Json = serde_json::from_slice(&text.0).unwrap_or_default();
        let entries = config.get("auths").and_then(Json::as_object).into_iter().flatten();
        found.extend(entries.filter(|(server, _)| is_of(server, registry)).filter_map(|(_, entry)| basic(entry)));
    }
    found
}

/// Whether a key of `auths` is about a registry.
fn is_of(server: &str, registry: &str) -> bool {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    host == registry || registry == "docker.io" && host == "index.docker.io"
}

fn basic(entry: &Json) -> Option<RegistryAuth> {
    let text = |key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(RegistryAuth::Basic(user, password));
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")?).ok()?;
    let both = String::from_utf8(decoded).ok()?;
    let (user, password) = both.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_of_this_machine_are_spoken_to_in_the_clear() {
        for registry in ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "localhost"] {
            assert_eq!(protocol(registry), ClientProtocol::Http, "{registry}");
        }
        for registry in ["docker.io", "r.example:5000", "127.0.0.1.example:80", "10.0.0.1:5000"] {
            assert_eq!(protocol(registry), ClientProtocol::Https, "{registry}");
        }
    }

    #[test]
    fn credentials_are_found_by_registry() {
        assert!(is_of("https://index.docker.io/v1/", "docker.io") && is_of("r.example:5000", "r.example:5000"));
        assert!(!is_of("r.example", "other.example") && !is_of("https://index.docker.io/v1/", "r.example"));
        let plain = serde_json::json!({"username": "u", "password": "p"});
        let encoded = serde_json::json!({"auth": "dTpw"});
        let expected = Some(RegistryAuth::Basic("u".to_owned(), "p".to_owned()));
        assert_eq!((basic(&plain), basic(&encoded)), (expected.clone(), expected));
        assert_eq!(basic(&serde_json::json!({"auth": "?"})), None);
    }
}
