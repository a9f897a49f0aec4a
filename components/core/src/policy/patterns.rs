//! Patterns of images, hosts, mounts and components. Each knows what it covers; deny lists also ask what it touches.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::glob::{NamePattern, Parts, PathPattern, PatternError};
use crate::host::Host;
use crate::image::{self, DEFAULT_REGISTRY, ImageRef};
use crate::volume;

/// An image as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// In a registry.
    Reference(ImageRef),
    /// A WASI component that is built into the gateway, by the name after `embedded:`.
    BuiltIn(String),
    /// A WASI component in a file: its normalised absolute path.
    File(PathBuf),
}

impl Image {
    /// Reads a reference as runtimes do: `embedded:NAME`, the path of a `.wasm` file, or a reference.
    ///
    /// # Errors
    /// If it could be read in several ways. The text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("embedded:") {
            return Ok(Self::BuiltIn(name.to_owned()));
        }
        if text.ends_with(".wasm") {
            return volume::normalised(text).map(Self::File).ok_or_else(|| {
                "it is a file that is not named by its full path; name the catalog by its full path".to_owned()
            });
        }
        text.parse().map(Self::Reference).map_err(|error: image::ImageError| error.to_string())
    }

    /// Whether its content cannot change under its name.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Reference(image) => image.digest.is_some(),
            Self::BuiltIn(_) => true,
            Self::File(_) => false,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(image) => write!(f, "{image}"),
            Self::BuiltIn(name) => write!(f, "embedded:{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A pattern of images: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, `embedded:NAME`, or `/path/of.wasm`.
///
/// The registry is written out, or `*`, or `*.DOMAIN`. In the repository `*` stays within a part and `**` stands for
/// any number of parts. Without a tag or digest it covers all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    kind: ImageKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ImageKind {
    BuiltIn(NamePattern),
    File(PathPattern),
    Registry { registry: Registry, repository: Parts, tag: Option<NamePattern>, digest: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Registry {
    Any,
    Below(String),
    One(String),
}

impl ImagePattern {
    /// Whether it covers an image.
    pub fn covers(&self, image: &Image) -> bool {
        match (&self.kind, image) {
            (ImageKind::BuiltIn(pattern), Image::BuiltIn(name)) => pattern.covers(name, None),
            (ImageKind::File(pattern), Image::File(path)) => path.to_str().is_some_and(|path| pattern.covers(path)),
            (ImageKind::Registry { registry, repository, tag, digest }, Image::Reference(image)) => {
                let registry = match registry {
                    Registry::Any => true,
                    Registry::One(one) => *one == image.registry,
                    // `.example.com` with something before it.
                    Registry::Below(domain) => {
                        image.registry.strip_suffix(domain.as_str()).is_some_and(|rest| !rest.is_empty())
                    }
                };
                registry
                    && repository.covers(image.repository.split('/'))
                    // A digest alone has no tag that could be covered.
                    && tag.as_ref().is_none_or(|tag| image.tag.as_deref().is_some_and(|own| tag.covers(own, None)))
                    && digest.as_ref().is_none_or(|digest| image.digest.as_ref() == Some(digest))
            }
            _ => false,
        }
    }

    /// The pattern of names after `embedded:`, if it is about those.
    pub fn embedded(&self) -> Option<&NamePattern> {
        match &self.kind {
            ImageKind::BuiltIn(name) => Some(name),
            ImageKind::File(_) | ImageKind::Registry { .. } => None,
        }
    }

    /// The pattern of tags, if it has one.
    pub fn tag(&self) -> Option<&NamePattern> {
        match &self.kind {
            ImageKind::Registry { tag, .. } => tag.as_ref(),
            ImageKind::BuiltIn(_) | ImageKind::File(_) => None,
        }
    }

    /// Whether it may mean the image although it is written otherwise: an image that is named by its digest alone
    /// may have any tag.
    pub fn touches(&self, image: &Image) -> bool {
        match (&self.kind, image) {
            (ImageKind::Registry { registry, repository, tag: Some(_), digest }, Image::Reference(reference))
                if reference.tag.is_none() || reference.digest.is_some() =>
            {
                let kind = ImageKind::Registry {
                    registry: registry.clone(),
                    repository: repository.clone(),
                    tag: None,
                    digest: digest.clone(),
                };
                Self { text: String::new(), kind }.covers(image)
            }
            // Whatever the image is called, its content may be the one that is meant.
            (ImageKind::Registry { registry, repository, digest: Some(_), .. }, Image::Reference(reference))
                if reference.digest.is_none() =>
            {
                let kind = ImageKind::Registry {
                    registry: registry.clone(),
                    repository: repository.clone(),
                    tag: None,
                    digest: None,
                };
                Self { text: String::new(), kind }.covers(image)
            }
            _ => self.covers(image),
        }
    }
}

impl FromStr for ImagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let kind = if let Some(name) = text.strip_prefix("embedded:") {
            ImageKind::BuiltIn(name.parse()?)
        } else if text.starts_with('/') {
            if !text.ends_with(".wasm") && !text.ends_with('*') {
                return Err(PatternError::new(text, "is a path that no component has; end it with `.wasm` or `*`"));
            }
            ImageKind::File(text.parse()?)
        } else {
            registry_pattern(text).map_err(|reason| PatternError::new(text, reason))?
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

fn registry_pattern(text: &str) -> Result<ImageKind, String> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'.' | b'_' | b'-' | b'/' | b'*' | b':' | b'@')
    };
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(image::checked_digest(digest)?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if !name.bytes().all(allowed) {
        return Err("has a letter that no image name has; write lower-case ASCII".to_owned());
    }
    let Some((first, repository)) = name.split_once('/') else {
        return Err(format!("names no registry; write `{DEFAULT_REGISTRY}/library/{name}` or `{name}/**`"));
    };
    let registry = match first {
        "*" => Registry::Any,
        first if first.starts_with("*.") => {
            let domain = first.get(1..).unwrap_or_default();
            image::checked_registry(domain.trim_start_matches('.'))?;
            Registry::Below(domain.to_owned())
        }
        first if first.contains('*') => {
            return Err(
                "has `*` inside of a registry; write it out, or `*.domain`, or `*` for every registry".to_owned()
            );
        }
        first if first.contains(['.', ':']) || first == "localhost" => Registry::One(image::checked_registry(first)?),
        _ => return Err(format!("names no registry; write `{DEFAULT_REGISTRY}/{name}`")),
    };
    let repository_parts = Parts::parse(repository)?;
    if registry == Registry::One(DEFAULT_REGISTRY.to_owned()) && repository_parts.length() == (1, false) {
        return Err(format!(
            "covers nothing: a repository of {DEFAULT_REGISTRY} has two parts; write `{DEFAULT_REGISTRY}/library/{repository}` \
             or `{DEFAULT_REGISTRY}/**`"
        ));
    }
    let tag = tag.map(str::parse).transpose().map_err(|error: PatternError| error.to_string())?;
    Ok(ImageKind::Registry { registry, repository: repository_parts, tag, digest })
}

/// A pattern of hosts: a name, `*.DOMAIN` for everything below a domain, an address, a network as `ADDRESS/BITS`, or
/// `*`; each with `:PORT` for one port only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Any,
    Below(String),
    One(Host),
    Network(IpAddr, u8),
}

