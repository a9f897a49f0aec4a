//! Holds the sources to the layering of `ARCHITECTURE.md`: which module may use which library, who may print, and
//! what `core` must not touch.
//!
//! Works on tokens, so that comments, strings and formatting do not matter. Code that only tests compile is left
//! out: a test may look at the product from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A library, and the places that may use it. A place is a file or a folder, relative to the repository.
struct Library {
    /// Names of crates; one that ends with `*` stands for all that begin so.
    crates: &'static [&'static str],
    places: &'static [&'static str],
}

const LIBRARIES: &[Library] = &[
    Library {
        crates: &["wasmtime*"],
        places: &["host/src/sandbox.rs", "host/src/sandbox/", "host/src/capability.rs", "host/src/capability/"],
    },
    Library { crates: &["wasmparser"], places: &["host/src/sandbox/", "host/src/inspect.rs", "host/src/inspect/"] },
    Library { crates: &["wit_component", "wit_parser"], places: &["host/src/inspect.rs", "host/src/inspect/"] },
    Library {
        crates: &["bollard*"],
        places: &["host/src/capability/container_runtime/docker.rs", "host/src/capability/container_runtime/docker/"],
    },
    Library {
        crates: &["kube", "kube_client", "kube_core", "kube_runtime", "k8s_openapi"],
        places: &[
            "host/src/capability/container_runtime/kubernetes.rs",
            "host/src/capability/container_runtime/kubernetes/",
            "host/src/capability/cluster_objects.rs",
            "host/src/capability/cluster_objects/",
            "host/src/cluster_tools.rs",
            "host/src/cluster_tools/",
        ],
    },
    Library { crates: &["age", "keyring"], places: &["host/src/secrets.rs", "host/src/secrets/"] },
    Library { crates: &["rpassword"], places: &["host/src/cli/"] },
    Library { crates: &["rmcp"], places: &["host/src/gateway.rs", "host/src/gateway/"] },
];

/// Who may print; everybody else logs or returns.
const PRINTERS: &[&str] =
    &["host/src/main.rs", "host/src/cli.rs", "host/src/cli/", "host/src/cluster_tools/output.rs", "host/src/bin/"];
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// What the crate of pure domain code must not touch: modules of `std`, and words that mean a clock or a runtime.
const PURE: &str = "components/core/src/";
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];
const IMPURE_WORDS: &[&str] =
    &["Instant", "SystemTime", "async_std", "async_trait", "hyper", "reqwest", "tokio", "tracing"];

#[test]
fn modules_use_only_the_libraries_of_their_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut complaints = Vec::new();
    let mut seen = 0;
    for folder in ["host/src", "components/core/src"] {
        for path in sources(&root, folder) {
            let name = relative(&root, &path);
            let text = fs::read_to_string(&path).unwrap();
            complaints.extend(review(&name, &text));
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} source files were found: the test looks in the wrong place");
    assert!(complaints.is_empty(), "\n  {}", complaints.join("\n  "));
}

#[test]
fn places_named_by_the_rules_are_spelled_as_in_the_repository() {
    // A folder that was renamed would make a rule say nothing. Places may be missing (a later feature brings them),
    // but the layers that exist must be found.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for place in ["host/src/sandbox.rs", "host/src/capability.rs", "host/src/main.rs", PURE] {
        assert!(root.join(place).exists(), "`{place}` is gone; adapt the rules in this file");
    }
}

#[test]
fn the_review_sees_a_library_outside_its_layer() {
    let complaints =
        review("host/src/catalog.rs", "//! C.\nuse rmcp::model::Tool;\nfn f() { bollard::Docker::new(); }");
    assert_eq!(
        complaints,
        [
            "host/src/catalog.rs:2: uses `rmcp`, which belongs to host/src/gateway.rs, host/src/gateway/",
            "host/src/catalog.rs:3: uses `bollard`, which belongs to host/src/capability/container_runtime/docker.rs, \
             host/src/capability/container_runtime/docker/",
        ]
    );
    assert_eq!(review("host/src/gateway/front.rs", "//! G.\nuse rmcp::{model, service};"), Vec::<String>::new());
    assert_eq!(review("host/src/gateway/front.rs", "//! G.\nuse wasmtime_wasi::p2;").len(), 1);
    assert_eq!(review("host/src/gateway_like.rs", "//! G.\nuse rmcp::model;").len(), 1);
}

