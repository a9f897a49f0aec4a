//! The `values` interface: making and joining opaque values. Nothing here reads one out.

use provisioning_core::Value;
use wasmtime::component::Resource;

use super::Context;
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
        let whole = Value::concat(parts);
        self.push_value(whole)
    }

    async fn drop(&mut self, value: Resource<Value>) -> wasmtime::Result<()> {
        let value = self.table.delete(value)?;
        self.allowance.value_bytes = self.allowance.value_bytes.saturating_add(value.held_bytes());
        Ok(())
    }
}
