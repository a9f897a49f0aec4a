//! What the operator allows: policy files, grants for components, which host paths may be mounted, where remote
//! servers may be.
//!
//! Loading only. Everything that decides is in `provisioning-core`, which does no I/O.

pub mod bind_mounts;
pub mod effect;
pub mod enforcement;
pub mod file;
pub mod grants;
pub mod remote_hosts;
pub mod sources;
