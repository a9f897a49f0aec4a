use proptest::prelude::*;
use wat::parse_str;

use super::*;
use crate::builtin;
use crate::policy::grants::Grants;

fn of(text: &str) -> Inspection {
    inspect(&parse_str(text).unwrap()).unwrap()
}

#[test]
fn the_built_in_provisioner_is_read_with_documentation_risk_and_worlds() {
    let docker = inspect(builtin::DOCKER).unwrap();
    let risks: Vec<(&str, Risk)> = docker
        .imports
        .iter()
        .map(|import| (import.name.rsplit('/').next().unwrap().split('@').next().unwrap(), import.risk))
        .collect();
    for expected in [
        ("container-runtime", Risk::High),
        ("secret-resolver", Risk::High),
        ("config-resolver", Risk::Medium),
        ("remote-endpoint", Risk::Medium),
        ("log", Risk::Low),
        ("values", Risk::None),
    ] {
        assert!(risks.contains(&expected), "{risks:?}");
    }
    let runtime = docker.imports.iter().find(|import| import.name.contains("container-runtime")).unwrap();
    let names: Vec<&str> = runtime.functions.iter().map(|function| function.name.as_str()).collect();
    assert!(names.contains(&"start") && names.contains(&"run") && !names.contains(&"stop"), "{names:?}");
    let start = runtime.functions.iter().find(|function| function.name == "start").unwrap();
    assert!(start.documentation.as_deref().unwrap().starts_with("Starts a container"), "{start:?}");
    assert_eq!(start.signature.as_deref(), Some("func(spec: container-spec) -> result<container, error>"));
    let fits: Vec<(&str, bool)> = docker.worlds.iter().map(|fit| (fit.world.as_str(), fit.fits)).collect();
    assert_eq!(
        fits,
        [("docker-provisioner", true), ("kubernetes-provisioner", true), ("cluster-mapping", false)],
        "{:?}",
        docker.worlds
    );
    assert_eq!(docker.warnings, Vec::<String>::new());
    assert!(docker.wit.unwrap().contains("import mcp-gateway:provisioning/container-runtime@0.1.0;"));
    assert!(docker.claims.producers.iter().any(|made| made.name == "wit-component"));

    let standing = Standing::of(&inspect(builtin::DOCKER).unwrap(), &Grants::builtin_docker());
    assert!(standing.can_run && standing.unused.is_empty() && standing.beyond_the_entry.is_empty());
    let other: Grants = "log,cluster-objects,rewrite-image=r.test".parse().unwrap();
    let standing = Standing::of(&inspect(builtin::DOCKER).unwrap(), &other);
    assert!(!standing.can_run);
    assert_eq!(standing.unused, ["cluster-objects"]);
    assert_eq!(standing.beyond_the_entry, ["rewrite-image=r.test"]);
    assert!(standing.missing.contains(&"container-runtime".to_owned()), "{standing:?}");
}

