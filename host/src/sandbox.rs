//! Running components: engine, limits, linking and operations. Only this module and `capability` use wasmtime.

pub mod engine;
