//! Catalogs: which servers exist and what they may become.

pub mod entry;

pub use entry::Entry;
