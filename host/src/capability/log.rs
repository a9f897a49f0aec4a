//! The `log` interface: a guest's lines in the gateway's log, bounded and with control characters escaped.

use provisioning_core::text::one_line;

use super::Context;
use crate::sandbox::bindings::mcp_gateway::provisioning::log::{Host, Level};

/// How many characters of a line are kept.
pub const LINE_CHARS: usize = 2000;

impl Host for Context {
    async fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        // Over the bound lines are dropped, and the last one that is kept says so.
        let Some(left) = self.allowance.log_lines.checked_sub(1) else { return Ok(()) };
        self.allowance.log_lines = left;
        let mut line = one_line(&message, LINE_CHARS);
        if left == 0 {
            line.push_str(" (further lines of this operation are dropped)");
        }
        match level {
            Level::Debug => tracing::debug!(target: "provisioner", "{line}"),
            Level::Info => tracing::info!(target: "provisioner", "{line}"),
            Level::Warn => tracing::warn!(target: "provisioner", "{line}"),
            Level::Error => tracing::error!(target: "provisioner", "{line}"),
        }
        Ok(())
    }
}
