//! Sends each container to the engine that its image is for: images that are `.wasm` files run embedded in this
//! process, all others in the container engine. One catalog may mix both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Completed, ContainerRuntime, ImageProgress, Request, RunLimits, Running, RuntimeError};

/// Whether an image reference names a WASI component.
pub fn is_embedded(image: &str) -> bool {
    image.starts_with("embedded:") || image.ends_with(".wasm")
}

/// Two engines behind one face.
pub struct Routed {
    /// For images of a container engine.
    pub engine: Arc<dyn ContainerRuntime>,
    /// For images that are WASI components.
    pub embedded: Arc<dyn ContainerRuntime>,
}

impl Routed {
    fn of(&self, image: &str) -> &dyn ContainerRuntime {
        if is_embedded(image) { &*self.embedded } else { &*self.engine }
    }
}

#[async_trait]
impl ContainerRuntime for Routed {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn name_for(&self, image: &str) -> &'static str {
        self.of(image).name()
    }

    async fn prepare(&self, image: &str, progress: &dyn ImageProgress) -> Result<(), RuntimeError> {
        self.of(image).prepare(image, progress).await
    }

    fn start_limit(&self, image: &str, patience: Duration) -> Duration {
        self.of(image).start_limit(image, patience)
    }

    async fn start(&self, request: Request) -> Result<Running, RuntimeError> {
        self.of(&request.spec.image).start(request).await
    }

    async fn run_with_input(
        &self,
        request: Request,
        input: Vec<u8>,
        limits: RunLimits,
    ) -> Result<Completed, RuntimeError> {
        self.of(&request.spec.image).run_with_input(request, input, limits).await
    }
}
