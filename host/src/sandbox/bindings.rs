//! Rust types and traits generated from `wit/`: the only user of `bindgen!` in the host.
//!
//! Argument tracing stays off: anything may carry a secret's name or a private path.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "all-capabilities",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "mcp-gateway:provisioning/values.value": provisioning_core::Value,
        "mcp-gateway:provisioning/handles.container": crate::capability::container_runtime::Running,
        "mcp-gateway:provisioning/handles.completed": crate::capability::container_runtime::Completed,
        "mcp-gateway:provisioning/handles.remote": crate::capability::remote_endpoint::RemoteHandle,
    },
    trappable_error_type: {
        "mcp-gateway:provisioning/types.error" => crate::capability::Failure,
    },
});

/// The world of mappings, which share the words of `types` and nothing else.
pub mod mapping {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cluster-mapping",
        exports: { default: async },
        with: {
            "mcp-gateway:provisioning/types": crate::sandbox::bindings::mcp_gateway::provisioning::types,
        },
    });
}
