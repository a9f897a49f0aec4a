//! The servers that are enabled, and which of them the component was asked about. It decides nothing about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::resolve::ServerSettings;

/// The enabled servers by their names.
pub(super) type Servers = BTreeMap<String, Enabled>;

#[derive(Clone)]
pub(super) struct Enabled {
    pub(super) settings: Arc<ServerSettings>,
    /// The component said that it can be provisioned. It is asked once, as long as nothing of the entry changes.
    pub(super) validated: Arc<OnceCell<()>>,
}

impl Enabled {
    /// Whether the component would be asked the same about both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.settings.entry == other.settings.entry && self.settings.config == other.settings.config
    }
}

pub(super) fn by_name(servers: Vec<ServerSettings>) -> Servers {
    let enabled = |settings| Enabled { settings: Arc::new(settings), validated: Arc::default() };
    servers.into_iter().map(|server| (server.name.clone(), enabled(server))).collect()
}
