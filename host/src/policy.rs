//! What the operator allows: grants for components, and (in `bind_mounts`) which host paths may be mounted.
//!
//! The judgement of a container specification is in `provisioning-core`.

pub mod grants;
