//! The configuration of the first versions of Docker's gateway, which kept it in a volume: taken over once, into the
//! files that later versions have, when there is none of them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use provisioning_core::policy::patterns::Source;
use provisioning_core::policy::{Policies, Who};

use super::{Begun, ServerOptions, begin_recorded, surroundings};
use crate::audit::line::name;
use crate::audit::{self, Audit, Call, Ending, record};
use crate::capability::container_runtime::docker::legacy_volume::LegacyVolume;
use crate::catalog::files::OwnFiles;
use crate::lease::Reaper;

/// The volume.
const VOLUME: &str = "docker-prompts";
/// The files, in the volume and below `~/.docker/mcp`.
const FILES: [&str; 3] = ["registry.yaml", "config.yaml", "tools.yaml"];

/// True if the volume is to be looked for: none of the files is there, and one would be read. On a machine where
/// nobody ran Docker's gateway and the servers are named by a flag, the engine is not asked.
pub(super) fn is_wanted(options: &ServerOptions, own: &OwnFiles) -> bool {
    let Some(root) = own.root() else { return false };
    let names_servers = !options.servers.is_empty()
        || options.enable_all_servers
        || !options.server.is_empty()
        || !options.registry.is_empty();
    let reads_own = !names_servers || options.config.is_empty() || options.tools_config.is_empty();
    reads_own && (!names_servers || root.is_dir()) && FILES.iter().all(|file| !root.join(file).exists())
}

/// Takes the files over. Whatever goes wrong with them is said and no reason to stop. Returns the session and its audit log
/// if they were begun.
///
/// # Errors
/// If the audit log cannot be kept where it was asked for.
pub(super) async fn import(
    options: &ServerOptions,
    own: &OwnFiles,
    reaper: &Reaper,
    home: Option<PathBuf>,
    policies: &Policies,
) -> anyhow::Result<Option<(Begun, Audit)>> {
    let Some(root) = own.root() else { return Ok(None) };
    let around = surroundings(options.docker_context.clone(), home.clone());
    let volume = match LegacyVolume::find(&around, VOLUME).await {
        Ok(Some(volume)) => volume,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::debug!("cannot look for a configuration in the volume `{VOLUME}`: {error}");
            return Ok(None);
        }
    };
    let (begun, audit) = begin_recorded(options, home.as_deref(), policies)?;
    let mut recording = audit.own();
    let call = Call { interface: audit::OWN, function: "import-configuration", acts: true };
    recording.enter(0, call, |arguments| {
        arguments.texts(name::VOLUMES, [format_args!("read-only {VOLUME}")]);
        arguments.word(name::NETWORK, "none");
        arguments.texts(name::FILES, FILES);
    });
    let decision = policies.holding(Who::default()).mount(VOLUME, &Source::Volume(VOLUME), true);
    let found = match decision.is_allowed() {
        true => volume.read(&FILES, reaper, Arc::clone(&begun.0)).await.map_err(|error| error.to_string()),
        false => Err(format!("a policy refuses to mount it: {decision}")),
    };
    recording.leave(Some(record::Decision::from(&decision)), |gave| match &found {
        Ok(files) => {
            gave.extend(files.iter().map(|(name, _)| name));
            Ending::ok()
        }
        Err(error) => Ending::failed(if decision.is_allowed() { "other" } else { "access-denied" }, error),
    });
    match found {
        Ok(files) => {
            for (name, content) in files {
                match write(root, &name, &content) {
                    Ok(()) => tracing::info!("took `{name}` over from the volume `{VOLUME}` into `{}`", root.display()),
                    Err(error) => tracing::warn!("cannot write `{}`: {error}", root.join(name).display()),
                }
            }
        }
        Err(error) => tracing::warn!(
            "there is a configuration in the volume `{VOLUME}`, and it cannot be taken over: {error}; copy {} from it \
             into `{}`",
            FILES.join(", "),
            root.display()
        ),
    }
    Ok(Some((begun, audit)))
}

/// Writes a file that is not there yet, whole or not at all. It may hold credentials: only its owner can read it.
fn write(root: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(root)?;
    let unfinished = root.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&unfinished).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| match root.join(name).exists() {
        true => Ok(()),
        false => std::fs::rename(&unfinished, root.join(name)),
    });
    // Gone already if all went well.
    let _ = std::fs::remove_file(&unfinished);
    moved
}
