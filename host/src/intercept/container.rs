//! Interceptors that are containers: one for each message, on the engine of the servers, with the same hardening and
//! limits, removed afterwards however the call ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use provisioning_core::policy::{Case, Policies, Who, judge};
use provisioning_core::text::one_line;
use provisioning_core::{Bounds, ContainerSpec, Envelope, Network, Resources, SecurityProfile, Value};

use super::MAX_ANSWER;
use crate::audit::{Audit, record};
use crate::capability::container_runtime::{ContainerRuntime, Identity, ImageProgress, Request, RunLimits};

/// How much of a line of standard error is logged.
const LINE: usize = 500;

/// Runs containers for interceptors.
pub struct Containers {
    /// The engine.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The gateway's session, for labels.
    pub session: String,
    /// The ceilings for each container.
    pub resources: Resources,
    /// Where it is recorded what interceptors do, of every kind.
    pub audit: Audit,
    /// The policies, which hold for these containers too, with the rules that are not for certain servers or components.
    pub policies: Arc<Policies>,
    /// Told how image pulls go on.
    pub progress: Arc<dyn ImageProgress>,
}

impl fmt::Debug for Containers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containers").finish_non_exhaustive()
    }
}

impl Containers {
    /// What is run for an image with arguments.
    pub(super) fn spec(&self, image: &str, arguments: &[String]) -> ContainerSpec {
        ContainerSpec {
            image: image.to_owned(),
            command: arguments.iter().map(Value::text).collect(),
            environment: Vec::new(),
            volumes: Vec::new(),
            user: None,
            network: Network::Declared,
            hosts: Vec::new(),
            labels: Vec::new(),
            resources: self.policies.holding(Who::default()).lowered(self.resources),
            security: SecurityProfile::default(),
        }
    }

    /// Runs it with a message on its standard input; its standard output. Says what decided about it.
    pub(super) async fn run(
        &self,
        spec: ContainerSpec,
        message: Vec<u8>,
        time: Duration,
        decided: &mut record::Decision,
    ) -> Result<Vec<u8>, String> {
        self.permit(&spec, decided)?;
        self.runtime.prepare(&spec.image, &*self.progress).await.map_err(|error| error.to_string())?;
        let identity = Identity {
            session: self.session.clone(),
            server: "interceptor".to_owned(),
            tool: Some("interceptor".to_owned()),
        };
        let limits = RunLimits { time, output_bytes: MAX_ANSWER };
        let done = self.runtime.run_with_input(Request { identity, spec }, message, limits).await;
        let done = done.map_err(|error| error.to_string())?;
        for line in String::from_utf8_lossy(&done.stderr.bytes).lines().take(200) {
            tracing::info!(line = one_line(line, LINE), "an interceptor says");
        }
        if done.exit_code != 0 {
            let why = done.note.map(|note| format!(": {note}")).unwrap_or_default();
            return Err(format!("it failed with exit code {}{why}", done.exit_code));
        }
        if done.stdout.dropped > 0 {
            return Err(format!("it answered more than {} MiB", MAX_ANSWER >> 20));
        }
        Ok(done.stdout.bytes)
    }

    /// Whether the policies allow it. It is what the operator wrote on the command line, and so its own envelope.
    fn permit(&self, spec: &ContainerSpec, decided: &mut record::Decision) -> Result<(), String> {
        let envelope = Envelope {
            image: spec.image.clone(),
            command: spec.command.clone(),
            environment: Vec::new(),
            volumes: Vec::new(),
            user: None,
            network: spec.network,
            hosts: Vec::new(),
            resources: spec.resources,
        };
        let case = Case {
            who: Who::default(),
            envelope: &envelope,
            bounds: &Bounds::default(),
            policies: &self.policies,
            mounted: &[],
        };
        let decisions = judge(&case, spec);
        let denied = decisions.iter().find(|decision| !decision.is_allowed());
        if let Some(telling) = denied.or_else(|| decisions.iter().find(|decision| decision.rule.is_some())) {
            *decided = record::Decision::from(telling);
        }
        denied.map_or(Ok(()), |denied| Err(format!("a policy refuses the interceptor: {denied}")))
    }
}
