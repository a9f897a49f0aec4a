//! What a component can reach, read from its bytes alone: nothing of it is compiled or run.
//!
//! What the bytes prove (imports, exports, types, size, digest) is kept apart from what they only say about
//! themselves (`Claims`). The words about an import are the gateway's own, never the component's. Who may use what is
//! decided elsewhere; `Standing` only compares with grants that it is given.

mod capability;
mod claims;
mod contract;
mod difference;
mod lookalike;
mod read;
mod standing;
mod understand;
mod wasi;
mod weight;

use std::collections::BTreeMap;

use provisioning_core::text::one_line;
use serde::Serialize;
use thiserror::Error;

pub use capability::Risk;
pub use claims::{Claims, Producer};
pub use difference::{Change, Difference};
pub use read::Inside;
pub use standing::{Standing, Status};
pub use understand::Fit;
pub use wasi::packages as wasi_packages;

use crate::sandbox::contract::{Need, PACKAGE, VERSION, digest, need};
use crate::sandbox::shape;
use understand::Understood;

/// How many characters of a name are kept. No name of a contract is as long.
const NAME: usize = 300;

/// Why nothing can be said about a file. Every text says what to do.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// It is something else.
    #[error("it is {what}; {remedy}")]
    Other {
        /// What.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It is damaged, or made to do damage.
    #[error("it is {0}; get it anew from where it came from")]
    Damaged(String),
}

/// What a component is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The SHA-256 of the bytes, in hexadecimal. Tells it from every other component.
    pub digest: String,
    /// How many bytes it has.
    pub bytes: usize,
    /// What it wants from its host, in its own order: all that it can ever reach.
    pub imports: Vec<Import>,
    /// What it offers to its host.
    pub exports: Vec<Export>,
    /// The worlds of the contract, and whether it fits them.
    pub worlds: Vec<Fit>,
    /// What it is made of.
    pub inside: Inside,
    /// What should make a reader suspicious.
    pub warnings: Vec<String>,
    /// What it says about itself. Whoever made the file could write anything here.
    pub claims: Claims,
    /// Its imports and exports in WIT, or why they cannot be shown so.
    #[serde(skip)]
    pub wit: Result<String, String>,
}

impl Inspection {
    /// Whether it exports an interface that the gateway calls. If not, no grant makes it of any use.
    pub fn is_called(&self) -> bool {
        let called = ["provisioner", "template-mapping"].map(|name| format!("{PACKAGE}/{name}@{VERSION}"));
        self.exports.iter().any(|export| called.contains(&export.name))
    }
}

/// Something that a component wants from its host.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The full name, such as `mcp-gateway:provisioning/log@0.1.0`.
    pub name: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// How much harm it could do if it were granted.
    pub risk: Risk,
    /// What it means, in plain words.
    pub capability: String,
    /// The grant that it needs, if any does.
    pub grant: Option<String>,
    /// Whether this gateway has it at all.
    pub offered: bool,
    /// What the gateway's own contract says of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// The functions of the interface that it can call.
    pub functions: Vec<Function>,
    /// The types that it names.
    pub types: Vec<String>,
    /// What stands behind these names, where that can be told, for comparing.
    #[serde(skip)]
    pub(crate) definitions: BTreeMap<String, String>,
}

/// Something that a component offers to its host.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// The full name.
    pub name: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What the gateway's own contract says of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// The functions of the interface.
    pub functions: Vec<Function>,
    /// The types that it names.
    pub types: Vec<String>,
    /// What stands behind these names, where that can be told, for comparing.
    #[serde(skip)]
    pub(crate) definitions: BTreeMap<String, String>,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Its name in WIT, such as `start`; methods are `resource.method`.
    pub name: String,
    /// Its type as the component has it, if that can be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What the gateway's own contract says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// All of its type, for comparing.
    #[serde(skip)]
    pub(crate) whole: Option<String>,
}

/// What kind of thing is imported or exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An interface: functions and types under one name.
    Interface,
    /// A single function.
    Function,
    /// A single type.
    Type,
    /// A core module.
    Module,
    /// A component.
    Component,
    /// A value.
    Value,
}

