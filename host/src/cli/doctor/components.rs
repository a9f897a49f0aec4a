//! Whether WebAssembly runs here, whether the built-in components load, and whether the installed ones are what was agreed
//! to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Finding, Place};
use crate::audit::Audit;
use crate::builtin;
use crate::capability::container_runtime::embedded::{EmbeddedRuntime, SAMPLE};
use crate::capability::container_runtime::{ContainerRuntime as _, Quiet};
use crate::installed::Store;
use crate::lease::Reaper;
use crate::policy::grants::Grants;
use crate::resolve::cluster::KeyMapping as _;
use crate::sandbox::Limits;
use crate::sandbox::component::{Provisioner, Source};
use crate::sandbox::contract::digest;
use crate::sandbox::engine::Engine;
use crate::sandbox::mapping::Mapping;
use crate::secrets::search_path::SearchPath;

/// The sandbox and what is built in.
pub(super) async fn built_in(cache: Option<&Path>) -> Vec<Finding> {
    let engine = match Engine::new(cache) {
        Ok(engine) => engine,
        Err(error) => {
            let detail = format!("WebAssembly cannot be run here: {error:#}");
            return vec![Finding::problem("wasm", detail, "use a 64-bit x86 or ARM processor and a current release")];
        }
    };
    let mut findings = vec![Finding::ok("wasm", "WebAssembly runs here")];
    for (name, bytes, grants) in [
        ("docker", builtin::DOCKER, Grants::builtin_docker()),
        ("kubernetes", builtin::KUBERNETES, Grants::builtin_kubernetes()),
    ] {
        findings.push(loading(name, bytes, provisioner(&engine, name, bytes, grants)).await);
    }
    let mapping = loading("cluster-mapping", builtin::CLUSTER_MAPPING, mapping(&engine));
    findings.push(mapping.await);
    findings.push(loading(SAMPLE, builtin::SAMPLE_SERVER, sample(cache)).await);
    findings
}

/// What came of loading one, and how long it took.
async fn loading(name: &str, bytes: &[u8], work: impl Future<Output = Result<(), String>>) -> Finding {
    let began = Instant::now();
    match work.await {
        Ok(()) => loaded(name, &digest(bytes), began.elapsed()),
        Err(error) => broken(name, &error),
    }
}

async fn provisioner(engine: &Engine, name: &'static str, bytes: &'static [u8], grants: Grants) -> Result<(), String> {
    let (engine, source) = (engine.clone(), Source::BuiltIn { name, bytes });
    let loading = tokio::task::spawn_blocking(move || Provisioner::load(&engine, &source, grants).map(drop));
    loading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Asks it for no keys, which loads and runs it.
async fn mapping(engine: &Engine) -> Result<(), String> {
    let source = Source::BuiltIn { name: "cluster-mapping", bytes: builtin::CLUSTER_MAPPING };
    let mapping = Mapping::new(engine.clone(), source, Arc::default(), Limits::default(), Audit::off());
    mapping.map_keys(&[]).await.map(drop).map_err(|error| error.to_string())
}

async fn sample(cache: Option<&Path>) -> Result<(), String> {
    let name = SAMPLE.trim_start_matches("embedded:");
    let builtin: BTreeMap<_, &'static [u8]> = BTreeMap::from([(name, builtin::SAMPLE_SERVER)]);
    let secrets = Arc::new(SearchPath::new(Vec::new()));
    let engine = Engine::for_servers(cache).map_err(|error| format!("{error:#}"))?;
    let runtime = EmbeddedRuntime::new(engine, Reaper::new(), secrets, PathBuf::new(), builtin);
    let prepared = runtime.map_err(|error| error.to_string())?.prepare(SAMPLE, &Quiet).await;
    prepared.map_err(|error| error.to_string())
}

fn loaded(name: &str, digest: &str, time: Duration) -> Finding {
    let detail = format!("`{name}` (sha256:{digest}) loads in {} ms", time.as_millis());
    Finding::ok("component", detail)
}

fn broken(name: &str, error: &str) -> Finding {
    Finding::problem("component", format!("`{name}` does not load: {error}"), "install docker-mcp again")
}

/// The installed ones; none if there are none.
pub(super) fn installed(place: &Place) -> Vec<Finding> {
    const CHECK: &str = "installed";
    let directory = Store::directory(place.variable("XDG_DATA_HOME").map(Into::into), place.home.as_deref());
    let Some(directory) = directory else { return Vec::new() };
    let shown = directory.display().to_string();
    let store = match Store::open(directory) {
        Ok(store) => store,
        Err(error) => {
            let fix = format!("make `{shown}` a directory that only you can write to, and check what is installed");
            return vec![Finding::problem(CHECK, error.to_string(), fix)];
        }
    };
    let lock = match store.lock() {
        Ok(lock) => lock,
        Err(error) => return vec![Finding::of_message(CHECK, &error.to_string())],
    };
    let findings = lock.provisioners.iter().map(|(name, installed)| {
        match super::super::provisioner::holds(&store, name, installed) {
            Ok(()) => Finding::ok(CHECK, format!("`{name}` (sha256:{}) is what was agreed to", installed.digest)),
            Err(reason) => {
                let fix = format!(
                    "look at it with `docker-mcp provisioner inspect`, then install it again to agree to it, or \
                     `docker-mcp provisioner uninstall {name}`"
                );
                Finding::problem(CHECK, format!("`{name}` is not what was agreed to: {reason}"), fix)
            }
        }
    });
    findings.collect()
}
