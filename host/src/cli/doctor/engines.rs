//! The container engine that the gateway would use, and others that listen at their usual places.

use std::path::PathBuf;
use std::time::Duration;

use super::{Finding, Place};
use crate::capability::container_runtime::docker;
use crate::capability::container_runtime::docker::connect::Surroundings;

const CHECK: &str = "engine";

/// How long somebody may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The engine that is named, and if it does not answer those that would.
pub(super) async fn check(place: &Place) -> Vec<Finding> {
    let surroundings = Surroundings {
        context: place.context.clone(),
        variables: place
            .variables
            .iter()
            .filter(|(name, _)| name.starts_with("DOCKER_"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        home: place.home.clone(),
    };
    let error = match docker::greet(&surroundings).await {
        Ok(greeting) => {
            let docker::Greeting { address, product, api } = greeting;
            let detail = format!("{product} at `{}` (from {}) speaks API {api}", address.endpoint, address.origin);
            return vec![Finding::ok(CHECK, detail)];
        }
        Err(error) => error,
    };
    let mut findings = vec![Finding::of_message(CHECK, &error.to_string())];
    for (product, socket) in usual_places(place) {
        findings.extend(look_at(product, socket).await);
    }
    findings
}

/// Where engines put their sockets.
fn usual_places(place: &Place) -> Vec<(&'static str, PathBuf)> {
    let mut places = vec![("Docker", place.root.join("var/run/docker.sock"))];
    if let Some(home) = &place.home {
        for (product, path) in [
            ("Docker Desktop", ".docker/desktop/docker.sock"),
            ("Docker Desktop", ".docker/run/docker.sock"),
            ("Colima", ".colima/default/docker.sock"),
            ("Colima", ".config/colima/default/docker.sock"),
            ("Rancher Desktop", ".rd/docker.sock"),
            ("OrbStack", ".orbstack/run/docker.sock"),
        ] {
            places.push((product, home.join(path)));
        }
    }
    if let Some(runtime) = place.variable("XDG_RUNTIME_DIR").map(PathBuf::from) {
        places.push(("rootless Docker", runtime.join("docker.sock")));
        places.push(("rootless Podman", runtime.join("podman/podman.sock")));
    }
    places.push(("Podman", place.root.join("run/podman/podman.sock")));
    places
}

/// Nothing if there is no socket.
async fn look_at(product: &str, socket: PathBuf) -> Option<Finding> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if !std::fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket()) {
            return None;
        }
        let shown = socket.display().to_string();
        let reason = match tokio::time::timeout(PATIENCE, tokio::net::UnixStream::connect(&socket)).await {
            Ok(Ok(_)) => {
                let fix = format!("to use it: `export DOCKER_HOST=unix://{shown}`");
                return Some(Finding::warning(CHECK, format!("{product} listens at `{shown}`"), fix));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let detail = format!("{product} has a socket at `{shown}` that cannot be connected to: {reason}");
        Some(Finding::warning(CHECK, detail, format!("start {product}, or ask for access to the socket")))
    }
    #[cfg(not(unix))]
    {
        let _ = (product, socket);
        None
    }
}
