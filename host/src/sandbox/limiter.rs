//! Bounds the memory and tables of one guest, over all that it has together: a component may hold as many memories
//! as it likes, and each of them may be small.

use provisioning_core::policy::Limit;
use wasmtime::ResourceLimiter;

use super::Limits;

/// What a guest may still grow by.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    pub(super) memory_bytes: usize,
    pub(super) table_elements: usize,
    instances: usize,
    /// What it was refused more of, the last time.
    pub(super) refused: Option<Limit>,
}

impl Growth {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            instances: limits.instances,
            refused: None,
        }
    }
}

/// Takes a growth from what is left, if there is enough.
fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let is_granted = take(&mut self.memory_bytes, current, desired);
        self.refused = if is_granted { self.refused } else { Some(Limit::Memory) };
        Ok(is_granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let is_granted = take(&mut self.table_elements, current, desired);
        self.refused = if is_granted { self.refused } else { Some(Limit::TableElements) };
        Ok(is_granted)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_and_all_tables_share_one_limit_each() {
        let mut growth = Growth::new(&Limits { memory_bytes: 100, table_elements: 10, ..Limits::default() });
        assert!(growth.memory_growing(0, 60, None).unwrap());
        assert!(!growth.memory_growing(0, 60, None).unwrap());
        assert!(growth.memory_growing(60, 100, None).unwrap());
        assert!(growth.table_growing(0, 10, None).unwrap());
        assert!(!growth.table_growing(0, 1, None).unwrap());
    }
}
