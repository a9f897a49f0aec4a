//! Which interfaces a component may import, and within which bounds it may leave a server's envelope.
//!
//! Written on the command line as `--grant secret-resolver,container-runtime,rewrite-image=registry.local`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use provisioning_core::Bounds;
use provisioning_core::host::Host;
use provisioning_core::image::ImageRef;
use provisioning_core::policy::glob::NamePattern;
use provisioning_core::policy::{Policies, Who};
use provisioning_core::volume::is_volume_name;
use thiserror::Error;

/// An interface of the contract that carries authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// Secrets of the server, as opaque values.
    SecretResolver,
    /// Configuration of the server, as opaque values.
    ConfigResolver,
    /// Containers.
    ContainerRuntime,
    /// The server's remote address.
    RemoteEndpoint,
    /// Objects in a Kubernetes cluster.
    ClusterObjects,
    /// Lines in the gateway's log.
    Log,
}

impl Interface {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SecretResolver,
        Self::ConfigResolver,
        Self::ContainerRuntime,
        Self::RemoteEndpoint,
        Self::ClusterObjects,
        Self::Log,
    ];

    /// The name in WIT and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SecretResolver => "secret-resolver",
            Self::ConfigResolver => "config-resolver",
            Self::ContainerRuntime => "container-runtime",
            Self::RemoteEndpoint => "remote-endpoint",
            Self::ClusterObjects => "cluster-objects",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a component is granted. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The interfaces of the contract.
    pub interfaces: BTreeSet<Interface>,
    /// WASI packages such as `wasi:io`, served with an empty context: no files, sockets or environment.
    pub wasi: BTreeSet<String>,
    /// How far it may leave the envelope.
    pub bounds: Bounds,
}

impl Grants {
    /// What the built-in `docker` component is granted: the interfaces that it imports, and no way to leave the
    /// envelope.
    pub fn builtin_docker() -> Self {
        use Interface::{ConfigResolver, ContainerRuntime, Log, RemoteEndpoint, SecretResolver};
        Self {
            interfaces: [SecretResolver, ConfigResolver, ContainerRuntime, RemoteEndpoint, Log].into(),
            ..Self::default()
        }
    }

    /// What the built-in `kubernetes` component is granted: as `docker`, and objects of the cluster.
    pub fn builtin_kubernetes() -> Self {
        let mut grants = Self::builtin_docker();
        grants.interfaces.insert(Interface::ClusterObjects);
        grants
    }

    /// Adds everything that `other` grants.
    pub fn extend(&mut self, other: Self) {
        self.interfaces.extend(other.interfaces);
        self.wasi.extend(other.wasi);
        self.bounds.extend(other.bounds);
    }

    /// What is granted and what the policies let this component use of it.
    #[must_use]
    pub fn within(mut self, policies: &Policies, who: Who<'_>) -> Self {
        self.interfaces.retain(|interface| policies.interface(who, interface.name()).is_allowed());
        self.wasi.retain(|package| policies.interface(who, package).is_allowed());
        self
    }

    /// What it may import, as written after `--grant`.
    pub fn reach(&self) -> Vec<String> {
        self.interfaces.iter().map(ToString::to_string).chain(self.wasi.iter().cloned()).collect()
    }

    /// How far it may leave what the catalog entry allows, as written after `--grant`.
    pub fn beyond_the_entry(&self) -> Vec<String> {
        let Bounds {
            rewrite_image,
            rewrite_command,
            add_argument,
            rewrite_user,
            add_env,
            add_mount,
            add_label,
            add_host,
            remote_secrets,
        } = &self.bounds;
        let bounded = [
            ("rewrite-image", rewrite_image),
            ("rewrite-user", rewrite_user),
            ("add-argument", add_argument),
            ("add-env", add_env),
            ("add-mount", add_mount),
            ("add-label", add_label),
            ("add-host", add_host),
        ];
        let bounded = bounded.iter().flat_map(|(name, all)| all.iter().map(move |bound| format!("{name}={bound}")));
        let command = rewrite_command.then(|| "rewrite-command".to_owned());
        let secrets = remote_secrets.then(|| "remote-secrets".to_owned());
        command.into_iter().chain(bounded).chain(secrets).collect()
    }

    /// All of it, as written after `--grant`. Reading these again gives the same grants.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.reach();
        names.extend(self.beyond_the_entry());
        names
    }

    fn add(&mut self, grant: &str) -> Result<(), GrantError> {
        if let Some(interface) = Interface::ALL.into_iter().find(|interface| interface.name() == grant) {
            self.interfaces.insert(interface);
            return Ok(());
        }
        let (name, bound) = grant.split_once('=').unwrap_or((grant, ""));
        if name.starts_with("wasi:") {
            self.wasi.insert(grant.to_owned());
            return Ok(());
        }
        let bounds = match name {
            "rewrite-command" if bound.is_empty() => {
                self.bounds.rewrite_command = true;
                return Ok(());
            }
            "remote-secrets" if bound.is_empty() => {
                self.bounds.remote_secrets = true;
                return Ok(());
            }
            "rewrite-image" => &mut self.bounds.rewrite_image,
            "rewrite-user" => &mut self.bounds.rewrite_user,
            "add-argument" => &mut self.bounds.add_argument,
            "add-env" => &mut self.bounds.add_env,
            "add-mount" => &mut self.bounds.add_mount,
            "add-label" => &mut self.bounds.add_label,
            "add-host" => &mut self.bounds.add_host,
            _ => return Err(GrantError::Unknown(grant.to_owned())),
        };
        if bound.is_empty() {
            return Err(GrantError::NoBound(name.to_owned()));
        }
        if let Some(reason) = wrong_bound(name, bound) {
            return Err(GrantError::WrongBound { grant: name.to_owned(), bound: bound.to_owned(), reason });
        }
        bounds.insert(bound.to_owned());
        Ok(())
    }
}

