//! The pass over the bytes: names of imports and exports with what is in them, sizes, and what the file says of itself.
//!
//! Uses the parser and validator that the runtime uses, in the same version, so that both see the same component.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{Parser, Payload, ValidPayload, Validator};

use super::claims::Claims;
use super::weight::Weigher;
use super::{Kind, NAME};
use crate::sandbox::Limits;

/// How many imports, exports, functions and types in them are listed. The whole of WASI has some five hundred.
const ITEMS: usize = 20_000;

/// An import or export with its own, unescaped names.
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) functions: Vec<String>,
    pub(super) types: Vec<String>,
}

/// What a component is made of.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inside {
    /// Core modules, at all depths.
    pub modules: u32,
    /// Components within it, at all depths.
    pub components: u32,
    /// Functions with code.
    pub functions: u32,
    /// Bytes of code.
    pub code_bytes: u64,
    /// Bytes that memories begin with.
    pub data_bytes: u64,
    /// Bytes of sections that no runtime looks at.
    pub custom_bytes: u64,
    /// Bytes of memory that its modules declare to begin with, each counted once.
    pub memory_bytes: u64,
}

pub(super) struct Read {
    pub(super) imports: Vec<Item>,
    pub(super) exports: Vec<Item>,
    pub(super) inside: Inside,
    pub(super) claims: Claims,
    /// How large the types of all imports and exports are when everything they refer to is written out.
    pub(super) weight: u64,
}

impl Read {
    pub(super) fn memory_warning(&self) -> Option<String> {
        let limit = Limits::default().memory_bytes as u64;
        (self.inside.memory_bytes > limit).then(|| {
            format!(
                "it begins with {} MiB of memory, and a provisioner may have {} MiB: it would not start",
                self.inside.memory_bytes >> 20,
                limit >> 20
            )
        })
    }
}

/// Reads a component that `shape::check` has let through.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Read, String> {
    let mut validator = Validator::new();
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let (mut import_order, mut export_order) = (Vec::new(), Vec::new());
    let mut inside = Inside::default();
    let mut claims = Claims::default();
    let (mut depth, mut types) = (0_usize, None);
    let invalid = |error: wasmparser::BinaryReaderError| format!("not valid WebAssembly ({error})");
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        if depth == 0 {
            match &payload {
                Payload::ComponentImportSection(section) => {
                    for import in section.clone() {
                        push(import.map_err(invalid)?.name.name, &mut imports, &mut import_order)?;
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section.clone() {
                        push(export.map_err(invalid)?.name.name, &mut exports, &mut export_order)?;
                    }
                }
                _ => {}
            }
        }
        measure(&payload, &mut inside);
        if let Payload::CustomSection(section) = &payload {
            claims.add(section, depth);
        }
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(found) => match depth.checked_sub(1) {
                Some(parent) => depth = parent,
                None => types = Some(found),
            },
            ValidPayload::Ok | ValidPayload::Func(..) => {}
        }
    }
    let types = types.ok_or("not valid WebAssembly (it ends too early)")?;
    let mut listing = Listing { types: &types, weigher: Weigher::new(&types), weight: 0, items: 0 };
    let imports =
        listing.list(import_order, |types, name| types.as_ref().component_item_for_import(name).map(|item| item.ty))?;
    let exports =
        listing.list(export_order, |types, name| types.as_ref().component_item_for_export(name).map(|item| item.ty))?;
    let weight = listing.weight;
    Ok(Read { imports, exports, inside, claims, weight })
}

fn push(name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) -> Result<(), String> {
    if order.len() == ITEMS {
        return Err(too_many());
    }
    if seen.insert(name.to_owned()) {
        order.push(name.to_owned());
    }
    Ok(())
}

fn too_many() -> String {
    format!("a component with more than {ITEMS} imports, exports, functions and types")
}

fn measure(payload: &Payload<'_>, inside: &mut Inside) {
    match payload {
        Payload::ModuleSection { .. } => inside.modules += 1,
        Payload::ComponentSection { .. } => inside.components += 1,
        Payload::CodeSectionStart { count, size, .. } => {
            inside.functions = inside.functions.saturating_add(*count);
            inside.code_bytes += u64::from(*size);
        }
        Payload::DataSection(section) => inside.data_bytes += section.range().len() as u64,
        Payload::CustomSection(section) => inside.custom_bytes += section.data().len() as u64,
        Payload::MemorySection(section) => {
            for memory in section.clone().into_iter().flatten() {
                let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
                inside.memory_bytes = inside.memory_bytes.saturating_add(memory.initial.saturating_mul(page));
            }
        }
        _ => {}
    }
}

/// Lists what is in imports and exports.
struct Listing<'a> {
    types: &'a Types,
    weigher: Weigher<'a>,
    weight: u64,
    items: usize,
}

impl Listing<'_> {
    fn list(
        &mut self,
        names: Vec<String>,
        find: impl Fn(&Types, &str) -> Option<ComponentEntityType>,
    ) -> Result<Vec<Item>, String> {
        let mut items = Vec::with_capacity(names.len());
        for name in names {
            let shown = || provisioning_core::text::one_line(&name, NAME);
            let entity =
                find(self.types, &name).ok_or_else(|| format!("not valid WebAssembly (`{}` has no type)", shown()))?;
            items.push(self.item(name, entity)?);
        }
        Ok(items)
    }

    fn item(&mut self, name: String, entity: ComponentEntityType) -> Result<Item, String> {
        let mut item = Item { name, kind: kind(entity), functions: Vec::new(), types: Vec::new() };
        self.count(entity)?;
        if let ComponentEntityType::Instance(id) = entity {
            let types = self.types;
            for (name, member) in &types[id].exports {
                self.count(member.ty)?;
                match kind(member.ty) {
                    Kind::Function => item.functions.push(name.clone()),
                    Kind::Type => item.types.push(name.clone()),
                    // An instance in an instance, or code: nothing that a contract of ours has.
                    other => item.types.push(format!("{name} ({other:?})").to_lowercase()),
                }
            }
        }
        Ok(item)
    }

    fn count(&mut self, entity: ComponentEntityType) -> Result<(), String> {
        self.items += 1;
        self.weight = self.weight.saturating_add(self.weigher.entity(entity));
        if self.items > ITEMS { Err(too_many()) } else { Ok(()) }
    }
}

fn kind(entity: ComponentEntityType) -> Kind {
    match entity {
        ComponentEntityType::Module(_) => Kind::Module,
        ComponentEntityType::Func(_) => Kind::Function,
        ComponentEntityType::Value(_) => Kind::Value,
        ComponentEntityType::Type { .. } => Kind::Type,
        ComponentEntityType::Instance(_) => Kind::Interface,
        ComponentEntityType::Component(_) => Kind::Component,
    }
}
