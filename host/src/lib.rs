//! The gateway behind the `docker-mcp` binary. See `ARCHITECTURE.md` for the map.

pub mod builtin;
pub mod capability;
pub mod catalog;
pub mod cli;
pub mod gateway;
pub mod inspect;
pub mod installed;
pub mod lease;
pub mod policy;
pub mod private_directory;
pub mod provision;
pub mod resolve;
pub mod sandbox;
pub mod secrets;
pub mod session;
