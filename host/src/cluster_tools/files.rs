//! The files that are filled in by hand: writing them, and never over what somebody filled in.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use provisioning_core::env_file;
use tempfile::NamedTempFile;

use super::needs::is_placeholder;

/// Sees that a file may be written with these lines: it is not there, or has nothing that they would destroy.
///
/// # Errors
/// If somebody filled it in, or it cannot be read.
pub(super) fn check(path: &Path, lines: &BTreeMap<&str, &str>) -> anyhow::Result<()> {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`, which is there already")),
    };
    let Ok(pairs) = env_file::parse(&text) else {
        bail!(
            "`{shown}` is there and not what `generate-env` writes; replace it with `--force`, or choose another name"
        );
    };
    let is_own = |pair: &env_file::Pair| {
        pair.value.is_empty()
            || is_placeholder(&pair.value)
            || lines.get(pair.name.as_str()) == Some(&pair.value.as_str())
    };
    match pairs.iter().find(|pair| !is_own(pair)) {
        Some(filled) => bail!(
            "`{shown}` is filled in (`{}` has a value); replace it with `--force`, or choose another name",
            provisioning_core::text::one_line(&filled.name, 80)
        ),
        None => Ok(()),
    }
}

/// Writes a file in one step, readable by its owner alone, whatever was there before.
///
/// # Errors
/// If it cannot be written; what was there is then as it was.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Temporary files are private from the beginning.
        let mut file = NamedTempFile::with_prefix_in(".cluster-tools-", directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok::<(), std::io::Error>(())
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}
