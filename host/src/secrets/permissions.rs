//! Reading files that hold secrets: who else may read or write them, how large they may be, and no copies left.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

/// Who besides the owner may do something with a file or directory.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode()
}

/// Elsewhere the access rules of a home directory are relied on.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}

/// Fails if everybody on the machine may put a secret there.
pub(super) fn refuse_writable(metadata: &Metadata) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    let mode = mode(metadata);
    // In a sticky directory everybody may add files but nobody may replace another's; Kubernetes mounts secrets so.
    if mode & 0o002 != 0 && !(metadata.is_dir() && mode & STICKY != 0) {
        return Err("everybody may write to it; make it private with `chmod o-w`".to_owned());
    }
    Ok(())
}

/// Fails if anybody but the owner may do anything with it.
pub(super) fn refuse_shared(metadata: &Metadata) -> Result<(), String> {
    if mode(metadata) & 0o077 != 0 {
        return Err("others may read or write it; make it private with `chmod 600`".to_owned());
    }
    Ok(())
}

/// Whether everybody may read a file and go into its directory.
pub(super) fn is_public(path: &Path, metadata: &Metadata) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    mode(metadata) & 0o004 != 0 && std::fs::metadata(directory).is_ok_and(|found| mode(&found) & 0o001 != 0)
}

/// Why a file could not be read.
pub(super) enum ReadError {
    Io(std::io::Error),
    /// What is wrong with it, and what to do.
    Wrong(String),
}

/// Reads a regular file of at most `max` bytes that passes `check`, into memory that is wiped.
pub(super) fn read(
    path: &Path,
    max: u64,
    check: fn(&Metadata) -> Result<(), String>,
) -> Result<(Zeroizing<Vec<u8>>, Metadata), ReadError> {
    // Before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(ReadError::Io)?.is_file() {
        return Err(ReadError::Wrong("it is no regular file; name one".to_owned()));
    }
    let file = File::open(path).map_err(ReadError::Io)?;
    let metadata = file.metadata().map_err(ReadError::Io)?;
    check(&metadata).map_err(ReadError::Wrong)?;
    // Large enough from the start: a buffer that moves leaves copies behind that nobody wipes.
    let size = usize::try_from(metadata.len().min(max)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 64));
    file.take(max + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > max {
        let shown = if max < 1 << 20 { format!("{} KiB", max >> 10) } else { format!("{} MiB", max >> 20) };
        return Err(ReadError::Wrong(format!("it is larger than {shown}; is it the right file?")));
    }
    Ok((bytes, metadata))
}

/// The bytes as text, in memory that is wiped, without one line end at their end.
pub(super) fn trimmed(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text; save it as UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

/// Runs blocking work off the async threads.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    // Not with the panic's own text: it may hold what the work was about.
    tokio::task::spawn_blocking(work).await.map_err(|_| "reading it failed; this is a bug".to_owned())
}
