//! Loading components: is it one, what does it want, and for provisioners, is all of that granted?

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use provisioning_core::policy::{Decision, Kind, Limit, Policies, RuleRef, Who};
use provisioning_core::text::one_line;
use thiserror::Error;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::bindings::AllCapabilitiesPre;
use super::contract::{Need, PACKAGE, VERSION, digest, need};
use super::engine::Engine;
use super::operation::State;
use super::shape::{self, Unfolded};
use super::{Limits, linking};
use crate::policy::grants::Grants;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 20;
/// Where a component's bytes are.
#[derive(Clone, Debug)]
pub enum Source {
    /// Built into this binary.
    BuiltIn {
        /// Its name, such as `docker`.
        name: &'static str,
        /// Its bytes.
        bytes: &'static [u8],
    },
    /// A file.
    File(PathBuf),
    /// A file that somebody agreed to.
    Installed {
        /// Its name.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// The SHA-256 that it must have, in hexadecimal.
        digest: String,
        /// What it may import at most: interfaces, and functions as `INTERFACE#FUNCTION`.
        imports: Vec<String>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn { name, .. } => write!(f, "{name}"),
            Self::Installed { name, .. } => write!(f, "{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a component is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// What messages call it.
    pub name: &'static str,
    /// The interface that it must export.
    pub export: &'static str,
    /// The world that it is built for.
    pub world: &'static str,
}

/// Decides how servers are deployed.
pub const PROVISIONER: Role = Role { name: "provisioner", export: "provisioner", world: "docker-provisioner" };
/// Says which keys of cluster objects templates mean.
pub const MAPPING: Role = Role { name: "mapping", export: "template-mapping", world: "cluster-mapping" };

/// Why a component cannot be used. Every text says what to do.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {role} `{component}`: {source}", role = .role.name)]
    Read {
        /// As what.
        role: Role,
        /// Which.
        component: String,
        /// Why.
        source: std::io::Error,
    },
    /// The bytes are no component.
    #[error("`{component}` is {what}; build a component for the world `{PACKAGE}/{world}@{VERSION}`", world = .role.world)]
    NotAComponent {
        /// As what it was to be used.
        role: Role,
        /// Which.
        component: String,
        /// What it is instead.
        what: String,
    },
    /// It is a component, but not of the kind that it was to be used as.
    #[error(
        "`{component}` is a component but no {name}: it exports {exports} and not `{PACKAGE}/{export}@{VERSION}`; build it \
         for the world `{PACKAGE}/{world}@{VERSION}`",
        name = .role.name, export = .role.export, world = .role.world
    )]
    WrongWorld {
        /// As what it was to be used.
        role: Role,
        /// Which.
        component: String,
        /// What it exports.
        exports: String,
    },
    /// It imports what nobody granted.
    #[error("`{component}` imports what it is not granted: {missing}; to allow it add `--grant {remedy}`")]
    NotGranted {
        /// Which.
        component: String,
        /// The imports.
        missing: String,
        /// The grants that would allow them.
        remedy: String,
    },
    /// It imports something although it may import nothing.
    #[error(
        "`{component}` imports {imports}, and a mapping must not import anything; build it for the world \
             `{PACKAGE}/cluster-mapping@{VERSION}`"
    )]
    NotAlone {
        /// Which.
        component: String,
        /// The imports.
        imports: String,
    },
    /// A policy refuses it, or something that it imports.
    #[error("`{component}` must not run: {decision}")]
    Refused {
        /// Which.
        component: String,
        /// The decision.
        decision: Box<Decision>,
    },
    /// It imports what this host does not have.
    #[error(
        "`{component}` imports `{import}`, which this gateway does not offer; it offers {PACKAGE} {VERSION} and WASI 0.2"
    )]
    NotOffered {
        /// Which.
        component: String,
        /// The import.
        import: String,
    },
    /// It is not what somebody agreed to.
    #[error(
        "provisioner `{component}` is not what was agreed to when it was installed: {reason}; look at it with \
         `docker-mcp provisioner inspect`, and install it again to agree"
    )]
    NotAgreed {
        /// Which.
        component: String,
        /// What is different.
        reason: String,
    },
    /// It does not fit together.
    #[error("`{component}` does not fit the contract {PACKAGE}@{VERSION}: {reason}")]
    Mismatch {
        /// Which.
        component: String,
        /// Where it does not fit.
        reason: String,
    },
}

/// A component that was not loaded.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct Rejected {
    /// The SHA-256 of its bytes, in hexadecimal, if they could be read.
    pub digest: Option<String>,
    /// Why not.
    pub error: Box<LoadError>,
}

