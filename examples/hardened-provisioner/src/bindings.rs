//! Generated from `wit/`. All unsafe code of this component is here.
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package example:hardened;
        world wrapper {
            import mcp-gateway:provisioning/container-runtime@0.1.0;
            export mcp-gateway:provisioning/container-runtime@0.1.0;
        }
    ",
    world: "example:hardened/wrapper",
    generate_all,
});
