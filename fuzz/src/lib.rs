//! What the fuzz targets do with their input. The same functions run on bounded random input in the ordinary tests
//! (`components/core/tests/fuzz_bodies.rs`, `tests/catalogs.rs`, `tests/policy.rs`, `host/src/inspect/tests.rs`).
//!
//! The host's code for catalogs, policies and inspection is taken in by path: as a dependency, the host would bring its
//! engines along.

#[path = "../../host/src"]
mod host {
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod catalog;
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod inspect;
}

#[path = "../../host/src/audit"]
pub mod audit {
    //! How much of the audit log is kept.

    mod retention;

    pub use retention::Retention;
}

#[path = "../../host/src/policy"]
pub mod policy {
    //! Reading policy files and grants.

    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod file;
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod grants;
}

#[path = "../../host/src/sandbox"]
pub mod sandbox {
    //! What is known of components without running them.

    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub mod contract;
    mod limits;
    #[allow(dead_code, reason = "the targets reach a part of it")]
    pub(crate) mod shape;

    pub use limits::Limits;
}

pub use host::{catalog, inspect};

pub mod bodies {
    //! One function for each target.

    pub mod catalog;
    pub mod core;
    pub mod inspect;
    pub mod policy;
    pub mod specification;
}

pub mod seeds;