/// A component that is compiled, checked and linked with exactly what it is granted.
pub struct Provisioner {
    /// Where it came from, for messages.
    pub source: String,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    pub(super) engine: Engine,
    /// How many instances it unfolds to.
    pub(super) instances: Unfolded,
    pub(super) pre: AllCapabilitiesPre<State>,
    pub(super) grants: Grants,
    /// The component's name, if it is part of the gateway.
    pub(super) builtin: Option<String>,
    /// What the policies make of its limits.
    pub(super) ceilings: BTreeMap<Limit, (u64, RuleRef)>,
    /// What the policies decided about it.
    pub decisions: Vec<Decision>,
}

impl Provisioner {
    /// Loads a component. Compiling takes a tenth of a second the first time; afterwards it comes from the cache.
    /// Blocks: call it where blocking is allowed.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(engine: &Engine, source: &Source, grants: Grants) -> Result<Self, LoadError> {
        Self::load_under(engine, source, grants, &Policies::default()).map_err(|rejected| *rejected.error)
    }

    /// Like [`Provisioner::load`], if the policies let it run and use what it imports.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_under(engine: &Engine, source: &Source, grants: Grants, policies: &Policies) -> Result<Self, Rejected> {
        let compiled = Compiled::load(engine, source, PROVISIONER, policies)?;
        let digest = compiled.digest.clone();
        let linked = Self::link(engine, source, grants, policies, compiled);
        linked.map_err(|error| Rejected { digest: Some(digest), error: Box::new(error) })
    }

    fn link(
        engine: &Engine,
        source: &Source,
        grants: Grants,
        policies: &Policies,
        compiled: Compiled,
    ) -> Result<Self, LoadError> {
        let Compiled { component, digest, builtin, mut decisions, instances, compiled, imports } = compiled;
        let refused = |decision: &Decision| LoadError::Refused {
            component: component.clone(),
            decision: Box::new(decision.clone()),
        };
        let not_agreed = |reason: String| LoadError::NotAgreed { component: component.clone(), reason };
        let who = Who { digest: &digest, builtin: builtin.as_deref(), ..Who::default() };
        if let Source::Installed { imports: agreed, .. } = source
            && let Some(new) = imports.iter().find(|import| !agreed.contains(import))
        {
            return Err(not_agreed(format!("it imports `{}`, which was not among its imports", one_line(new, SHOWN))));
        }
        check_grants(&component, imports.iter().cloned(), &grants)?;
        for import in &imports {
            let name = match need(import) {
                Need::Interface(interface) => interface.name().to_owned(),
                Need::Wasi(package) => package,
                Need::Nothing | Need::NotOffered => continue,
            };
            decisions.push(policies.interface(who, &name));
        }
        if let Some(denied) = decisions.iter().find(|decision| !decision.is_allowed()) {
            return Err(refused(denied));
        }
        let grants = grants.within(policies, who);
        let ceilings = policies.limits(who);
        let mismatch =
            |error: wasmtime::Error| LoadError::Mismatch { component: component.clone(), reason: chain(&error) };
        let linker = linking::linker(engine, &grants).map_err(mismatch)?;
        let pre = linker.instantiate_pre(&compiled).and_then(AllCapabilitiesPre::new).map_err(mismatch)?;
        Ok(Self {
            digest,
            source: component,
            engine: engine.clone(),
            instances,
            pre,
            grants,
            builtin,
            ceilings,
            decisions,
        })
    }

    /// What it is granted, and the policies let it use.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What one of its operations may use of these limits.
    pub fn limits(&self, limits: Limits) -> Limits {
        limits.lowered(&self.ceilings)
    }

    /// The component as policies know it, on behalf of a server or of none.
    pub fn who<'a>(&'a self, server: Option<&'a str>, kind: Option<Kind>) -> Who<'a> {
        Who { digest: &self.digest, builtin: self.builtin.as_deref(), server, kind }
    }
}

/// A component that the policies let run, compiled, with the export that its role asks for. Nothing of it has run.
pub(super) struct Compiled {
    pub(super) component: String,
    pub(super) digest: String,
    pub(super) builtin: Option<String>,
    decisions: Vec<Decision>,
    pub(super) instances: Unfolded,
    pub(super) compiled: Component,
    /// What it imports besides names of types.
    pub(super) imports: Vec<String>,
}

impl Compiled {
    pub(super) fn load(engine: &Engine, source: &Source, role: Role, policies: &Policies) -> Result<Self, Rejected> {
        let bytes = read(source).map_err(|error| Rejected {
            digest: None,
            error: Box::new(LoadError::Read { role, component: source.to_string(), source: error }),
        })?;
        let digest = digest(&bytes);
        let compiled = Self::checked(engine, source, role, policies, &bytes, digest.clone());
        compiled.map_err(|error| Rejected { digest: Some(digest), error: Box::new(error) })
    }

