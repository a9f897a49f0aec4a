//! A runtime that creates nothing: it records what it is asked for, so that a forecast can be shown.
//!
//! For a guest it is like the real one: the same checks come before it, and it answers as if all had gone well.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{
    Captured, Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError, StderrTail,
    Streams,
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

    fn record(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}

#[async_trait]
impl ContainerRuntime for PlanRuntime {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&self, _image: &str, _progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        self.record(request);
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
        self.record(request);
        Ok(Completed { exit_code: 0, stdout: Captured::default(), stderr: Captured::default() })
    }
}