/// Why a bound would cover nothing, or not what it looks like.
fn wrong_bound(name: &str, bound: &str) -> Option<String> {
    let pattern = || bound.parse::<NamePattern>().err().map(|error| error.reason);
    match name {
        "rewrite-image" => {
            let place = bound.trim_end_matches('/');
            let (registry, repository) = place.split_once('/').unwrap_or((place, "x"));
            let image = format!("{registry}/{repository}:x");
            let named = registry.contains(['.', ':']) || registry == "localhost";
            match image.parse::<ImageRef>() {
                Ok(_) if named => None,
                Ok(_) => Some(format!("names no registry; write `docker.io/{place}`")),
                Err(error) => Some(error.reason.to_owned()),
            }
        }
        "add-argument" | "add-env" => pattern(),
        "add-mount" => {
            let (source, target) = bound.split_once(':').unwrap_or((bound, "/x"));
            let plain = is_volume_name(source) && target.starts_with('/') && !target.contains(':');
            (!plain).then(|| "is not `VOLUME` or `VOLUME:/path`".to_owned())
        }
        "add-host" => {
            let parts = bound.split_once(':');
            let address = |text: &str| text == "host-gateway" || text.parse::<IpAddr>().is_ok();
            let plain = parts.is_some_and(|(name, at)| matches!(name.parse(), Ok(Host::Name(_))) && address(at));
            (!plain).then(|| "is not `NAME:ADDRESS`".to_owned())
        }
        _ => None,
    }
}

/// The grants as they are written, in a fixed order.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl FromStr for Grants {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut grants = Self::default();
        for grant in text.split(',').map(str::trim).filter(|grant| !grant.is_empty()) {
            grants.add(grant)?;
        }
        Ok(grants)
    }
}

/// Why the text of a grant is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GrantError {
    /// No such grant.
    #[error(
        "there is no grant `{0}`; interfaces: {interfaces}; with bounds: rewrite-image=REGISTRY[/REPOSITORY], \
         rewrite-command, rewrite-user=USER, add-argument=PATTERN, add-env=PATTERN, add-mount=VOLUME[:/PATH], \
         add-label=PREFIX, add-host=NAME:ADDRESS, remote-secrets; WASI: wasi:PACKAGE",
        interfaces = Interface::ALL.map(Interface::name).join(", ")
    )]
    Unknown(String),
    /// A grant that must be bounded is not.
    #[error("grant `{0}` needs a bound: write `{0}=…`")]
    NoBound(String),
    /// The bound is not what the grant can be bounded by.
    #[error("the bound `{bound}` of grant `{grant}` {reason}")]
    WrongBound {
        /// The grant.
        grant: String,
        /// The bound.
        bound: String,
        /// What is wrong, and what to write.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_from_a_list() {
        let grants: Grants = "log, container-runtime,rewrite-image=registry.local".parse().unwrap();
        assert_eq!(grants.interfaces, [Interface::ContainerRuntime, Interface::Log].into());
        assert_eq!(grants.bounds.rewrite_image, ["registry.local".to_owned()].into());
        assert_eq!("".parse(), Ok(Grants::default()));
        assert_eq!(grants.names(), ["container-runtime", "log", "rewrite-image=registry.local"]);
    }

    #[test]
    fn grants_are_written_as_they_are_read() {
        let all = "log,wasi:io,rewrite-command,rewrite-image=h.example/a,rewrite-user=65532,add-argument=--log=*,\
                   add-env=TEAM_*,add-mount=cache:/cache,add-label=team.,add-host=db.local:10.0.0.1,remote-secrets";
        assert_eq!(all.parse::<Grants>().unwrap().to_string(), all);
    }

    #[test]
    fn a_bound_that_covers_nothing_is_refused() {
        for grant in [
            "rewrite-image=mcp",
            "rewrite-image=H.example",
            "add-env=**",
            "add-mount=/etc",
            "add-host=db",
            "add-host=a:b",
        ] {
            assert!(matches!(grant.parse::<Grants>(), Err(GrantError::WrongBound { .. })), "{grant}");
        }
    }

    #[test]
    fn a_grant_that_is_unknown_or_unbounded_is_refused_with_what_there_is() {
        let unknown = "container-runtme".parse::<Grants>().unwrap_err().to_string();
        assert!(unknown.contains("container-runtime"), "{unknown}");
        assert_eq!("rewrite-image".parse::<Grants>(), Err(GrantError::NoBound("rewrite-image".to_owned())));
    }
}
