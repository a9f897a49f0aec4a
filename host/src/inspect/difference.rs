//! What another version of a component wants more, and what it does no longer.

use std::collections::BTreeMap;

use provisioning_core::text::one_line;
use serde::Serialize;

use super::{Export, Function, Import, Inspection, NAME, Risk, SIGNATURE};

/// Something that only one of two components has, or that both have differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The full name of the import or export.
    pub name: String,
    /// The function, or none if it is about all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How much harm it could do, for imports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// What it was and what it is, if it is there in both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<(String, String)>,
}

/// The difference between two components.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether both are the same, byte for byte.
    pub same_bytes: bool,
    /// Imports and functions that only the second wants: what it needs new consent for.
    pub wants_more: Vec<Change>,
    /// Imports and functions that only the first wants.
    pub wants_less: Vec<Change>,
    /// Functions that both want, with other types.
    pub wants_changed: Vec<Change>,
    /// Exports and functions that only the second has.
    pub offers_more: Vec<Change>,
    /// Exports and functions that only the first has.
    pub offers_less: Vec<Change>,
    /// Functions that both have, with other types.
    pub offers_changed: Vec<Change>,
    /// Worlds of the contract that only the first fits.
    pub fits_no_longer: Vec<String>,
    /// Worlds of the contract that only the second fits.
    pub fits_now: Vec<String>,
    /// By how many bytes the second is larger.
    pub grows_by_bytes: i64,
}

/// What a component wants or offers, by import or export.
type Surface<'a> = BTreeMap<&'a str, Side<'a>>;

struct Side<'a> {
    risk: Option<Risk>,
    functions: &'a [Function],
    types: &'a [String],
    definitions: &'a BTreeMap<String, String>,
}

impl Difference {
    /// What is different in the second of two components.
    pub fn between(first: &Inspection, second: &Inspection) -> Self {
        let wants = compare(&wanted(first), &wanted(second));
        let offers = compare(&offered(first), &offered(second));
        let fitting = |of: &Inspection| -> Vec<String> {
            of.worlds.iter().filter(|fit| fit.fits).map(|fit| fit.world.clone()).collect()
        };
        let (before, after) = (fitting(first), fitting(second));
        Self {
            same_bytes: first.digest == second.digest,
            wants_more: wants.more,
            wants_less: wants.less,
            wants_changed: wants.changed,
            offers_more: offers.more,
            offers_less: offers.less,
            offers_changed: offers.changed,
            fits_no_longer: before.iter().filter(|world| !after.contains(world)).cloned().collect(),
            fits_now: after.iter().filter(|world| !before.contains(world)).cloned().collect(),
            grows_by_bytes: second.bytes as i64 - first.bytes as i64,
        }
    }

    /// Whether the second wants anything that the first does not, or differently.
    pub fn wants_something_new(&self) -> bool {
        !self.wants_more.is_empty() || !self.wants_changed.is_empty()
    }
}

fn wanted(of: &Inspection) -> Surface<'_> {
    of.imports
        .iter()
        .map(|import| {
            let Import { functions, types, definitions, .. } = import;
            (import.name.as_str(), Side { risk: Some(import.risk), functions, types, definitions })
        })
        .collect()
}

fn offered(of: &Inspection) -> Surface<'_> {
    of.exports
        .iter()
        .map(|export| {
            let Export { functions, types, definitions, .. } = export;
            (export.name.as_str(), Side { risk: None, functions, types, definitions })
        })
        .collect()
}

#[derive(Default)]
struct Compared {
    more: Vec<Change>,
    less: Vec<Change>,
    changed: Vec<Change>,
}

fn compare(first: &Surface<'_>, second: &Surface<'_>) -> Compared {
    let mut compared = Compared { more: only(second, first), less: only(first, second), changed: Vec::new() };
    for (name, after) in second {
        let Some(before) = first.get(name) else { continue };
        let mut change = |function: String, old: &str, new: &str| {
            if old != new {
                let types = Some((one_line(old, SIGNATURE), one_line(new, SIGNATURE)));
                compared.changed.push(Change {
                    name: (*name).to_owned(),
                    function: Some(function),
                    risk: after.risk,
                    types,
                });
            }
        };
        for function in after.functions {
            let old = before.functions.iter().find(|old| old.name == function.name);
            if let (Some(old), Some(new)) = (old.and_then(|old| old.whole.as_ref()), &function.whole) {
                change(function.name.clone(), old, new);
            }
        }
        // The same name in a signature may stand for something else.
        for (of, new) in after.definitions {
            if let Some(old) = before.definitions.get(of) {
                change(format!("type {}", one_line(of, NAME)), old, new);
            }
        }
    }
    compared
}

/// What is in `one` and not in `other`.
fn only(one: &Surface<'_>, other: &Surface<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, Side { risk, functions, types, .. }) in one {
        let change = |function: Option<String>| Change { name: (*name).to_owned(), function, risk: *risk, types: None };
        let Some(Side { functions: known, types: known_types, .. }) = other.get(name) else {
            changes.push(change(None));
            continue;
        };
        let new = functions.iter().filter(|function| known.iter().all(|known| known.name != function.name));
        changes.extend(new.map(|function| change(Some(function.name.clone()))));
        let new = types.iter().filter(|name| !known_types.contains(name));
        // The name of a type reaches nothing.
        let name = |name| Change { risk: risk.map(|_| Risk::None), ..change(Some(format!("type {name}"))) };
        changes.extend(new.map(name));
    }
    changes
}