#[test]
fn the_review_looks_into_macros_and_nested_groups() {
    assert_eq!(review("host/src/policy.rs", "//! P.\nuse {std::fs, ::{rmcp as r}};").len(), 1);
    assert_eq!(review("host/src/policy.rs", "//! P.\nfn f() { vec![rmcp::model::X]; }").len(), 1);
}

#[test]
fn the_review_sees_printing_outside_the_command_line() {
    let text = "//! P.\nfn f() { println!(\"x\"); }";
    assert_eq!(
        review("host/src/policy.rs", text),
        ["host/src/policy.rs:2: prints with `println!`; log with `tracing` or return it to `cli`"]
    );
    assert_eq!(review("host/src/cli/run.rs", text), Vec::<String>::new());
    // A function of that name is no printing.
    assert_eq!(review("host/src/policy.rs", "//! P.\nfn f() { table.print(); }"), Vec::<String>::new());
}

#[test]
fn the_review_sees_core_reach_out() {
    for text in [
        "use std::fs;",
        "use std::{collections::BTreeMap, net::{IpAddr, TcpStream}};",
        "fn f() { std::process::abort(); }",
        "use std::time::Instant;",
        "use tokio::sync::Mutex;",
    ] {
        assert_eq!(review("components/core/src/x.rs", &format!("//! X.\n{text}")).len(), 1, "{text}");
    }
    for text in ["use std::time::Duration;", "use std::{fmt, collections::{BTreeMap}};", "fn env() {}"] {
        assert_eq!(review("components/core/src/x.rs", &format!("//! X.\n{text}")), Vec::<String>::new(), "{text}");
    }
    // An address is data.
    let addresses = "//! X.\nuse std::net::{IpAddr, Ipv4Addr};\nfn f(a: std::net::SocketAddr) {}";
    assert_eq!(review("components/core/src/x.rs", addresses), Vec::<String>::new());
}

#[test]
fn the_review_leaves_out_comments_strings_and_tests() {
    let text = "//! About rmcp.\n/// println!\nfn f() -> &'static str { \"bollard::Docker\" }\n\
                #[cfg(test)]\nmod tests { use rmcp::model; }\n#[cfg(test)]\nuse bollard::Docker;\n";
    assert_eq!(review("host/src/policy.rs", text), Vec::<String>::new());
    // But only what `cfg(test)` stands before.
    assert_eq!(review("host/src/policy.rs", &format!("{text}use rmcp::model;")).len(), 1);
    assert_eq!(review("host/src/policy.rs", "//! P.\n#[cfg(unix)]\nmod m { use rmcp::model; }").len(), 1);
}

#[test]
fn the_review_wants_a_header() {
    assert_eq!(
        review("host/src/policy.rs", "fn f() {}"),
        ["host/src/policy.rs:1: does not open with `//!`: say what the module owns and what it leaves to others"]
    );
}

/// Everything that is wrong with one file.
fn review(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.trim_start().starts_with("//!") {
        complaints
            .push(format!("{name}:1: does not open with `//!`: say what the module owns and what it leaves to others"));
    }
    let tokens = match TokenStream::from_str(text) {
        Ok(tokens) => tokens,
        Err(error) => return vec![format!("{name}: cannot be read as Rust: {error}")],
    };
    let tokens = flatten(without_tests(tokens));
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(word, line) = token else { continue };
        let at = format!("{name}:{line}");
        let is_member = index > 0 && tokens[index - 1].is('.');
        if is_member {
            continue;
        }
        for library in LIBRARIES {
            if library.crates.iter().any(|pattern| matches(pattern, word)) && !is_in(name, library.places) {
                complaints.push(format!("{at}: uses `{word}`, which belongs to {}", library.places.join(", ")));
            }
        }
        let prints = PRINTING.contains(&word.as_str()) && tokens.get(index + 1).is_some_and(|next| next.is('!'));
        if prints && !is_in(name, PRINTERS) {
            complaints.push(format!("{at}: prints with `{word}!`; log with `tracing` or return it to `cli`"));
        }
        if name.starts_with(PURE) {
            complaints.extend(reach(&tokens, index).map(|what| format!("{at}: core reaches for `{what}`")));
        }
    }
    complaints
}

/// What the word at `index` reaches for, if a pure crate must not.
fn reach(tokens: &[Token], index: usize) -> Option<String> {
    let word = tokens[index].word()?;
    if IMPURE_WORDS.contains(&word) {
        return Some(word.to_owned());
    }
    if word != "std" || !is_path(tokens, index + 1) {
        return None;
    }
    let found = first_words(tokens, index + 3).into_iter().find(|&(module, at)| {
        // Addresses are data; only sockets and resolving reach out.
        let only_data = module == "net"
            && first_words(tokens, at + 3)
                .iter()
                .all(|(item, _)| item.starts_with("Ip") || item.starts_with("SocketAddr"))
            && is_path(tokens, at + 1);
        IMPURE_STD.contains(&module) && !only_data
    })?;
    Some(format!("std::{}", found.0))
}

