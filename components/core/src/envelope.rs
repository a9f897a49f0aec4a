//! The envelope: what one server may become, and the judgement of what a guest asks for.
//!
//! Staying inside or narrowing is always allowed; leaving needs a named grant with bounds. The judgement is pure
//! and total and the same whichever component made the request. It deliberately knows nothing of engines: a
//! runtime applies what was judged here and adds its own checks (bind mounts, host names).

mod powerful;

use std::collections::BTreeSet;

use thiserror::Error;

use crate::image::{self, ImageRef};
use crate::names::is_env_name;
use crate::policy::glob::NamePattern;
use crate::spec::{ContainerSpec, HostAlias, Network, Resources};
use crate::text::one_line;
use crate::value::Value;
use crate::volume::{Volume, is_volume_name};

/// What a server may become, derived from its catalog entry and the operator's flags.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The image reference.
    pub image: String,
    /// The arguments for the entry point.
    pub command: Vec<Value>,
    /// Which value goes into which environment variable.
    pub environment: Vec<(String, Value)>,
    /// The volumes.
    pub volumes: Vec<Value>,
    /// The user.
    pub user: Option<Value>,
    /// Network access.
    pub network: Network,
    /// Host names.
    pub hosts: Vec<HostAlias>,
    /// Ceilings.
    pub resources: Resources,
}

/// The named grants that let a component leave the envelope, each with its bounds. Empty by default.
///
/// There is none for more processors, memory or network than the entry and the operator give, for another remote
/// address, or for the gateway's labels: nothing lets a component have those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `rewrite-image=REGISTRY[/REPOSITORY]`: image references may become any below these.
    pub rewrite_image: BTreeSet<String>,
    /// `rewrite-command`: arguments may change. Only values that the component could hold anyway.
    pub rewrite_command: bool,
    /// `add-argument=PATTERN`: arguments that the pattern covers may be put among those of the entry.
    pub add_argument: BTreeSet<String>,
    /// `rewrite-user=USER`: the user may become one of these.
    pub rewrite_user: BTreeSet<String>,
    /// `add-env=PATTERN`: variables whose names the pattern covers may be set to text of the component's own.
    pub add_env: BTreeSet<String>,
    /// `add-mount=VOLUME[:/path]`: these named volumes may be mounted, as `VOLUME:/path[:ro]`.
    pub add_mount: BTreeSet<String>,
    /// `add-label=PREFIX`: labels whose key starts so may be set.
    pub add_label: BTreeSet<String>,
    /// `add-host=NAME:ADDRESS`: these host names may be added.
    pub add_host: BTreeSet<String>,
    /// `remote-secrets`: secrets that are in a cluster may be read, one by one, for the address and the headers of a remote
    /// server.
    pub remote_secrets: bool,
}

impl Bounds {
    /// Adds everything that `other` allows.
    pub fn extend(&mut self, other: Self) {
        let Self {
            rewrite_image,
            rewrite_command,
            add_argument,
            rewrite_user,
            add_env,
            add_mount,
            add_label,
            add_host,
            remote_secrets,
        } = other;
        self.rewrite_image.extend(rewrite_image);
        self.rewrite_command |= rewrite_command;
        self.add_argument.extend(add_argument);
        self.rewrite_user.extend(rewrite_user);
        self.add_env.extend(add_env);
        self.add_mount.extend(add_mount);
        self.add_label.extend(add_label);
        self.add_host.extend(add_host);
        self.remote_secrets |= remote_secrets;
    }
}

/// Why a request was refused: the field, the offending name and what would allow it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} {subject} is outside what the catalog entry allows; {remedy}")]
pub struct Refusal {
    /// The field of the container specification.
    pub field: &'static str,
    /// The name or text that is outside; never a private value.
    pub subject: String,
    /// What would allow it, or that nothing does.
    pub remedy: String,
    /// The narrowest grant that would allow it, as it is written after `--grant` and in a policy file, if one does.
    pub grant: Option<String>,
}

/// How many characters of a component's text a refusal shows.
const SHOWN: usize = 300;

