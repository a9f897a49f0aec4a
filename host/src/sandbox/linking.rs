//! Links a component with exactly the interfaces that it is granted. What is not granted does not exist for it:
//! nothing is stubbed and nothing is defined as a trap.

use wasmtime::component::Linker;

use super::bindings::mcp_gateway::provisioning as wit;
use super::engine::Engine;
use super::operation::State;
use super::waiting::make_interruptible;
use crate::capability::recorded::{Recorded, Recording};
use crate::policy::grants::{Grants, Interface};

/// A linker with the interfaces that carry no authority and those that are granted.
pub(super) fn linker(engine: &Engine, grants: &Grants) -> wasmtime::Result<Linker<State>> {
    type Data = Recording;
    fn context(state: &mut State) -> Recorded<'_> {
        Recorded(&mut state.context)
    }
    let mut linker = Linker::new(engine.wasmtime());
    wit::types::add_to_linker::<State, Data>(&mut linker, context)?;
    wit::values::add_to_linker::<State, Data>(&mut linker, context)?;
    wit::handles::add_to_linker::<State, Data>(&mut linker, context)?;
    for interface in &grants.interfaces {
        match interface {
            Interface::SecretResolver => wit::secret_resolver::add_to_linker::<State, Data>(&mut linker, context)?,
            Interface::ConfigResolver => wit::config_resolver::add_to_linker::<State, Data>(&mut linker, context)?,
            Interface::ContainerRuntime => wit::container_runtime::add_to_linker::<State, Data>(&mut linker, context)?,
            Interface::RemoteEndpoint => wit::remote_endpoint::add_to_linker::<State, Data>(&mut linker, context)?,
            Interface::Log => wit::log::add_to_linker::<State, Data>(&mut linker, context)?,
            Interface::ClusterObjects => wit::cluster_objects::add_to_linker::<State, Data>(&mut linker, context)?,
        }
    }
    if !grants.wasi.is_empty() {
        // A component that imports a package that is not granted was refused before.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        make_interruptible(&mut linker, State::waiting)?;
    }
    Ok(linker)
}
