//! The gateway behind the `docker-mcp` binary. See `ARCHITECTURE.md` for the map.

pub mod audit;
pub mod builtin;
pub mod capability;
pub mod catalog;
pub mod cli;
pub mod cluster_tools;
pub mod gateway;
pub mod inspect;
pub mod installed;
pub mod intercept;
pub mod lease;
pub mod mcp_registry;
pub mod policy;
pub mod private_directory;
pub mod provision;
pub mod resolve;
pub mod sandbox;
pub mod screen;
pub mod secrets;
pub mod session;
mod tls;
