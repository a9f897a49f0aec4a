//! The provider of cryptography for TLS connections that this process makes through `reqwest`.

use std::sync::OnceLock;

/// Installs the provider, once in a process.
pub(crate) fn install_provider() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // Fails only if somebody else was first, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