    fn checked(
        engine: &Engine,
        source: &Source,
        role: Role,
        policies: &Policies,
        bytes: &[u8],
        digest: String,
    ) -> Result<Self, LoadError> {
        let component = source.to_string();
        let builtin = match source {
            Source::BuiltIn { name, .. } => Some((*name).to_owned()),
            Source::File(_) | Source::Installed { .. } => None,
        };
        let who = Who { digest: &digest, builtin: builtin.as_deref(), ..Who::default() };
        // Before anything of it is compiled or run.
        let decision = policies.component(who);
        if !decision.is_allowed() {
            return Err(LoadError::Refused { component, decision: Box::new(decision) });
        }
        let not_a_component = |what: String| LoadError::NotAComponent { role, component: component.clone(), what };
        match bytes.get(..8) {
            Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
            Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
                return Err(not_a_component("a core module, not a component".to_owned()));
            }
            _ => return Err(not_a_component("not WebAssembly".to_owned())),
        }
        if let Source::Installed { path, digest: agreed, .. } = source
            && digest != *agreed
        {
            let reason = format!("`{}` has sha256:{digest} and not sha256:{agreed}", path.display());
            return Err(LoadError::NotAgreed { component, reason });
        }
        let instances = shape::check(bytes).map_err(|reason| not_a_component(one_line(&reason.to_string(), SHOWN)))?;
        let compiled = compile(engine, bytes).map_err(not_a_component)?;
        let kind = compiled.component_type();
        let wasmtime = engine.wasmtime();
        let exports: Vec<String> = kind.exports(wasmtime).map(|(name, _)| name.to_owned()).collect();
        if !exports.contains(&format!("{PACKAGE}/{}@{VERSION}", role.export)) {
            let exports = if exports.is_empty() { "nothing".to_owned() } else { names(&exports) };
            return Err(LoadError::WrongWorld { role, component, exports });
        }
        // Imports of types alone need no linking and no grant.
        let imports: Vec<String> = kind
            .imports(wasmtime)
            .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok(Self { component, digest, builtin, decisions: vec![decision], instances, compiled, imports })
    }
}

fn check_grants(component: &str, imports: impl Iterator<Item = String>, grants: &Grants) -> Result<(), LoadError> {
    let (mut missing, mut remedy) = (Vec::new(), Vec::new());
    for import in imports {
        let grant = match need(&import) {
            Need::Nothing => continue,
            Need::Interface(interface) if grants.interfaces.contains(&interface) => continue,
            Need::Interface(interface) => interface.name().to_owned(),
            Need::Wasi(package) if grants.wasi.contains(&package) => continue,
            Need::Wasi(package) => package,
            Need::NotOffered => {
                let import = one_line(&import, SHOWN);
                return Err(LoadError::NotOffered { component: component.to_owned(), import });
            }
        };
        missing.push(import);
        if !remedy.contains(&grant) {
            remedy.push(grant);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(LoadError::NotGranted {
        component: component.to_owned(),
        missing: names(&missing),
        remedy: one_line(&remedy.join(","), SHOWN),
    })
}

/// How many characters of a component's text stand in a message.
const SHOWN: usize = 1000;
/// How many of its names do.
const SHOWN_NAMES: usize = 20;

/// Names that a component chose, as they stand in a message.
pub(super) fn names(all: &[String]) -> String {
    let shown: Vec<String> = all.iter().take(SHOWN_NAMES).map(|name| format!("`{}`", one_line(name, 200))).collect();
    match all.len().saturating_sub(SHOWN_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn chain(error: &wasmtime::Error) -> String {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    one_line(&chain.join(": "), SHOWN)
}

/// The bytes of a component. What is no file, or too large, is refused before it is read.
pub(crate) fn read(source: &Source) -> std::io::Result<Cow<'static, [u8]>> {
    let path = match source {
        Source::BuiltIn { bytes, .. } => return Ok(Cow::Borrowed(bytes)),
        Source::File(path) | Source::Installed { path, .. } => path,
    };
    // Asked before opening: opening a pipe waits for somebody to write into it.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a file; name a component (`.wasm`)"));
    }
    let mut bytes = Vec::new();
    if metadata.len() <= MAX_BYTES {
        // It may grow while it is read.
        std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    if metadata.len() > MAX_BYTES || bytes.len() as u64 > MAX_BYTES {
        let limit = MAX_BYTES >> 20;
        return Err(std::io::Error::other(format!("it is larger than {limit} MiB; build it with optimisation")));
    }
    Ok(Cow::Owned(bytes))
}

/// Compiles, or says what is wrong. A compiler that panics has met something that it does not know, and the gateway
/// lives on.
fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, String> {
    let compile = AssertUnwindSafe(|| Component::from_binary(engine.wasmtime(), bytes));
    match std::panic::catch_unwind(compile) {
        Ok(Ok(component)) => Ok(component),
        Ok(Err(error)) => Err(format!("nothing that can be run here ({})", chain(&error))),
        Err(_) => Err("nothing that the compiler can handle, which is a bug in it".to_owned()),
    }
}
