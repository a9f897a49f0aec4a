//! `docker-mcp provisioner`: one module per command.

pub(super) mod audit;
