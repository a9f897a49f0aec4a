//! A runtime that creates nothing: it records what it is asked for, so that a forecast can be shown.
//!
//! For a guest it is like the real ones: the same checks come before it, it refuses what they refuse whatever the
//! engine, and it answers otherwise as if all had gone well. What only an engine knows, such as the user of an image, it
//! does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::kubernetes::PodSettings;
use super::routed::is_embedded;
use super::{
    Captured, Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError, StderrTail,
    Streams, docker, embedded, kubernetes,
};
use crate::lease::Reaper;

/// Records requests.
pub struct PlanRuntime {
    name: &'static str,
    reaper: Reaper,
    recorded: Mutex<Vec<Recorded>>,
    next: AtomicU64,
}

/// Something that was asked for.
#[derive(Debug)]
pub struct Recorded {
    /// What.
    pub request: Request,
    /// The name of the lease of a container that was started; none for one that was run to its end.
    pub lease: Option<String>,
}

impl PlanRuntime {
    /// A recorder that goes by the name of the runtime that it stands for.
    pub fn new(name: &'static str, reaper: Reaper) -> Self {
        Self { name, reaper, recorded: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// Takes what was asked for since the last time, in order.
    pub fn take(&self) -> Vec<Request> {
        self.take_all().into_iter().map(|recorded| recorded.request).collect()
    }

    /// Likewise, with what tells which of it somebody holds.
    pub fn take_all(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, request: Request, lease: Option<&str>) -> Result<(), RuntimeError> {
        match (is_embedded(&request.spec.image), self.name) {
            (true, _) => embedded::check(&request)?,
            // What is the same for all pods is no matter of the request.
            (false, "kubernetes") => kubernetes::objects::check(&request, &PodSettings::default())?,
            (false, _) => docker::create::check(&request)?,
        }
        let lease = lease.map(str::to_owned);
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded { request, lease });
        Ok(())
    }
}

#[async_trait]
impl ContainerRuntime for PlanRuntime {
    fn name(&self) -> &'static str {
        self.name
    }

    fn name_for(&self, image: &str) -> &'static str {
        if is_embedded(image) { "embedded" } else { self.name }
    }

    async fn prepare(&self, image: &str, _progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        if is_embedded(image) { Ok(()) } else { docker::create::check_image(image) }
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        let name = format!("planned-{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.record(request, Some(&name))?;
        Ok(Running {
            lease: self.reaper.lease(name, || async {}),
            streams: Streams {
                stdin: Box::new(tokio::io::sink()),
                stdout: Box::new(tokio::io::empty()),
                stderr: StderrTail::default(),
            },
        })
    }

    async fn run_with_input(
        &self,
        request: Request,
        _input: Vec<u8>,
        _limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        self.record(request, None)?;
        Ok(Completed { exit_code: 0, stdout: Captured::default(), stderr: Captured::default(), note: None })
    }
}
