//! What bounds a running guest: its memory and its share of the processor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use provisioning_core::Resources;
use tokio_util::sync::CancellationToken;
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::sandbox::engine::Engine;

/// Entries in all tables together. A program compiled from ordinary sources has some thousands.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Bounds the memory of one guest, over all its linear memories together.
pub(super) struct Memory {
    limit: u64,
    used: u64,
    last_growth: u64,
    table_elements: usize,
    refused: bool,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: 0, last_growth: 0, table_elements: 0, refused: false }
    }

    /// What to tell people if the guest was refused memory, which most programs do not survive.
    pub(super) fn remark(&self) -> Option<String> {
        self.refused.then(|| {
            format!("it was refused more memory than {} MiB; raise `--memory` if it needs more", self.limit >> 20)
        })
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let allowed = self.used.saturating_add(growth) <= self.limit;
        if allowed {
            self.used += growth;
            self.last_growth = growth;
        } else {
            self.refused = true;
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        // It had been counted, unless the refusal was ours.
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last_growth));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        let allowed = elements <= TABLE_ELEMENTS;
        if allowed {
            self.table_elements = elements;
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        100
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        20
    }
}

/// Counts the time that a guest really runs. Clones are the same clock.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    since: Option<Instant>,
    unpaid: Duration,
}

impl Meter {
    fn enter(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).since = Some(Instant::now());
    }

    fn leave(&self) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = counted.since.take() {
            counted.unpaid += since.elapsed();
        }
    }

    /// The time run since this was asked last. Called from inside of the guest's time.
    fn collect(&self) -> Duration {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = counted.since.replace(Instant::now()).map(|since| since.elapsed()).unwrap_or_default();
        std::mem::take(&mut counted.unpaid) + running
    }

    /// What happens at every tick while the guest runs: it makes room for everybody else, and with less than a
    /// whole core it pauses in proportion to the time it has used. Waiting costs a guest nothing.
    pub(super) fn tick(&self, resources: Resources, stop: &CancellationToken) -> UpdateDeadline {
        if stop.is_cancelled() {
            return UpdateDeadline::Interrupt;
        }
        let used = self.collect();
        let pause = pause(used, resources.cpu_millis);
        if pause.is_zero() {
            return UpdateDeadline::Yield(1);
        }
        let stopped = stop.clone().cancelled_owned();
        UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                // Whichever comes first.
                let _ = tokio::time::timeout(pause, stopped).await;
            }),
        )
    }
}

/// How long a guest that ran for `used` pauses to get `cpu_millis` thousandths of a core in the long run.
fn pause(used: Duration, cpu_millis: u32) -> Duration {
    match 1000_u32.checked_sub(cpu_millis) {
        None | Some(0) => Duration::ZERO,
        Some(idle) => used.saturating_mul(idle) / cpu_millis.max(1),
    }
}

/// Runs a guest with the meter on and the engine's clock ticking, both only while the guest is being polled: a
/// server that waits for its client neither keeps the clock awake nor is charged.
pub(super) struct Metered<F> {
    guest: Pin<Box<F>>,
    engine: Engine,
    meter: Meter,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(guest: F, engine: Engine, meter: Meter) -> Self {
        Self { guest: Box::pin(guest), engine, meter }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ticking = self.engine.ticking();
        self.meter.enter();
        let polled = self.guest.as_mut().poll(cx);
        self.meter.leave();
        drop(ticking);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_core_pauses_three_times_as_long_as_it_runs() {
        assert_eq!(pause(Duration::from_millis(10), 250), Duration::from_millis(30));
        assert_eq!(pause(Duration::from_millis(10), 1000), Duration::ZERO);
        assert_eq!(pause(Duration::from_millis(10), 4000), Duration::ZERO);
        assert_eq!(pause(Duration::from_millis(10), 0), Duration::from_secs(10));
    }

    #[test]
    fn all_memories_of_a_guest_share_one_limit() {
        let mut memory = Memory::new(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.remark().is_some());
        assert!(memory.memory_growing(0, 40, None).unwrap());
    }
}