impl Refusal {
    fn new(field: &'static str, subject: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self {
            field,
            subject: one_line(subject.as_ref(), SHOWN),
            remedy: one_line(remedy.as_ref(), SHOWN),
            grant: None,
        }
    }

    /// One that this grant would allow. What cannot be written as a grant, because it has a comma or is too long, is told so.
    fn without(field: &'static str, subject: impl AsRef<str>, grant: String) -> Self {
        if grant.contains(',') || grant.ends_with('=') || grant.trim() != grant || one_line(&grant, SHOWN) != grant {
            return Self::new(field, subject, "no grant can be written for it");
        }
        let refusal = Self::new(field, subject, format!("grant `{grant}` to allow it"));
        Self { grant: Some(grant), ..refusal }
    }
}

/// The label keys that are the gateway's or the engine's own and that nobody else sets, whatever was granted.
const OWN_LABELS: [&str; 7] = [
    "docker-mcp",
    "app.kubernetes.io/",
    "mcp-gateway.docker.com/",
    "com.docker.",
    "io.docker.",
    "org.dockerproject.",
    "io.kubernetes.",
];

impl Envelope {
    /// Judges a request. `Ok` means that every field is inside the envelope or covered by a grant.
    ///
    /// # Errors
    /// The first field that is neither.
    pub fn check(&self, spec: &ContainerSpec, bounds: &Bounds) -> Result<(), Refusal> {
        self.check_image(&spec.image, bounds)?;
        self.check_command(&spec.command, bounds)?;
        self.check_environment(&spec.environment, bounds)?;
        self.check_volumes(spec, bounds)?;
        self.check_user(spec.user.as_ref(), bounds)?;
        if spec.network == Network::Declared && self.network == Network::None {
            return Err(Refusal::new(
                "network",
                "`declared`",
                "the network is disabled for this server; ask for `none`",
            ));
        }
        for host in spec.hosts.iter().filter(|host| !self.hosts.contains(host)) {
            let both = format!("{}:{}", host.name, host.address);
            // What it shall mean elsewhere is the entry's to say.
            let taken = self.hosts.iter().any(|own| own.name == host.name);
            if taken || !bounds.add_host.contains(&both) {
                let subject = format!("`{}`", host.name);
                return Err(match taken {
                    true => Refusal::new("host", subject, "no grant changes a host name of the entry"),
                    false => Refusal::without("host", subject, format!("add-host={both}")),
                });
            }
        }
        check_labels(&spec.labels, bounds)?;
        self.check_resources(spec.resources)
    }

    fn check_image(&self, image: &str, bounds: &Bounds) -> Result<(), Refusal> {
        // An entry without an image allows no container, whatever the runtime makes of an empty reference.
        if image == self.image && !image.is_empty() {
            return Ok(());
        }
        let reference = match image.parse::<ImageRef>() {
            // Nothing that another runtime would run.
            Ok(reference) if !is_embedded(image) => reference,
            Ok(_) => {
                return Err(Refusal::new("image", format!("`{image}`"), "no grant allows another embedded server"));
            }
            Err(error) => {
                return Err(Refusal::new(
                    "image",
                    format!("`{image}`"),
                    format!("no grant allows it: {}", error.reason),
                ));
            }
        };
        if bounds.rewrite_image.iter().any(|place| is_below(&reference, place)) {
            return Ok(());
        }
        let grant = format!("rewrite-image={}/{}", reference.registry, reference.repository);
        Err(Refusal::without("image", format!("`{image}`"), grant))
    }

    fn check_user(&self, user: Option<&Value>, bounds: &Bounds) -> Result<(), Refusal> {
        if user == self.user.as_ref() {
            return Ok(());
        }
        match user.map(Value::as_plain_text) {
            None => Err(Refusal::new(
                "user",
                "none",
                "no grant takes the user of the entry away; pass on what `resolve-user` gives",
            )),
            Some(None) => Err(Refusal::new(
                "user",
                "`user`",
                "no grant makes a private value the user; pass on what `resolve-user` gives",
            )),
            Some(Some(text)) if bounds.rewrite_user.contains(text) && !text.is_empty() => Ok(()),
            Some(Some(text)) => Err(Refusal::without("user", format!("`{text}`"), format!("rewrite-user={text}"))),
        }
    }

    fn check_command(&self, command: &[Value], bounds: &Bounds) -> Result<(), Refusal> {
        if command == self.command {
            return Ok(());
        }
        // Even with the grant, private text and secrets go only where the entry puts them.
        let foreign = command.iter().find(|value| value.as_plain_text().is_none() && !self.command.contains(value));
        match foreign {
            Some(value) => {
                Err(Refusal::new("command", format!("`{value}`"), "no grant puts a private value into the command"))
            }
            None if command.iter().any(|value| !self.command.contains(value) && has_null(value)) => {
                Err(Refusal::new("command", "line", "no grant allows a null character"))
            }
            None if bounds.rewrite_command || self.only_adds(command, bounds) => Ok(()),
            None => {
                let grant = self.added(command, bounds).unwrap_or_else(|| "rewrite-command".to_owned());
                Err(Refusal::without("command", "line", grant))
            }
        }
    }

