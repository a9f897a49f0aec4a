//! The one wasmtime engine of the process: its configuration, its on-disk cache, and the clock that meters guests.
//!
//! The clock (wasmtime's epoch) ticks only while somebody holds a [`Ticking`] guard, so an idle gateway never wakes up.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
        self.clock.hold();
        Ticking(Arc::clone(&self.clock))
    }
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
            assert!(started.elapsed() < Duration::from_secs(10), "{what}");
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