impl HostPattern {
    /// Whether it covers a host at a port. Without a port, every port is meant.
    pub fn covers(&self, host: &Host, port: Option<u16>) -> bool {
        (self.port.is_none() || self.port == port) && self.hosts.covers(host)
    }

    /// Whether it covers the host at any port that may be meant. An IPv6 address is touched with the IPv4 addresses that
    /// it may lead to.
    pub fn touches(&self, host: &Host, port: Option<u16>) -> bool {
        let is_same_port = port.is_none() || self.port.is_none() || self.port == port;
        let wrapped = || match host {
            Host::Address(address) => crate::host::embedded(*address),
            Host::Name(_) => Vec::new(),
        };
        is_same_port
            && (self.hosts.covers(host) || wrapped().iter().any(|inner| self.hosts.covers(&Host::Address(*inner))))
    }

    /// Whether it is about addresses, and not about names or everything.
    pub fn is_of_addresses(&self) -> bool {
        matches!(self.hosts, Hosts::One(Host::Address(_)) | Hosts::Network(..))
    }

    /// Whether it covers every host at every port.
    pub fn is_everything(&self) -> bool {
        self.hosts == Hosts::Any && self.port.is_none()
    }
}

impl Hosts {
    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(domain), Host::Name(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| !rest.is_empty())
            }
            (Self::One(one), host) => one == host,
            (Self::Network(network, bits), Host::Address(address)) => lies_in(*address, *network, *bits),
            (Self::Below(_), Host::Address(_)) | (Self::Network(..), Host::Name(_)) => false,
        }
    }
}

