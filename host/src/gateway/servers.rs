//! The servers behind the gateway. Which they are may change while it runs.
//!
//! A server has an index that is never given again, so that nothing that is known of one server, kept of it or under
//! way at it can be taken for another's. A server whose entry changed is a new one.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio_util::sync::CancellationToken;

use super::turns::Turns;
use super::{CALLS_OF_FRESH, CALLS_OF_KEPT, GatewayOptions, ServerDefinition};
use crate::catalog::Entry;

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its name in the catalog.
    pub name: String,
    /// Its catalog entry.
    pub entry: Arc<Entry>,
    /// Whose turn it is.
    pub turns: Turns,
    /// Cancelled when it is no longer one of the servers, or the gateway ends. Calls under way go on.
    pub retired: CancellationToken,
}

/// All servers, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By index; those that were retired are gone.
    servers: Vec<Option<Arc<Server>>>,
    order: Vec<usize>,
}

impl Servers {
    /// The server with an index, unless it was retired.
    pub(crate) fn get(&self, index: usize) -> Option<Arc<Server>> {
        self.read().servers.get(index).and_then(Clone::clone)
    }

    /// All servers with their indices, in order.
    pub(crate) fn active(&self) -> Vec<(usize, Arc<Server>)> {
        let state = self.read();
        let get = |index: &usize| Some((*index, state.servers.get(*index)?.clone()?));
        state.order.iter().filter_map(get).collect()
    }

    /// How many indices there are.
    pub(crate) fn indices(&self) -> usize {
        self.read().servers.len()
    }

    /// Makes these the servers. Those that were there before with an equal entry, and are not among `changed`, stay as
    /// they are; all others are retired. Returns the indices of the new ones.
    pub(crate) fn replace(
        &self,
        definitions: Vec<ServerDefinition>,
        changed: &BTreeSet<String>,
        options: &GatewayOptions,
        ends: &CancellationToken,
    ) -> Vec<usize> {
        let mut state = self.write();
        let (mut order, mut new) = (Vec::with_capacity(definitions.len()), Vec::new());
        for definition in definitions {
            let is_same = |server: &Server| {
                server.name == definition.name && server.entry == definition.entry && !changed.contains(&server.name)
            };
            let same = state.order.iter().copied().find(|index| {
                let server = state.servers.get(*index).and_then(Option::as_deref);
                server.is_some_and(is_same)
            });
            order.push(same.unwrap_or_else(|| {
                let usual = if options.keeps(&definition.entry) { CALLS_OF_KEPT } else { CALLS_OF_FRESH };
                let turns = Turns::new(options.calls_at_once.unwrap_or(usual), options.queue);
                let ServerDefinition { name, entry } = definition;
                state.servers.push(Some(Arc::new(Server { name, entry, turns, retired: ends.child_token() })));
                let index = state.servers.len() - 1;
                new.push(index);
                index
            }));
        }
        for (index, slot) in state.servers.iter_mut().enumerate() {
            if let Some(server) = slot.take_if(|_| !order.contains(&index)) {
                server.retired.cancel();
            }
        }
        state.order = order;
        new
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
