//! Running components: the engine, loading and checking, linking what is granted, and operations with their limits.
//!
//! Only this module and `capability` use wasmtime. It knows what is granted, not what the capabilities do.

pub mod bindings;
pub mod component;
pub mod engine;
mod limiter;
mod linking;
pub mod mapping;
pub mod operation;
pub(crate) mod shape;
pub(crate) mod waiting;

use std::time::Duration;

use thiserror::Error;

use crate::audit::record::Used;

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

impl From<Limits> for Used {
    fn from(limits: Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes as u64,
            table_elements: limits.table_elements as u64,
            instances: limits.instances as u64,
            handles: limits.handles as u64,
            guest_ms: u64::try_from(limits.guest_time.as_millis()).unwrap_or(u64::MAX),
            host_calls: u64::from(limits.host_calls),
            copied_bytes: limits.copied_bytes as u64,
            value_bytes: limits.value_bytes as u64,
            containers: u64::from(limits.containers),
            log_lines: u64::from(limits.log_lines),
        }
    }
}

/// Why the host ended a guest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Stop {
    /// The operation was cancelled or ran out of time.
    #[error("cancelled")]
    Cancelled,
    /// It computed for too long.
    #[error("it used up its computing time")]
    GuestTime,
    /// It called the host too often.
    #[error("it made too many host calls")]
    HostCalls,
    /// It started one container after the other.
    #[error("it asked for too many containers")]
    Containers,
    /// It holds too much text.
    #[error("it holds too much text in values")]
    ValueBytes,
}
