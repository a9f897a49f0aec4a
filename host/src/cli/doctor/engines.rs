//! The container engine that the gateway would use, and others that listen at their usual places.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Finding, Place, access};
use crate::capability::container_runtime::docker;
use crate::capability::container_runtime::docker::connect::{self, Endpoint, Surroundings};

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
    let mut finding = Finding::of_message(CHECK, &error.to_string());
    if let Some(socket) = denied(&surroundings).await {
        finding.fix = Some(access::advice(place, &socket));
    }
    let mut findings = vec![finding];
    for (product, socket) in usual_places(place) {
        findings.extend(look_at(place, product, socket).await);
    }
    findings
}

/// The socket of the engine that is named, if it may not be connected to.
async fn denied(surroundings: &Surroundings) -> Option<PathBuf> {
    let surroundings = surroundings.clone();
    let found = tokio::task::spawn_blocking(move || connect::find(&surroundings)).await.ok()?.ok()?;
    let Endpoint::Unix(socket) = found.endpoint else { return None };
    #[cfg(unix)]
    {
        let error = tokio::net::UnixStream::connect(&socket).await.err()?;
        (error.kind() == std::io::ErrorKind::PermissionDenied).then_some(socket)
    }
    #[cfg(not(unix))]
    None
}

/// Where engines put their sockets.
fn usual_places(place: &Place) -> Vec<(&'static str, PathBuf)> {
    let mut places = vec![("Docker", place.root.join("var/run/docker.sock"))];
    if let Some(home) = &place.home {
        for (product, path) in [
            ("Docker Desktop", ".docker/desktop/docker.sock"),
            ("Docker Desktop", ".docker/run/docker.sock"),
            ("Rancher Desktop", ".rd/docker.sock"),
            ("OrbStack", ".orbstack/run/docker.sock"),
            ("Podman Machine", ".local/share/containers/podman/machine/podman.sock"),
        ] {
            places.push((product, home.join(path)));
        }
        for profiles in [".colima", ".config/colima"] {
            places.extend(profiles_in(&home.join(profiles)).map(|profile| ("Colima", profile.join("docker.sock"))));
        }
    }
    if let Some(runtime) = place.variable("XDG_RUNTIME_DIR").map(PathBuf::from) {
        places.push(("rootless Docker", runtime.join("docker.sock")));
        places.push(("rootless Podman", runtime.join("podman/podman.sock")));
    }
    places.push(("Podman", place.root.join("run/podman/podman.sock")));
    places
}

/// The directories in a directory, by name.
fn profiles_in(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).take(20).collect();
    found.sort();
    found.into_iter()
}

/// Nothing if there is no socket.
async fn look_at(place: &Place, product: &str, socket: PathBuf) -> Option<Finding> {
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
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let detail = format!("{product} has a socket at `{shown}` that you may not connect to");
                return Some(Finding::warning(CHECK, detail, access::advice(place, &socket)));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let detail = format!("{product} has a socket at `{shown}` that cannot be connected to: {reason}");
        Some(Finding::warning(CHECK, detail, format!("start {product}")))
    }
    #[cfg(not(unix))]
    {
        let _ = (place, product, socket);
        None
    }
}
