//! Resolves one server's catalog entry into values: what the resolvers give a guest, and the envelope that what
//! comes back is judged against. Both come from here, so they cannot disagree.
//!
//! It keeps no secret: it looks up which ones are set and refers to them by name, or by a key in a cluster. It knows
//! nothing of guests.

pub mod cluster;
mod oauth;
mod sources;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use provisioning_core::policy::{Kind, Policies, Who};
use provisioning_core::template::{self, TemplateError};
use provisioning_core::value::{ObjectKind, Segment};
use provisioning_core::{Envelope, HostAlias, Network, Resources, Value};
use serde_json::{Map, Value as Json};
use thiserror::Error;
use tokio::sync::OnceCell;

use self::cluster::Cluster;
use self::sources::{Known, Purpose};
use crate::capability::remote_endpoint::RemoteHandle;
use crate::catalog::Entry;
use crate::catalog::entry::ToolEntry;
use crate::provision::RemoteTransport;
use crate::secrets::{self, SecretError, SecretStore, SecretText};

/// Why an entry cannot be resolved. Names what to set; holds no private value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// A template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The entry itself is wrong.
    #[error("{0}")]
    Entry(String),
    /// A required secret is not set.
    #[error("secret `{name}` is not set; {remedy}")]
    SecretMissing {
        /// Its name.
        name: String,
        /// How to set it.
        remedy: String,
    },
    /// The store of secrets does not answer.
    #[error("{0}")]
    SecretStore(String),
    /// The configuration is not what the entry's schema asks for, or something of it is missing.
    #[error("{0}")]
    Configuration(String),
    /// The component that says which key of a cluster stands for what does not work.
    #[error("{0}")]
    Mapping(String),
    /// What the entry asks for cannot be had together with what the operator asks for.
    #[error("{0}")]
    Forbidden(String),
}

/// What becomes of servers that may reach certain hosts only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkRule {
    /// They start, with a warning where that is more than their entry asks for.
    #[default]
    Open,
    /// `--block-network`: a server whose `allowHosts` cannot be enforced does not start.
    Block,
}

/// Why a server does not start, whatever becomes of its secrets and templates; none if it may. `configuration` is the
/// fault that its configuration has.
pub fn refusal(entry: &Entry, configuration: Option<String>, rule: NetworkRule) -> Option<ResolveError> {
    if rule == NetworkRule::Block && !entry.allow_hosts.is_empty() && !entry.disable_network {
        return Some(ResolveError::Forbidden(format!(
            "it may reach only {}, which cannot be enforced yet, so `--block-network` refuses it; set \
             `disableNetwork: true` in its catalog entry to run it without any network, or leave out `--block-network`",
            entry.allow_hosts.join(", ")
        )));
    }
    configuration.map(ResolveError::Configuration)
}

impl From<SecretError> for ResolveError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Missing { name, remedy } => Self::SecretMissing { name, remedy },
            SecretError::Unavailable { .. } => Self::SecretStore(error.to_string()),
        }
    }
}

/// Everything that is known of one enabled server, apart from a call.
#[derive(Clone)]
pub struct ServerSettings {
    /// Its name in the catalog.
    pub name: String,
    /// Its entry.
    pub entry: Arc<Entry>,
    /// What its templates may name, and no other server's; see `catalog::configuration::for_server`.
    pub config: Arc<Map<String, Json>>,
    /// Where secrets are.
    pub secrets: Arc<dyn SecretStore>,
    /// Which of both is in a cluster instead, if anything is.
    pub cluster: Option<Arc<Cluster>>,
    /// Ceilings from the operator's flags.
    pub resources: Resources,
    /// Whether one instance serves many calls.
    pub long_lived: bool,
    /// Why it must not be started, if that is known; see [`refusal`].
    pub refused: Option<ResolveError>,
}

impl ServerSettings {
    /// Reads what only the host may know: the address of a remote server, or one of its headers. A key of a cluster is
    /// read for somebody who was asked whether that is allowed.
    ///
    /// # Errors
    /// If a secret in it cannot be had.
    pub async fn read(&self, value: &Value) -> Result<SecretText, SecretError> {
        let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.secrets) else {
            return secrets::materialise(value, &*self.secrets).await;
        };
        let own = cluster.values.secret_name();
        let by_key = value.segments().iter().map(|segment| match segment {
            Segment::ClusterKey { kind: ObjectKind::Secret, object, key } if object == own => {
                Segment::Secret(key.clone())
            }
            other => other.clone(),
        });
        secrets::materialise(&Value::from_segments(by_key), &*cluster.remote_secrets).await
    }
}