fn lies_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let shifted = |value: u128, width: u32| value.checked_shr(width.saturating_sub(u32::from(bits))).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            shifted(u128::from(address.to_bits()), 32) == shifted(u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail = |reason: &str| PatternError::new(text, reason);
        let (host, port) = match text.rsplit_once(':') {
            // Not a colon of an address in brackets, or of one without.
            Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) => {
                let number = port.parse::<u16>().ok().filter(|number| *number > 0);
                (host, Some(number.ok_or_else(|| fail("has a port that is no number from 1 to 65535"))?))
            }
            _ => (text, None),
        };
        let hosts = if host == "*" {
            Hosts::Any
        } else if let Some(domain) = host.strip_prefix("*.") {
            match domain.parse::<Host>() {
                Ok(Host::Name(name)) => Hosts::Below(format!(".{name}")),
                Ok(Host::Address(_)) => return Err(fail("is no domain; write a network as `10.0.0.0/8`")),
                Err(error) => return Err(fail(error.reason)),
            }
        } else if host.contains('*') {
            return Err(fail("has `*` inside of a name; there is `*` for every host and `*.domain` for all below one"));
        } else if let Some((address, bits)) = host.trim_matches(['[', ']']).split_once('/') {
            let address = address.parse::<IpAddr>().map_err(|_| fail("is no network; write it as `10.0.0.0/8`"))?;
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= width);
            let bits = bits.ok_or_else(|| fail("has more bits than an address; write it as `10.0.0.0/8`"))?;
            // As addresses themselves are: IPv4 inside of IPv6 is IPv4.
            match address.to_canonical() {
                canonical @ IpAddr::V4(_) if address.is_ipv6() => match bits.checked_sub(96) {
                    Some(bits) => Hosts::Network(canonical, bits),
                    None => {
                        return Err(fail("is wider than all of IPv4 in IPv6; write `0.0.0.0/0`, or the IPv6 network"));
                    }
                },
                _ => Hosts::Network(address, bits),
            }
        } else {
            Hosts::One(host.parse().map_err(|error: crate::host::HostError| fail(error.reason))?)
        };
        Ok(Self { text: text.to_owned(), hosts, port })
    }
}

