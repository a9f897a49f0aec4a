//! A component's types in terms of WIT: signatures of functions, the worlds of the contract that it fits, and its WIT.
//!
//! Works with a third-party decoder that was not made for hostile input, so it is only shown what the validator let
//! through and what is small when written out, and may panic without anything else being lost: names and functions
//! of imports come from `read`, and loading compares all types again.

#![allow(
    clippy::indexing_slicing,
    reason = "identifiers index the arenas that they come from; there is no other access"
)]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;

use provisioning_core::text::one_line;
use serde::Serialize;
use wit_component::WitPrinter;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{
    Function, FunctionKind, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner, World, WorldId,
    WorldItem,
};

use super::contract::{self, Contract};
use super::read::Read;
use super::{Definitions, SIGNATURE, Signatures};
use crate::sandbox::contract::{Need, PACKAGE, need};

/// How large types may be, written out, to be decoded. All of WASI has some thousands.
const WEIGHT: u64 = 200_000;
/// How large a type is that is written out with what is in it and has no name.
const WHOLE: usize = 20_000;
/// How many characters of WIT are shown.
const WIT: usize = 1 << 20;
/// How many problems with a world are told.
const PROBLEMS: usize = 10;

/// Whether a component fits a world of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// The world's name.
    pub world: String,
    /// Whether the component can be used for it.
    pub fits: bool,
    /// Why not: what is missing, what is too much, and what has another type.
    pub problems: Vec<String>,
}

pub(super) struct Understood {
    pub(super) signatures: Signatures,
    pub(super) definitions: Definitions,
    pub(super) worlds: Vec<Fit>,
    pub(super) wit: Result<String, String>,
}

pub(super) fn understand(bytes: &[u8], read: &Read) -> Understood {
    let failed = |reason: String| Understood {
        signatures: Signatures::new(),
        definitions: Definitions::new(),
        worlds: Vec::new(),
        wit: Err(reason),
    };
    if read.weight > WEIGHT {
        return failed("its types are too large to be shown".to_owned());
    }
    // The decoder holds on to assumptions about components that no validator checks.
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| match decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok(describe(&resolve, world)),
        Ok(DecodedWasm::WitPackage(..)) => Err("it is a WIT package, which has no code".to_owned()),
        Err(error) => Err(one_line(&format!("{error:#}"), SIGNATURE)),
    }));
    match decoded {
        Ok(Ok(understood)) => understood,
        Ok(Err(reason)) => failed(format!("its types cannot be shown as WIT: {reason}")),
        Err(_) => failed("its types cannot be shown as WIT: the decoder does not know such a component".to_owned()),
    }
}

fn describe(resolve: &Resolve, id: WorldId) -> Understood {
    let world = &resolve.worlds[id];
    let (mut signatures, mut definitions) = (Signatures::new(), Definitions::new());
    for (key, item) in world.imports.iter().chain(&world.exports) {
        let name = resolve.name_world_key(key);
        match item {
            WorldItem::Interface { id, .. } => {
                let interface = &resolve.interfaces[*id];
                for (function, of) in &interface.functions {
                    signatures.insert((name.clone(), function.clone()), signature(resolve, of));
                }
                let types = interface.types.iter().map(|(name, id)| (name.clone(), definition(resolve, *id)));
                definitions.entry(name).or_default().extend(types);
            }
            WorldItem::Function(function) => {
                signatures.insert((name.clone(), name.clone()), signature(resolve, function));
            }
            WorldItem::Type { .. } => {}
        }
    }
    let worlds = contract::contract().map(|contract| fits(contract, resolve, world)).unwrap_or_default();
    Understood { signatures, definitions, worlds, wit: print(resolve, world) }
}

