//! What files and flags say about the enabled servers, in a form that can be read again while the gateway runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Map;

use super::assemble::servers;
use super::options::ServerOptions;
use crate::catalog::Catalog;
use crate::catalog::configuration::{self, ServerConfiguration};
use crate::catalog::files::OwnFiles;
use crate::gateway::ServerDefinition;
use crate::mcp_registry;
use crate::resolve::cluster::Cluster;
use crate::resolve::{NetworkRule, ServerSettings, refusal};
use crate::secrets::SecretStore;

/// What the files say about the enabled servers.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// The servers, in order.
    pub(crate) servers: Vec<ServerDefinition>,
    /// With what each is deployed.
    pub(crate) settings: Vec<ServerSettings>,
    /// What the files were like just before they were read.
    pub(crate) seen: Seen,
}

/// What tells one version of a file from the next; none if it is not there.
pub(crate) type Version = Option<(Option<SystemTime>, u64, u64)>;

/// Files and what they are like.
pub(crate) type Seen = BTreeMap<PathBuf, Version>;

/// What files are like now.
pub(crate) fn versions(files: impl IntoIterator<Item = PathBuf>) -> Seen {
    files.into_iter().map(|file| (version(&file), file)).map(|(version, file)| (file, version)).collect()
}

fn version(file: &Path) -> Version {
    let metadata = std::fs::metadata(file).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok(), metadata.len(), inode))
}

/// The files, and what else is needed to read them.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(super) options: ServerOptions,
    pub(super) own: OwnFiles,
    pub(super) secrets: Arc<dyn SecretStore>,
    /// Whether configuration is in a cluster, so that no file with it is read.
    pub(super) config_is_elsewhere: bool,
    /// Which values are in a cluster.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// Catalogs that were fetched, with the names of their servers.
    pub(super) fetched: Vec<(String, Catalog)>,
}

impl Sources {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be used, a server is unknown, or nothing is enabled.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let Self { options, own, secrets, config_is_elsewhere, cluster, fetched } = self;
        // In this order: what changes while it is read has changed since.
        let seen = versions(self.files());
        let entries = servers::enabled(options, own, fetched)?;
        let config = match *config_is_elsewhere {
            true => Map::new(),
            false => configuration::load(&own.of_kind("config.yaml", &options.config, &options.additional_config)?)?,
        };
        let rule = if options.block_network { NetworkRule::Block } else { NetworkRule::Open };
        let servers: Vec<ServerDefinition> =
            entries.into_iter().map(|(name, entry)| ServerDefinition { name, entry: Arc::new(entry) }).collect();
        let settings = servers.iter().map(|server| {
            let own = match *config_is_elsewhere {
                true => ServerConfiguration::default(),
                false => configuration::for_server(&config, &server.name, &server.entry),
            };
            for reason in own.warnings {
                tracing::warn!(
                    server = server.name,
                    "its configuration is not checked, because its schema cannot be used: {reason}"
                );
            }
            ServerSettings {
                name: server.name.clone(),
                entry: Arc::clone(&server.entry),
                config: Arc::new(own.scope),
                secrets: Arc::clone(secrets),
                cluster: cluster.clone(),
                resources: options.resources(),
                long_lived: options.long_lived || server.entry.long_lived,
                refused: refusal(&server.entry, own.fault, rule),
            }
        });
        Ok(Loaded { settings: settings.collect(), servers, seen })
    }

    /// The files, whether they are there or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        servers::files(&self.options, &self.own)
    }
}

/// Fetches what is not in files.
///
/// # Errors
/// If something cannot be had or used.
pub(super) async fn fetch(options: &ServerOptions) -> anyhow::Result<Vec<(String, Catalog)>> {
    let mut fetched = Vec::new();
    for address in &options.mcp_registry {
        let (name, catalog) = mcp_registry::fetch(address).await.map_err(anyhow::Error::msg)?;
        let (catalog, warnings) = Catalog::parse(&catalog.to_string(), Path::new(address))?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        fetched.push((name, catalog));
    }
    Ok(fetched)
}
