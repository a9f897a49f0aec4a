//! Running components: the engine, loading and checking, linking what is granted, and operations with their limits.
//!
//! Only this module and `capability` use wasmtime. It knows what is granted, not what the capabilities do.

pub mod bindings;
pub mod component;
pub mod contract;
pub mod engine;
mod limiter;
mod limits;
mod linking;
pub mod mapping;
pub mod operation;
mod reached;
pub(crate) mod shape;
pub(crate) mod waiting;

use thiserror::Error;

pub use self::limits::Limits;
use crate::audit::record::Used;

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
