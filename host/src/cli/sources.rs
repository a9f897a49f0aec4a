//! What files and flags say about the enabled servers, in a form that can be read again while the gateway runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::{DEFAULT_CATALOG, DEFAULT_CONFIGURATION, SAMPLE_CATALOG, enabled, load_configuration};
use super::options::ServerOptions;
use crate::capability::container_runtime::routed::is_embedded;
use crate::catalog::{Catalog, Entry, configuration};
use crate::gateway::ServerDefinition;
use crate::mcp_registry;
use crate::resolve::ServerSettings;
use crate::secrets::SecretStore;

/// What the files say about the enabled servers.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// The servers, in order.
    pub(crate) servers: Vec<ServerDefinition>,
    /// With what each is deployed.
    pub(crate) settings: Vec<ServerSettings>,
    /// Those that must not be deployed, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

/// The files, and what else is needed to read them.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(super) options: ServerOptions,
    pub(super) home: Option<PathBuf>,
    pub(super) secrets: Arc<dyn SecretStore>,
    /// Catalogs that were fetched, with the names of their servers.
    pub(super) fetched: Vec<(String, Catalog)>,
}

impl Sources {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be used, a server is unknown, or nothing is enabled.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let Self { options, home, secrets, fetched } = self;
        let entries = enabled(options, home.as_deref(), fetched)?;
        let config = load_configuration(options, home.as_deref())?;
        let refused = entries.iter().filter_map(|(name, entry)| Some((name.clone(), refusal(options, name, entry)?)));
        let refused = refused.collect();
        let servers: Vec<ServerDefinition> =
            entries.into_iter().map(|(name, entry)| ServerDefinition { name, entry: Arc::new(entry) }).collect();
        let settings = servers.iter().map(|server| ServerSettings {
            name: server.name.clone(),
            entry: Arc::clone(&server.entry),
            config: Arc::new(configuration::scope(&config, &server.name)),
            secrets: Arc::clone(secrets),
            resources: options.resources(),
            long_lived: options.long_lived || server.entry.long_lived,
        });
        Ok(Loaded { settings: settings.collect(), servers, refused })
    }

    /// The files, whether they are there or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Self { options, home, .. } = self;
        let or_default = |given: &[PathBuf], usual: &str| match (given, home) {
            ([], Some(home)) => vec![home.join(usual)],
            (given, _) => given.to_vec(),
        };
        let mut files = or_default(&options.catalog, DEFAULT_CATALOG);
        files.retain(|path| path.as_os_str() != SAMPLE_CATALOG);
        files.extend(or_default(&options.config, DEFAULT_CONFIGURATION));
        files
    }
}

/// Why a server must not be deployed under these options.
fn refusal(options: &ServerOptions, name: &str, entry: &Entry) -> Option<String> {
    let has_no_network = entry.disable_network || entry.image.as_deref().is_some_and(is_embedded);
    if entry.allow_hosts.is_empty() || has_no_network {
        return None;
    }
    if options.block_network {
        return Some(format!(
            "server `{name}` may reach only {}, which cannot be enforced yet, so `--block-network` refuses it; set \
             `disableNetwork: true` in its catalog entry, or leave out `--block-network`",
            entry.allow_hosts.join(", ")
        ));
    }
    tracing::warn!(
        server = name,
        "`allowHosts` is not enforced yet: this server can reach every host; set `disableNetwork: true` to cut it off, or \
         use `--block-network` to refuse it"
    );
    None
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
