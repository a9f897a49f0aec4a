//! Getting the component ready: compiled once, under the policies, and what the audit log says of that. It runs nothing of
//! it.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use provisioning_core::policy::Decision;

use super::SandboxedProvisioner;
use crate::audit::Loaded;
use crate::provision::ProvisionError;
use crate::sandbox::component::{LoadError, Provisioner};

/// A component that was not loaded.
pub(super) struct Rejection {
    /// The SHA-256 of its bytes, if they could be read.
    digest: Option<String>,
    /// Why a policy refuses it, if that is why.
    decision: Option<Decision>,
}

pub(super) type Compiling = Shared<BoxFuture<'static, Result<Arc<Provisioner>, ProvisionError>>>;

impl SandboxedProvisioner {
    /// Compiles the component. Once, whoever waits for it and however often they go away: nothing stops a compiler.
    pub(super) fn compiled(&self) -> Compiling {
        let begin = || {
            let (engine, source, grants) = (self.engine.clone(), self.component.clone(), self.grants.clone());
            let (name, limit) = (self.component.to_string(), self.environment.limits.compile_time);
            let policies = Arc::clone(&self.environment.enforcement.policies);
            let load = move || Provisioner::load_under(&engine, &source, grants, &policies);
            let rejection = Arc::clone(&self.rejected);
            let work = tokio::task::spawn_blocking(load);
            let compiling = async move {
                match tokio::time::timeout(limit, work).await {
                    Ok(Ok(loaded)) => loaded.map(Arc::new).map_err(|rejected| {
                        let text = rejected.to_string();
                        let (decision, error) = match *rejected.error {
                            LoadError::Refused { decision, .. } => (Some(*decision), ProvisionError::Denied(text)),
                            _ => (None, ProvisionError::Component(text)),
                        };
                        // Only this sets it, and only once.
                        let _ = rejection.set(Rejection { digest: rejected.digest, decision });
                        error
                    }),
                    Ok(Err(panic)) => {
                        Err(ProvisionError::Component(format!("loading provisioner `{name}` failed: {panic}")))
                    }
                    Err(_) => Err(ProvisionError::Component(format!(
                        "provisioner `{name}` was not compiled within {} s; use a smaller component",
                        limit.as_secs()
                    ))),
                }
            };
            compiling.boxed().shared()
        };
        self.compiling.get_or_init(begin).clone()
    }

    /// What is recorded of grants and limits is what the policies left of them, if the component was loaded.
    pub(super) fn record_load(&self, compiled: &Result<Arc<Provisioner>, ProvisionError>) {
        let (loaded, rejected) = (compiled.as_ref().ok(), self.rejected.get());
        let digest = loaded.map(|provisioner| &provisioner.digest);
        let limits = self.environment.limits;
        self.environment.audit.loaded(|| Loaded {
            component: self.component.to_string(),
            digest: digest.or(rejected.and_then(|rejected| rejected.digest.as_ref())).cloned(),
            grants: loaded.map_or(&self.grants, |provisioner| provisioner.grants()).names(),
            limits: loaded.map_or(limits, |provisioner| provisioner.limits(limits)).into(),
            error: compiled.as_ref().err().map(ToString::to_string),
            decision: rejected.and_then(|rejected| rejected.decision.as_ref()).map(Into::into),
        });
    }
}