/// The words that may follow `::` at `index`: one, or in braces the first of each part.
fn first_words(tokens: &[Token], index: usize) -> Vec<(&str, usize)> {
    let mut words = Vec::new();
    match tokens.get(index) {
        Some(Token::Word(word, _)) => words.push((word.as_str(), index)),
        Some(Token::Open) => {
            let mut depth = 1_usize;
            let mut expect = true;
            for (at, token) in tokens.iter().enumerate().skip(index + 1) {
                match token {
                    Token::Open => depth += 1,
                    Token::Close => depth -= 1,
                    Token::Sign(',') if depth == 1 => expect = true,
                    Token::Word(word, _) if depth == 1 && expect => {
                        words.push((word.as_str(), at));
                        expect = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        _ => {}
    }
    words
}

fn is_path(tokens: &[Token], index: usize) -> bool {
    [index, index + 1].iter().all(|&at| tokens.get(at).is_some_and(|token| token.is(':')))
}

/// A token, with groups opened up.
enum Token {
    Word(String, usize),
    Sign(char),
    Open,
    Close,
    Text,
}

impl Token {
    fn is(&self, sign: char) -> bool {
        matches!(self, Self::Sign(own) if *own == sign)
    }

    fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word, _) => Some(word),
            _ => None,
        }
    }
}

fn flatten(tokens: Vec<TokenTree>) -> Vec<Token> {
    let mut flat = Vec::new();
    for tree in tokens {
        match tree {
            TokenTree::Ident(word) => {
                let line = word.span().start().line;
                flat.push(Token::Word(word.to_string().trim_start_matches("r#").to_owned(), line));
            }
            TokenTree::Punct(sign) => flat.push(Token::Sign(sign.as_char())),
            TokenTree::Literal(_) => flat.push(Token::Text),
            TokenTree::Group(group) => {
                flat.push(Token::Open);
                flat.extend(flatten(without_tests(group.stream())));
                flat.push(Token::Close);
            }
        }
    }
    flat
}

/// The tokens without items marked `#[cfg(test)]`: from the attribute to the next `;` or braces.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(tree) = rest.next() {
        let is_hash = matches!(&tree, TokenTree::Punct(sign) if sign.as_char() == '#');
        let for_tests = is_hash
            && matches!(rest.peek(), Some(TokenTree::Group(group))
                if group.delimiter() == Delimiter::Bracket && is_cfg_test(&group.stream()));
        if !for_tests {
            kept.push(tree);
            continue;
        }
        for skipped in rest.by_ref() {
            match skipped {
                TokenTree::Punct(sign) if sign.as_char() == ';' => break,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
    }
    kept
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text == "cfg(test)"
}

fn matches(pattern: &str, word: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => word.starts_with(prefix),
        None => word == pattern,
    }
}

fn is_in(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { name.starts_with(place) } else { name == *place })
}

/// Every Rust file below a folder, except those that only tests compile.
fn sources(root: &Path, folder: &str) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_tests {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests {
                found.insert(path);
            }
        }
    }
    found.into_iter().collect()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")
}

/// `path.rs::name` in a document is a test, and each promise of the one about security names one.
#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| fs::read_to_string(root.join("docs").join(name)).unwrap();
    let (security, compatibility) = (read("security.md"), read("compatibility.md"));
    let mut wrong = Vec::new();
    let mut named = 0;
    for document in [&security, &compatibility] {
        for (path, name) in document.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")) {
            let path = format!("{path}.rs");
            named += 1;
            if !has_test(&fs::read_to_string(root.join(&path)).unwrap_or_default(), name) {
                wrong.push(format!("{path} has no test `{name}`"));
            }
        }
    }
    for row in security.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 1) {
        let proof = row.rsplit(" | ").next().unwrap_or_default();
        let is_head = proof.starts_with("test |");
        if !is_head && !proof.contains(".rs::") && !proof.starts_with("the same; ") {
            wrong.push(format!("no test is named for: {row}"));
        }
    }
    assert!(wrong.is_empty() && named > 80, "{named} named; {wrong:#?}");
}

fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let is_function = line
            .trim_start_matches("async ")
            .strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')));
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        is_function && attributes.into_iter().any(|line| line.contains("test"))
    })
}
