//! The wasmtime engines of the process: their configuration, their on-disk cache, the room that guests share, and the
//! clock that meters them.
//!
//! The clock (wasmtime's epoch) ticks only while somebody holds a [`Ticking`] guard, so an idle gateway never wakes up.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often the epoch advances while guests run.
pub const TICK: Duration = Duration::from_millis(10);

/// The stack of a guest, in bytes.
pub(super) const STACK_BYTES: usize = 512 << 10;

/// How many core instances, memories, tables and stacks there is room for, each, in a pooled engine. Room is address
/// space, which costs nothing until it is used.
const ROOM: u32 = 512;
/// The most room that one guest can take.
const MOST_PER_GUEST: u32 = 64;
/// How many tables or memories one module may have. Compilers make one of each.
const PER_MODULE: u32 = 10;
/// The tables of one guest may have this many elements each.
const TABLE_ELEMENTS: usize = 20_000;
/// How much of a memory or table is cleared by writing over it instead of giving it back to the system, in bytes.
const KEPT_BYTES: usize = 256 << 10;
/// What wasmtime keeps for one instance, at most, in bytes. A module of 10 MB needs about one million.
const INSTANCE_BYTES: usize = 16 << 20;

/// Compiles and runs components. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    clock: Arc<Clock>,
    room: Arc<Semaphore>,
}

impl Engine {
    /// An engine for guests that live for an operation. Their memories and stacks come from a pool, so that beginning
    /// one changes no mappings of the process; where there is no address space for a pool it does without.
    ///
    /// Compiled code is kept in `cache`, a directory private to the user. Without one, every process compiles anew.
    ///
    /// # Errors
    /// If the directory cannot be used or the machine cannot run wasm.
    pub fn new(cache: Option<&Path>) -> wasmtime::Result<Self> {
        Self::with(cache, InstanceAllocationStrategy::Pooling(pool())).or_else(|error| {
            tracing::debug!(%error, "no pool for guests");
            Self::for_servers(cache)
        })
    }

    /// An engine for guests that live long and may use much memory. Otherwise like [`Engine::new`].
    ///
    /// # Errors
    /// As there.
    pub fn for_servers(cache: Option<&Path>) -> wasmtime::Result<Self> {
        Self::with(cache, InstanceAllocationStrategy::OnDemand)
    }

    fn with(cache: Option<&Path>, allocation: InstanceAllocationStrategy) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .epoch_interruption(true)
            // Needed between the parts of a composed component: what joins them copies from one's memory to the other's.
            .wasm_multi_memory(true)
            .wasm_memory64(false)
            .wasm_relaxed_simd(false)
            .max_wasm_stack(STACK_BYTES)
            .async_stack_size(1 << 20)
            .allocation_strategy(allocation);
        if let Some(directory) = cache {
            let mut settings = CacheConfig::new();
            settings
                .with_directory(directory)
                // Reading what was written at a higher level takes a window of 2 MiB or more (zstd's default here: 3),
                // most of which the allocator keeps; level 1 has 512 KiB. An optimized level that is no higher also
                // means that nothing is compressed anew, at 8 MiB and more, after its 256th use.
                .with_baseline_compression_level(1)
                .with_optimized_compression_level(1);
            config.cache(Some(Cache::new(settings)?));
        }
        let engine = wasmtime::Engine::new(&config)?;
        let clock = Clock::start(&engine)?;
        Ok(Self { engine, clock, room: Arc::new(Semaphore::new(ROOM as usize)) })
    }

    /// The engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Waits until there is room for a guest that unfolds to so many instances. Those who wait are served in order.
    pub(super) async fn room_for(&self, instances: u64) -> wasmtime::Result<OwnedSemaphorePermit> {
        // What needs more fails by itself when it is instantiated.
        let places = u32::try_from(instances).unwrap_or(MOST_PER_GUEST).clamp(1, MOST_PER_GUEST);
        Ok(Arc::clone(&self.room).acquire_many_owned(places).await?)
    }

    /// Lets the epoch advance every [`TICK`] until the guard is dropped. Hold one while a guest may run.
    pub fn ticking(&self) -> Ticking {
        self.clock.hold();
        Ticking(Arc::clone(&self.clock))
    }
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(ROOM)
        .total_core_instances(ROOM)
        .total_memories(ROOM)
        .total_tables(ROOM)
        .total_stacks(ROOM)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_tables_per_module(PER_MODULE)
        .max_memories_per_module(PER_MODULE)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES);
    pool
}

/// Keeps the epoch advancing.
pub struct Ticking(Arc<Clock>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The owner of the thread that advances the epoch, which ends with it.
struct Clock(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<Need>,
    changed: Condvar,
}

#[derive(Default)]
struct Need {
    holders: usize,
    /// The thread sleeps until it is woken.
    is_asleep: bool,
    /// Nobody can ever need it again.
    is_over: bool,
}

impl Clock {
    fn start(engine: &wasmtime::Engine) -> wasmtime::Result<Arc<Self>> {
        let clock = Arc::new(Self(Arc::default()));
        let (shared, engine) = (Arc::clone(&clock.0), engine.weak());
        std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
            while let (true, Some(engine)) = (shared.wait(), engine.upgrade()) {
                engine.increment_epoch();
            }
        })?;
        Ok(clock)
    }

    fn hold(&self) {
        let mut need = self.0.need();
        need.holders += 1;
        // A thread that is in the middle of a tick will see it by itself.
        if need.is_asleep {
            need.is_asleep = false;
            self.0.changed.notify_one();
        }
    }

    fn release(&self) {
        self.0.need().holders -= 1;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.need().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn need(&self) -> MutexGuard<'_, Need> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one tick, and before that, without waking up, for somebody who needs it. False when it is over.
    fn wait(&self) -> bool {
        let mut need = self.need();
        // Whoever wakes it gets a whole tick, even if gone by then: a guest that is polled for microseconds again and
        // again must not wake it each time.
        need.is_asleep = need.holders == 0;
        while need.is_asleep && !need.is_over {
            need = self.changed.wait(need).unwrap_or_else(PoisonError::into_inner);
        }
        let ticked = self.changed.wait_timeout_while(need, TICK, |need| !need.is_over);
        !ticked.unwrap_or_else(PoisonError::into_inner).0.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Gives other threads time until something holds.
    fn until(what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_clock_sleeps_when_nobody_needs_it_and_wakes_again() {
        let engine = Engine::new(None).unwrap();
        let clock = &engine.clock.0;
        for _ in 0..3 {
            until("the clock should sleep", || clock.need().is_asleep);
            let ticking = engine.ticking();
            assert!(!clock.need().is_asleep);
            drop(ticking);
        }
        assert_eq!(clock.need().holders, 0);
    }

    #[test]
    fn the_clock_ends_with_the_engine() {
        let engine = Engine::new(None).unwrap();
        let clock = Arc::downgrade(&engine.clock.0);
        until("the clock should sleep", || engine.clock.0.need().is_asleep);
        drop(engine);
        until("the thread should end", || clock.strong_count() == 0);
    }
}