    /// The grant for just the argument that was put among those of the entry, if that is all that is different and it can be
    /// written as a pattern.
    fn added(&self, command: &[Value], bounds: &Bounds) -> Option<String> {
        let mut own = self.command.iter().peekable();
        let added = command.iter().filter(|argument| own.next_if_eq(argument).is_none()).collect::<Vec<_>>();
        if own.next().is_some() {
            return None;
        }
        let mut grants = BTreeSet::new();
        for argument in added.into_iter().filter(|argument| !is_granted_argument(argument, bounds)) {
            let text = argument.as_plain_text()?;
            // One that would mean more than itself is no narrow grant.
            let pattern = text.parse::<NamePattern>().ok().filter(|pattern| !pattern.is_wild())?;
            if text.contains(',') || !pattern.covers(text, None) {
                return None;
            }
            grants.insert(format!("add-argument={text}"));
        }
        let grants = grants.into_iter().collect::<Vec<_>>();
        (grants.len() == 1).then(|| grants.concat())
    }

    /// Whether the command is the entry's with granted arguments put in.
    fn only_adds(&self, command: &[Value], bounds: &Bounds) -> bool {
        let mut own = self.command.iter().peekable();
        command.iter().all(|argument| own.next_if_eq(&argument).is_some() || is_granted_argument(argument, bounds))
            && own.next().is_none()
    }

