//! The envelope: what one server may become, and the judgement of what a guest asks for.
//!
//! Staying inside or narrowing is always allowed; leaving needs a named grant with bounds. The judgement is pure
//! and total and the same whichever component made the request. It deliberately knows nothing of engines: a
//! runtime applies what was judged here and adds its own checks (bind mounts, host names).

use std::collections::BTreeSet;

use thiserror::Error;

use crate::names::is_env_name;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `rewrite-image=REGISTRY[/REPOSITORY]`: image references may become any below these.
    pub rewrite_image: BTreeSet<String>,
    /// `rewrite-command`: arguments may change. Only values that the component could hold anyway.
    pub rewrite_command: bool,
    /// `add-env=NAME`: these variables may be set to text of the component's own.
    pub add_env: BTreeSet<String>,
    /// `add-mount=VOLUME`: these named volumes may be mounted, as `VOLUME:/path[:ro]`.
    pub add_mount: BTreeSet<String>,
    /// `add-label=PREFIX`: labels whose key starts so may be set.
    pub add_label: BTreeSet<String>,
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
}

/// How many characters of a component's text a refusal shows.
const SHOWN: usize = 300;

impl Refusal {
    fn new(field: &'static str, subject: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self { field, subject: one_line(subject.as_ref(), SHOWN), remedy: one_line(remedy.as_ref(), SHOWN) }
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
        if spec.user != self.user {
            return Err(Refusal::new("user", "`user`", "no grant changes the user; pass on what `resolve-user` gives"));
        }
        if spec.network == Network::Declared && self.network == Network::None {
            return Err(Refusal::new(
                "network",
                "`declared`",
                "the network is disabled for this server; ask for `none`",
            ));
        }
        if let Some(host) = spec.hosts.iter().find(|host| !self.hosts.contains(host)) {
            return Err(Refusal::new("host", format!("`{}`", host.name), "no grant adds host names"));
        }
        check_labels(&spec.labels, bounds)?;
        self.check_resources(spec.resources)
    }

    fn check_image(&self, image: &str, bounds: &Bounds) -> Result<(), Refusal> {
        // An entry without an image allows no container, whatever the runtime makes of an empty reference.
        if image == self.image && !image.is_empty() {
            return Ok(());
        }
        if !is_plain_reference(image) {
            return Err(Refusal::new(
                "image",
                format!("`{image}`"),
                "no grant allows it; write `registry/repository:tag` or `registry/repository@digest`",
            ));
        }
        if bounds.rewrite_image.iter().any(|prefix| is_below(image, prefix)) {
            return Ok(());
        }
        let registry = image.split('/').next().unwrap_or(image);
        Err(Refusal::new("image", format!("`{image}`"), format!("grant `rewrite-image={registry}` to allow it")))
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
            None if bounds.rewrite_command => Ok(()),
            None => Err(Refusal::new("command", "line", "grant `rewrite-command` to allow it")),
        }
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
                None if !bounds.add_env.contains(name) => {
                    return Err(Refusal::new(
                        "environment variable",
                        format!("`{name}`"),
                        format!("grant `add-env={name}` to allow it"),
                    ));
                }
                None if value.as_plain_text().is_none() => {
                    return Err(Refusal::new(
                        "the value of environment variable",
                        format!("`{name}`"),
                        "no grant puts a private value into an added variable",
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
            let Some(source) = added_volume(text) else {
                return Err(Refusal::new(
                    "volume",
                    format!("`{text}`"),
                    "no grant allows it; only named volumes can be added, as `VOLUME:/path[:ro]`",
                ));
            };
            if !bounds.add_mount.contains(&source) {
                let remedy = format!("grant `add-mount={source}` to allow it");
                return Err(Refusal::new("volume", format!("`{source}`"), remedy));
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

/// The volume that a component's own text would mount, if it has a form that can be granted.
fn added_volume(text: &str) -> Option<String> {
    let volume = Volume::parse(text).ok().filter(|volume| volume.to_string() == text)?;
    let plain_target = volume.target.starts_with('/') && !volume.target.split('/').any(|part| part == "..");
    let plain_mode = volume.mode.as_deref().is_none_or(|mode| matches!(mode, "ro" | "rw"));
    volume.source.filter(|source| plain_target && plain_mode && is_volume_name(source))
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
            return Err(Refusal::new("label", format!("`{key}`"), format!("grant `add-label={key}` to allow it")));
        }
    }
    Ok(())
}

/// True if a reference cannot be read as anything but `[registry/]repository[:tag][@digest]`: no path that climbs
/// out of the registry that was granted, no file, and no `.wasm`, which another runtime would run.
fn is_plain_reference(image: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'@' | b'/');
    let part = |part: &str| {
        !part.is_empty() && part.bytes().any(|byte| byte.is_ascii_alphanumeric()) && !part.starts_with('.')
    };
    let (name, last) = image.rsplit_once('/').unwrap_or(("", image));
    // A colon before the last slash is the registry's port, and only there.
    let port_only = name.split('/').skip(1).all(|part| !part.contains([':', '@']));
    image.len() <= 512
        && image.bytes().all(plain)
        && image.split('/').all(part)
        && port_only
        && last.split([':', '@']).all(|piece| !piece.is_empty())
        && !image.to_ascii_lowercase().contains(".wasm")
}

/// True if an image reference lies in a registry or repository: `registry.local` covers `registry.local/a/b` but
/// neither `registry.local.evil/a` nor `registry.localhost/a`. An empty prefix covers nothing.
fn is_below(image: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    !prefix.is_empty()
        && image
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/') || (prefix.contains('/') && rest.starts_with([':', '@'])))
}

#[cfg(test)]
mod tests;
