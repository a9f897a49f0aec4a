//! Components to begin with: one for each world of the contract, and small ones of every shape.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

const SHAPES: [&str; 5] = [
    "(component)",
    r#"(component (import "a:b/c@1.0.0" (instance (type $t (record (field "f" u8))) (export "t" (type (eq $t))))))"#,
    r#"(component (component $c (core module (func (export "f")))) (instance (instantiate $c)))"#,
    r#"(component (import "x" (func (param "p" (list (tuple string (option u8)))))))"#,
    r#"(component (import "wasi:io/poll@0.2.6" (instance (export "pollable" (type (sub resource))))) (core module (memory 1 2) (table 3 funcref)))"#,
];

/// Their names and bytes.
///
/// # Panics
/// If the contract of this repository cannot be read.
pub fn components() -> Vec<(String, Vec<u8>)> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit).expect("the contract can be read");
    let worlds: Vec<_> = resolve.packages[package].worlds.clone().into_iter().collect();
    let mut all = Vec::new();
    for (name, world) in worlds {
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("a world can be embedded");
        let mut encoder = ComponentEncoder::default().module(&module).expect("a module of a world");
        all.push((name, encoder.encode().expect("a component of a world")));
    }
    for (number, text) in SHAPES.into_iter().enumerate() {
        all.push((format!("shape-{number}"), wat::parse_str(text).expect("a component in text")));
    }
    all
}
