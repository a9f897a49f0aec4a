//! Builds the guests, so that `cargo build` alone is enough, and embeds the built-in ones.
//!
//! Writes `$OUT_DIR/builtin_components.rs` for `src/builtin.rs` to include, and names the directory of the test
//! guests, one `.wasm` per folder below `components/fixtures*`, in `FIXTURE_COMPONENTS`. How a guest is built is in
//! `build/guests.rs`. Also builds the program that starts tools in pods, see `build/runner.rs`, and says how the programs
//! are linked, see `build/linking.rs`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "that is how a build script talks to cargo")]

#[path = "build/guests.rs"]
mod guests;
#[path = "build/linking.rs"]
mod linking;
#[path = "build/runner.rs"]
mod runner;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use guests::{Guest, Kind, Result, Toolchain, builtins};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("run this with cargo")?);
    let workspace = manifest.parent().ok_or("the host package is not in a workspace")?.to_owned();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("run this with cargo")?);

    // Everything that guests are made of, and nothing of the host: a change there must not build guests again.
    for input in ["wit", "components", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    for own in ["build.rs", "build"] {
        println!("cargo::rerun-if-changed={}", manifest.join(own).display());
    }

    let builtins = builtins();
    let mut fixtures = Guest::below(&workspace.join("components/fixtures"), Kind::Bare)?;
    fixtures.extend(Guest::below(&workspace.join("components/fixtures-wasi"), Kind::Command)?);

    let program = |name: &str| env::var_os(name).ok_or("run this with cargo");
    let toolchain = Toolchain::new(program("CARGO")?, program("RUSTC")?, &workspace, out.join("guests"))?;
    // By themselves: what is built together may share features of crates, and come out differently.
    for (.., guest) in &builtins {
        toolchain.build(&[guest])?;
    }
    toolchain.build(&fixtures.iter().collect::<Vec<_>>())?;
    println!("cargo::rustc-env=GUEST_TOOLCHAIN={}", toolchain.version()?);

    let mut source = String::new();
    for (constant, meaning, guest) in &builtins {
        let file = format!("{}.wasm", guest.package);
        write(&out.join(&file), &toolchain.component(guest)?)?;
        source += &format!(
            "/// {meaning}\npub const {constant}: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"));\n"
        );
    }
    write(&out.join("builtin_components.rs"), source.as_bytes())?;

    let programs = runner::build(&program("RUSTC")?, &manifest.join("build/runner"), &out)?;
    write(&out.join("runner_programs.rs"), programs.as_bytes())?;

    let directory = out.join("fixtures");
    // Made anew, so that a fixture that was removed does not linger.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    for guest in &fixtures {
        write(&directory.join(format!("{}.wasm", guest.file_stem)), &toolchain.component(guest)?)?;
    }
    println!("cargo::rustc-env=FIXTURE_COMPONENTS={}", directory.display());
    linking::pack_relocations();
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| format!("cannot write `{}`: {error}", path.display()).into())
}
