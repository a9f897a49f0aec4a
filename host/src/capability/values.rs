//! The `values` interface: making and joining opaque values. Nothing here reads one out.

use provisioning_core::Value;
use wasmtime::component::Resource;

use super::Context;
use crate::sandbox::Stop;
use crate::sandbox::bindings::mcp_gateway::provisioning::values::{Host, HostValue};

impl Host for Context {}

impl HostValue for Context {
    async fn new(&mut self, text: String) -> wasmtime::Result<Resource<Value>> {
        self.count_call()?;
        self.push_value(Value::text(text))
    }

    async fn concat(&mut self, parts: Vec<Resource<Value>>) -> wasmtime::Result<Resource<Value>> {
        self.count_call()?;
        let parts = parts.iter().map(|part| self.table.get(part)).collect::<Result<Vec<_>, _>>()?;
        // Before anything is copied: the same large value may be named a million times.
        let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.held_bytes()));
        if bytes > self.allowance.value_bytes {
            return Err(Stop::ValueBytes.into());
        }
        let whole = Value::concat(parts);
        self.push_value(whole)
    }

    async fn drop(&mut self, value: Resource<Value>) -> wasmtime::Result<()> {
        let value = self.table.delete(value)?;
        self.refund(value.held_bytes());
        Ok(())
    }
}
