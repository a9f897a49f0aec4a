//! Finds out where the Docker Engine is, in the order of the `docker` command line: the flag, `DOCKER_HOST`,
//! `DOCKER_CONTEXT`, `currentContext` of the Docker configuration, the default socket.
//!
//! It reads the configuration files and nothing else: the environment comes as data, and nothing is connected here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::capability::container_runtime::RuntimeError;

/// Where an engine listens if nothing says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What the search depends on.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The value of `--docker-context`.
    pub context: Option<String>,
    /// Environment variables. Read are `DOCKER_HOST`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `DOCKER_TLS`,
    /// `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
    pub variables: BTreeMap<String, String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// The directory of the Docker configuration.
    pub fn config_directory(&self) -> Option<PathBuf> {
        match self.variable("DOCKER_CONFIG") {
            Some(directory) => Some(PathBuf::from(directory)),
            None => self.home.as_ref().map(|home| home.join(".docker")),
        }
    }

    /// A variable that is set and not empty: Docker takes empty as unset.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Where an engine is and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    /// How to reach it.
    pub endpoint: Endpoint,
    /// What named it, for messages: "`DOCKER_HOST`", "context `x`".
    pub origin: String,
}

/// A way to reach an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain TCP, as `host:port`.
    Tcp(String),
    /// TCP with mutual TLS.
    Tls {
        /// `host:port`.
        host: String,
        /// The certificates that the engine's is checked against.
        ca: PathBuf,
        /// The client's certificate.
        certificate: PathBuf,
        /// The client's key.
        key: PathBuf,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) | Self::Tls { host, .. } => write!(f, "tcp://{host}"),
        }
    }
}

/// Finds the engine. Reads a few small files.
///
/// # Errors
/// [`RuntimeError::Invalid`] if the configuration names an engine that cannot be reached this way, with what to do.
pub fn find(surroundings: &Surroundings) -> Result<EngineAddress, RuntimeError> {
    if let Some(name) = surroundings.context.as_deref().filter(|name| !name.is_empty()) {
        return of_context(surroundings, name, "`--docker-context`");
    }
    if surroundings.variable("DOCKER_HOST").is_some() {
        return of_environment(surroundings);
    }
    if let Some(name) = surroundings.variable("DOCKER_CONTEXT") {
        return of_context(surroundings, name, "`DOCKER_CONTEXT`");
    }
    match current_context(surroundings)? {
        Some(name) => of_context(surroundings, &name, "`currentContext` of the Docker configuration"),
        None => of_environment(surroundings),
    }
}

/// The context `default`: `DOCKER_HOST` and the default socket.
fn of_environment(surroundings: &Surroundings) -> Result<EngineAddress, RuntimeError> {
    let Some(host) = surroundings.variable("DOCKER_HOST") else {
        return Ok(EngineAddress {
            endpoint: Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET)),
            origin: "the default socket".to_owned(),
        });
    };
    let origin = "`DOCKER_HOST`".to_owned();
    let tls = if surroundings.variable("DOCKER_TLS_VERIFY").is_some() {
        let directory = match surroundings.variable("DOCKER_CERT_PATH") {
            Some(directory) => Some(PathBuf::from(directory)),
            None => surroundings.config_directory(),
        };
        let directory = directory.ok_or_else(|| {
            RuntimeError::Invalid(
                "`DOCKER_TLS_VERIFY` is set but there is no home directory; set `DOCKER_CERT_PATH`".to_owned(),
            )
        })?;
        Some(directory)
    } else if surroundings.variable("DOCKER_TLS").is_some() {
        return Err(unverified("`DOCKER_TLS` without `DOCKER_TLS_VERIFY`", "set `DOCKER_TLS_VERIFY=1`"));
    } else {
        None
    };
    let endpoint = parse_host(host, tls.as_deref(), &origin)?;
    Ok(EngineAddress { endpoint, origin })
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