    fn check_environment(&self, environment: &[(String, Value)], bounds: &Bounds) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (name, value) in environment {
            if !seen.insert(name.as_str()) {
                return Err(Refusal::new("environment variable", format!("`{name}`"), "set it once"));
            }
            // An entry may declare a variable twice, as a secret and as text; either is inside.
            let inside = self.environment.iter().any(|(own, content)| own == name && content == value);
            match self.environment.iter().find(|(own, _)| own == name) {
                Some(_) if inside => {}
                Some(_) => {
                    return Err(Refusal::new(
                        "the value of environment variable",
                        format!("`{name}`"),
                        "no grant changes a variable of the entry; pass on what the resolvers give",
                    ));
                }
                None if !is_env_name(name) => {
                    return Err(Refusal::new(
                        "environment variable",
                        format!("`{name}`"),
                        "no grant allows it; a name is letters, digits, `_`, `.` and `-`",
                    ));
                }
                None if !is_granted_variable(name, bounds) => {
                    return Err(Refusal::without(
                        "environment variable",
                        format!("`{name}`"),
                        format!("add-env={name}"),
                    ));
                }
                None if value.as_plain_text().is_none() => {
                    return Err(Refusal::new(
                        "the value of environment variable",
                        format!("`{name}`"),
                        "no grant puts a private value into an added variable",
                    ));
                }
                None if has_null(value) => {
                    return Err(Refusal::new(
                        "the value of environment variable",
                        format!("`{name}`"),
                        "no grant allows a null character",
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn check_volumes(&self, spec: &ContainerSpec, bounds: &Bounds) -> Result<(), Refusal> {
        for mount in &spec.volumes {
            if self.volumes.contains(&mount.value) {
                continue;
            }
            let Some(text) = mount.value.as_plain_text() else {
                return Err(Refusal::new("volume", format!("`{}`", mount.value), "no grant mounts a private value"));
            };
            let Some((source, target)) = added_volume(text) else {
                return Err(Refusal::new(
                    "volume",
                    format!("`{text}`"),
                    "no grant allows it; only named volumes can be added, as `VOLUME:/path[:ro]`",
                ));
            };
            if !bounds.add_mount.contains(&source) && !bounds.add_mount.contains(&format!("{source}:{target}")) {
                return Err(Refusal::without("volume", format!("`{source}`"), format!("add-mount={source}:{target}")));
            }
        }
        Ok(())
    }

    fn check_resources(&self, asked: Resources) -> Result<(), Refusal> {
        let ceiling = self.resources;
        if asked.cpu_millis == 0 || asked.cpu_millis > ceiling.cpu_millis {
            return Err(Refusal::new(
                "resource limit",
                format!("`cpu-millis: {}`", asked.cpu_millis),
                format!("ask for 1 to {}, or raise `--cpus`", ceiling.cpu_millis),
            ));
        }
        if asked.memory_bytes == 0 || asked.memory_bytes > ceiling.memory_bytes {
            return Err(Refusal::new(
                "resource limit",
                format!("`memory-bytes: {}`", asked.memory_bytes),
                format!("ask for 1 to {}, or raise `--memory`", ceiling.memory_bytes),
            ));
        }
        Ok(())
    }
}

/// Whether an image could be one for the embedded runtime, which knows no registries.
fn is_embedded(image: &str) -> bool {
    let image = image.to_ascii_lowercase();
    image.starts_with("embedded:") || image.contains(".wasm")
}

/// Whether a text of a component has a character at which programs think that it ends.
fn has_null(value: &Value) -> bool {
    value.as_plain_text().is_some_and(|text| text.contains('\0'))
}

/// The volume that a component's own text would mount and where, if it has a form that can be granted.
fn added_volume(text: &str) -> Option<(String, String)> {
    let volume =
        Volume::parse(text).ok().filter(|volume| volume.to_string() == text && !text.contains(char::is_control))?;
    let plain_target = volume.target.starts_with('/') && !volume.target.split('/').any(|part| part == "..");
    let plain_mode = volume.mode.as_deref().is_none_or(|mode| matches!(mode, "ro" | "rw"));
    let source = volume.source.filter(|source| plain_target && plain_mode && is_volume_name(source))?;
    Some((source, volume.target))
}

fn covers(patterns: &BTreeSet<String>, name: &str) -> bool {
    // What is no pattern covers nothing.
    patterns.iter().any(|text| text.parse().is_ok_and(|pattern: NamePattern| pattern.covers(name, None)))
}

fn is_granted_argument(argument: &Value, bounds: &Bounds) -> bool {
    argument.as_plain_text().is_some_and(|text| covers(&bounds.add_argument, text))
}

/// Whether a variable may be added. A pattern with `*` does not cover names that may be powerful: those are written
/// out, so that whoever grants one has seen it.
fn is_granted_variable(name: &str, bounds: &Bounds) -> bool {
    if bounds.add_env.contains(name) {
        return true;
    }
    let upper = name.to_ascii_uppercase();
    !powerful::is_powerful(&upper) && covers(&bounds.add_env, name)
}

/// The longest text of a label, in bytes.
const MAX_LABEL_TEXT: usize = 4096;

fn check_labels(labels: &[(String, String)], bounds: &Bounds) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for (key, text) in labels {
        if OWN_LABELS.iter().any(|own| key.to_ascii_lowercase().starts_with(own)) {
            return Err(Refusal::new(
                "label",
                format!("`{key}`"),
                "it is not a component's to set; no grant allows it",
            ));
        }
        if key.is_empty() || key.len() > 253 || !key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=') {
            return Err(Refusal::new(
                "label",
                format!("`{key}`"),
                "write 1 to 253 visible ASCII characters without `=`",
            ));
        }
        if text.len() > MAX_LABEL_TEXT || text.contains(char::is_control) {
            let remedy = format!("write at most {MAX_LABEL_TEXT} bytes without control characters");
            return Err(Refusal::new("the text of label", format!("`{key}`"), remedy));
        }
        if !seen.insert(key) {
            return Err(Refusal::new("label", format!("`{key}`"), "set it once"));
        }
        if !bounds.add_label.iter().any(|prefix| key.starts_with(prefix.as_str())) {
            return Err(Refusal::without("label", format!("`{key}`"), format!("add-label={key}")));
        }
    }
    Ok(())
}

/// True if an image lies in a registry or repository: `registry.local` covers `registry.local/a/b` but neither
/// `registry.local.evil/a` nor `registry.localhost/a`. What is no registry covers nothing.
fn is_below(image: &ImageRef, place: &str) -> bool {
    let (registry, repository) = match place.trim_end_matches('/').split_once('/') {
        Some((registry, repository)) => (registry, Some(repository)),
        None => (place.trim_end_matches('/'), None),
    };
    let below = |repository: &str| {
        image.repository.strip_prefix(repository).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    image::checked_registry(registry).is_ok_and(|registry| registry == image.registry) && repository.is_none_or(below)
}

#[cfg(test)]
mod tests;
