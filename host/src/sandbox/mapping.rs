//! Running mappings: components that say which key of a cluster object a template means, and can do nothing else.
//!
//! A mapping is linked with nothing at all, not even a log. What it answers is checked where it is used.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use provisioning_core::policy::{Limit, Policies, RuleRef};
use provisioning_core::text::one_line;
use provisioning_core::value::ObjectKind;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Linker;
use wasmtime::{Store, UpdateDeadline};

use super::bindings::mapping::ClusterMappingPre;
use super::bindings::mapping::exports::mcp_gateway::provisioning::template_mapping::{Source as Kind, TemplateUse};
use super::component::{Compiled, LoadError, MAPPING, Rejected, Source, chain, names};
use super::contract::{PACKAGE, VERSION};
use super::engine::{Engine, TICK};
use super::limiter::Growth;
use super::operation::text;
use super::reached::{describe, limit_behind};
use super::shape::Unfolded;
use super::{Limits, Stop};
use crate::audit::{Audit, Loaded};
use crate::resolve::ResolveError;
use crate::resolve::cluster::{KeyMapping, Use};

/// How many characters of a mapping's own text are shown.
const SHOWN: usize = 500;

/// A mapping that is compiled when it is first asked.
pub struct Mapping {
    engine: Engine,
    source: Source,
    policies: Arc<Policies>,
    limits: Limits,
    audit: Audit,
    compiling: OnceLock<Compiling>,
}

type Compiling = Shared<BoxFuture<'static, Result<Arc<Ready>, String>>>;

/// A mapping that can be instantiated.
struct Ready {
    component: String,
    engine: Engine,
    instances: Unfolded,
    pre: ClusterMappingPre<State>,
    limits: Limits,
    /// What the policies make of the limits.
    ceilings: BTreeMap<Limit, (u64, RuleRef)>,
}

/// What a store holds: nothing that a guest could reach.
struct State {
    growth: Growth,
    cancel: CancellationToken,
    guest_ticks_left: u64,
}

impl Mapping {
    /// Takes the component. Loads nothing yet.
    pub fn new(engine: Engine, source: Source, policies: Arc<Policies>, limits: Limits, audit: Audit) -> Self {
        Self { engine, source, policies, limits, audit, compiling: OnceLock::new() }
    }

    /// Compiles it. Once, whoever waits for it and however often they go away: nothing stops a compiler.
    fn ready(&self) -> Compiling {
        let begin = || {
            let (engine, source, policies) = (self.engine.clone(), self.source.clone(), Arc::clone(&self.policies));
            let (limits, audit, name) = (self.limits, self.audit.clone(), self.source.to_string());
            let work = tokio::task::spawn_blocking(move || load(&engine, &source, &policies, limits));
            let compiling = async move {
                let (mut digest, mut decision) = (None, None);
                let loaded = match tokio::time::timeout(limits.compile_time, work).await {
                    Ok(Ok(loaded)) => loaded.map_err(|rejected| {
                        if let LoadError::Refused { decision: denied, .. } = &*rejected.error {
                            decision = Some((&**denied).into());
                        }
                        let reason = rejected.to_string();
                        digest = rejected.digest;
                        reason
                    }),
                    Ok(Err(panic)) => Err(format!("loading mapping `{name}` failed: {panic}")),
                    Err(_) => Err(format!(
                        "mapping `{name}` was not compiled within {} s; use a smaller component",
                        limits.compile_time.as_secs()
                    )),
                };
                audit.loaded(|| Loaded {
                    component: name,
                    digest: loaded.as_ref().ok().map(|(digest, _)| digest.clone()).or(digest),
                    grants: Vec::new(),
                    limits: loaded.as_ref().map_or(limits, |(_, ready)| ready.limits).into(),
                    error: loaded.as_ref().err().cloned(),
                    decision,
                });
                loaded.map(|(_, ready)| Arc::new(ready))
            };
            compiling.boxed().shared()
        };
        self.compiling.get_or_init(begin).clone()
    }
}

/// Loads a mapping. Blocks.
fn load(engine: &Engine, source: &Source, policies: &Policies, limits: Limits) -> Result<(String, Ready), Rejected> {
    let loaded = Compiled::load(engine, source, MAPPING, policies)?;
    let digest = loaded.digest.clone();
    match link(engine, loaded, policies, limits) {
        Ok(ready) => Ok((digest, ready)),
        Err(error) => Err(Rejected { digest: Some(digest), error: Box::new(error) }),
    }
}

