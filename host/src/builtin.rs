//! The components that are embedded in the binary, built from `components/` by the build script.

include!(concat!(env!("OUT_DIR"), "/builtin_components.rs"));
