//! Holds the contract in `wit/` to its own rules: every item is documented, functions that can fail say when, types
//! live in interfaces, and nothing outside the package (no WASI) is mentioned.
//!
//! What the items mean is not checked here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::path::Path;

use wit_parser::{Docs, Function, FunctionKind, Interface, PackageId, Resolve, Type, TypeDefKind, World, WorldItem};

#[test]
fn every_item_of_the_contract_is_documented_and_every_failure_explained() {
    let mut resolve = Resolve::default();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(&directory).expect("`wit/` parses");
    let complaints = review(&resolve, package);
    assert!(complaints.is_empty(), "wit/:\n  {}", complaints.join("\n  "));
}

#[test]
fn the_contract_mentions_no_package_but_its_own() {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).expect("`wit/` parses");
    let names: Vec<String> = resolve.packages.iter().map(|(_, package)| package.name.to_string()).collect();
    assert_eq!(names, ["mcp-gateway:provisioning@0.1.0"], "a guest must not import WASI or anything else");
}

#[test]
fn the_review_sees_each_kind_of_item_that_lacks_documentation() {
    let complaints = review_text(
        "package a:b;
        interface i {
          record r { f: u32 }
          variant v { c }
          enum e { one }
          flags g { bit }
          resource s { constructor(); m: func(); n: static func(); }
          type alias = u32;
          go: func();
        }
        world w { import i; }",
    );
    let undocumented: Vec<&str> =
        complaints.iter().filter_map(|complaint| complaint.strip_suffix(" has no documentation")).collect();
    let expected = [
        "package `a:b`",
        "interface `i`",
        "record `i.r`",
        "field `i.r.f`",
        "variant `i.v`",
        "case `i.v.c`",
        "enum `i.e`",
        "case `i.e.one`",
        "flags `i.g`",
        "flag `i.g.bit`",
        "resource `i.s`",
        "type `i.alias`",
        "function `i.[constructor]s`",
        "function `i.[method]s.m`",
        "function `i.[static]s.n`",
        "function `i.go`",
        "world `w`",
    ];
    for item in expected {
        assert!(undocumented.contains(&item), "{item} was not noticed, only {undocumented:#?}");
    }
    assert_eq!(undocumented.len(), expected.len(), "{undocumented:#?}");
}

#[test]
fn the_review_sees_a_failure_that_is_not_explained() {
    let complaints = review_text(
        "/// P.
        package a:b;
        /// I.
        interface i {
          /// Does it.
          go: func() -> result<u32, string>;
          /// Does it. Errors: never.
          well: func() -> result<u32, string>;
        }",
    );
    assert_eq!(complaints, ["function `i.go` can fail, but its documentation does not say `Errors:`"]);
}

#[test]
fn the_review_sees_a_type_or_function_in_a_world() {
    let complaints = review_text(
        "/// P.
        package a:b;
        /// W.
        world w {
          /// T.
          record t {
            /// F.
            f: u32
          }
          /// G.
          export go: func();
          /// Inline.
          import here: interface {}
        }",
    );
    assert_eq!(
        complaints,
        [
            "world `w` has the inline interface `here`; give it a file of its own",
            "world `w` defines the type `t`; types live in interfaces",
            "world `w` has the function `go`; functions live in interfaces",
        ]
    );
}

fn review_text(wit: &str) -> Vec<String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).expect("the snippet parses");
    review(&resolve, package)
}

/// Everything that is wrong with a package, in the order of its text as far as the parser keeps it.
fn review(resolve: &Resolve, package: PackageId) -> Vec<String> {
    let mut complaints = Vec::new();
    let package = &resolve.packages[package];
    need_docs(&package.docs, &format!("package `{}`", package.name), &mut complaints);
    for (name, &interface) in &package.interfaces {
        review_interface(resolve, name, &resolve.interfaces[interface], &mut complaints);
    }
    for (name, &world) in &package.worlds {
        review_world(resolve, name, &resolve.worlds[world], &mut complaints);
    }
    complaints
}

fn review_interface(resolve: &Resolve, name: &str, interface: &Interface, complaints: &mut Vec<String>) {
    need_docs(&interface.docs, &format!("interface `{name}`"), complaints);
    for (type_name, &id) in &interface.types {
        let definition = &resolve.types[id];
        let path = format!("{name}.{type_name}");
        // `use other.{t}` makes an alias without a place for documentation; the original has it.
        let is_use = matches!(definition.kind, TypeDefKind::Type(Type::Id(of)) if
            resolve.types[of].name.as_deref() == Some(type_name) && resolve.types[of].owner != definition.owner);
        if !is_use {
            need_docs(&definition.docs, &format!("{} `{path}`", definition.kind.as_str()), complaints);
        }
        match &definition.kind {
            TypeDefKind::Record(record) => {
                for field in &record.fields {
                    need_docs(&field.docs, &format!("field `{path}.{}`", field.name), complaints);
                }
            }
            TypeDefKind::Variant(variant) => {
                for case in &variant.cases {
                    need_docs(&case.docs, &format!("case `{path}.{}`", case.name), complaints);
                }
            }
            TypeDefKind::Enum(cases) => {
                for case in &cases.cases {
                    need_docs(&case.docs, &format!("case `{path}.{}`", case.name), complaints);
                }
            }
            TypeDefKind::Flags(flags) => {
                for flag in &flags.flags {
                    need_docs(&flag.docs, &format!("flag `{path}.{}`", flag.name), complaints);
                }
            }
            _ => {}
        }
    }
    for (function_name, function) in &interface.functions {
        review_function(resolve, &format!("{name}.{function_name}"), function, complaints);
    }
}

fn review_function(resolve: &Resolve, path: &str, function: &Function, complaints: &mut Vec<String>) {
    need_docs(&function.docs, &format!("function `{path}`"), complaints);
    let docs = function.docs.contents.as_deref().unwrap_or_default();
    let can_fail = matches!(function.result, Some(Type::Id(id)) if
        matches!(resolve.types[id].kind, TypeDefKind::Result(_))
        && !matches!(function.kind, FunctionKind::Constructor(_)));
    if can_fail && !docs.is_empty() && !docs.contains("Errors:") {
        complaints.push(format!("function `{path}` can fail, but its documentation does not say `Errors:`"));
    }
}

fn review_world(resolve: &Resolve, name: &str, world: &World, complaints: &mut Vec<String>) {
    need_docs(&world.docs, &format!("world `{name}`"), complaints);
    for (key, item) in world.imports.iter().chain(&world.exports) {
        let key = resolve.name_world_key(key);
        match item {
            WorldItem::Type { .. } => {
                complaints.push(format!("world `{name}` defines the type `{key}`; types live in interfaces"));
            }
            WorldItem::Function(_) => {
                complaints.push(format!("world `{name}` has the function `{key}`; functions live in interfaces"));
            }
            WorldItem::Interface { id, .. } if resolve.interfaces[*id].name.is_none() => {
                complaints.push(format!("world `{name}` has the inline interface `{key}`; give it a file of its own"));
            }
            WorldItem::Interface { .. } => {}
        }
    }
}

fn need_docs(docs: &Docs, item: &str, complaints: &mut Vec<String>) {
    if docs.contents.as_deref().unwrap_or_default().trim().is_empty() {
        complaints.push(format!("{item} has no documentation"));
    }
}
