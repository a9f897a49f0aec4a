//! A runtime that creates nothing: it records what it is asked for, so that a forecast can be shown.
//!
//! For a guest it is like the real ones: the same checks come before it, it refuses what they refuse whatever the
//! engine, and it answers otherwise as if all had gone well.

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
    requests: Mutex<Vec<Request>>,
}

impl PlanRuntime {
    /// A recorder that goes by the name of the runtime that it stands for.
    pub fn new(name: &'static str, reaper: Reaper) -> Self {
        Self { name, reaper, requests: Mutex::default() }
    }

    /// Takes what was recorded since the last time, in order.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, request: Request) -> Result<(), RuntimeError> {
        match (is_embedded(&request.spec.image), self.name) {
            (true, _) => embedded::check(&request)?,
            // What is the same for all pods is no matter of the request.
            (false, "kubernetes") => kubernetes::objects::check(&request, &PodSettings::default())?,
            (false, _) => docker::create::check(&request)?,
        }
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
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
        self.record(request)?;
        Ok(Running {
            lease: self.reaper.lease("planned", || async {}),
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
        self.record(request)?;
        Ok(Completed { exit_code: 0, stdout: Captured::default(), stderr: Captured::default(), note: None })
    }
}