/// Reads a component.
///
/// Takes time and memory in proportion to the bytes, whatever they are, and never panics.
///
/// # Errors
/// If it is no component, or cannot be one.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Unreadable> {
    expect_component(bytes)?;
    shape::check(bytes).map_err(|reason| Unreadable::Damaged(one_line(&reason.to_string(), NAME)))?;
    let read = read::read(bytes).map_err(|reason| Unreadable::Damaged(one_line(&reason, NAME)))?;
    let understood = understand::understand(bytes, &read);
    let mut warnings = Vec::new();
    let imports: Vec<Import> = read.imports.iter().map(|item| import(item, &understood)).collect();
    for (item, name) in
        read.imports.iter().map(|item| (item, "import")).chain(read.exports.iter().map(|item| (item, "export")))
    {
        warnings.extend(lookalike::warn(&item.name).map(|reason| format!("{name} {reason}")));
    }
    warnings.extend(read.memory_warning());
    let exports = read.exports.iter().map(|item| export(item, &understood)).collect();
    Ok(Inspection {
        digest: digest(bytes),
        bytes: bytes.len(),
        imports,
        exports,
        worlds: understood.worlds,
        inside: read.inside,
        warnings,
        claims: read.claims,
        wit: understood.wit,
    })
}

/// The signatures of functions, by interface and name as they stand in the bytes.
type Signatures = BTreeMap<(String, String), String>;
/// What stands behind the names of types, by interface and name.
type Definitions = BTreeMap<String, BTreeMap<String, String>>;

/// How many characters of a signature or a definition are shown.
const SIGNATURE: usize = 600;

fn import(item: &read::Item, understood: &Understood) -> Import {
    let (grant, offered) = match need(&item.name) {
        _ if item.kind == Kind::Type => (None, true),
        Need::Nothing => (None, true),
        Need::Interface(interface) => (Some(interface.name().to_owned()), true),
        Need::Wasi(package) if wasi::linked(&item.name).is_some() => (Some(one_line(&package, NAME)), true),
        Need::Wasi(_) | Need::NotOffered => (None, false),
    };
    let (risk, capability) = capability::of(item, offered);
    Import {
        name: one_line(&item.name, NAME),
        kind: item.kind,
        risk,
        capability,
        grant,
        offered,
        documentation: contract::interface_docs(&item.name),
        functions: functions(item, &understood.signatures),
        types: item.types.iter().map(|name| one_line(name, NAME)).collect(),
        definitions: understood.definitions.get(&item.name).cloned().unwrap_or_default(),
    }
}

fn export(item: &read::Item, understood: &Understood) -> Export {
    Export {
        name: one_line(&item.name, NAME),
        kind: item.kind,
        documentation: contract::interface_docs(&item.name),
        functions: functions(item, &understood.signatures),
        types: item.types.iter().map(|name| one_line(name, NAME)).collect(),
        definitions: understood.definitions.get(&item.name).cloned().unwrap_or_default(),
    }
}

fn functions(item: &read::Item, signatures: &Signatures) -> Vec<Function> {
    let function = |name: &String| {
        let whole = signatures.get(&(item.name.clone(), name.clone())).cloned();
        Function {
            name: one_line(&plain(name), NAME),
            signature: whole.as_deref().map(|whole| one_line(whole, SIGNATURE)),
            documentation: contract::function_docs(&item.name, name),
            whole,
        }
    };
    item.functions.iter().map(function).collect()
}

/// A function's name as it stands in WIT: `value.concat` for `[static]value.concat`.
fn plain(name: &str) -> String {
    match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some(("constructor", resource)) => format!("{resource}.constructor"),
        Some((_, name)) => name.to_owned(),
        None => name.to_owned(),
    }
}

/// Says what a file is that is no component.
fn expect_component(bytes: &[u8]) -> Result<(), Unreadable> {
    const BUILD: &str = "build a component for the world `mcp-gateway:provisioning/docker-provisioner@0.1.0`";
    let text = bytes.get(..512.min(bytes.len())).unwrap_or_default();
    let is_text = !bytes.is_empty() && !text.contains(&0) && text.is_ascii();
    let (what, remedy) = match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => (
            "a core module, not a component: it does not say in a readable way what it wants",
            "make a component of it with `wasm-tools component new MODULE -o COMPONENT`",
        ),
        [0, b'a', b's', b'm', ..] => ("WebAssembly of an unknown version", BUILD),
        [0x7f, b'E', b'L', b'F', ..] => (
            "machine code, such as a program or a component that was compiled before",
            "name the `.wasm` that it was made of",
        ),
        [0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => ("compressed", "unpack it first"),
        [] => ("empty", BUILD),
        _ if is_text && text.trim_ascii_start().starts_with(b"(") => {
            ("WebAssembly text", "make the binary form of it with `wasm-tools parse FILE -o FILE.wasm`")
        }
        _ if is_text => ("text, not WebAssembly", BUILD),
        _ => ("not WebAssembly", BUILD),
    };
    Err(Unreadable::Other { what: what.to_owned(), remedy })
}

#[cfg(test)]
mod tests;
