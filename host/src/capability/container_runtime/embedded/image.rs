//! From an image reference to a compiled command: where the bytes come from, whether they are what an embedded
//! server must be, and keeping what was compiled.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use provisioning_core::text::one_line;
use tokio::sync::OnceCell;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::guest::State;
use crate::capability::container_runtime::RuntimeError;
use crate::sandbox::engine::Engine;
use crate::sandbox::shape::{self, Misshapen};

/// Marks references to components that are part of the binary.
const BUILTIN: &str = "embedded:";

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// What every WASI 0.2 command may import. Anything else is outside of what an embedded server gets.
const GIVEN: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

const HOW_TO_BUILD: &str = "build it as a program for `wasm32-wasip2` (`cargo build --target wasm32-wasip2`)";

/// True if an image reference names something that the embedded runtime runs: a `.wasm` file or a component that
/// is part of the binary.
pub fn is_embedded(image: &str) -> bool {
    image.starts_with(BUILTIN) || image.ends_with(".wasm")
}

pub(super) struct Images {
    engine: Engine,
    linker: Arc<Linker<State>>,
    base: PathBuf,
    builtin: BTreeMap<&'static str, &'static [u8]>,
    /// By image reference; an entry counts only while the file is the one that was compiled.
    compiled: Mutex<HashMap<String, Compiled>>,
}

#[derive(Clone)]
struct Compiled {
    version: Version,
    command: Arc<OnceCell<CommandPre<State>>>,
}

/// Tells a file from what it was before.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Version {
    changed: Option<SystemTime>,
    bytes: u64,
}

impl Images {
    pub(super) fn new(
        engine: Engine,
        linker: Linker<State>,
        base: PathBuf,
        builtin: BTreeMap<&'static str, &'static [u8]>,
    ) -> Self {
        Self { engine, linker: Arc::new(linker), base, builtin, compiled: Mutex::default() }
    }

    /// The compiled command. Compiles once however many ask at the same time.
    pub(super) async fn load(&self, image: &str) -> Result<CommandPre<State>, RuntimeError> {
        let source = self.find(image).await?;
        let entry = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            match compiled.get(image) {
                Some(entry) if entry.version == source.version() => entry.clone(),
                _ => {
                    let entry = Compiled { version: source.version(), command: Arc::default() };
                    compiled.insert(image.to_owned(), entry.clone());
                    entry
                }
            }
        };
        let command = entry.command.get_or_try_init(|| self.compile(image, source)).await?;
        Ok(command.clone())
    }

    async fn find(&self, image: &str) -> Result<Source, RuntimeError> {
        if let Some(name) = image.strip_prefix(BUILTIN) {
            return self.builtin.get(name).copied().map(Source::Builtin).ok_or_else(|| {
                let known: Vec<String> = self.builtin.keys().map(|name| format!("`{BUILTIN}{name}`")).collect();
                unusable(image, format!("there is no such embedded server; there is {}", known.join(", ")))
            });
        }
        if !is_embedded(image) {
            let reason =
                "the embedded runtime runs `.wasm` files and `embedded:` servers; use a container engine for it";
            return Err(unusable(image, reason));
        }
        let path = self.base.join(image);
        let metadata = tokio::fs::metadata(&path).await.map_err(|error| cannot_read(image, &path, &error))?;
        if !metadata.is_file() {
            return Err(unusable(image, format!("`{}` is not a file", path.display())));
        }
        let version = Version { changed: metadata.modified().ok(), bytes: metadata.len() };
        if version.bytes > MAX_BYTES {
            return Err(unusable(image, format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(Source::File { path, version })
    }

    async fn compile(&self, image: &str, source: Source) -> Result<CommandPre<State>, RuntimeError> {
        let (image, engine, linker) = (image.to_owned(), self.engine.clone(), Arc::clone(&self.linker));
        let work = tokio::task::spawn_blocking(move || {
            let read;
            let bytes = match &source {
                Source::Builtin(bytes) => *bytes,
                Source::File { path, .. } => {
                    read = std::fs::read(path).map_err(|error| cannot_read(&image, path, &error))?;
                    read.as_slice()
                }
            };
            command(&image, &engine, &linker, bytes)
        });
        work.await.map_err(|error| RuntimeError::Engine(format!("compiling a component failed: {error}")))?
    }
}

enum Source {
    Builtin(&'static [u8]),
    File { path: PathBuf, version: Version },
}

impl Source {
    fn version(&self) -> Version {
        match self {
            Self::Builtin(_) => Version::default(),
            Self::File { version, .. } => *version,
        }
    }
}

/// Compiles a command, or says what it is instead.
fn command(
    image: &str,
    engine: &Engine,
    linker: &Linker<State>,
    bytes: &[u8],
) -> Result<CommandPre<State>, RuntimeError> {
    // The last four bytes tell a core module from a component.
    match bytes.first_chunk::<8>() {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            return Err(unusable(image, format!("it is a core module, not a component: {HOW_TO_BUILD}")));
        }
        Some([0, b'a', b's', b'm', ..]) => {}
        _ => return Err(unusable(image, format!("it is not WebAssembly: {HOW_TO_BUILD}"))),
    }
    let damaged = |reason: &str| {
        let reason = one_line(reason, 1000);
        unusable(image, format!("it is damaged or needs features that are off ({reason}): build it again"))
    };
    shape::check(bytes).map_err(|error| match error {
        Misshapen::Invalid(_) | Misshapen::Dangling => damaged(&error.to_string()),
        shape => unusable(image, format!("it is {shape}; run it in a container")),
    })?;
    let component =
        Component::new(engine.wasmtime(), bytes).map_err(|error| damaged(&format!("{:#}", error.root_cause())))?;
    let foreign: Vec<String> = component
        .component_type()
        .imports(engine.wasmtime())
        .map(|(name, _)| name)
        .filter(|name| !GIVEN.iter().any(|given| name.starts_with(given)))
        .map(|name| format!("`{name}`"))
        .collect();
    if !foreign.is_empty() {
        let reason = format!(
            "it imports {}, which embedded servers are not given; run it in a container or build it without",
            foreign.join(", ")
        );
        return Err(unusable(image, reason));
    }
    let instance = linker.instantiate_pre(&component).map_err(|error| {
        unusable(image, format!("its WASI version does not fit ({:#}): {HOW_TO_BUILD}", error.root_cause()))
    })?;
    CommandPre::new(instance).map_err(|_| {
        unusable(image, format!("it is a component of another kind, without the export `wasi:cli/run`: {HOW_TO_BUILD}"))
    })
}

fn cannot_read(image: &str, path: &std::path::Path, error: &std::io::Error) -> RuntimeError {
    unusable(image, format!("cannot read `{}`: {error}; check the path in the catalog", path.display()))
}

fn unusable(image: &str, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Image { image: image.to_owned(), reason: reason.into() }
}
