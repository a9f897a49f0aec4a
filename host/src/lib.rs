//! The gateway behind the `docker-mcp` binary. See `ARCHITECTURE.md` for the map.

pub mod capability;
pub mod catalog;
pub mod lease;
pub mod policy;
pub mod provision;
pub mod sandbox;
pub mod secrets;
