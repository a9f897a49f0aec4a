//! What the fuzz targets do, on bounded random input made of the pieces that matter.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use proptest::prelude::*;

#[path = "../../../fuzz/src/bodies/core.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are another crate")]
mod bodies;
#[path = "../../../fuzz/src/bodies/specification.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are another crate")]
mod specification;

/// Texts of these pieces and of anything.
fn of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const TEMPLATE: &[&str] = &[
    "{{",
    "}}",
    "{",
    "}",
    "|",
    "s.a",
    "s.l",
    "s.secret",
    "q",
    ".",
    ":",
    "first",
    "last",
    "into",
    "volume",
    "volume-target",
    "or:",
    "[x, y]",
    "mount_as:/p:ro",
    "$A",
    "${A}",
    "${",
    "\0",
    r#"{"s": {"a": ["x", "$A"]}}"#,
    " ",
    "é",
    "\n",
];
const ENV_FILE: &[&str] = &["A", "=", "\n", "\r\n", "#", "\"", "'", "\\", "$A", "\u{feff}", " ", "\t", "export ", "é"];
const VOLUME: &[&str] =
    &["/", "/tmp", "/tmp/w", "/etc", "..", ".", ":", "ro", "rw", ",", "z", "name", "C:\\", "~", ".ssh", "\0", " "];

const SPECIFICATION: &[&str] = &[
    "\n",
    "\n",
    "\n",
    "image ",
    "arg ",
    "args ",
    "env ",
    "set ",
    "less",
    "volume ",
    "user ",
    "network",
    "host ",
    "label ",
    "cpu ",
    "memory ",
    "+rewrite-image=",
    "+rewrite-command",
    "+add-argument=",
    "+rewrite-user=",
    "+add-env=",
    "+add-mount=",
    "+add-label=",
    "+add-host=",
    "registry.example",
    "docker.io",
    "/",
    ":",
    "@sha256:",
    "mcp/s",
    "embedded:",
    ".wasm",
    "TOKEN",
    "MODE",
    "NEW",
    "HTTP_PROXY",
    "=",
    "\\",
    "*",
    "cache",
    "/etc",
    "..",
    "data",
    "db",
    "evil",
    "10.0.0.1",
    "team.",
    "docker-mcp",
    "0",
    "1",
    "1000",
    "65532",
    " ",
    "\u{430}",
    "\0",
    "--up",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn specifications_hold_on_any_input(data in of(SPECIFICATION)) {
        specification::specification(&data);
    }

    #[test]
    fn templates_hold_on_any_input(data in of(TEMPLATE)) {
        bodies::template(&data);
    }

    #[test]
    fn env_files_hold_on_any_input(data in of(ENV_FILE)) {
        bodies::env_file(&data);
    }

    #[test]
    fn volumes_hold_on_any_input(data in of(VOLUME)) {
        bodies::volume(&data);
    }
}
