//! The pure domain code of docker-mcp: what values, templates, names, envelopes and
//! policies are and how they are judged.
//!
//! Nothing here does I/O, reads a clock or knows an engine, so that host, guests and fuzz targets share one
//! implementation. Catalog loading, secret stores and engines live in the host.

pub mod cluster_key;
pub mod env_file;
pub mod envelope;
pub mod host;
pub mod image;
pub mod names;
pub mod policy;
pub mod quantity;
pub mod spec;
pub mod template;
pub mod text;
pub mod value;
pub mod volume;

pub use cluster_key::{InvalidKey, cluster_key};
pub use envelope::{Bounds, Envelope, Refusal};
pub use spec::{ContainerSpec, HostAlias, Network, Resources, SecurityProfile, VolumeMount};
pub use value::{Origin, Segment, Value};
