//! What the names in a component's bytes mean to this host. Knows no engine: nothing is compiled or run for it.

use sha2::{Digest as _, Sha256};

use crate::policy::grants::Interface;

/// The package of the contract, as it stands in the names of interfaces.
pub const PACKAGE: &str = "mcp-gateway:provisioning";
/// The version of the contract that this host serves.
pub const VERSION: &str = "0.1.0";
/// Interfaces that carry no authority and are always linked.
const FREE: [&str; 3] = ["types", "values", "handles"];

/// What an import needs.
pub(crate) enum Need {
    /// It carries no authority.
    Nothing,
    /// The grant of an interface.
    Interface(Interface),
    /// The grant of a package of WASI.
    Wasi(String),
    /// This host does not have it.
    NotOffered,
}

/// What the import with this full name needs.
pub(crate) fn need(import: &str) -> Need {
    if import.starts_with("wasi:") {
        // The grant names the package: `wasi:io` for `wasi:io/streams@0.2.6`.
        return Need::Wasi(import.split(['/', '@']).next().unwrap_or(import).to_owned());
    }
    let name =
        import.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('@'));
    match name {
        Some((name, VERSION)) if FREE.contains(&name) => Need::Nothing,
        Some((name, VERSION)) => match Interface::ALL.into_iter().find(|interface| interface.name() == name) {
            Some(interface) => Need::Interface(interface),
            None => Need::NotOffered,
        },
        _ => Need::NotOffered,
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