/// The world and the packages it mentions, in WIT.
fn print(resolve: &Resolve, world: &World) -> Result<String, String> {
    let main = world.package.ok_or("it has no package")?;
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    let mut printer = WitPrinter::default();
    printer.print(resolve, main, &others).map_err(|error| one_line(&format!("{error:#}"), SIGNATURE))?;
    let text = printer.output.to_string();
    // Names are checked by the validator; documentation could only come from the component, and has lines.
    let lines: Vec<String> = text.lines().map(|line| one_line(line, WIT)).collect();
    let mut text = lines.join("\n");
    if text.len() > WIT {
        let end = (0..=WIT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str("\n// … and more");
    }
    Ok(text)
}

/// The worlds that components are made for, without the one that only a host has.
fn fits(contract: &Contract, resolve: &Resolve, world: &World) -> Vec<Fit> {
    let worlds = &contract.resolve.packages[contract.package].worlds;
    let wanted = worlds.iter().filter(|(name, _)| *name != "all-capabilities");
    wanted
        .map(|(name, id)| {
            let mut comparison =
                Comparison { ours: &contract.resolve, theirs: resolve, same: HashSet::new(), problems: Vec::new() };
            comparison.worlds(&contract.resolve.worlds[*id], world);
            let mut problems = comparison.problems;
            let more = problems.len().saturating_sub(PROBLEMS);
            problems.truncate(PROBLEMS);
            if more > 0 {
                problems.push(format!("and {more} more"));
            }
            Fit { world: name.clone(), fits: problems.is_empty(), problems }
        })
        .collect()
}

/// A component beside a world of the contract.
struct Comparison<'a> {
    ours: &'a Resolve,
    theirs: &'a Resolve,
    /// Pairs of types that are the same, or are being compared.
    same: HashSet<(TypeId, TypeId)>,
    problems: Vec<String>,
}