#[test]
fn a_function_with_another_type_is_told_with_both() {
    let text = r#"(component
        (import "mcp-gateway:provisioning/log@0.1.0" (instance
            (export "log" (func (param "message" string)))
            (export "erase" (func)))))"#;
    let inspection = of(text);
    let fit = inspection.worlds.iter().find(|fit| fit.world == "docker-provisioner").unwrap();
    let problems = fit.problems.join("\n");
    assert!(!fit.fits);
    for expected in [
        "`log` of `mcp-gateway:provisioning/log@0.1.0` has another type: `func(message: string)` instead of \
         `func(level: level, message: string)`",
        "imports `erase` of",
        "does not export `mcp-gateway:provisioning/provisioner@0.1.0`",
    ] {
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn wasi_and_strangers_are_called_out_and_names_cannot_drive_a_terminal() {
    let inspection = of(r#"(component
            (import "wasi:filesystem/types@0.2.6" (instance (export "f" (func))))
            (import "mcp-gateway:provisioning/log@0.9.0" (instance))
            (import "mcp-gatevvay:provisioning/log@0.1.0" (instance))
            (import "loose" (func))
            (@custom "description" "\1b[31mtrusted by everybody\0a\e2\80\ae"))"#);
    let grants: Vec<(Risk, Option<&str>)> =
        inspection.imports.iter().map(|import| (import.risk, import.grant.as_deref())).collect();
    assert_eq!(
        grants,
        [(Risk::High, Some("wasi:filesystem")), (Risk::Refused, None), (Risk::Refused, None), (Risk::Refused, None)]
    );
    let warnings = inspection.warnings.join("\n");
    assert!(warnings.contains("another version") && warnings.contains("looks like"), "{warnings}");
    let claim = &inspection.claims.texts["description"];
    assert!(claim.contains("trusted by everybody") && !claim.contains(['\u{1b}', '\n', '\u{202e}']), "{claim}");
}

#[test]
fn interfaces_of_wasi_are_those_that_are_linked_and_each_has_its_words() {
    let inspection = of(r#"(component
            (import "wasi:io/poll@0.2.6" (instance))
            (import "wasi:cli/stdout@0.2.0" (instance))
            (import "wasi:http/outgoing-handler@0.2.6" (instance))
            (import "wasi:io/poll@0.3.0" (instance))
            (import "wasi:clocks/timezone@0.2.6" (instance)))"#);
    let seen: Vec<(bool, Option<&str>)> =
        inspection.imports.iter().map(|import| (import.offered, import.grant.as_deref())).collect();
    assert_eq!(seen, [(true, Some("wasi:io")), (true, Some("wasi:cli")), (false, None), (false, None), (false, None)]);
    let words: Vec<&str> = inspection.imports.iter().map(|import| import.capability.as_str()).collect();
    assert!(words[0].contains("waiting for several things") && words[1].contains("leads nowhere"), "{words:?}");
    assert!(words[2].contains("does not link"), "{words:?}");
    assert_eq!(
        wasi_packages(),
        ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"]
    );
    for name in ["docker", "kubernetes"] {
        let builtin = if name == "docker" { builtin::DOCKER } else { builtin::KUBERNETES };
        assert!(inspect(builtin).unwrap().imports.iter().all(|import| !import.name.starts_with("wasi:")));
    }
}

#[test]
fn a_type_that_is_another_under_the_same_name_is_a_difference() {
    let with = |fields: &str, result: &str| {
        of(&format!(
            r#"(component
                (type (;0;) (instance
                    (type (;0;) (record {fields}))
                    (export (;1;) "spec" (type (eq 0)))
                    (type (;2;) (func (param "spec" 1) (result {result})))
                    (export (;0;) "start" (func (type 2)))))
                (import "mcp-gateway:provisioning/container-runtime@0.1.0" (instance (;0;) (type 0))))"#
        ))
    };
    let first = with(r#"(field "image" string)"#, "u32");
    let changed = |second: &Inspection| {
        let difference = Difference::between(&first, second);
        assert!(difference.wants_more.is_empty() && difference.wants_less.is_empty(), "{difference:?}");
        assert_eq!(difference.wants_something_new(), !difference.wants_changed.is_empty());
        let texts = difference.wants_changed.into_iter().map(|change| {
            let (was, is) = change.types.unwrap();
            format!("{}: {was} -> {is}", change.function.unwrap())
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(changed(&first), [""; 0]);
    assert_eq!(
        changed(&with(r#"(field "image" string)"#, "u64")),
        ["start: func(spec: spec) -> u32 -> func(spec: spec) -> u64"]
    );
    // The signature reads the same, and takes something else.
    assert_eq!(
        changed(&with(r#"(field "image" string) (field "privileged" bool)"#, "u32")),
        ["type spec: record {image: string} -> record {image: string, privileged: bool}"]
    );
}

#[test]
fn what_is_no_component_is_named_with_what_to_do() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"\0asm\x01\0\0\0", "wasm-tools component new"),
        (b"\0asm\x09\0\0\0", "unknown version"),
        (b"  (component)", "wasm-tools parse"),
        (b"#!/bin/sh", "text, not WebAssembly"),
        (b"\x7fELF....", "machine code"),
        (b"\x1f\x8b....", "unpack it"),
        (b"\xff\xfe\0\0", "not WebAssembly"),
        (b"\0asm\x0d\0\x01\0\x09", "not valid WebAssembly"),
    ] {
        let error = inspect(bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = inspect(&builtin::DOCKER[..builtin::DOCKER.len() / 2]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("get it anew"), "{error}");
}

#[test]
fn types_that_stand_for_more_than_fits_anywhere_are_not_written_out() {
    use std::fmt::Write as _;
    // Each type is two of the one before. The validator lets just this much through.
    let mut types = String::from("(type $t0 (tuple u8 u8))");
    for level in 1..17 {
        let _ = write!(types, "(type $t{level} (tuple $t{} $t{}))", level - 1, level - 1);
    }
    let mut imports = String::new();
    for number in 0..3 {
        let _ = write!(imports, "(import \"f{number}\" (func (param \"p\" $t16)))");
    }
    let inspection = of(&format!("(component {types} {imports})"));
    assert_eq!(inspection.imports.len(), 3);
    assert!(inspection.wit.unwrap_err().contains("too large"));
}

#[test]
fn a_difference_says_what_is_wanted_more_less_and_otherwise() {
    let first = of(r#"(component
        (import "a:b/c@1.0.0" (instance (export "same" (func)) (export "gone" (func)) (export "other" (func (param "p" u8))))))"#);
    let second = of(r#"(component
        (import "a:b/c@1.0.0" (instance (export "same" (func)) (export "new" (func)) (export "other" (func (param "p" u16)))))
        (import "wasi:sockets/tcp@0.2.6" (instance (export "t" (func)))))"#);
    let difference = Difference::between(&first, &second);
    let names = |changes: &[Change]| {
        changes
            .iter()
            .map(|change| format!("{} {}", change.name, change.function.as_deref().unwrap_or("*")))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&difference.wants_more), ["a:b/c@1.0.0 new", "wasi:sockets/tcp@0.2.6 *"]);
    assert_eq!(names(&difference.wants_less), ["a:b/c@1.0.0 gone"]);
    assert_eq!(names(&difference.wants_changed), ["a:b/c@1.0.0 other"]);
    assert!(difference.wants_something_new());
    let same = Difference::between(&first, &first);
    assert!(same.same_bytes && !same.wants_something_new());
}

/// Components to be damaged: built-in ones, and small ones of every shape.
fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "(component)",
        r#"(component (import "a:b/c@1.0.0" (instance (type $t (record (field "f" u8))) (export "t" (type (eq $t))))))"#,
        r#"(component (component $c (core module (func (export "f")))) (instance (instantiate $c)))"#,
        r#"(component (import "x" (func (param "p" (list (tuple string (option u8)))))))"#,
    ];
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| parse_str(text).unwrap()).collect();
    seeds.extend([builtin::DOCKER.to_vec(), builtin::SAMPLE_SERVER.to_vec()]);
    seeds
}

#[path = "../../../fuzz/src/bodies/inspect.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are another crate")]
mod body;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_component_is_an_error_or_an_inspection_and_never_a_panic(
        seed in 0_usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds()[seed].clone();
        // Most of a component is code; what is at its ends is read by everybody.
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            let at = if byte % 2 == 0 { at } else { at % 400.min(bytes.len()) };
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        body::component(&bytes);
    }
}