/// What is mounted, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A directory or file of the host.
    Path(&'a str),
    /// A named volume.
    Volume(&'a str),
}

/// A pattern of what may be mounted: `/path/**` or `volume:NAME`; with `:ro`, for reading only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPattern {
    text: String,
    source: MountKind,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum MountKind {
    Path(PathPattern),
    Volume(NamePattern),
}

impl MountPattern {
    /// Whether it covers a mount.
    pub fn covers(&self, source: &Source<'_>, read_only: bool, server: Option<&str>) -> bool {
        let covered = match (&self.source, source) {
            (MountKind::Path(pattern), Source::Path(path)) => pattern.covers(path),
            (MountKind::Volume(pattern), Source::Volume(name)) => pattern.covers(name, server),
            _ => false,
        };
        covered && (read_only || !self.read_only)
    }

    /// Whether the mount is, or holds, something that it covers.
    pub fn touches(&self, source: &Source<'_>, server: Option<&str>) -> bool {
        match (&self.source, source) {
            (MountKind::Path(pattern), Source::Path(path)) => pattern.touches(path),
            (MountKind::Volume(pattern), Source::Volume(name)) => pattern.covers(name, server),
            _ => false,
        }
    }

    /// The pattern of names of volumes, if it is about those.
    pub fn volume(&self) -> Option<&NamePattern> {
        match &self.source {
            MountKind::Volume(name) => Some(name),
            MountKind::Path(_) => None,
        }
    }

    /// Whether it is for reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

impl FromStr for MountPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (source, read_only) = match text.strip_suffix(":ro") {
            Some(source) => (source, true),
            None => (text, false),
        };
        let source = match source.strip_prefix("volume:") {
            Some(name) => MountKind::Volume(name.parse()?),
            None if source.contains(':') => {
                return Err(PatternError::new(
                    text,
                    "has a colon; write `/path`, `volume:NAME`, and `:ro` after it or nothing",
                ));
            }
            None if !source.starts_with('/') => {
                return Err(PatternError::new(text, "is neither an absolute path nor `volume:NAME`"));
            }
            None => MountKind::Path(source.parse()?),
        };
        Ok(Self { text: text.to_owned(), source, read_only })
    }
}

/// Which component: `builtin:NAME`, `sha256:DIGEST` of the `.wasm` file, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentPattern {
    /// Every component.
    Any,
    /// One that is part of this gateway.
    BuiltIn(String),
    /// One with these bytes: the SHA-256 in hexadecimal.
    Digest(String),
}

impl ComponentPattern {
    /// Whether it covers a component.
    pub fn covers(&self, digest: &str, builtin: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::BuiltIn(name) => builtin == Some(name),
            Self::Digest(own) => own == digest,
        }
    }
}

impl FromStr for ComponentPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(name) = text.strip_prefix("builtin:") {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                return Err(PatternError::new(text, "names no built-in component; write `builtin:docker`"));
            }
            return Ok(Self::BuiltIn(name.to_owned()));
        }
        match text.strip_prefix("sha256:") {
            Some(digest) if digest.len() == 64 && digest.bytes().all(hex) => Ok(Self::Digest(digest.to_owned())),
            Some(_) => Err(PatternError::new(text, "is no digest: 64 lower-case hexadecimal digits follow `sha256:`")),
            None => Err(PatternError::new(text, "is no component; write `sha256:DIGEST`, `builtin:docker` or `*`")),
        }
    }
}

impl fmt::Display for ComponentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::BuiltIn(name) => write!(f, "builtin:{name}"),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