impl Comparison<'_> {
    fn worlds(&mut self, ours: &World, theirs: &World) {
        for (key, item) in &theirs.imports {
            let name = self.theirs.name_world_key(key);
            let known = find(self.ours, &ours.imports, &name);
            match (item, known) {
                (WorldItem::Interface { id: their, .. }, Some(our)) => self.imports(&name, our, *their),
                // The names of types alone need nothing from a host.
                (WorldItem::Type { .. }, _) => {}
                (WorldItem::Interface { id, .. }, None)
                    if self.is_free(&name) || self.theirs.interfaces[*id].functions.is_empty() => {}
                _ => self.problem(format!("it imports `{name}`, which this world has not")),
            }
        }
        for (key, item) in &ours.exports {
            let name = self.ours.name_world_key(key);
            let WorldItem::Interface { id: our, .. } = item else { continue };
            match find(self.theirs, &theirs.exports, &name) {
                Some(their) => self.exports(&name, *our, their),
                None => self.problem(format!("it does not export `{name}`")),
            }
        }
        for key in theirs.exports.keys() {
            let name = self.theirs.name_world_key(key);
            if self.is_free(&name) {
                self.problem(format!("it exports `{name}`: what the host hands out is not of that kind"));
            }
        }
    }

    fn is_free(&self, name: &str) -> bool {
        name.starts_with(PACKAGE) && matches!(need(name), Need::Nothing)
    }

    /// An import may have fewer functions than the world offers.
    fn imports(&mut self, name: &str, ours: InterfaceId, theirs: InterfaceId) {
        for (function, their) in &self.theirs.interfaces[theirs].functions {
            match self.ours.interfaces[ours].functions.get(function) {
                None => self.problem(format!(
                    "it imports `{}` of `{name}`, which the contract has not",
                    super::plain(function)
                )),
                Some(our) => self.functions(name, our, their),
            }
        }
    }

    /// An export may have more functions than the world asks for.
    fn exports(&mut self, name: &str, ours: InterfaceId, theirs: InterfaceId) {
        for (function, our) in &self.ours.interfaces[ours].functions {
            match self.theirs.interfaces[theirs].functions.get(function) {
                None => self.problem(format!("it does not export `{}` of `{name}`", super::plain(function))),
                Some(their) => self.functions(name, our, their),
            }
        }
    }

    fn functions(&mut self, interface: &str, ours: &Function, theirs: &Function) {
        let parameters = ours.params.len() == theirs.params.len()
            && ours
                .params
                .iter()
                .zip(&theirs.params)
                .all(|(our, their)| our.name == their.name && self.types(our.ty, their.ty));
        let same = parameters && kind(&ours.kind) == kind(&theirs.kind) && self.optional(ours.result, theirs.result);
        if !same {
            self.problem(format!(
                "`{}` of `{interface}` has another type: `{}` instead of `{}`",
                super::plain(&ours.name),
                one_line(&signature(self.theirs, theirs), SIGNATURE),
                one_line(&signature(self.ours, ours), SIGNATURE)
            ));
        }
    }

    fn optional(&mut self, ours: Option<Type>, theirs: Option<Type>) -> bool {
        match (ours, theirs) {
            (None, None) => true,
            (Some(our), Some(their)) => self.types(our, their),
            _ => false,
        }
    }

    fn types(&mut self, ours: Type, theirs: Type) -> bool {
        match (dealias(self.ours, ours), dealias(self.theirs, theirs)) {
            (Type::Id(our), Type::Id(their)) => {
                if !self.same.insert((our, their)) {
                    return true;
                }
                let same = self.definitions(our, their);
                if !same {
                    self.same.remove(&(our, their));
                }
                same
            }
            (our, their) => our == their,
        }
    }

    fn definitions(&mut self, our: TypeId, their: TypeId) -> bool {
        use TypeDefKind as Kind;
        let (ours, theirs) = (self.ours, self.theirs);
        match (&ours.types[our].kind, &theirs.types[their].kind) {
            (Kind::Resource, Kind::Resource) => resource(ours, our) == resource(theirs, their),
            (Kind::Handle(Handle::Own(our)), Kind::Handle(Handle::Own(their)))
            | (Kind::Handle(Handle::Borrow(our)), Kind::Handle(Handle::Borrow(their))) => {
                self.types(Type::Id(*our), Type::Id(*their))
            }
            (Kind::Record(our), Kind::Record(their)) => {
                our.fields.len() == their.fields.len()
                    && our
                        .fields
                        .iter()
                        .zip(&their.fields)
                        .all(|(our, their)| our.name == their.name && self.types(our.ty, their.ty))
            }
            (Kind::Variant(our), Kind::Variant(their)) => {
                our.cases.len() == their.cases.len()
                    && our
                        .cases
                        .iter()
                        .zip(&their.cases)
                        .all(|(our, their)| our.name == their.name && self.optional(our.ty, their.ty))
            }
            (Kind::Tuple(our), Kind::Tuple(their)) => {
                our.types.len() == their.types.len()
                    && our.types.iter().zip(&their.types).all(|(our, their)| self.types(*our, *their))
            }
            (Kind::Enum(our), Kind::Enum(their)) => {
                our.cases.iter().map(|case| &case.name).eq(their.cases.iter().map(|case| &case.name))
            }
            (Kind::Flags(our), Kind::Flags(their)) => {
                our.flags.iter().map(|flag| &flag.name).eq(their.flags.iter().map(|flag| &flag.name))
            }
            (Kind::Option(our), Kind::Option(their)) | (Kind::List(our), Kind::List(their)) => self.types(*our, *their),
            (Kind::Result(our), Kind::Result(their)) => {
                self.optional(our.ok, their.ok) && self.optional(our.err, their.err)
            }
            // The contract has none of the other kinds.
            _ => false,
        }
    }

    fn problem(&mut self, text: String) {
        self.problems.push(one_line(&text, 2 * SIGNATURE));
    }
}

fn find(
    resolve: &Resolve,
    items: &wit_parser::IndexMap<wit_parser::WorldKey, WorldItem>,
    name: &str,
) -> Option<InterfaceId> {
    items.iter().find_map(|(key, item)| match item {
        WorldItem::Interface { id, .. } if resolve.name_world_key(key) == name => Some(*id),
        _ => None,
    })
}

/// A function's kind without its resource, whose name is in the function's.
fn kind(kind: &FunctionKind) -> u8 {
    match kind {
        FunctionKind::Freestanding => 0,
        FunctionKind::Method(_) => 1,
        FunctionKind::Static(_) => 2,
        FunctionKind::Constructor(_) => 3,
        _ => 4,
    }
}

/// What tells resources apart: where they are from, and their names.
fn resource(resolve: &Resolve, id: TypeId) -> (Option<String>, Option<&str>) {
    let definition = &resolve.types[id];
    let owner = match definition.owner {
        TypeOwner::Interface(interface) => resolve.id_of(interface),
        _ => None,
    };
    (owner, definition.name.as_deref())
}

