//! What an error of the engine means: the only place where one becomes a [`RuntimeError`].

use std::error::Error as _;
use std::io;

use bollard::errors::Error;

use super::connect::{Endpoint, EngineAddress};
use crate::capability::container_runtime::RuntimeError;

/// What was being done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// Greeting the engine.
    Connect,
    /// Looking at an image.
    InspectImage(&'a str),
    /// Pulling an image.
    Pull(&'a str),
    /// Creating a container of an image.
    Create(&'a str),
    /// Connecting a container to a network.
    Network(&'a str),
    /// Attaching to a container.
    Attach,
    /// Starting a container of an image.
    Start(&'a str),
    /// Waiting for a container.
    Wait,
    /// Looking at a container.
    Inspect,
    /// Removing a container.
    Remove,
    /// Removing a network.
    RemoveNetwork(&'a str),
    /// Listing containers or networks.
    List,
    /// Reading a volume.
    Volume(&'a str),
}

impl Step<'_> {
    fn describe(self) -> String {
        match self {
            Self::Connect => "say its version".to_owned(),
            Self::InspectImage(image) => format!("look at image `{image}`"),
            Self::Pull(image) => format!("pull image `{image}`"),
            Self::Create(image) => format!("create a container of image `{image}`"),
            Self::Network(name) => format!("connect a container to network `{name}`"),
            Self::Attach => "attach to a container".to_owned(),
            Self::Start(image) => format!("start a container of image `{image}`"),
            Self::Wait => "wait for a container".to_owned(),
            Self::Inspect => "look at a container".to_owned(),
            Self::Remove => "remove a container".to_owned(),
            Self::RemoveNetwork(name) => format!("remove network `{name}`"),
            Self::List => "list containers and networks".to_owned(),
            Self::Volume(name) => format!("read volume `{name}`"),
        }
    }
}

/// Whether the engine answered. If it did not, what was asked for may have happened all the same.
pub(super) fn is_answer(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { .. })
}

/// The status of the engine's answer, if it answered.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Maps an error of the engine.
pub(super) fn engine_error(error: Error, step: Step<'_>, address: &EngineAddress) -> RuntimeError {
    let what = step.describe();
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            answered(status_code, message.trim(), step, address)
        }
        Error::DockerStreamError { error } => match step {
            Step::Pull(image) => pull_failed(image, error.trim()),
            _ => RuntimeError::Engine(format!("the Docker Engine could not {what}: {error}")),
        },
        Error::RequestTimeoutError => RuntimeError::Unavailable(format!(
            "the Docker Engine at `{}` did not {what} in time; see whether `docker info` answers, and restart it if not",
            address.endpoint
        )),
        error => match transport_fault(&error) {
            Some(fault) => unreachable(&fault, address),
            None => RuntimeError::Engine(format!("the Docker Engine could not {what}: {error}")),
        },
    }
}

fn answered(status: u16, message: &str, step: Step<'_>, address: &EngineAddress) -> RuntimeError {
    let what = step.describe();
    let message = if message.is_empty() { format!("it answered with status {status}") } else { message.to_owned() };
    match (step, status) {
        (Step::Connect, _) => {
            let EngineAddress { endpoint, origin } = address;
            let text = format!("the Docker Engine at `{endpoint}` (from {origin}) could not {what}: {message}; ");
            match status {
                // An engine that starts, or a proxy before one that is not there yet.
                500..=599 => RuntimeError::Unavailable(format!("{text}it may still be starting: see `docker info`")),
                _ => RuntimeError::Engine(format!("{text}see that an engine is there that lets you in: `docker info`")),
            }
        }
        (Step::InspectImage(image) | Step::Create(image), 404) => RuntimeError::Image {
            image: image.to_owned(),
            reason: format!("it is not on this engine; run `docker pull {image}`"),
        },
        (Step::Pull(image), _) => pull_failed(image, &message),
        (_, 409) => RuntimeError::Conflict(format!("the Docker Engine could not {what}: {message}")),
        (_, 400) => RuntimeError::Invalid(format!("the Docker Engine refused to {what}: {message}")),
        _ => RuntimeError::Engine(format!("the Docker Engine could not {what}: {message}")),
    }
}

/// What the engine says about a pull is the registry's text; the words below are those of the distribution
/// specification and of Go's network errors.
fn pull_failed(image: &str, message: &str) -> RuntimeError {
    let registry = image.split('/').next().filter(|first| first.contains(['.', ':']) || *first == "localhost");
    let login = registry.map_or_else(|| "docker login".to_owned(), |registry| format!("docker login {registry}"));
    let lower = message.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let advice = if any(&["toomanyrequests", "rate limit"]) {
        format!("the registry limits pulls; run `{login}` or try later")
    } else if any(&["dial tcp", "no such host", "i/o timeout", "connection refused", "client.timeout", "tls handshake"])
    {
        "the Docker Engine cannot reach the registry; check its network and proxy settings".to_owned()
    } else if any(&["may require 'docker login'", "access to the resource is denied"]) {
        format!("there is no such image or it needs a login; check the name or run `{login}`")
    } else if any(&["unauthorized", "denied", "no basic auth", "authentication required"]) {
        format!("the registry refuses access; run `{login}`")
    } else if any(&["not found", "manifest unknown", "name unknown"]) {
        "there is no such image; check the name and the tag".to_owned()
    } else {
        "the pull failed".to_owned()
    };
    RuntimeError::Image { image: image.to_owned(), reason: format!("{advice} ({message})") }
}

/// A fault between here and the engine.
struct Fault {
    kind: Option<io::ErrorKind>,
    text: String,
}

fn transport_fault(error: &Error) -> Option<Fault> {
    match error {
        Error::SocketNotFoundError(_) => {
            return Some(Fault { kind: Some(io::ErrorKind::NotFound), text: "there is no such socket".to_owned() });
        }
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. } => {}
        _ => return None,
    }
    // The innermost cause says most: "Permission denied", "Connection refused", "invalid peer certificate".
    let mut kind = None;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        text = cause.to_string();
        source = cause.source();
    }
    if let Error::IOError { err } = error {
        kind = kind.or(Some(err.kind()));
    }
    Some(Fault { kind, text })
}

