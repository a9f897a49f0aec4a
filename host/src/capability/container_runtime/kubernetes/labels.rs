//! The labels and annotations of everything that the gateway makes in a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use provisioning_core::names::slug;

use super::names::digest;
use crate::capability::container_runtime::{Identity, RuntimeError};

/// Who manages an object.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub(super) const GATEWAY: &str = "mcp-gateway";
/// What an object is part of.
pub(super) const COMPONENT: &str = "app.kubernetes.io/component";
/// The server's name, as far as it fits.
pub(super) const NAME: &str = "app.kubernetes.io/name";
/// Which of the server's instances.
pub(super) const INSTANCE: &str = "app.kubernetes.io/instance";
/// The gateway session.
pub(super) const SESSION: &str = "mcp-gateway.docker.com/session";
/// Whether a pod has a network: `none` if it has not.
pub(super) const NETWORK: &str = "mcp-gateway.docker.com/network";
/// The annotation with the server's full name.
pub(super) const SERVER: &str = "mcp-gateway.docker.com/server";
/// The annotation with the tool's full name.
pub(super) const TOOL: &str = "mcp-gateway.docker.com/tool";
/// The annotation with the name of the volume that a claim stands for.
pub(super) const VOLUME: &str = "mcp-gateway.docker.com/volume";

/// What selects everything of a session.
pub(super) fn of_session(session: &str) -> String {
    format!("{MANAGED_BY}={GATEWAY},{SESSION}={}", value(session))
}

/// A text as the value of a label: itself if that is allowed, else a readable form that differs for different texts.
pub(super) fn value(text: &str) -> String {
    match is_value(text) {
        true => text.to_owned(),
        false => format!("{}-{}", slug(text, 50), digest(text)),
    }
}

fn is_value(text: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && end(text.bytes().next())
        && end(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether the cluster takes it as the key of a label: `[PREFIX/]NAME`.
fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let label = |part: &str| is_value(part) && part.bytes().all(|byte| !byte.is_ascii_uppercase() && byte != b'_');
    is_value(name) && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(label))
}

/// The metadata of what the session has one of.
pub(super) fn of_part(name: String, session: &str, component: &str, owner: Option<OwnerReference>) -> ObjectMeta {
    let labels = [(MANAGED_BY, GATEWAY), (COMPONENT, component), (SESSION, &value(session))];
    ObjectMeta {
        name: Some(name),
        labels: Some(labels.map(|(key, text)| (key.to_owned(), text.to_owned())).into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The metadata of an object that belongs to one server.
pub(super) fn of_server(name: &str, identity: &Identity, owner: Option<OwnerReference>) -> ObjectMeta {
    let component = if identity.tool.is_some() { "tool" } else { "server" };
    let mut metadata = of_part(name.to_owned(), &identity.session, component, owner);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(NAME.to_owned(), value(&identity.server));
    labels.insert(INSTANCE.to_owned(), name.to_owned());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SERVER.to_owned(), identity.server.clone());
    annotations.extend(identity.tool.iter().map(|tool| (TOOL.to_owned(), tool.clone())));
    metadata
}

/// Adds labels that a provisioner asks for. The gateway's own stay as they are. What a label cannot hold becomes an
/// annotation.
pub(super) fn add(metadata: &mut ObjectMeta, wanted: &[(String, String)]) -> Result<(), RuntimeError> {
    for (key, text) in wanted {
        if !is_key(key) {
            return Err(RuntimeError::Invalid(format!(
                "label `{}` has no key that a cluster accepts; write it as `[PREFIX/]NAME` of letters, digits, `-`, `_` and `.`",
                key.escape_debug()
            )));
        }
        let place: &mut BTreeMap<_, _> = match text.is_empty() || is_value(text) {
            true => metadata.labels.get_or_insert_default(),
            false => metadata.annotations.get_or_insert_default(),
        };
        place.entry(key.clone()).or_insert_with(|| text.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_has_a_valid_value_and_different_texts_have_different_ones() {
        let texts = ["time", "GitHub Official", "github-official", "-x", "日本", "", "a/b", "a:b", &"n".repeat(99)];
        let values: std::collections::BTreeSet<_> = texts.iter().map(|text| value(text)).collect();
        assert_eq!(values.len(), texts.len());
        assert!(values.iter().all(|text| is_value(text)), "{values:?}");
        assert_eq!(value("time"), "time");
    }

    #[test]
    fn labels_asked_for_never_replace_the_gateways_own() {
        let identity = Identity { session: "s".to_owned(), server: "x y".to_owned(), tool: None };
        let mut metadata = of_server("mcp-x", &identity, None);
        let wanted = [(MANAGED_BY, "me"), ("team", "a b"), ("example.com/team", "blue")];
        let wanted = wanted.map(|(key, text)| (key.to_owned(), text.to_owned()));
        add(&mut metadata, &wanted).unwrap();
        let (labels, annotations) = (metadata.labels.clone().unwrap(), metadata.annotations.clone().unwrap());
        assert_eq!(labels[MANAGED_BY], GATEWAY);
        assert_eq!(labels["example.com/team"], "blue");
        assert_eq!((annotations["team"].as_str(), annotations[SERVER].as_str()), ("a b", "x y"));
        for key in ["", "a b", "A.b/c", "/x", "x/", "a/b/c"] {
            assert!(add(&mut metadata, &[(key.to_owned(), String::new())]).is_err(), "{key}");
        }
    }
}
