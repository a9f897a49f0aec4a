//! Volumes in Docker's short syntax, and which directories of the host may be mounted.
//!
//! The rules are the existing gateway's: named volumes pass; a directory of the host is mounted read-only and only
//! from below an allowed root; writing needs the exact directory in a second list; system and credential paths are
//! refused. Stricter here: a directory that *contains* a system path is refused too (a read-only mount of `/var`
//! would hand out the engine's socket), and so are mount options that reach beyond reading. Milder: an operator
//! who names a credential directory itself as a root may mount it. Following links is the caller's part.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// The variable that lists further roots for read-only mounts.
pub const ALLOWED_PATHS: &str = "MCP_GATEWAY_DOCKER_BIND_ALLOWED_PATHS";
/// The variable that lists the directories that may be mounted for writing.
pub const WRITABLE_PATHS: &str = "MCP_GATEWAY_DOCKER_BIND_ALLOW_WRITABLE_PATHS";
/// The roots that are always allowed.
pub const TEMPORARY: [&str; 3] = ["/private/tmp", "/tmp", "/var/tmp"];

const SYSTEM: [&str; 14] = [
    "/boot",
    "/dev",
    "/etc",
    "/private/etc",
    "/private/var/run",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/log",
    "/var/run",
];
const CREDENTIALS: [&str; 12] = [
    ".aws",
    ".azure",
    ".config",
    ".docker",
    ".gcloud",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".netrc",
    ".password-store",
    ".pgpass",
    ".ssh",
];

/// A volume, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name of a volume or a path of the host; none for an anonymous volume.
    pub source: Option<String>,
    /// The path in the container.
    pub target: String,
    /// The options between commas, as written; none if there is no third part.
    pub mode: Option<String>,
}

/// Why a volume is refused. Holds no path of the volume: that may come from configuration. The caller adds the
/// volume's name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BindError {
    /// Not Docker's short syntax.
    #[error("it is not a volume: {0}; write `source:/target[:mode]`")]
    Syntax(&'static str),
    /// The path of the host is relative or of another system.
    #[error("its source is neither the name of a volume nor an absolute path; write the full path")]
    NotAbsolute,
    /// The path of the host is never mounted.
    #[error(
        "its source is, lies below or contains `{0}`, a system path, which is never mounted; choose another directory"
    )]
    System(&'static str),
    /// The path of the host holds credentials.
    #[error(
        "its source lies in `{0}`, which holds credentials; name that very directory in `{ALLOWED_PATHS}` to mount it all the same"
    )]
    Credentials(&'static str),
    /// The path of the host is not below an allowed root.
    #[error(
        "its source is outside the allowed directories {0}; name it or a trusted directory above it in `{ALLOWED_PATHS}`, or in \
         `{WRITABLE_PATHS}` for writing"
    )]
    Outside(String),
    /// Writing was asked for.
    #[error(
        "directories of the host are mounted read-only; name exactly this one in `{WRITABLE_PATHS}` to let it be written"
    )]
    Writable,
    /// An option that is not for mounts of host directories.
    #[error("its mode `{0}` is not allowed for a directory of the host; use `ro` or `rw`")]
    Mode(String),
    /// The path of the host is no directory or file.
    #[error(
        "its source is a socket, through which a container could reach a service of this machine such as the engine; name \
         that very path in `{ALLOWED_PATHS}` to mount it all the same"
    )]
    Socket,
    /// The path of the host cannot be examined.
    #[error("its source cannot be examined: {0}; check that the gateway may read the directories on the way")]
    Unresolvable(String),
}

impl Volume {
    /// Takes a volume apart.
    ///
    /// # Errors
    /// If it is not Docker's short syntax.
    pub fn parse(text: &str) -> Result<Self, BindError> {
        let parts = split(text);
        // Once the blanks are gone, a name before a backslash would read as a drive: what is checked must be what the
        // engine reads.
        if split(&parts.join(":")) != parts {
            return Err(BindError::Syntax("a name cannot be told from a drive"));
        }
        let whole = |parts: &[&str]| parts.iter().all(|part| !part.is_empty());
        match *parts.as_slice() {
            [target] if !target.is_empty() => Ok(Self { source: None, target: target.to_owned(), mode: None }),
            [_] => Err(BindError::Syntax("it is empty")),
            [source, target] if whole(&[source, target]) => {
                Ok(Self { source: Some(source.to_owned()), target: target.to_owned(), mode: None })
            }
            [source, target, mode] if whole(&[source, target]) => {
                Ok(Self { source: Some(source.to_owned()), target: target.to_owned(), mode: Some(mode.to_owned()) })
            }
            [_, _] | [_, _, _] => Err(BindError::Syntax("source and target are both needed")),
            _ => Err(BindError::Syntax("it has too many parts")),
        }
    }

    /// The same volume, mounted read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        let kept = self.mode.iter().flat_map(|mode| mode.split(',')).map(str::trim);
        let kept = kept.filter(|option| !matches!(*option, "" | "ro" | "rw"));
        self.mode = Some(std::iter::once("ro").chain(kept).collect::<Vec<_>>().join(","));
        self
    }

    /// True if the source is the name of a volume, or there is none.
    pub fn is_named(&self) -> bool {
        self.source.as_deref().is_none_or(is_volume_name)
    }
}

