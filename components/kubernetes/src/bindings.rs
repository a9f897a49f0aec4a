//! Generated from `wit/`. All unsafe code of this component is here.
#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "kubernetes-provisioner",
    generate_all,
});
