//! What a guest may use, and the defaults (`docs/limits.md`).

use std::time::Duration;

/// What a guest may use, in one operation but for its compilation. The defaults leave a hundred times what the built-in components need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, in all its memories together.
    pub memory_bytes: usize,
    /// Elements of tables, in all its tables together.
    pub table_elements: usize,
    /// Core instances, tables and memories, each.
    pub instances: usize,
    /// Handles that it holds at once.
    pub handles: usize,
    /// Bytes that one host call may copy out of the guest.
    pub copied_bytes: usize,
    /// Bytes of the values that it holds.
    pub value_bytes: usize,
    /// Containers that it starts or runs, one after the other or at once.
    pub containers: u32,
    /// How long compiling it may take, once per process.
    pub compile_time: Duration,
    /// Time that it computes; waiting for the host costs nothing.
    pub guest_time: Duration,
    /// Calls into the host.
    pub host_calls: u32,
    /// Lines in the gateway's log.
    pub log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            instances: 64,
            handles: 4096,
            copied_bytes: 4 << 20,
            value_bytes: 8 << 20,
            containers: 16,
            compile_time: Duration::from_secs(120),
            guest_time: Duration::from_secs(2),
            host_calls: 10_000,
            log_lines: 200,
        }
    }
}
