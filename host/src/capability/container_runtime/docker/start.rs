//! From a request to a container that runs with its streams attached.
//!
//! The steps run in a task of the reaper, so that a caller who goes away in the middle of a request to the engine
//! does not leave behind what that request makes.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, StartContainerOptions};
use provisioning_core::Network;
use provisioning_core::volume::Volume;
use tokio::sync::oneshot;

use super::Backend;
use super::client::Client;
use super::error::{self, Step};
use super::removal::{Birth, Ward};
use super::texts::Texts;
use super::{create, images, names, streams};
use crate::capability::container_runtime::{Request, Running, RuntimeError};
use crate::lease::Lease;

/// How long creating, and starting, may take each; an engine under load needs seconds.
const SLOW: Duration = Duration::from_secs(60);
/// How long the other requests may take.
const QUICK: Duration = Duration::from_secs(15);

/// Starts a container and hands over its streams.
pub(super) async fn start(backend: Arc<Backend>, request: Request) -> Result<Running, RuntimeError> {
    let (answer, outcome) = oneshot::channel();
    let reaper = backend.reaper.clone();
    drop(reaper.spawn(async move {
        let started = begin(&backend, &request, &|| answer.is_closed()).await;
        // If nobody waits any more, dropping the answer removes the container.
        let _ = answer.send(started);
    }));
    outcome.await.unwrap_or_else(|_| Err(abandoned()))
}

async fn begin(
    backend: &Backend,
    request: &Request,
    is_abandoned: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Running, RuntimeError> {
    let prepared = create(backend, request, is_abandoned).await?;
    let Prepared { lease, ward, attached, texts } = prepared;
    launch(&ward, request, &texts).await?;
    let (streams, input) = streams::split(attached, &request.identity.server);
    ward.set_input(input);
    Ok(Running { lease, streams })
}

/// A container that is created and attached to, and not yet started.
pub(super) struct Prepared {
    pub(super) lease: Lease,
    pub(super) ward: Arc<Ward>,
    pub(super) attached: AttachContainerResults,
    pub(super) texts: Texts,
}

/// Creates a container and attaches to it.
pub(super) async fn create(
    backend: &Backend,
    request: &Request,
    is_abandoned: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Prepared, RuntimeError> {
    let client = backend.engine.client().await?;
    let networks = match request.spec.network {
        Network::Declared => backend.networks(client).await,
        Network::None => &[],
    };
    let texts = Texts::read(&request.spec, backend.secrets.as_ref()).await?;
    let name = names::unique(&request.identity.server)?;
    let ward = Ward::new(client.clone(), name.clone());
    let lease = backend.reaper.lease(name, {
        let ward = Arc::clone(&ward);
        move || ward.remove()
    });
    check_user(client, request, &texts).await?;
    if is_abandoned() {
        return Err(abandoned());
    }
    let binds = ask(backend, &ward, request, networks.first().map(String::as_str), &texts).await?;
    for network in networks.iter().skip(1) {
        let connect = NetworkConnectRequest { container: ward.name().to_owned(), endpoint_config: None };
        client.call(Step::Network(network), QUICK, client.api().connect_network(network, connect)).await?;
    }
    if is_abandoned() {
        return Err(abandoned());
    }
    let options = AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attached = client.call(Step::Attach, QUICK, client.api().attach_container(ward.name(), Some(options))).await?;
    check_again(backend, &binds).map_err(|error| texts.hide(error))?;
    if is_abandoned() {
        return Err(abandoned());
    }
    Ok(Prepared { lease, ward, attached, texts })
}

/// Judges the mounts once more, right before the start: a source that has become a link since the create request leads
/// elsewhere. What changes after this is not noticed.
fn check_again(backend: &Backend, binds: &[String]) -> Result<(), RuntimeError> {
    let source = |bind: &str| Volume::parse(bind).ok().and_then(|volume| volume.source);
    for bind in binds {
        let again = (backend.volume_check)(bind).map_err(RuntimeError::Denied)?;
        if source(&again) != source(bind) {
            return Err(RuntimeError::Denied(
                "a directory to be mounted was replaced while the container was made; try again".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Sends the create request and keeps account of whether there may be a container now. Returns the mounts.
async fn ask(
    backend: &Backend,
    ward: &Ward,
    request: &Request,
    network: Option<&str>,
    texts: &Texts,
) -> Result<Vec<String>, RuntimeError> {
    let check = |volume: &str| (backend.volume_check)(volume).map_err(RuntimeError::Denied);
    let body = create::body(request, backend.session.at(), network, &mut |value| texts.get(value), &check)
        .map_err(|e| texts.hide(e))?;
    let binds = body.host_config.as_ref().and_then(|host| host.binds.clone()).unwrap_or_default();
    let options = CreateContainerOptionsBuilder::default().name(ward.name()).build();
    ward.ask(backend.session.asking());
    let client = ward.client();
    let answer = match tokio::time::timeout(SLOW, client.api().create_container(Some(options), body)).await {
        Ok(answer) => answer,
        Err(_) => Err(bollard::errors::Error::RequestTimeoutError),
    };
    match answer {
        Ok(created) => {
            ward.set(Birth::Created);
            for warning in created.warnings {
                tracing::debug!(container = ward.name(), warning, "the engine warns");
            }
            Ok(binds)
        }
        Err(error) => {
            if error::is_answer(&error) {
                ward.set(Birth::Absent);
            }
            Err(texts.hide(client.error(error, Step::Create(&request.spec.image))))
        }
    }
}

/// Starts the process.
pub(super) async fn launch(ward: &Ward, request: &Request, texts: &Texts) -> Result<(), RuntimeError> {
    let client = ward.client();
    let start = client.api().start_container(ward.name(), None::<StartContainerOptions>);
    let started = client.call(Step::Start(&request.spec.image), SLOW, start).await;
    if started.is_ok() {
        ward.set(Birth::Started);
    }
    started.map_err(|error| texts.hide(error))
}

/// Refuses a container whose process could be user 0, if that was asked for.
async fn check_user(client: &Client, request: &Request, texts: &Texts) -> Result<(), RuntimeError> {
    let spec = &request.spec;
    if !spec.security.run_as_non_root {
        return Ok(());
    }
    let mut user = spec.user.as_ref().map(|user| texts.get(user)).transpose()?.unwrap_or_default();
    if user.is_empty() {
        let image = images::inspect(client, &spec.image).await?;
        user = image.and_then(|image| image.config).and_then(|config| config.user).unwrap_or_default();
    }
    if create::is_certainly_not_root(&user) {
        return Ok(());
    }
    Err(create::would_be_root(&spec.image))
}

/// What a task answers whose caller went away. Nobody reads it.
pub(super) fn abandoned() -> RuntimeError {
    RuntimeError::Engine("the container was abandoned".to_owned())
}