macro_rules! shown_as_written {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
    )*};
}
shown_as_written!(ImagePattern, HostPattern, MountPattern);

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pattern: &str, text: &str) -> bool {
        pattern.parse::<ImagePattern>().unwrap().covers(&Image::parse(text).unwrap())
    }

    #[test]
    fn an_image_is_covered_by_registry_repository_tag_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("mcp/time@{digest}");
        for (pattern, text) in [
            ("docker.io/mcp/*", "mcp/time"),
            ("docker.io/mcp/*", "index.docker.io/mcp/time:1"),
            ("docker.io/library/*", "busybox"),
            ("docker.io/**", "busybox"),
            ("*/**", "h.example:5000/a/b"),
            ("*.example.com/team/**", "eu.example.com/team/a/b"),
            ("docker.io/mcp/time:1.*", "mcp/time:1.2"),
            (&format!("docker.io/mcp/*@{digest}"), &pinned),
            ("docker.io/mcp/*", &pinned),
            ("embedded:*", "embedded:sample"),
            ("/srv/**", "/srv/a/../b/x.wasm"),
            ("localhost:5000/x", "localhost:5000/x"),
        ] {
            assert!(image(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("docker.io/mcp/*", "mcp/a/b"),
            ("docker.io/mcp/*", "docker.io.evil.example/mcp/time"),
            ("docker.io/mcp/*", "evil.example/mcp/time"),
            ("docker.io/mcp/*", "mcp2/time"),
            ("*.example.com/**", "example.com/a"),
            ("*.example.com/**", "evilexample.com/a"),
            ("docker.io/mcp/time:1.*", "mcp/time"),
            ("docker.io/mcp/time:1.*", &pinned),
            (&format!("docker.io/mcp/*@{digest}"), "mcp/time"),
            ("localhost/x", "localhost:5000/x"),
            ("*/**", "embedded:sample"),
            ("/srv/**", "/srv/../etc/x.wasm"),
        ] {
            assert!(!image(pattern, text), "{pattern} {text}");
        }
        for wrong in [
            "mcp/time",
            "busybox",
            "docker.io/busybox",
            "docker.*/x",
            "Docker.io/a/b",
            "docker.io/mсp/x",
            "a.b/c@sha256:1",
            "/srv/x",
            "",
        ] {
            assert!(wrong.parse::<ImagePattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_denied_tag_or_digest_is_not_reached_under_another_name() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let touches =
            |pattern: &str, text: &str| pattern.parse::<ImagePattern>().unwrap().touches(&Image::parse(text).unwrap());
        assert!(touches("docker.io/mcp/time:1", &format!("mcp/time@{}", digest("a"))));
        assert!(touches(&format!("docker.io/mcp/time@{}", digest("a")), "mcp/time:2"));
        assert!(!touches(&format!("docker.io/mcp/time@{}", digest("a")), &format!("mcp/time@{}", digest("b"))));
        assert!(!touches("docker.io/mcp/time:1", "mcp/time:2"));
    }

    #[test]
    fn a_host_is_covered_by_name_domain_network_and_port() {
        let covers = |pattern: &str, host: &str, port: u16| {
            pattern.parse::<HostPattern>().unwrap().covers(&host.parse().unwrap(), Some(port))
        };
        for (pattern, host, port) in [
            ("api.example.com", "API.example.com.", 443),
            ("*.example.com", "a.b.example.com", 80),
            ("*.example.com:443", "a.example.com", 443),
            ("10.0.0.0/8", "10.255.0.1", 1),
            ("10.0.0.0/8", "::ffff:10.1.1.1", 1),
            ("fd00::/8", "fd12::1", 1),
            ("[::1]:8080", "::1", 8080),
            ("::1", "::1", 8080),
            ("*", "x", 1),
            ("0.0.0.0/0", "9.9.9.9", 1),
        ] {
            assert!(covers(pattern, host, port), "{pattern} {host}");
        }
        for (pattern, host, port) in [
            ("api.example.com", "api.example.com.evil", 443),
            ("*.example.com", "example.com", 443),
            ("*.example.com", "evilexample.com", 443),
            ("*.example.com:443", "a.example.com", 80),
            ("10.0.0.0/8", "11.0.0.1", 1),
            ("0.0.0.0/0", "::1", 1),
            ("::/0", "1.1.1.1", 1),
        ] {
            assert!(!covers(pattern, host, port), "{pattern} {host}");
        }
        for wrong in ["", "a*", "*a.com", "a..b", "10.0.0.0/33", "a:0", "a:x", "https://a", "a/b", "exаmple.com", "*.1"]
        {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mount_is_covered_by_its_source_and_its_mode() {
        let pattern: MountPattern = "/srv/data/**:ro".parse().unwrap();
        assert!(pattern.covers(&Source::Path("/srv/data/x"), true, None));
        assert!(!pattern.covers(&Source::Path("/srv/data/x"), false, None));
        assert!(pattern.touches(&Source::Path("/srv"), None) && !pattern.touches(&Source::Path("/home"), None));
        let own: MountPattern = "volume:{server}-*".parse().unwrap();
        assert!(own.covers(&Source::Volume("a-data"), false, Some("a")));
        assert!(!own.covers(&Source::Volume("b-data"), false, Some("a")));
        for wrong in ["data", "/a:rw", "volume:", "C:\\x", "/a/"] {
            assert!(wrong.parse::<MountPattern>().is_err(), "{wrong}");
        }
    }
}
