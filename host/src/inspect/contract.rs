//! The gateway's own contract as it was when the gateway was built: what the documentation of an import is taken from
//! and what a component is compared with.

#![allow(
    clippy::indexing_slicing,
    reason = "identifiers index the arenas that they come from; there is no other access"
)]

use std::sync::LazyLock;

use wit_parser::{Interface, PackageId, Resolve};

use crate::sandbox::contract::{PACKAGE, VERSION};

/// All of `wit/`, beginning with the file that names the package.
const SOURCES: &str = concat!(
    include_str!("../../../wit/types.wit"),
    include_str!("../../../wit/values.wit"),
    include_str!("../../../wit/handles.wit"),
    include_str!("../../../wit/log.wit"),
    include_str!("../../../wit/secret-resolver.wit"),
    include_str!("../../../wit/config-resolver.wit"),
    include_str!("../../../wit/container-runtime.wit"),
    include_str!("../../../wit/remote-endpoint.wit"),
    include_str!("../../../wit/cluster-objects.wit"),
    include_str!("../../../wit/template-mapping.wit"),
    include_str!("../../../wit/provisioner.wit"),
    include_str!("../../../wit/worlds.wit"),
);

/// The contract, parsed.
pub(super) struct Contract {
    pub(super) resolve: Resolve,
    pub(super) package: PackageId,
}

/// The contract. There is always one: a test parses it.
pub(super) fn contract() -> Option<&'static Contract> {
    static CONTRACT: LazyLock<Option<Contract>> = LazyLock::new(|| {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("wit", SOURCES).ok()?;
        Some(Contract { resolve, package })
    });
    CONTRACT.as_ref()
}

/// The names of its interfaces, without package and version.
pub(super) fn interfaces(contract: &Contract) -> impl Iterator<Item = &str> {
    contract.resolve.packages[contract.package].interfaces.keys().map(String::as_str)
}

/// An interface of the contract by its full name.
pub(super) fn interface(name: &str) -> Option<&'static Interface> {
    let contract = contract()?;
    let (own, version) = name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')?;
    let interfaces = &contract.resolve.packages[contract.package].interfaces;
    interfaces.get(own).filter(|_| version == VERSION).map(|id| &contract.resolve.interfaces[*id])
}

pub(super) fn interface_docs(name: &str) -> Option<String> {
    interface(name)?.docs.contents.clone()
}

pub(super) fn function_docs(interface_name: &str, function: &str) -> Option<String> {
    interface(interface_name)?.functions.get(function)?.docs.contents.clone()
}
