//! How the programs are linked.

use std::env;
use std::process::Command;

/// The first version of the GNU C library whose loader reads packed relocations.
const SINCE: (u32, u32) = (2, 36);

/// Has the relocations of the programs packed, where what loads them can read that: 80,000 of them take 2 MB in the usual
/// form, which the loader reads whole, so that they stay in memory.
pub(crate) fn pack_relocations() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_gnu = variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    // Of another machine's library nothing is known here.
    let is_for_here = variable("HOST") == variable("TARGET");
    if is_gnu && is_for_here && library().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library.
fn library() -> Option<(u32, u32)> {
    // Prints `glibc 2.36`.
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
