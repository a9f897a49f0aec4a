//! The `handles` interface: things that the host holds for a guest. Dropping one releases it.

use wasmtime::component::Resource;

use super::Context;
use super::container_runtime::{Completed, Running};
use super::remote_endpoint::RemoteHandle;
use crate::sandbox::bindings::mcp_gateway::provisioning::handles::{Host, HostCompleted, HostContainer, HostRemote};

impl Host for Context {}

impl HostContainer for Context {
    async fn drop(&mut self, container: Resource<Running>) -> wasmtime::Result<()> {
        self.table.delete(container)?;
        Ok(())
    }
}

impl HostCompleted for Context {
    async fn drop(&mut self, completed: Resource<Completed>) -> wasmtime::Result<()> {
        self.table.delete(completed)?;
        Ok(())
    }
}

impl HostRemote for Context {
    async fn drop(&mut self, remote: Resource<RemoteHandle>) -> wasmtime::Result<()> {
        let remote = self.table.delete(remote)?;
        self.refund(remote.held_bytes());
        Ok(())
    }
}