fn link(engine: &Engine, loaded: Compiled, policies: &Policies, limits: Limits) -> Result<Ready, LoadError> {
    let component = loaded.component;
    let own_words = format!("{PACKAGE}/types@{VERSION}");
    let imports: Vec<String> = loaded.imports.into_iter().filter(|import| *import != own_words).collect();
    if !imports.is_empty() {
        return Err(LoadError::NotAlone { component, imports: names(&imports) });
    }
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch { component: component.clone(), reason: chain(&error) };
    let linker: Linker<State> = Linker::new(engine.wasmtime());
    let pre = linker.instantiate_pre(&loaded.compiled).and_then(ClusterMappingPre::new).map_err(mismatch)?;
    let who = provisioning_core::policy::Who {
        digest: &loaded.digest,
        builtin: loaded.builtin.as_deref(),
        ..Default::default()
    };
    let ceilings = policies.limits(who);
    let limits = limits.lowered(&ceilings);
    Ok(Ready { component, engine: engine.clone(), instances: loaded.instances, pre, limits, ceilings })
}

#[async_trait]
impl KeyMapping for Mapping {
    async fn map_keys(&self, uses: &[Use]) -> Result<Vec<Use>, ResolveError> {
        let ready = self.ready().await.map_err(ResolveError::Mapping)?;
        let uses: Vec<TemplateUse> = uses
            .iter()
            .map(|(kind, name)| TemplateUse {
                source: match kind {
                    ObjectKind::Secret => Kind::Secret,
                    ObjectKind::ConfigMap => Kind::Config,
                },
                name: name.clone(),
            })
            .collect();
        let cancel = CancellationToken::new();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        // A task of its own, because a call into a guest must not be dropped in the middle.
        let work = tokio::spawn(async move { ready.map(uses, cancel).await });
        work.await.unwrap_or_else(|panic| Err(ResolveError::Mapping(format!("the mapping failed: {panic}"))))
    }
}

impl Ready {
    async fn map(&self, uses: Vec<TemplateUse>, cancel: CancellationToken) -> Result<Vec<Use>, ResolveError> {
        let failed = |error: &wasmtime::Error, refused: Option<Limit>| {
            let mut reason = match error.downcast_ref::<Stop>() {
                Some(stop) => stop.to_string(),
                None => one_line(&error.root_cause().to_string(), SHOWN),
            };
            if let Some(limit) = limit_behind(error, refused) {
                reason = format!("{reason} ({})", describe(limit, &self.limits, &self.ceilings));
            }
            ResolveError::Mapping(format!("mapping `{}` failed: {reason}", self.component))
        };
        let _room = self.engine.room_for(self.instances.all).await.map_err(|error| failed(&error, None))?;
        let _ticking = self.engine.ticking();
        let mut store = self.store(cancel);
        let answer = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            instance.mcp_gateway_provisioning_template_mapping().call_map_keys(&mut store, &uses).await
        };
        let answer = answer.await;
        let refused = store.data().growth.refused;
        let keys = answer.map_err(|error| failed(&error, refused))?.map_err(|error| {
            let reason = one_line(text(&error), SHOWN);
            ResolveError::Entry(format!("no key of the cluster stands for what the entry names: {reason}"))
        })?;
        let kind = |kind| match kind {
            Kind::Secret => ObjectKind::Secret,
            Kind::Config => ObjectKind::ConfigMap,
        };
        Ok(keys.into_iter().map(|key| (kind(key.source), key.key)).collect())
    }

    fn store(&self, cancel: CancellationToken) -> Store<State> {
        let ticks = u64::try_from(self.limits.guest_time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
        let state = State { growth: Growth::new(&self.limits), cancel, guest_ticks_left: ticks };
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.growth);
        store.set_hostcall_fuel(self.limits.copied_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if state.cancel.is_cancelled() {
                return Err(Stop::Cancelled.into());
            }
            state.guest_ticks_left = state.guest_ticks_left.checked_sub(1).ok_or(Stop::GuestTime)?;
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}
