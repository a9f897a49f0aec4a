//! The one wasmtime engine of the process: its configuration, its on-disk cache, and the clock that meters guests.
//!
//! The clock (wasmtime's epoch) ticks only while somebody holds a [`Ticking`] guard, so an idle gateway never wakes up.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use wasmtime::{Cache, CacheConfig, Config};

/// How often the epoch advances while guests run.
pub const TICK: Duration = Duration::from_millis(10);

/// Compiles and runs components. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    clock: Arc<Clock>,
}

impl Engine {
    /// An engine that keeps compiled code in `cache`, a directory private to the user. Without one, every process
    /// compiles anew.
    ///
    /// # Errors
    /// If the directory cannot be used or the machine cannot run wasm.
    pub fn new(cache: Option<&Path>) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .epoch_interruption(true)
            // Needed between the parts of a composed component: what joins them copies from one's memory to the other's.
            .wasm_multi_memory(true)
            .wasm_memory64(false)
            .wasm_relaxed_simd(false)
            .max_wasm_stack(512 << 10)
            .async_stack_size(1 << 20);
        if let Some(directory) = cache {
            let mut settings = CacheConfig::new();
            settings.with_directory(directory);
            config.cache(Some(Cache::new(settings)?));
        }
        let engine = wasmtime::Engine::new(&config)?;
        let clock = Clock::start(&engine)?;
        Ok(Self { engine, clock })
    }

    /// The engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Lets the epoch advance every [`TICK`] until the guard is dropped. Hold one while a guest may run.
    pub fn ticking(&self) -> Ticking {
        self.clock.hold(1);
        Ticking(Arc::clone(&self.clock))
    }
}

/// Keeps the epoch advancing.
pub struct Ticking(Arc<Clock>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.hold(-1);
    }
}

struct Clock {
    holders: Mutex<isize>,
    changed: Condvar,
}

impl Clock {
    fn start(engine: &wasmtime::Engine) -> wasmtime::Result<Arc<Self>> {
        let clock = Arc::new(Self { holders: Mutex::new(0), changed: Condvar::new() });
        let (weak, engine) = (Arc::downgrade(&clock), engine.weak());
        std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
            while let (true, Some(engine)) = (Self::wait(&weak), engine.upgrade()) {
                engine.increment_epoch();
            }
        })?;
        Ok(clock)
    }

    /// Waits for one tick, and before that for somebody who needs it. False when the clock is gone.
    fn wait(weak: &Weak<Self>) -> bool {
        let Some(clock) = weak.upgrade() else { return false };
        let mut holders = clock.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if *holders <= 0 {
            // Wakes up now and then only to notice that the clock itself is gone.
            let patience = Duration::from_secs(10);
            holders = clock.changed.wait_timeout(holders, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        if *holders > 0 {
            // Until the time is over: a guard taken meanwhile must not shorten the tick.
            drop(clock.changed.wait_timeout_while(holders, TICK, |_| true));
        }
        true
    }

    fn hold(&self, by: isize) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *holders;
        *holders += by;
        // Only the first holder wakes the thread: a wake-up during a tick would shorten it.
        if before == 0 && by > 0 {
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stops_when_nobody_needs_it_and_starts_again() {
        let engine = Engine::new(None).unwrap();
        for _ in 0..3 {
            drop(engine.ticking());
        }
        assert_eq!(*engine.clock.holders.lock().unwrap(), 0);
    }
}
