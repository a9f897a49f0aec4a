//! Which interfaces a component may import, and within which bounds it may leave a server's envelope.
//!
//! Written on the command line as `--grant secret-resolver,container-runtime,rewrite-image=registry.local`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use provisioning_core::Bounds;
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

    /// Adds everything that `other` grants.
    pub fn extend(&mut self, other: Self) {
        self.interfaces.extend(other.interfaces);
        self.wasi.extend(other.wasi);
        let Bounds { rewrite_image, rewrite_command, add_env, add_mount, add_label } = other.bounds;
        self.bounds.rewrite_image.extend(rewrite_image);
        self.bounds.rewrite_command |= rewrite_command;
        self.bounds.add_env.extend(add_env);
        self.bounds.add_mount.extend(add_mount);
        self.bounds.add_label.extend(add_label);
    }

    /// What it may import, as written after `--grant`.
    pub fn reach(&self) -> Vec<String> {
        self.interfaces.iter().map(ToString::to_string).chain(self.wasi.iter().cloned()).collect()
    }

    /// How far it may leave what the catalog entry allows, as written after `--grant`.
    pub fn beyond_the_entry(&self) -> Vec<String> {
        let Bounds { rewrite_image, rewrite_command, add_env, add_mount, add_label } = &self.bounds;
        let bounded = [
            ("rewrite-image", rewrite_image),
            ("add-env", add_env),
            ("add-mount", add_mount),
            ("add-label", add_label),
        ];
        let bounded = bounded.iter().flat_map(|(name, all)| all.iter().map(move |bound| format!("{name}={bound}")));
        bounded.chain(rewrite_command.then(|| "rewrite-command".to_owned())).collect()
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
            "rewrite-image" => &mut self.bounds.rewrite_image,
            "add-env" => &mut self.bounds.add_env,
            "add-mount" => &mut self.bounds.add_mount,
            "add-label" => &mut self.bounds.add_label,
            _ => return Err(GrantError::Unknown(grant.to_owned())),
        };
        if bound.is_empty() {
            return Err(GrantError::NoBound(name.to_owned()));
        }
        bounds.insert(bound.to_owned());
        Ok(())
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
         rewrite-command, add-env=NAME, add-mount=VOLUME, add-label=PREFIX; WASI: wasi:PACKAGE",
        interfaces = Interface::ALL.map(Interface::name).join(", ")
    )]
    Unknown(String),
    /// A grant that must be bounded is not.
    #[error("grant `{0}` needs a bound: write `{0}=…`")]
    NoBound(String),
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
    }

    #[test]
    fn grants_written_out_and_read_again_are_the_same() {
        let text = "log,secret-resolver,wasi:io,rewrite-image=a.example/b,rewrite-image=c,add-env=E,add-mount=v,\
                    add-label=com.example.,rewrite-command";
        let grants: Grants = text.parse().unwrap();
        assert_eq!(grants.names().len(), 9);
        assert_eq!(grants.names().join(",").parse(), Ok(grants));
    }

    #[test]
    fn a_grant_that_is_unknown_or_unbounded_is_refused_with_what_there_is() {
        let unknown = "container-runtme".parse::<Grants>().unwrap_err().to_string();
        assert!(unknown.contains("container-runtime"), "{unknown}");
        assert_eq!("rewrite-image".parse::<Grants>(), Err(GrantError::NoBound("rewrite-image".to_owned())));
    }
}
