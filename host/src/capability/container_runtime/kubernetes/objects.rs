//! All objects of one server, made from its request: the pod, the Secret and the `ConfigMap` with what it is given, and the
//! claims of its volumes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use provisioning_core::value::ObjectKind;
use provisioning_core::{Network, Value};
use serde_json::{Value as Json, json};

use super::pod::{self, Parts};
use super::runner::Started;
use super::{PodSettings, labels, values, volumes};
use crate::capability::container_runtime::{Request, RuntimeError, check_words, docker};
use crate::secrets::{SecretStore, SecretText, materialise};

/// What the objects of a server are called in a plan.
const PLANNED: &str = "mcp-planned";

/// What a server is made of.
pub(super) struct Objects {
    pub(super) pod: Pod,
    pub(super) secret: Option<Secret>,
    pub(super) config_map: Option<ConfigMap>,
    pub(super) claims: Vec<PersistentVolumeClaim>,
}

/// The texts of what a server's own objects hold.
pub(super) struct Contents(BTreeMap<(ObjectKind, String), SecretText>);

/// What a server is made of that its request alone decides.
pub(super) struct Draft<'a> {
    name: &'a str,
    request: &'a Request,
    translated: values::Translated,
    volumes: volumes::Volumes,
}

/// How a pod is to be made.
pub(super) struct Manner<'a> {
    pub(super) settings: &'a PodSettings,
    pub(super) owner: Option<OwnerReference>,
    pub(super) started: Option<Started>,
    pub(super) user: Option<String>,
    pub(super) stdin: bool,
    pub(super) deadline: Option<i64>,
}

impl<'a> Draft<'a> {
    /// Checks and translates a request.
    pub(super) fn new(name: &'a str, request: &'a Request) -> Result<Self, RuntimeError> {
        docker::create::check_image(&request.spec.image)?;
        let spec = &request.spec;
        check_words(spec)?;
        let translated = values::translate(name, &spec.environment, &spec.command)?;
        Ok(Self { name, request, translated, volumes: volumes::translate(&spec.volumes)? })
    }

    /// Reads what the server's own objects are to hold, each value once.
    pub(super) async fn contents(&self, store: &dyn SecretStore) -> Result<Contents, RuntimeError> {
        let mut texts = BTreeMap::new();
        for (place, value) in &self.translated.stored {
            texts.insert(place.clone(), materialise(value, store).await?);
        }
        Ok(Contents(texts))
    }

    /// The objects.
    pub(super) fn objects(self, contents: &Contents, manner: Manner<'_>) -> Result<Objects, RuntimeError> {
        let Manner { settings, owner, started, user, stdin, deadline } = manner;
        let metadata = || labels::of_server(self.name, &self.request.identity, owner.clone());
        let of = |kind: ObjectKind| {
            contents
                .0
                .iter()
                .filter(move |((of, _), _)| *of == kind)
                .map(|((_, key), text)| (key.clone(), text.expose()))
        };
        let secrets: BTreeMap<_, _> =
            of(ObjectKind::Secret).map(|(key, text)| (key, ByteString(text.into()))).collect();
        let texts: BTreeMap<_, _> = of(ObjectKind::ConfigMap).map(|(key, text)| (key, text.to_owned())).collect();
        let secret = (!secrets.is_empty()).then(|| Secret {
            metadata: metadata(),
            immutable: Some(true),
            data: Some(secrets),
            ..Secret::default()
        });
        let config_map = (!texts.is_empty()).then(|| ConfigMap {
            metadata: metadata(),
            immutable: Some(true),
            data: Some(texts),
            ..ConfigMap::default()
        });
        let mut volumes = self.volumes;
        let claims = std::mem::take(&mut volumes.claims);
        let translated = self.translated;
        let owner = owner.clone();
        let parts = Parts { name: self.name, settings, owner, translated, volumes, started, user, stdin, deadline };
        Ok(Objects { pod: pod::pod(self.request, parts)?, secret, config_map, claims })
    }
}

/// Renders the objects for a plan, by the same code that makes the real ones: the names of secrets and private values
/// stand in place of their text, and no object has a random name.
///
/// # Errors
/// As [`check`].
pub fn render(request: &Request, settings: &PodSettings, namespace: &str) -> Result<Vec<Json>, RuntimeError> {
    let draft = Draft::new(PLANNED, request)?;
    let named = |value: &Value| SecretText::new(value.to_string());
    let stored = &draft.translated.stored;
    let contents = Contents(stored.iter().map(|(place, value)| (place.clone(), named(value))).collect());
    let deadline = deadline(settings);
    let manner = Manner { settings, owner: None, started: None, user: None, stdin: true, deadline };
    let Objects { pod, secret, config_map, claims } = draft.objects(&contents, manner)?;
    let session = &request.identity.session;
    let mut rendered = Vec::new();
    if let Some(secret) = secret {
        // What it holds is shown as text, as nobody can read the encoded form.
        let text = |(key, ByteString(bytes)): (String, ByteString)| (key, String::from_utf8_lossy(&bytes).into_owned());
        let texts: BTreeMap<_, _> = secret.data.into_iter().flatten().map(text).collect();
        let secret = Secret { data: None, string_data: Some(texts), ..secret };
        rendered.push(json(&secret)?);
    }
    for object in [
        config_map.map(|map| json(&map)),
        (request.spec.network == Network::None)
            .then(|| json(&pod::no_network(policy_metadata(session, None), session))),
    ] {
        rendered.extend(object.transpose()?);
    }
    for claim in &claims {
        rendered.push(json(claim)?);
    }
    rendered.push(json(&pod)?);
    for object in &mut rendered {
        if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        object.sort_all_objects();
    }
    Ok(rendered)
}

/// Checks of a request all that can be told without a cluster, as starting it would.
///
/// # Errors
/// As for starting it.
pub fn check(request: &Request, settings: &PodSettings) -> Result<(), RuntimeError> {
    render(request, settings, "default").map(drop)
}

/// The metadata of the policy that takes the network away. In a plan it has no owner.
pub(super) fn policy_metadata(session: &str, owner: Option<OwnerReference>) -> ObjectMeta {
    let name = match &owner {
        Some(owner) => super::names::of_owner(session, &owner.uid, "no-network"),
        None => super::names::of_session(session, "no-network"),
    };
    labels::of_part(name, session, "no-network", owner)
}

/// After how many seconds the cluster ends a pod.
pub(super) fn deadline(settings: &PodSettings) -> Option<i64> {
    settings.active_deadline.map(|deadline| i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX).max(1))
}

fn json<T: serde::Serialize>(object: &T) -> Result<Json, RuntimeError> {
    serde_json::to_value(object).map_err(|error| RuntimeError::Engine(format!("cannot render the plan: {error}")))
}
