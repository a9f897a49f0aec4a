//! The waiting of WASI, made to give way: without it a guest that sleeps could not be stopped, since the engine's
//! clock interrupts only code that runs.

use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::poll;

use super::Stop;

/// Replaces `wasi:io/poll` in a linker that has WASI.
pub(crate) fn make_interruptible<T: Send + 'static>(
    linker: &mut Linker<T>,
    of: fn(&mut T) -> Waiting<'_>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<T, Interruptible>(linker, of)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Interruptible;

impl HasData for Interruptible {
    type Data<'a> = Waiting<'a>;
}

/// What a guest waits with, and what ends its waiting.
pub(crate) struct Waiting<'a> {
    /// What the guest holds.
    pub(crate) table: &'a mut ResourceTable,
    /// Ends the guest.
    pub(crate) stop: &'a CancellationToken,
}

impl Waiting<'_> {
    async fn unless_stopped<T>(
        stop: &CancellationToken,
        wait: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        tokio::select! {
            biased;
            done = wait => done,
            () = stop.cancelled() => Err(Stop::Cancelled.into()),
        }
    }
}

impl poll::Host for Waiting<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Self::unless_stopped(self.stop, poll::Host::poll(self.table, pollables)).await
    }
}

impl poll::HostPollable for Waiting<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        Self::unless_stopped(self.stop, poll::HostPollable::block(self.table, pollable)).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