/// A call of an ephemeral tool.
pub struct ToolCall {
    /// The tool.
    pub tool: ToolEntry,
    /// The caller's arguments.
    pub arguments: Map<String, Json>,
}

/// The scope of one operation: a server, or one call of one of its ephemeral tools.
pub struct ServerScope {
    settings: Arc<ServerSettings>,
    call: Option<ToolCall>,
    /// What templates may name, looked up once.
    known: OnceCell<Known>,
    envelope: OnceCell<Envelope>,
    /// The ceilings, where a policy lowers them.
    lowered: OnceLock<Resources>,
}

impl ServerScope {
    /// The scope of a server, or of a call if one is given.
    pub fn new(settings: Arc<ServerSettings>, call: Option<ToolCall>) -> Self {
        Self { settings, call, known: OnceCell::new(), envelope: OnceCell::new(), lowered: OnceLock::new() }
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether the server may be started at all.
    ///
    /// # Errors
    /// Why not.
    pub fn admitted(&self) -> Result<(), ResolveError> {
        self.settings.refused.clone().map_or(Ok(()), Err)
    }

    /// The tool's name, if this is a call of an ephemeral tool.
    pub fn tool(&self) -> Option<&str> {
        self.call.as_ref().map(|call| call.tool.name.as_str())
    }

    /// The image: the tool's own, or the server's.
    pub fn image(&self) -> Option<&str> {
        match &self.call {
            Some(call) => call.tool.container.as_ref().map(|container| container.image.as_str()),
            None => self.settings.entry.image.as_deref(),
        }
        .map(str::trim)
        .filter(|image| !image.is_empty())
    }

    /// The transport, if the entry declares a remote server.
    ///
    /// # Errors
    /// If the transport is not known.
    pub fn remote_transport(&self) -> Result<Option<RemoteTransport>, ResolveError> {
        if self.call.is_some() {
            return Ok(None);
        }
        let entry = &self.settings.entry;
        match (&entry.remote, &entry.sse_endpoint) {
            (Some(remote), _) => match remote.transport_type.as_deref() {
                None | Some("" | "streamable-http" | "streamable" | "streaming" | "http") => {
                    Ok(Some(RemoteTransport::StreamableHttp))
                }
                Some("sse") => Ok(Some(RemoteTransport::Sse)),
                Some(other) => Err(ResolveError::Entry(format!(
                    "server `{}`: `remote.transport_type` is `{other}`; it must be `streamable-http` or `sse`",
                    self.name()
                ))),
            },
            (None, Some(_)) => Ok(Some(RemoteTransport::Sse)),
            (None, None) => Ok(None),
        }
    }

    /// The network that the entry declares.
    pub fn network(&self) -> Network {
        if self.settings.entry.disable_network { Network::None } else { Network::Declared }
    }

    /// The ceilings.
    pub fn resources(&self) -> Resources {
        self.lowered.get().copied().unwrap_or(self.settings.resources)
    }

    /// Lowers the ceilings to what the policies allow. Before anybody has asked for them.
    pub fn lower(&self, policies: &Policies, who: Who<'_>) {
        self.lowered.get_or_init(|| policies.holding(who).lowered(self.settings.resources));
    }

    /// How the server is reached, as policies tell it.
    pub fn kind(&self) -> Kind {
        match self.remote_transport() {
            Ok(None) => Kind::Container,
            Ok(Some(_)) | Err(_) => Kind::Remote,
        }
    }

    /// Whether one instance serves many calls.
    pub fn long_lived(&self) -> bool {
        self.settings.long_lived
    }

    /// The host names that the entry declares as `name:address`.
    ///
    /// # Errors
    /// If one is not of that form.
    pub fn hosts(&self) -> Result<Vec<HostAlias>, ResolveError> {
        self.settings
            .entry
            .host_aliases()
            .map_err(|reason| ResolveError::Entry(format!("server `{}`: {reason}", self.name())))
    }

    /// The variables that secrets fill, in the entry's order. Secrets that are not required and not set are left out.
    ///
    /// # Errors
    /// If a required secret is not set or the store does not answer.
    pub async fn secrets(&self) -> Result<Vec<(String, Value)>, ResolveError> {
        let known = self.known().await?;
        let declared = self.settings.entry.secrets.iter();
        Ok(declared
            .filter(|secret| !secret.env.is_empty() && known.has_secret(&secret.name))
            .map(|secret| (secret.env.clone(), known.placed(&Value::secret(&secret.name))))
            .collect())
    }

    /// The variables that the entry declares besides its secrets; empty ones are left out.
    ///
    /// # Errors
    /// If a template is wrong, a required secret is not set, or a cluster lacks configuration.
    pub async fn environment(&self) -> Result<Vec<(String, Value)>, ResolveError> {
        let scope = self.known().await?;
        let mut known: BTreeMap<String, Value> = self.secrets().await?.into_iter().collect();
        let mut environment: Vec<(String, Value)> = Vec::new();
        for variable in &self.settings.entry.env {
            // As measured on the reference: a value with a template in it is not expanded as well.
            let value = if variable.value.contains("{{") {
                scope.placed(&template::evaluate(&variable.value, &scope.scope(self.arguments(), Purpose::Variable))?)
            } else {
                self.expand(Value::text(&variable.value), &known)
            };
            if value.is_empty() {
                continue;
            }
            known.insert(variable.name.clone(), value.clone());
            // A name that is declared twice has its last value, as in a shell.
            environment.retain(|(name, _)| *name != variable.name);
            environment.push((variable.name.clone(), value));
        }
        Ok(environment)
    }

    /// The arguments for the entry point.
    ///
    /// # Errors
    /// As for [`Self::environment`].
    pub async fn command(&self) -> Result<Vec<Value>, ResolveError> {
        let scope = self.known().await?;
        let values = template::evaluate_list(self.own().command, &scope.scope(self.arguments(), Purpose::Arguments))?;
        let mut known: BTreeMap<String, Value> = self.secrets().await?.into_iter().collect();
        known.extend(self.environment().await?);
        Ok(values.into_iter().map(|value| self.expand(scope.placed(&value), &known)).collect())
    }

    /// The volumes, each with the catalog text that it came from; empty ones are left out.
    ///
    /// # Errors
    /// As for [`Self::environment`].
    pub async fn volumes(&self) -> Result<Vec<(String, Value)>, ResolveError> {
        let known = self.known().await?;
        let each = template::evaluate_each(self.own().volumes, &known.scope(self.arguments(), Purpose::Host))?;
        Ok(each
            .into_iter()
            .flat_map(|(text, values)| values.into_iter().map(move |value| (text.clone(), known.placed(&value))))
            .filter(|(_, value)| !value.is_empty())
            .collect())
    }

    /// The user.
    ///
    /// # Errors
    /// As for [`Self::environment`].
    pub async fn user(&self) -> Result<Option<Value>, ResolveError> {
        let known = self.known().await?;
        let scope = known.scope(self.arguments(), Purpose::Host);
        let value = self.own().user.map(|text| template::evaluate(text, &scope)).transpose()?;
        Ok(value.map(|value| known.placed(&value)).filter(|value| !value.is_empty()))
    }

    /// The remote server, with secrets in the address and headers as names.
    ///
    /// # Errors
    /// If the entry declares none, wants OAuth and there is no token for it, or as for [`Self::environment`].
    pub async fn remote(&self) -> Result<RemoteHandle, ResolveError> {
        let Some(transport) = self.remote_transport()? else {
            return Err(ResolveError::Entry(format!("server `{}` declares no remote address", self.name())));
        };
        let known = self.known().await?;
        let variables: BTreeMap<String, Value> = self.secrets().await?.into_iter().collect();
        let resolve = |text: &str| -> Result<Value, ResolveError> {
            let value = template::evaluate(text, &known.scope(self.arguments(), Purpose::Host))?;
            Ok(self.expand(known.placed(&value), &variables))
        };
        let entry = &self.settings.entry;
        let (url, headers) = match &entry.remote {
            Some(remote) => (remote.url.as_str(), Some(&remote.headers)),
            None => (entry.sse_endpoint.as_deref().unwrap_or_default(), None),
        };
        let mut headers = headers
            .into_iter()
            .flatten()
            .map(|(name, text)| Ok((name.clone(), resolve(text)?)))
            .collect::<Result<Vec<_>, ResolveError>>()?;
        if let Some(names) = self.token_secrets() {
            let token = match &self.settings.cluster {
                Some(cluster) if cluster.secrets => match &known.token {
                    Some(name) => known.placed(&Value::secret(name)),
                    None => return Err(oauth::no_token(self.name(), names.first(), &in_cluster(cluster))),
                },
                _ => oauth::find(self.name(), &names, &*self.settings.secrets).await?,
            };
            headers.push(("Authorization".to_owned(), Value::concat([&Value::text("Bearer "), &token])));
        }
        Ok(RemoteHandle { url: resolve(url)?, transport, headers })
    }

    /// What the server may become. Resolved once per operation.
    ///
    /// # Errors
    /// If any part cannot be resolved.
    pub async fn envelope(&self) -> Result<&Envelope, ResolveError> {
        self.envelope
            .get_or_try_init(async || {
                self.admitted()?;
                let explicit = self.environment().await?;
                let mut environment = self.secrets().await?;
                environment.retain(|(name, _)| explicit.iter().all(|(other, _)| other != name));
                environment.extend(explicit);
                Ok(Envelope {
                    image: self.image().unwrap_or_default().to_owned(),
                    command: self.command().await?,
                    environment,
                    volumes: self.volumes().await?.into_iter().map(|(_, value)| value).collect(),
                    user: self.user().await?,
                    network: self.network(),
                    hosts: self.hosts()?,
                    resources: self.resources(),
                })
            })
            .await
    }

    /// The value with keys of a cluster as what the entry names by them, for policies. What was not resolved here comes
    /// back as it is.
    pub fn named<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        self.known.get().map_or(Cow::Borrowed(value), |known| known.named(value))
    }

