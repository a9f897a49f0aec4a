//! What the fuzz targets do with their input. The same functions run on bounded random input in the ordinary tests
//! (`components/core/tests/fuzz_bodies.rs`, `tests/catalogs.rs`, `tests/policy.rs`).
//!
//! The catalog and policy code of the host is taken in by path: as a dependency, the host would bring its engines along.

#[path = "../../host/src"]
mod host {
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod catalog;
}

#[path = "../../host/src/policy"]
pub mod policy {
    //! Reading policy files and grants.

    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod file;
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod grants;
}

pub use host::catalog;

pub mod bodies {
    //! One function for each target.

    pub mod catalog;
    pub mod core;
    pub mod policy;
    pub mod specification;
}
