//! What the host can do for a component: one module per WIT import, each with the trait that its backends implement.

pub mod container_runtime;
