//! Components whose core module is written by hand, so that they do what no compiler would let them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use docker_mcp::sandbox::component::Source;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

/// The imports that bodies may call. Each is declared only where it is used.
const IMPORTS: [(&str, &str, &str, &str); 7] = [
    ("$new", "values", "[constructor]value", "(param i32 i32) (result i32)"),
    ("$concat", "values", "[static]value.concat", "(param i32 i32) (result i32)"),
    ("$drop_value", "values", "[resource-drop]value", "(param i32)"),
    ("$drop_container", "handles", "[resource-drop]container", "(param i32)"),
    ("$start", "container-runtime", "start", "(param i32 i32)"),
    ("$stop", "container-runtime", "stop", "(param i32 i32)"),
    ("$log", "log", "log", "(param i32 i32 i32)"),
];

/// Those of WASI, likewise.
const WASI: [(&str, &str, &str, &str); 6] = [
    ("$environment", "wasi:cli/environment@0.2.0", "get-environment", "(param i32)"),
    ("$arguments", "wasi:cli/environment@0.2.0", "get-arguments", "(param i32)"),
    ("$directories", "wasi:filesystem/preopens@0.2.0", "get-directories", "(param i32)"),
    ("$random", "wasi:random/random@0.2.0", "get-random-bytes", "(param i64 i32)"),
    ("$after", "wasi:clocks/monotonic-clock@0.2.0", "subscribe-duration", "(param i64) (result i32)"),
    ("$block", "wasi:io/poll@0.2.0", "[method]pollable.block", "(param i32)"),
];

/// What the contract and the part of WASI above look like together.
const WITH_WASI: &str = "
package test:wasi;

world guest {
    include mcp-gateway:provisioning/docker-provisioner@0.1.0;
    import wasi:cli/environment@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:filesystem/preopens@0.2.0;
    import wasi:io/poll@0.2.0;
    import wasi:random/random@0.2.0;
}

package wasi:io@0.2.0 {
    interface poll {
        resource pollable { block: func(); }
    }
}

package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        subscribe-duration: func(when: u64) -> pollable;
    }
}

package wasi:cli@0.2.0 {
    interface environment {
        get-environment: func() -> list<tuple<string, string>>;
        get-arguments: func() -> list<string>;
    }
}

package wasi:filesystem@0.2.0 {
    interface types { resource descriptor; }
    interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
    }
}

package wasi:random@0.2.0 {
    interface random { get-random-bytes: func(len: u64) -> list<u8>; }
}
";

/// A provisioner whose `provision-server` has this body and whose module has this besides. The body leaves the
/// address of the result. Addresses up to 1 MiB are its own; `$fail` makes a result of an error text.
pub(crate) fn provisioner(pages: u32, extra: &str, body: &str) -> Vec<u8> {
    let contract = IMPORTS.map(|(name, interface, function, kind)| {
        (name, format!("mcp-gateway:provisioning/{interface}@0.1.0"), function, kind)
    });
    let wasi = WASI.map(|(name, interface, function, kind)| (name, interface.to_owned(), function, kind));
    let imports: String = contract
        .iter()
        .chain(&wasi)
        .filter(|(name, ..)| body.contains(&format!("{name} ")) || body.contains(&format!("{name})")))
        .map(|(name, interface, function, kind)| format!(r#"(import "{interface}" "{function}" (func {name} {kind}))"#))
        .collect();
    let export = |name: &str| format!(r#"(export "mcp-gateway:provisioning/provisioner@0.1.0#{name}")"#);
    let spec = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32)";
    let text = format!(
        r#"(module {imports}
            (memory (export "memory") {pages})
            (global $free (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $free)
                (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
            (func $fail (param i32 i32) (result i32)
                (i32.store8 (i32.const 2048) (i32.const 1))
                (i32.store8 (i32.const 2052) (i32.const 6))
                (i32.store (i32.const 2056) (local.get 0))
                (i32.store (i32.const 2060) (local.get 1))
                (i32.const 2048))
            (func $container (param i32) (result i32)
                (i32.store8 (i32.const 2048) (i32.const 0))
                (i32.store8 (i32.const 2052) (i32.const 0))
                (i32.store (i32.const 2056) (local.get 0))
                (i32.const 2048))
            (func {} (result i32) (i32.const 1024))
            (func {} (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func {} {spec} (result i32) (i32.const 1024))
            (func {} {spec} (result i32) (local $h i32) (local $i i32) {body})
            (func {} (param i32) (result i32) (unreachable))
            (func {} (param i32 i32) (result i32) (i32.const 1024))
            (data (i32.const 16) "done")
            {extra})"#,
        export("name"),
        export("initialize"),
        export("pre-validate-deployment"),
        export("provision-server"),
        export("apply-tool-providers"),
        export("shutdown"),
    );
    let mut module = wat::parse_str(&text).unwrap();
    let (resolve, world) = &*CONTRACT;
    wit_component::embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

static CONTRACT: LazyLock<(Resolve, WorldId)> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).unwrap();
    let package = resolve.push_str("wasi.wit", WITH_WASI).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    (resolve, world)
});

/// A component of nothing but these declarations and a provisioner without functions.
pub(crate) fn declaring(declarations: &str) -> Vec<u8> {
    let text = format!(
        r#"(component {declarations} (instance $none) (export "mcp-gateway:provisioning/provisioner@0.1.0" (instance $none)))"#
    );
    wat::parse_str(&text).unwrap()
}

/// Bytes as a file that lives as long as this does.
pub(crate) struct File {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl File {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("raw.wasm");
        std::fs::write(&path, bytes).unwrap();
        Self { path, _directory: directory }
    }

    pub(crate) fn source(&self) -> Source {
        Source::File(self.path.clone())
    }
}