    /// What templates may name. Fails if something that is required is missing.
    async fn known(&self) -> Result<&Known, ResolveError> {
        self.known
            .get_or_try_init(async || {
                let oauth = self.token_secrets().unwrap_or_default();
                Known::look_up(&self.settings, &self.texts(), &oauth).await
            })
            .await
    }

    /// The secrets that may hold the token for a remote server; none if it needs none, or has a header for it.
    fn token_secrets(&self) -> Option<Vec<String>> {
        let entry = &self.settings.entry;
        let headers = entry.remote.iter().flat_map(|remote| remote.headers.keys());
        let is_authorised = headers.into_iter().any(|name| name.eq_ignore_ascii_case("authorization"));
        let is_remote = matches!(self.remote_transport(), Ok(Some(_)));
        oauth::token_secrets(self.name(), entry.oauth.as_ref()).filter(|_| is_remote && !is_authorised)
    }

    /// The templates of the server's container, or of the tool's.
    fn own(&self) -> Own<'_> {
        let entry = &self.settings.entry;
        match &self.call {
            Some(call) => call.tool.container.as_ref().map_or(Own::default(), |container| Own {
                command: &container.command,
                volumes: &container.volumes,
                user: container.user.as_deref(),
            }),
            None => Own { command: &entry.command, volumes: &entry.volumes, user: entry.user.as_deref() },
        }
    }

    /// Every template that the operation needs.
    fn texts(&self) -> Vec<&str> {
        let (entry, own) = (&self.settings.entry, self.own());
        let mut texts: Vec<&str> = Vec::new();
        if matches!(self.remote_transport(), Ok(None)) {
            texts.extend(entry.env.iter().map(|variable| variable.value.as_str()));
            texts.extend(own.command.iter().chain(own.volumes).map(String::as_str));
            texts.extend(own.user);
        } else {
            texts.extend(entry.remote.iter().map(|remote| remote.url.as_str()));
            texts.extend(entry.remote.iter().flat_map(|remote| remote.headers.values()).map(String::as_str));
            texts.extend(entry.sse_endpoint.as_deref());
        }
        texts
    }

    /// The arguments of the call.
    fn arguments(&self) -> Option<&Map<String, Json>> {
        self.call.as_ref().map(|call| &call.arguments)
    }

    /// `$NAME` in the catalog's own text becomes that variable; a name that is not known becomes nothing.
    fn expand(&self, value: Value, known: &BTreeMap<String, Value>) -> Value {
        template::expand_variables(&value, &|name| known.get(name).cloned())
    }
}

/// The templates of a container.
#[derive(Clone, Copy, Default)]
struct Own<'a> {
    command: &'a [String],
    volumes: &'a [String],
    user: Option<&'a str>,
}

/// How a secret gets into a cluster.
fn in_cluster(cluster: &Cluster) -> String {
    format!("`cluster-tools populate-secret FILE {}` adds it", cluster.values.secret_name())
}