/// Docker's short syntax.
impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}:")?;
        }
        f.write_str(&self.target)?;
        self.mode.iter().try_for_each(|mode| write!(f, ":{mode}"))
    }
}

/// True for what Docker accepts as the name of a volume.
pub fn is_volume_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Cuts at the colons, except the one after a Windows drive letter.
fn split(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    loop {
        let bytes = rest.trim_start().as_bytes();
        // `a:/data` is a volume named `a`: only a backslash tells a drive.
        let drive = matches!(bytes, [letter, b':', b'\\', ..] if letter.is_ascii_alphabetic());
        let skip = if drive { rest.len() - bytes.len() + 2 } else { 0 };
        match rest.get(skip..).and_then(|searched| searched.find(':')).map(|at| rest.split_at(at + skip)) {
            Some((part, tail)) => {
                parts.push(part.trim());
                rest = tail.strip_prefix(':').unwrap_or(tail);
            }
            None => {
                parts.push(rest.trim());
                return parts;
            }
        }
    }
}

/// Which directories of the host may be mounted, and how. Holds paths as the operator wrote them and as they are
/// once links are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindRules {
    /// Directories below which everything may be mounted read-only.
    pub roots: Vec<PathBuf>,
    /// Directories that may be mounted for writing; each is also allowed for reading.
    pub writable: Vec<PathBuf>,
}

impl BindRules {
    /// Judges a volume and returns it as it is to be mounted: links followed, mode written out for directories of the
    /// host. `resolve` follows the links of an absolute path as far as it exists.
    ///
    /// # Errors
    /// If it may not be mounted.
    pub fn check(&self, text: &str, resolve: &dyn Fn(&Path) -> Result<PathBuf, String>) -> Result<Volume, BindError> {
        let mut volume = Volume::parse(text)?;
        let Some(source) = volume.source.as_deref().filter(|source| !is_volume_name(source)) else {
            return Ok(volume);
        };
        let written = normalised(source).ok_or(BindError::NotAbsolute)?;
        self.check_path(&written)?;
        // What the path leads to is judged like the path itself, and is what gets mounted: a link that changes
        // afterwards changes nothing.
        let real = resolve(&written).map_err(BindError::Unresolvable)?;
        self.check_path(&real)?;
        let writable = self.writable.contains(&real);
        let mode = self.mode(volume.mode.as_deref().unwrap_or_default(), writable)?;
        volume.source = Some(real.to_str().ok_or(BindError::NotAbsolute)?.to_owned());
        volume.mode = Some(mode);
        Ok(volume)
    }

    fn check_path(&self, path: &Path) -> Result<(), BindError> {
        let system = SYSTEM.iter().find(|system| path.starts_with(system) || Path::new(system).starts_with(path));
        if let Some(system) = system {
            return Err(BindError::System(system));
        }
        let allowed = || self.roots.iter().chain(&self.writable).filter(|root| path.starts_with(root));
        if let Some(name) = credential(path)
            && !allowed().any(|root| credential(root) == Some(name))
        {
            return Err(BindError::Credentials(name));
        }
        if allowed().next().is_none() {
            let roots: Vec<String> =
                self.roots.iter().chain(&self.writable).map(|root| format!("`{}`", root.display())).collect();
            return Err(BindError::Outside(roots.join(", ")));
        }
        Ok(())
    }

    fn mode(&self, mode: &str, writable: bool) -> Result<String, BindError> {
        let options: Vec<&str> = mode.split(',').map(str::trim).filter(|option| !option.is_empty()).collect();
        let read_only = options.contains(&"ro") && !options.contains(&"rw");
        let asked_for_writing = options.contains(&"rw") || options.iter().any(|option| matches!(*option, "z" | "Z"));
        if !writable && (asked_for_writing || (!options.is_empty() && !read_only)) {
            return Err(BindError::Writable);
        }
        let harmless =
            |option: &&str| matches!(*option, "ro" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent");
        if let Some(option) = options.iter().find(|option| !harmless(option)) {
            return Err(BindError::Mode((*option).chars().take(40).collect()));
        }
        let access = if read_only || !writable { "ro" } else { "rw" };
        let others = options.into_iter().filter(|option| !matches!(*option, "ro" | "rw"));
        Ok(std::iter::once(access).chain(others).collect::<Vec<_>>().join(","))
    }
}

/// The part of a path that holds credentials.
fn credential(path: &Path) -> Option<&'static str> {
    path.components().find_map(|component| match component {
        Component::Normal(name) => CREDENTIALS.into_iter().find(|known| name.eq_ignore_ascii_case(known)),
        _ => None,
    })
}

/// An absolute path without `.`, `..` and repeated slashes; none if it is not absolute. Two slashes at the beginning
/// are a network path on some systems and count as not absolute.
pub fn normalised(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.starts_with("//") || path.contains('\0') {
        return None;
    }
    let mut normal = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    Some(normal)
}

#[cfg(test)]
mod tests;
