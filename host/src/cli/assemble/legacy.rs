//! The configuration of the first versions of Docker's gateway, which kept it in a volume: taken over once, into the
//! files that later versions have, when there is none of them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Begun, ServerOptions, begin_session, surroundings};
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

/// Takes the files over. Whatever goes wrong is said and no reason to stop. Returns the session if one was begun.
pub(super) async fn import(
    options: &ServerOptions,
    own: &OwnFiles,
    reaper: &Reaper,
    home: Option<PathBuf>,
) -> Option<Begun> {
    let root = own.root()?;
    let around = surroundings(options.docker_context.clone(), home.clone());
    let volume = match LegacyVolume::find(&around, VOLUME).await {
        Ok(volume) => volume?,
        Err(error) => {
            tracing::debug!("cannot look for a configuration in the volume `{VOLUME}`: {error}");
            return None;
        }
    };
    let begun = begin_session(home.as_deref()).ok()?;
    match volume.read(&FILES, reaper, Arc::clone(&begun.0)).await {
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
    Some(begun)
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
