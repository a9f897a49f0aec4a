//! What the operator allows. Loading only: judging is done by `provisioning_core`, which does no I/O.

pub mod bind_mounts;
