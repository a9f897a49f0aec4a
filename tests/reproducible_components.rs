//! The built-in components can be built again from the sources, in another directory, with the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::path::Path;
use std::process::Command;

#[test]
fn the_built_in_components_come_out_the_same_in_another_directory() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    // Elsewhere, and with a path of another length: paths must not be in the bytes.
    let elsewhere = tempfile::Builder::new().prefix("sources-elsewhere-with-a-longer-name-").tempdir().unwrap();
    for name in ["wit", "components", "host", "tests", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        let status = Command::new("cp").arg("-r").arg(root.join(name)).arg(elsewhere.path()).status().unwrap();
        assert!(status.success());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
    let output = command
        .args(["provisioner", "rebuild", "--format", "json"])
        .arg(elsewhere.path())
        .arg("--target-directory")
        .arg(elsewhere.path().join("built"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let rows = json["components"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{json:#}");
    assert!(rows.iter().all(|row| row["same"] == true && row["builtIn"] == row["rebuilt"]), "{json:#}");
}
