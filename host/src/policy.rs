//! What the operator allows: policy files, grants for components, and which host paths may be mounted.
//!
//! Loading only. Everything that decides is in `provisioning-core`, which does no I/O.

pub mod bind_mounts;
pub mod enforcement;
pub mod file;
pub mod grants;
pub mod sources;