fn unreachable(fault: &Fault, address: &EngineAddress) -> RuntimeError {
    let EngineAddress { endpoint, origin } = address;
    let advice = match (endpoint, fault.kind) {
        (Endpoint::Unix(_), Some(io::ErrorKind::PermissionDenied)) => {
            "add yourself to the group `docker` (`sudo usermod -aG docker $USER`) and log in again"
        }
        (Endpoint::Unix(_), _) => {
            "start it (`sudo systemctl start docker`, or open Docker Desktop) or set `DOCKER_HOST`"
        }
        (Endpoint::Tcp(_), _) => "see that it listens there, and set `DOCKER_TLS_VERIFY=1` if it expects TLS",
        (Endpoint::Tls { .. }, _) => "see that it listens there and that the certificates fit",
    };
    RuntimeError::Unavailable(format!(
        "cannot reach the Docker Engine at `{endpoint}` (from {origin}): {}; {advice}",
        fault.text
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(message: &str) -> String {
        let address = EngineAddress { endpoint: Endpoint::Tcp("h:1".to_owned()), origin: "a test".to_owned() };
        let error = Error::DockerStreamError { error: message.to_owned() };
        engine_error(error, Step::Pull("reg.example/a/b:1"), &address).to_string()
    }

    #[test]
    fn a_failed_pull_says_what_to_do() {
        assert!(pull("manifest unknown: manifest unknown").contains("check the name and the tag"));
        assert!(pull("unauthorized: authentication required").contains("docker login reg.example"));
        assert!(pull("Get \"https://x/v2/\": dial tcp: lookup x: no such host").contains("network and proxy"));
        assert!(pull("toomanyrequests: You have reached your pull rate limit").contains("try later"));
    }

    #[test]
    fn a_socket_that_may_not_be_opened_names_the_group() {
        let address = EngineAddress { endpoint: Endpoint::Unix("/s".into()), origin: "a test".to_owned() };
        let error = Error::IOError { err: io::Error::from(io::ErrorKind::PermissionDenied) };
        let mapped = engine_error(error, Step::Connect, &address);
        assert!(matches!(&mapped, RuntimeError::Unavailable(text) if text.contains("group `docker`")), "{mapped}");
    }

    #[test]
    fn an_engine_that_is_not_ready_is_away_and_what_is_none_is_named_with_its_address() {
        let address = EngineAddress { endpoint: Endpoint::Tcp("h:1".to_owned()), origin: "a test".to_owned() };
        let answer = |status_code| {
            let error = Error::DockerResponseServerError { status_code, message: String::new() };
            engine_error(error, Step::Connect, &address)
        };
        let (starting, none) = (answer(503), answer(403));
        assert!(matches!(&starting, RuntimeError::Unavailable(text) if text.contains("status 503")), "{starting}");
        let says = |part: &str| none.to_string().contains(part);
        assert!(says("h:1") && says("a test") && says("status 403") && says("docker info"), "{none}");
    }
}