fn current_context(surroundings: &Surroundings) -> Result<Option<String>, RuntimeError> {
    let Some(path) = surroundings.config_directory().map(|directory| directory.join("config.json")) else {
        return Ok(None);
    };
    let Some(config) = read_json::<Config>(&path)? else { return Ok(None) };
    Ok(config.current_context.filter(|name| !name.is_empty()))
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
struct MetaEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

fn of_context(surroundings: &Surroundings, name: &str, source: &str) -> Result<EngineAddress, RuntimeError> {
    if name == "default" {
        return of_environment(surroundings);
    }
    let unknown = || {
        RuntimeError::Invalid(format!(
            "Docker context `{name}`, named by {source}, does not exist; `docker context ls` lists the contexts"
        ))
    };
    let contexts = surroundings.config_directory().ok_or_else(unknown)?.join("contexts");
    let id = hex(&Sha256::digest(name.as_bytes()));
    let meta: Meta = read_json(&contexts.join("meta").join(&id).join("meta.json"))?.ok_or_else(unknown)?;
    let Some(docker) = meta.endpoints.get("docker") else {
        return Err(RuntimeError::Invalid(format!(
            "Docker context `{name}` has no Docker endpoint; choose another with `--docker-context`"
        )));
    };
    let origin = format!("context `{name}`");
    if docker.skip_tls_verify {
        return Err(unverified(
            &format!("Docker context `{name}` skips TLS verification"),
            "create it again with a certificate authority",
        ));
    }
    let tls = Some(contexts.join("tls").join(&id).join("docker")).filter(|directory| directory.is_dir());
    let endpoint = parse_host(&docker.host, tls.as_deref(), &origin)?;
    Ok(EngineAddress { endpoint, origin })
}

fn parse_host(host: &str, tls: Option<&Path>, origin: &str) -> Result<Endpoint, RuntimeError> {
    let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
    match scheme {
        "unix" => {
            let path = if rest.is_empty() { DEFAULT_SOCKET } else { rest };
            Ok(Endpoint::Unix(PathBuf::from(path)))
        }
        "tcp" | "http" | "https" => {
            let rest = rest.trim_end_matches('/');
            if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
                return Err(RuntimeError::Invalid(format!(
                    "{origin} has the Docker Engine address `{host}`; write it as `tcp://HOST:PORT`"
                )));
            }
            let Some(directory) = tls else {
                if scheme == "https" {
                    return Err(RuntimeError::Invalid(format!(
                        "{origin} has the Docker Engine address `{host}` but no certificates; set \
                         `DOCKER_TLS_VERIFY=1` and `DOCKER_CERT_PATH`"
                    )));
                }
                return Ok(Endpoint::Tcp(with_port(rest, 2375)));
            };
            let file = |name: &str| {
                let path = directory.join(name);
                if path.is_file() {
                    return Ok(path);
                }
                Err(RuntimeError::Invalid(format!(
                    "TLS to the Docker Engine of {origin} needs `{}`; put `ca.pem`, `cert.pem` and `key.pem` there, \
                     or set `DOCKER_CERT_PATH`",
                    path.display()
                )))
            };
            Ok(Endpoint::Tls {
                host: with_port(rest, 2376),
                ca: file("ca.pem")?,
                certificate: file("cert.pem")?,
                key: file("key.pem")?,
            })
        }
        "ssh" => Err(RuntimeError::Invalid(format!(
            "{origin} has the Docker Engine address `{host}`, and SSH is not supported; forward the socket with \
             `ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST` and set `DOCKER_HOST=unix:///tmp/docker.sock`"
        ))),
        "npipe" => Err(RuntimeError::Invalid(format!(
            "{origin} has the Docker Engine address `{host}`, and named pipes are not supported; expose the engine \
             on TCP with TLS and set `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`"
        ))),
        _ => Err(RuntimeError::Invalid(format!(
            "{origin} has the Docker Engine address `{host}`, whose kind is not known; use `unix:///PATH` or \
             `tcp://HOST:PORT`"
        ))),
    }
}

fn unverified(what: &str, remedy: &str) -> RuntimeError {
    RuntimeError::Invalid(format!("{what}: the Docker Engine's certificate would not be checked; {remedy}"))
}

