//! What the operator allows: grants for components, which host paths may be mounted, where remote servers may be.
//!
//! Loading only. The judgement of a container specification is in `provisioning-core`, which does no I/O.

pub mod bind_mounts;
pub mod grants;
pub mod remote_hosts;
