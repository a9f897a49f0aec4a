//! What the operator allows: grants for components, and which host paths may be mounted.
//!
//! Loading only. The judgement of a container specification is in `provisioning-core`, which does no I/O.

pub mod bind_mounts;
pub mod grants;