/// Adds the port if there is none. An IPv6 address in brackets has colons of its own.
fn with_port(host: &str, port: u16) -> String {
    let after_address = host.rsplit(']').next().unwrap_or(host);
    if after_address.contains(':') { host.to_owned() } else { format!("{host}:{port}") }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, RuntimeError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(RuntimeError::Invalid(format!(
                "cannot read `{}`: {error}; fix its permissions",
                path.display()
            )));
        }
    };
    // The parser's message could quote the file, which may hold credentials: only the place is told.
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        RuntimeError::Invalid(format!(
            "`{}` is not valid at line {}, column {}; correct it",
            path.display(),
            error.line(),
            error.column()
        ))
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A Docker configuration with the contexts `remote` (TLS) and `colima`, the latter current.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        for (name, host) in [("remote", "tcp://box.example:2376"), ("colima", "unix:///c.sock"), ("far", "ssh://u@h")] {
            let id = hex(&Sha256::digest(name));
            let meta = docker.join("contexts/meta").join(&id);
            std::fs::create_dir_all(&meta).unwrap();
            let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
            std::fs::write(meta.join("meta.json"), text).unwrap();
            if name == "remote" {
                let tls = docker.join("contexts/tls").join(&id).join("docker");
                std::fs::create_dir_all(&tls).unwrap();
                for file in ["ca.pem", "cert.pem", "key.pem"] {
                    std::fs::write(tls.join(file), "").unwrap();
                }
            }
        }
        std::fs::write(docker.join("config.json"), r#"{"currentContext":"colima","auths":{}}"#).unwrap();
        home
    }

    #[test]
    fn without_anything_it_is_the_default_socket() {
        let found = find(&Surroundings::default()).unwrap();
        assert_eq!(found.endpoint.to_string(), "unix:///var/run/docker.sock");
    }

    #[test]
    fn the_flag_beats_the_host_beats_the_variable_beats_the_current_context() {
        let home = home();
        let mut around = Surroundings {
            context: Some("remote".to_owned()),
            variables: variables(&[("DOCKER_HOST", "tcp://1.2.3.4"), ("DOCKER_CONTEXT", "far")]),
            home: Some(home.path().to_owned()),
        };
        assert!(matches!(find(&around).unwrap().endpoint, Endpoint::Tls { host, .. } if host == "box.example:2376"));
        around.context = None;
        assert_eq!(find(&around).unwrap().endpoint, Endpoint::Tcp("1.2.3.4:2375".to_owned()));
        around.variables.remove("DOCKER_HOST");
        let error = find(&around).unwrap_err().to_string();
        assert!(error.contains("ssh://u@h") && error.contains("ssh -N -L"), "{error}");
        around.variables.clear();
        assert_eq!(find(&around).unwrap().endpoint, Endpoint::Unix("/c.sock".into()));
        around.context = Some("default".to_owned());
        assert_eq!(find(&around).unwrap().endpoint, Endpoint::Unix(DEFAULT_SOCKET.into()));
    }

    #[test]
    fn what_cannot_be_used_says_what_to_do() {
        let home = home();
        let with = |pairs: &[(&str, &str)]| {
            let around =
                Surroundings { context: None, variables: variables(pairs), home: Some(home.path().to_owned()) };
            find(&around).unwrap_err().to_string()
        };
        assert!(with(&[("DOCKER_CONTEXT", "nope")]).contains("docker context ls"));
        assert!(with(&[("DOCKER_HOST", "npipe:////./pipe/docker_engine")]).contains("named pipes"));
        assert!(with(&[("DOCKER_HOST", "fd://")]).contains("not known"));
        assert!(with(&[("DOCKER_HOST", "tcp://h/x")]).contains("tcp://HOST:PORT"));
        assert!(with(&[("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS", "1")]).contains("DOCKER_TLS_VERIFY=1"));
        let missing = with(&[("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/nope")]);
        assert!(missing.contains("/nope/ca.pem"), "{missing}");
    }

    #[test]
    fn a_broken_configuration_is_reported_by_place_without_quoting_it() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config.json"), "{\n \"currentContext\": hunter2").unwrap();
        let around = Surroundings {
            context: None,
            variables: variables(&[("DOCKER_CONFIG", home.path().to_str().unwrap())]),
            home: None,
        };
        let error = find(&around).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_ipv6_address_gets_a_port_too() {
        assert_eq!(with_port("[::1]", 2375), "[::1]:2375");
        assert_eq!(with_port("[::1]:1", 2375), "[::1]:1");
    }
}
