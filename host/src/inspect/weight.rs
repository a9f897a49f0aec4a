//! How large types are when everything that they refer to is written out. A few hundred bytes of types that refer to
//! each other can stand for more text than any machine has room for.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncTypeId,
    ComponentValType,
};
use wasmparser::types::Types;

pub(super) struct Weigher<'a> {
    types: &'a Types,
    known: HashMap<ComponentDefinedTypeId, u64>,
}

impl<'a> Weigher<'a> {
    pub(super) fn new(types: &'a Types) -> Self {
        Self { types, known: HashMap::new() }
    }

    /// The weight of an import or export, or of what is in one. Interfaces are weighed by what is in them.
    pub(super) fn entity(&mut self, entity: ComponentEntityType) -> u64 {
        match entity {
            ComponentEntityType::Func(id) => self.function(id),
            ComponentEntityType::Type { referenced: ComponentAnyTypeId::Defined(id), .. } => self.defined(id),
            ComponentEntityType::Type { referenced: ComponentAnyTypeId::Func(id), .. } => self.function(id),
            _ => 1,
        }
    }

    fn function(&mut self, id: ComponentFuncTypeId) -> u64 {
        let function = &self.types[id];
        let parameters = function.params.iter().map(|(_, of)| *of).chain(function.result);
        self.all(parameters)
    }

    /// Types refer only to earlier ones, at most a hundred deep: the validator has checked it.
    fn defined(&mut self, id: ComponentDefinedTypeId) -> u64 {
        use ComponentDefinedType as Defined;
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let weight = match &self.types[id] {
            Defined::Record(record) => self.all(record.fields.values().copied()),
            Defined::Variant(variant) => {
                variant.cases.len() as u64 + self.all(variant.cases.values().filter_map(|case| case.ty))
            }
            Defined::Tuple(tuple) => self.all(tuple.types.iter().copied()),
            Defined::List { element, .. } | Defined::FixedLengthList { element, .. } => self.all([*element]),
            Defined::Map { key, value, .. } => self.all([*key, *value]),
            Defined::Option { ty, .. } => self.all([*ty]),
            Defined::Result { ok, err, .. } => self.all(ok.iter().chain(err).copied()),
            Defined::Future { ty, .. } | Defined::Stream { ty, .. } => self.all(ty.iter().copied()),
            Defined::Flags(names) | Defined::Enum(names) => 1 + names.len() as u64,
            Defined::Primitive(_) | Defined::Own(_) | Defined::Borrow(_) => 1,
        };
        self.known.insert(id, weight);
        weight
    }

    fn all(&mut self, types: impl IntoIterator<Item = ComponentValType>) -> u64 {
        types.into_iter().fold(1, |sum: u64, of| {
            sum.saturating_add(match of {
                ComponentValType::Primitive(_) => 1,
                ComponentValType::Type(id) => self.defined(id),
            })
        })
    }
}
