//! What a component would unfold to, counted before it is compiled.
//!
//! The compiler lays nested components out flat, one copy for each time that they are instantiated. A few hundred
//! bytes can thus stand for more instances than any machine has room for.

use thiserror::Error;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, FunctionBody, Instance, Operator, Parser, Payload,
};

/// How many instances a component may unfold to. Composed ones have some dozens.
const INSTANCES: u64 = 5_000;
/// How deep components may be nested.
const DEPTH: usize = 32;
/// How deep the blocks of a function may be nested. The compiler's time grows with the square of it; a function with
/// a large table of cases has some thousands.
const BLOCKS: usize = 10_000;

/// How many bytes of types, names and wiring components may have. Each byte can become a hundred in memory; composed
/// ones of large worlds have some hundred thousand.
const DESCRIPTIONS: usize = 2 << 20;

/// Why a component is not compiled.
#[derive(Debug, Error)]
pub(crate) enum Misshapen {
    /// It cannot be parsed.
    #[error("not valid WebAssembly ({0})")]
    Invalid(#[from] BinaryReaderError),
    /// An index points nowhere.
    #[error("not valid WebAssembly (it refers to a component that is not there)")]
    Dangling,
    /// It unfolds to too much.
    #[error("a component that unfolds to more than {INSTANCES} instances")]
    TooMany,
    /// It is nested too deep.
    #[error("a component that is nested more than {DEPTH} levels deep")]
    TooDeep,
    /// Its types alone would fill the machine.
    #[error("a component with more than {} MiB of types and names", DESCRIPTIONS >> 20)]
    Described,
    /// A function is nested too deep.
    #[error("a component with a function whose blocks are nested more than {BLOCKS} levels deep")]
    Blocks,
    /// Components are handed around as values.
    #[error("a component that passes components on as values, which is not supported")]
    Passed,
}

/// How many instances something unfolds to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unfolded {
    /// Of modules and of components.
    pub(crate) all: u64,
    /// Of modules alone.
    pub(crate) core: u64,
}

/// One component on the way to being parsed.
#[derive(Default)]
struct Level {
    /// What each component in its index space unfolds to.
    components: Vec<Unfolded>,
    /// What it unfolds to itself.
    instances: Unfolded,
}

/// Counts the instances that a component unfolds to, of modules as well as of components.
///
/// # Errors
/// If that is too much, or cannot be told.
pub(crate) fn check(bytes: &[u8]) -> Result<Unfolded, Misshapen> {
    let mut levels: Vec<Level> = Vec::new();
    let mut unfolded = Unfolded::default();
    // Modules are parsed as well, and end as components do.
    let mut modules = 0_usize;
    let mut described = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        described = described.saturating_add(description(&payload));
        if described > DESCRIPTIONS {
            return Err(Misshapen::Described);
        }
        match payload {
            Payload::ModuleSection { .. } => modules += 1,
            Payload::Version { .. } if modules == 0 => {
                if levels.len() == DEPTH {
                    return Err(Misshapen::TooDeep);
                }
                levels.push(Level::default());
            }
            Payload::End(_) if modules > 0 => modules -= 1,
            Payload::End(_) => {
                let done = levels.pop().ok_or(Misshapen::Dangling)?;
                if done.instances.all > INSTANCES {
                    return Err(Misshapen::TooMany);
                }
                match levels.last_mut() {
                    Some(parent) => parent.components.push(done.instances),
                    None => unfolded = done.instances,
                }
            }
            Payload::CodeSectionEntry(body) => check_blocks(&body)?,
            other => step(&mut levels, &other)?,
        }
    }
    Ok(unfolded)
}

/// How many bytes of a section are types, names and wiring of components.
fn description(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::ComponentTypeSection(section) => section.range().len(),
        Payload::ComponentImportSection(section) => section.range().len(),
        Payload::ComponentExportSection(section) => section.range().len(),
        Payload::ComponentAliasSection(section) => section.range().len(),
        Payload::ComponentInstanceSection(section) => section.range().len(),
        Payload::ComponentCanonicalSection(section) => section.range().len(),
        Payload::CoreTypeSection(section) => section.range().len(),
        Payload::InstanceSection(section) => section.range().len(),
        Payload::TypeSection(section) => section.range().len(),
        _ => 0,
    }
}

fn check_blocks(body: &FunctionBody<'_>) -> Result<(), Misshapen> {
    let mut depth = 0_usize;
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BLOCKS {
            return Err(Misshapen::Blocks);
        }
    }
    Ok(())
}

/// Takes a section of the innermost component into account.
fn step(levels: &mut [Level], payload: &Payload<'_>) -> Result<(), Misshapen> {
    let own = levels.len().saturating_sub(1);
    match payload {
        Payload::InstanceSection(section) => {
            for instance in section.clone() {
                if let Instance::Instantiate { .. } = instance? {
                    add(levels, own, Unfolded { all: 1, core: 1 })?;
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section.clone() {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    let unfolded = component(levels, own, component_index)?;
                    add(levels, own, Unfolded { all: unfolded.all.saturating_add(1), ..unfolded })?;
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.clone() {
                match alias? {
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                        let level = own.checked_sub(count as usize).ok_or(Misshapen::Dangling)?;
                        let unfolded = component(levels, level, index)?;
                        push(levels, own, unfolded)?;
                    }
                    ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                        return Err(Misshapen::Passed);
                    }
                    _ => {}
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                if let ComponentTypeRef::Component(_) = import?.ty {
                    return Err(Misshapen::Passed);
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                let export = export?;
                if export.kind == ComponentExternalKind::Component {
                    let unfolded = component(levels, own, export.index)?;
                    push(levels, own, unfolded)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn component(levels: &[Level], level: usize, index: u32) -> Result<Unfolded, Misshapen> {
    levels.get(level).and_then(|level| level.components.get(index as usize)).copied().ok_or(Misshapen::Dangling)
}

fn push(levels: &mut [Level], level: usize, unfolded: Unfolded) -> Result<(), Misshapen> {
    levels.get_mut(level).ok_or(Misshapen::Dangling)?.components.push(unfolded);
    Ok(())
}

fn add(levels: &mut [Level], level: usize, more: Unfolded) -> Result<(), Misshapen> {
    let instances = &mut levels.get_mut(level).ok_or(Misshapen::Dangling)?.instances;
    instances.all = instances.all.saturating_add(more.all);
    instances.core = instances.core.saturating_add(more.core);
    Ok(())
}
