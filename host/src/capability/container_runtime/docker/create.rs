//! From a request to the body of the engine's create request: a pure function, shared by planning and by doing.
//!
//! How values become text is the caller's: names for a plan, the text itself for the engine.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig};
use provisioning_core::policy::known_text;
use provisioning_core::{Network, Value};

use crate::capability::container_runtime::{Request, RuntimeError, check_words};

/// Checks and normalises a volume. Called with the text of the volume.
pub type VolumeCheck = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// The label that every container of the gateway has.
pub const LABEL: &str = "docker-mcp";
/// The label with the server's name.
pub const NAME_LABEL: &str = "docker-mcp-name";
/// The label with the gateway session.
pub const SESSION_LABEL: &str = "docker-mcp-session";
/// The label that says where the session's lock is, and so who may judge whether the session is dead.
pub const SESSIONS_AT_LABEL: &str = "docker-mcp-sessions-at";

/// The value of [`SESSIONS_AT_LABEL`] in a plan, for which no lock is taken.
const PLANNED_AT: &str = "<sessions>";

/// Renders the body for a plan, with the names of secrets and private values in place of their text, by the same
/// code that makes the real one. Bind mounts are not checked: their sources may not be readable yet.
///
/// # Errors
/// [`RuntimeError::Invalid`] if the request cannot become a container.
pub fn render(request: &Request) -> Result<serde_json::Value, RuntimeError> {
    let body = body(request, PLANNED_AT, None, &mut |value| Ok(value.to_string()), &|volume| Ok(volume.to_owned()))?;
    let mut plan =
        serde_json::to_value(body).map_err(|error| RuntimeError::Engine(format!("cannot render the plan: {error}")))?;
    // The same request renders the same way each time, although the engine's model keeps labels unordered.
    plan.sort_all_objects();
    Ok(plan)
}

/// Checks of a request all that can be told without an engine, as starting it would.
///
/// # Errors
/// As for starting it.
pub fn check(request: &Request) -> Result<(), RuntimeError> {
    check_image(&request.spec.image)?;
    let text = |value: &Value| known_text(value).unwrap_or_else(|| value.to_string());
    if request.spec.security.run_as_non_root {
        let user = request.spec.user.as_ref().map(text).unwrap_or_default();
        // The image's own user is not known here.
        if !user.is_empty() && !is_certainly_not_root(&user) {
            return Err(would_be_root(&request.spec.image));
        }
    }
    body(request, PLANNED_AT, None, &mut |value| Ok(value.to_string()), &|volume| Ok(volume.to_owned())).map(drop)
}

/// Checks an image reference.
///
/// # Errors
/// If it is none.
pub fn check_image(image: &str) -> Result<(), RuntimeError> {
    super::reference::Reference::parse(image).map(drop)
}

/// Says that a process could be user 0 although that is not wanted.
pub(super) fn would_be_root(image: &str) -> RuntimeError {
    RuntimeError::Denied(format!(
        "image `{image}` would or could run as root, and `run-as-non-root` is asked for; give the server a numeric \
         `user` such as `1000`"
    ))
}

/// Makes the body. `sessions_at` is where the session's lock is, `network` the one to join instead of the engine's
/// default.
pub(super) fn body(
    request: &Request,
    sessions_at: &str,
    network: Option<&str>,
    resolve: &mut dyn FnMut(&Value) -> Result<String, RuntimeError>,
    check_volume: &dyn Fn(&str) -> Result<String, RuntimeError>,
) -> Result<ContainerCreateBody, RuntimeError> {
    let spec = &request.spec;
    check_words(spec)?;
    let cmd = spec.command.iter().map(&mut *resolve).collect::<Result<Vec<_>, _>>()?;
    let mut env = Vec::with_capacity(spec.environment.len());
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(RuntimeError::Invalid(format!(
                "environment variable `{}` has no valid name; leave out `=` and null characters",
                name.escape_default()
            )));
        }
        env.push(format!("{name}={}", resolve(value)?));
    }
    let (mut binds, mut volumes) = (Vec::new(), Vec::new());
    for mount in &spec.volumes {
        let text = check_volume(&resolve(&mount.value)?).map_err(|error| match error {
            RuntimeError::Denied(reason) => RuntimeError::Denied(format!("volume `{}`: {reason}", mount.value)),
            other => other,
        })?;
        match text.contains(':') {
            true => binds.push(if mount.read_only { read_only(&text) } else { text }),
            // A path alone is a volume without a name, which goes with the container.
            false if mount.read_only => {
                return Err(RuntimeError::Invalid(format!(
                    "volume `{}` has no source, so it cannot be read-only; write it as `SOURCE:TARGET`",
                    mount.value
                )));
            }
            false => volumes.push(text),
        }
    }
    let user = spec.user.as_ref().map(resolve).transpose()?.filter(|user| !user.is_empty());
    let (network_mode, networking_config) = match (spec.network, network) {
        (Network::None, _) => (Some("none".to_owned()), None),
        (Network::Declared, None) => (None, None),
        (Network::Declared, Some(name)) => {
            let endpoints = HashMap::from([(name.to_owned(), EndpointSettings::default())]);
            (Some(name.to_owned()), Some(NetworkingConfig { endpoints_config: Some(endpoints) }))
        }
    };
    let extra_hosts: Vec<_> = spec.hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect();
    let memory = i64::try_from(spec.resources.memory_bytes).map_err(|_| {
        RuntimeError::Invalid(format!(
            "`{}` bytes of memory are too many; lower `--memory`",
            spec.resources.memory_bytes
        ))
    })?;
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: Some(cmd).filter(|cmd| !cmd.is_empty()),
        env: Some(env),
        user,
        labels: Some(labels(request, sessions_at)),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        tty: Some(false),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        networking_config,
        host_config: Some(HostConfig {
            auto_remove: Some(true),
            init: Some(true),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            nano_cpus: Some(i64::from(spec.resources.cpu_millis) * 1_000_000),
            memory: Some(memory),
            binds: Some(binds).filter(|binds| !binds.is_empty()),
            network_mode,
            extra_hosts: Some(extra_hosts).filter(|hosts| !hosts.is_empty()),
            readonly_rootfs: spec.security.read_only_root.then_some(true),
            cap_drop: spec.security.drop_capabilities.then(|| vec!["ALL".to_owned()]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The gateway's own labels come last: nothing overrides them.
fn labels(request: &Request, sessions_at: &str) -> HashMap<String, String> {
    let own = [
        (LABEL, "true"),
        ("docker-mcp-tool-type", "mcp"),
        (NAME_LABEL, &request.identity.server),
        ("docker-mcp-transport", "stdio"),
        (SESSION_LABEL, &request.identity.session),
        (SESSIONS_AT_LABEL, sessions_at),
    ];
    let own = own.map(|(key, text)| (key.to_owned(), text.to_owned()));
    request.spec.labels.iter().cloned().chain(own).collect()
}

/// Takes writing away from `SOURCE:TARGET[:MODE]`, keeping the other options.
fn read_only(bind: &str) -> String {
    let mut parts = bind.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let others = parts.next().into_iter().flat_map(|mode| mode.split(','));
    let mode = others.filter(|option| !matches!(*option, "" | "rw" | "ro")).chain(["ro"]).collect::<Vec<_>>().join(",");
    format!("{source}:{target}:{mode}")
}

/// True if a process of this user is certainly not user 0. A name does not tell: the image decides what it means.
pub(super) fn is_certainly_not_root(user: &str) -> bool {
    let id = user.split(':').next().unwrap_or_default();
    id.parse::<u32>().is_ok_and(|id| id != 0)
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
