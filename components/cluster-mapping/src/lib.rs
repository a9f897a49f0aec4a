//! The built-in mapping from templates to keys of cluster objects: every name is its own key.
//!
//! It imports no function, so that all it can do is to answer. What `cluster-tools` writes has the same keys, because
//! both use `provisioning_core::cluster_key`.

#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bindings;

use bindings::exports::mcp_gateway::provisioning::template_mapping::{Guest, KeyRef, TemplateUse};
use bindings::mcp_gateway::provisioning::types::Error;
use provisioning_core::cluster_key;

struct ClusterMapping;

impl Guest for ClusterMapping {
    fn map_keys(uses: Vec<TemplateUse>) -> Result<Vec<KeyRef>, Error> {
        uses.into_iter()
            .map(|used| {
                let key = cluster_key(&used.name).map_err(|error| Error::Invalid(error.to_string()))?;
                Ok(KeyRef { source: used.source, key: key.to_owned() })
            })
            .collect()
    }
}

bindings::export!(ClusterMapping with_types_in bindings);
