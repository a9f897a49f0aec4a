//! Building the program that starts tools in pods, one for each kind of processor whose target is installed.
//!
//! Its sources are in `runner/`. It is built by the compiler alone, with the linker that comes with it, so that it can be
//! built on any system.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::guests::Result;

/// The kinds of processors as clusters call them, and the targets that a program for them can be built with.
const ARCHITECTURES: [(&str, &[&str]); 2] = [
    ("amd64", &["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl", "x86_64-unknown-none"]),
    ("arm64", &["aarch64-unknown-linux-gnu", "aarch64-unknown-linux-musl", "aarch64-unknown-none"]),
];

/// Builds the programs into a directory. Gives the source of a list of them.
pub(crate) fn build(rustc: &OsStr, sources: &Path, out: &Path) -> Result<String> {
    let mut list = String::from("&[\n");
    for (architecture, targets) in ARCHITECTURES {
        let Some(target) = targets.iter().find(|target| is_installed(rustc, target)) else { continue };
        let file = format!("runner-{architecture}");
        let output = Command::new(rustc)
            .args(["--edition=2024", "--crate-type=bin", "--crate-name=runner", "--target", target])
            .args([
                "-Cpanic=abort",
                "-Copt-level=s",
                "-Ccodegen-units=1",
                "-Crelocation-model=static",
                "-Cstrip=symbols",
            ])
            .args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Ctarget-feature=+crt-static"])
            .args(["-Clink-arg=--gc-sections", "-Clink-arg=--build-id=none"])
            .arg("-o")
            .arg(out.join(&file))
            .arg(sources.join("main.rs"))
            .output()
            .map_err(|error| format!("cannot run rustc for the runner: {error}"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(format!("building the runner for {target} failed: {reason}").into());
        }
        list += &format!(
            "    Program {{ architecture: \"{architecture}\", bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")) }},\n"
        );
    }
    list += "]\n";
    Ok(list)
}

fn is_installed(rustc: &OsStr, target: &str) -> bool {
    let output = Command::new(rustc).args(["--print=target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
