//! Reading files out of a volume: the first versions of Docker's gateway kept their configuration in one.
//!
//! The engine hands out files of containers, also of one that was never started. So a container is created that mounts
//! the volume, and nothing runs. Its image is made here, from nothing, so that none must be there or be pulled.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, RemoveImageOptions,
};
use bytes::Bytes;
use futures::StreamExt as _;

use super::client::Client;
use super::connect::Surroundings;
use super::create::{LABEL, NAME_LABEL, SESSION_LABEL, SESSIONS_AT_LABEL};
use super::error::{self, Step};
use super::names;
use super::removal::{Birth, Ward};
use crate::capability::container_runtime::RuntimeError;
use crate::lease::Reaper;
use crate::session::Session;

/// How long looking for the volume may take: a gateway that starts waits for it.
const LOOK: Duration = Duration::from_secs(2);
/// How long each of the other requests may take.
const QUICK: Duration = Duration::from_secs(15);
/// The largest file that is taken.
const MAX_FILE: usize = 16 << 20;
/// Where the volume is in the container.
const MOUNTED_AT: &str = "/data";
/// The archive of no file.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// A volume that is there.
pub struct LegacyVolume {
    client: Client,
    name: String,
}

impl LegacyVolume {
    /// Looks for a volume; none if there is no volume of this name.
    ///
    /// # Errors
    /// If the engine does not answer, and soon.
    pub async fn find(surroundings: &Surroundings, name: &str) -> Result<Option<Self>, RuntimeError> {
        let look = async {
            let client = Client::connect(surroundings).await?;
            match client.api().inspect_volume(name).await {
                Ok(_) => Ok(Some(Self { client: client.clone(), name: name.to_owned() })),
                Err(error) if error::status(&error) == Some(404) => Ok(None),
                Err(error) => Err(client.error(error, Step::Volume(name))),
            }
        };
        let late = || RuntimeError::Unavailable("the Docker Engine did not answer in time".to_owned());
        tokio::time::timeout(LOOK, look).await.unwrap_or_else(|_| Err(late()))
    }

    /// The files of these names at the top of the volume, as far as they are there.
    ///
    /// # Errors
    /// If the engine refuses, or a file is too large.
    pub async fn read(
        &self,
        files: &[&str],
        reaper: &Reaper,
        session: Arc<Session>,
    ) -> Result<Vec<(String, Vec<u8>)>, RuntimeError> {
        let image = self.empty_image().await?;
        let found = self.read_with(&image, files, reaper, &session).await;
        let removal = self.client.api().remove_image(&image, None::<RemoveImageOptions>, None);
        if let Err(error) = self.client.call(Step::Volume(&self.name), QUICK, removal).await {
            tracing::debug!("an empty image remains: {error}");
        }
        found
    }

    async fn read_with(
        &self,
        image: &str,
        files: &[&str],
        reaper: &Reaper,
        session: &Arc<Session>,
    ) -> Result<Vec<(String, Vec<u8>)>, RuntimeError> {
        let name = names::unique("legacy-volume")?;
        let ward = Ward::new(self.client.clone(), name.clone());
        let lease = reaper.lease(name, {
            let ward = Arc::clone(&ward);
            move || ward.remove()
        });
        ward.ask(session.asking());
        let options = CreateContainerOptionsBuilder::default().name(ward.name()).build();
        let created = self.client.api().create_container(Some(options), self.body(image, session));
        match tokio::time::timeout(QUICK, created).await {
            Ok(Ok(_)) => ward.set(Birth::Created),
            Ok(Err(error)) => {
                if error::is_answer(&error) {
                    ward.set(Birth::Absent);
                }
                return Err(self.client.error(error, Step::Volume(&self.name)));
            }
            Err(_) => {
                return Err(self.client.error(bollard::errors::Error::RequestTimeoutError, Step::Volume(&self.name)));
            }
        }
        let mut found = Vec::new();
        for file in files {
            found.extend(self.file(ward.name(), file).await?.map(|content| ((*file).to_owned(), content)));
        }
        // The image cannot be removed before the container is.
        lease.release().await;
        Ok(found)
    }

    fn body(&self, image: &str, session: &Session) -> ContainerCreateBody {
        let labels = [
            (LABEL, "true"),
            (NAME_LABEL, "legacy-volume"),
            (SESSION_LABEL, session.id()),
            (SESSIONS_AT_LABEL, session.at()),
        ];
        ContainerCreateBody {
            image: Some(image.to_owned()),
            // Never run; the engine wants to know one.
            cmd: Some(vec!["-".to_owned()]),
            labels: Some(HashMap::from(labels.map(|(key, text)| (key.to_owned(), text.to_owned())))),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![Mount {
                    typ: Some(MountType::VOLUME),
                    source: Some(self.name.clone()),
                    target: Some(MOUNTED_AT.to_owned()),
                    read_only: Some(true),
                    ..Mount::default()
                }]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// An image with nothing in it, and its identifier.
    async fn empty_image(&self) -> Result<String, RuntimeError> {
        let options = CreateImageOptionsBuilder::default().from_src("-").build();
        let archive = bollard::body_full(Bytes::from_static(&EMPTY_ARCHIVE));
        let mut reports = self.client.api().create_image(Some(options), Some(archive), None);
        let last = async {
            let mut last = None;
            while let Some(report) = reports.next().await {
                last = report.map_err(|error| self.client.error(error, Step::Volume(&self.name)))?.status.or(last);
            }
            Ok::<_, RuntimeError>(last)
        };
        let late = || self.client.error(bollard::errors::Error::RequestTimeoutError, Step::Volume(&self.name));
        let last = tokio::time::timeout(QUICK, last).await.map_err(|_| late())??;
        let identifier = last.filter(|text| text.starts_with("sha256:"));
        identifier.ok_or_else(|| RuntimeError::Engine("the Docker Engine made no image from nothing".to_owned()))
    }

    /// A file of the volume; none if it is not there.
    async fn file(&self, container: &str, file: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(&format!("{MOUNTED_AT}/{file}")).build();
        let mut pieces = self.client.api().download_from_container(container, Some(options));
        let mut archive = Vec::new();
        loop {
            match tokio::time::timeout(QUICK, pieces.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(piece))) => archive.extend_from_slice(&piece),
                Ok(Some(Err(error))) if error::status(&error) == Some(404) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.client.error(error, Step::Volume(&self.name))),
                Err(_) => {
                    let late = bollard::errors::Error::RequestTimeoutError;
                    return Err(self.client.error(late, Step::Volume(&self.name)));
                }
            }
            if archive.len() > MAX_FILE {
                return Err(RuntimeError::Engine(format!("`{file}` is larger than {} MiB", MAX_FILE >> 20)));
            }
        }
        let broken = |error: std::io::Error| RuntimeError::Engine(format!("`{file}` cannot be unpacked: {error}"));
        let mut archive = tar::Archive::new(archive.as_slice());
        let Some(entry) = archive.entries().map_err(broken)?.next() else { return Ok(None) };
        let mut content = Vec::new();
        let mut entry = entry.map_err(broken)?;
        // A link in the volume would lead somewhere else.
        if !entry.header().entry_type().is_file() {
            return Err(RuntimeError::Engine(format!("`{file}` is not a file")));
        }
        entry.read_to_end(&mut content).map_err(broken)?;
        Ok(Some(content))
    }
}