/// What a name of a type stands for.
fn dealias(resolve: &Resolve, mut of: Type) -> Type {
    while let Type::Id(id) = of
        && let TypeDefKind::Type(aliased) = resolve.types[id].kind
    {
        of = aliased;
    }
    of
}

/// A function's type in WIT.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let mut text = String::from("func(");
    // The first parameter of a method is the resource itself.
    let skip = usize::from(matches!(function.kind, FunctionKind::Method(_) | FunctionKind::AsyncMethod(_)));
    for (index, parameter) in function.params.iter().skip(skip).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{}: ", parameter.name);
        name(resolve, parameter.ty, &mut text);
    }
    text.push(')');
    if let Some(result) = function.result {
        text.push_str(" -> ");
        name(resolve, result, &mut text);
    }
    one_line(&text, usize::MAX)
}

/// What stands behind the name of a type, with the names of other types in it. A type of another interface is only named.
fn definition(resolve: &Resolve, id: TypeId) -> String {
    let mut text = String::new();
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| (field.name.as_str(), Some(field.ty)));
            members(resolve, "record", fields, &mut text);
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| (case.name.as_str(), case.ty));
            members(resolve, "variant", cases, &mut text);
        }
        TypeDefKind::Enum(of) => {
            members(resolve, "enum", of.cases.iter().map(|case| (case.name.as_str(), None)), &mut text);
        }
        TypeDefKind::Flags(flags) => {
            members(resolve, "flags", flags.flags.iter().map(|flag| (flag.name.as_str(), None)), &mut text);
        }
        TypeDefKind::Type(of) => name(resolve, *of, &mut text),
        _ => unnamed(resolve, id, &mut text),
    }
    one_line(&text, usize::MAX)
}

fn members<'a>(
    resolve: &Resolve,
    word: &str,
    members: impl Iterator<Item = (&'a str, Option<Type>)>,
    text: &mut String,
) {
    text.push_str(word);
    text.push_str(" {");
    for (index, (member, of)) in members.enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(member);
        if let Some(of) = of {
            text.push_str(": ");
            name(resolve, of, text);
        }
    }
    text.push('}');
}

fn name(resolve: &Resolve, of: Type, text: &mut String) {
    let Type::Id(id) = of else {
        text.push_str(match of {
            Type::Bool => "bool",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            _ => "error-context",
        });
        return;
    };
    match &resolve.types[id].name {
        Some(own) => text.push_str(own),
        None => unnamed(resolve, id, text),
    }
}

/// A type as it is made of others.
fn unnamed(resolve: &Resolve, id: TypeId, text: &mut String) {
    if text.len() > WHOLE {
        return text.push('…');
    }
    let definition = &resolve.types[id];
    let mut generic = |word: &str, inner: &[Option<Type>]| {
        text.push_str(word);
        text.push('<');
        for (index, of) in inner.iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            match of {
                Some(of) => name(resolve, *of, text),
                None => text.push('_'),
            }
        }
        text.push('>');
    };
    match &definition.kind {
        TypeDefKind::Handle(Handle::Own(resource)) => name(resolve, Type::Id(*resource), text),
        TypeDefKind::Handle(Handle::Borrow(resource)) => generic("borrow", &[Some(Type::Id(*resource))]),
        TypeDefKind::Option(of) => generic("option", &[Some(*of)]),
        TypeDefKind::List(of) | TypeDefKind::FixedLengthList(of, _) => generic("list", &[Some(*of)]),
        TypeDefKind::Map(key, value) => generic("map", &[Some(*key), Some(*value)]),
        TypeDefKind::Result(result) => generic("result", &[result.ok, result.err]),
        TypeDefKind::Tuple(tuple) => generic("tuple", &tuple.types.iter().map(|of| Some(*of)).collect::<Vec<_>>()),
        TypeDefKind::Future(of) => generic("future", &[*of]),
        TypeDefKind::Stream(of) => generic("stream", &[*of]),
        other => text.push_str(other.as_str()),
    }
}
