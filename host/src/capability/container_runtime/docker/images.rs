//! Images: whether the engine has them, and pulling those that it has not.
//!
//! An image that is there is never pulled again, whatever its tag: an update is the operator's decision. A reference
//! with a digest is there only if that very content is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::client::Client;
use super::credentials;
use super::error::Step;
use super::reference::Reference;
use crate::capability::container_runtime::{ImageProgress, RuntimeError};

/// How long looking at an image may take.
const INSPECT: Duration = Duration::from_secs(30);
/// How long a pull may take in all.
const PULL: Duration = Duration::from_secs(15 * 60);
/// How long a pull may go without reporting anything.
const IDLE: Duration = Duration::from_secs(60);
/// How many images are pulled at once.
const PULLS: usize = 4;
/// How many layers of one image are counted.
const LAYERS: usize = 1024;

/// What is known about pulls under way.
pub(super) struct Images {
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    slots: Semaphore,
}

impl Default for Images {
    fn default() -> Self {
        Self { pulls: Mutex::default(), slots: Semaphore::new(PULLS) }
    }
}

impl Images {
    /// Makes sure that the image is there.
    pub(super) async fn prepare(
        &self,
        client: &Client,
        config_directory: Option<std::path::PathBuf>,
        image: &str,
        progress: &dyn ImageProgress,
    ) -> Result<(), RuntimeError> {
        let reference = Reference::parse(image)?;
        if inspect(client, image).await?.is_some() {
            return Ok(());
        }
        let turn = self.turn(image);
        let _turn = turn.lock().await;
        // Whoever had the turn before may have pulled it.
        if inspect(client, image).await?.is_some() {
            return Ok(());
        }
        // Nobody closes it, so there is always a slot to wait for.
        let _slot = self.slots.acquire().await;
        let credentials = credentials::find(config_directory, reference.registry()).await;
        tracing::info!(image, "pulling the image");
        let pull = pull(client, image, reference, credentials, progress);
        match tokio::time::timeout(PULL, pull).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RuntimeError::TimedOut {
                what: format!("pulling image `{image}`"),
                seconds: PULL.as_secs(),
                advice: "pull it with `docker pull`, which goes on for as long as it takes",
            }),
        }
    }

    fn turn(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, turn| turn.strong_count() > 0);
        match pulls.get(image).and_then(Weak::upgrade) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(tokio::sync::Mutex::new(()));
                pulls.insert(image.to_owned(), Arc::downgrade(&turn));
                turn
            }
        }
    }
}

/// Looks at an image. None if the engine does not have it.
pub(super) async fn inspect(client: &Client, image: &str) -> Result<Option<ImageInspect>, RuntimeError> {
    Reference::parse(image)?;
    match client.call(Step::InspectImage(image), INSPECT, client.api().inspect_image(image)).await {
        Ok(found) => Ok(Some(found)),
        Err(RuntimeError::Image { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn pull(
    client: &Client,
    image: &str,
    reference: Reference<'_>,
    credentials: Option<bollard::auth::DockerCredentials>,
    progress: &dyn ImageProgress,
) -> Result<(), RuntimeError> {
    // Without a tag, the engine would pull all of them.
    let options = CreateImageOptionsBuilder::default().from_image(reference.name).tag(reference.tag).build();
    let mut reports = client.api().create_image(Some(options), None, credentials);
    let mut layers = Layers::default();
    loop {
        match tokio::time::timeout(IDLE, reports.next()).await {
            Ok(Some(Ok(report))) => {
                if layers.note(report) {
                    let (done, total) = layers.sum();
                    progress.bytes(image, done, total);
                }
            }
            Ok(Some(Err(error))) => return Err(client.error(error, Step::Pull(image))),
            Ok(None) => break,
            Err(_) => {
                return Err(RuntimeError::Image {
                    image: image.to_owned(),
                    reason: format!("the pull reported nothing for {} s; check the engine's network", IDLE.as_secs()),
                });
            }
        }
    }
    match inspect(client, image).await? {
        Some(_) => Ok(()),
        None => Err(RuntimeError::Image {
            image: image.to_owned(),
            reason: "the engine pulled it and does not have it; run `docker pull` to see why".to_owned(),
        }),
    }
}

/// The bytes of each layer, done and in all.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    /// Takes a report in. True if it changed the sum.
    fn note(&mut self, report: CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (report.id, report.status) else { return false };
        match status.as_str() {
            "Downloading" => {
                let Some(detail) = report.progress_detail else { return false };
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
                if self.0.len() == LAYERS && !self.0.contains_key(&id) {
                    return false;
                }
                let done = bytes(detail.current);
                self.0.insert(id, (done, bytes(detail.total).max(done)));
                true
            }
            "Download complete" | "Pull complete" => match self.0.get_mut(&id) {
                Some((done, total)) => {
                    *done = *total;
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    fn sum(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(done, total), layer| {
            (u64::saturating_add(done, layer.0), u64::saturating_add(total, layer.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn progress_sums_the_layers() {
        let report = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current, total }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        assert!(!layers.note(report("a", "Pulling fs layer", None, None)));
        assert!(layers.note(report("a", "Downloading", Some(10), Some(100))));
        assert!(layers.note(report("b", "Downloading", Some(5), Some(50))));
        assert_eq!(layers.sum(), (15, 150));
        assert!(layers.note(report("a", "Download complete", None, None)));
        assert_eq!(layers.sum(), (105, 150));
    }
}
