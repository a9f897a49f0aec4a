//! Which policy files hold, and reading them so that nobody else can have a say.
//!
//! The organisation's file, the files that are named for this run, and the user's own: all of them must allow what
//! is asked for, so that none can loosen another. A file that cannot be read, can be changed by others, or is no
//! policy stops whoever asks.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use provisioning_core::policy::Policies;
use thiserror::Error;

use super::file::{self, MAX_BYTES, PolicyError};

/// Where the organisation's file is.
#[cfg(not(windows))]
pub const SYSTEM: &str = "/etc/docker-mcp/policy.yaml";
/// Where the organisation's file is.
#[cfg(windows)]
pub const SYSTEM: &str = r"C:\ProgramData\docker-mcp\policy.yaml";
/// The user's own, below the home directory.
pub const USER: &str = ".docker/mcp/policy.yaml";
/// The variable that names further files, separated like `PATH`.
pub const VARIABLE: &str = "DOCKER_MCP_POLICY";

/// Who put a file there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The organisation, at the system's path.
    Organisation,
    /// Whoever started this: `--policy` or the variable.
    Named,
    /// The user.
    User,
}

impl Role {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Named => "named",
            Self::User => "user",
        }
    }
}

/// Where files may be.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The organisation's; it may be missing.
    pub system: PathBuf,
    /// Named ones, which must be there.
    pub named: Vec<PathBuf>,
    /// The user's; it may be missing.
    pub user: Option<PathBuf>,
}

impl Sources {
    /// The places of this system. A named file is added to the others; none can be left out.
    pub fn new(flags: &[PathBuf], variable: Option<&std::ffi::OsStr>, home: Option<&Path>) -> Self {
        let listed = variable.into_iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty());
        Self {
            system: PathBuf::from(SYSTEM),
            named: flags.iter().cloned().chain(listed).collect(),
            user: home.map(|home| home.join(USER)),
        }
    }
}

impl Sources {
    /// All places, whether or not there is a file.
    pub fn files(&self) -> Vec<PathBuf> {
        std::iter::once(&self.system).chain(&self.named).chain(&self.user).cloned().collect()
    }
}

/// Files that were read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What they say.
    pub policies: Policies,
    /// Where they were, in the same order.
    pub files: Vec<(PathBuf, Role)>,
}

/// Why no policy can be had.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file cannot be read or trusted.
    #[error("policy `{}` cannot be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Reads every file that holds.
///
/// # Errors
/// If one of them cannot be read, can be changed by others, or is no policy. Nothing must be done without it.
pub fn load(sources: &Sources) -> Result<Loaded, SourceError> {
    let optional = |path: &Path, role| (path.to_owned(), role, true);
    let files = std::iter::once(optional(&sources.system, Role::Organisation))
        .chain(sources.named.iter().map(|path| (path.clone(), Role::Named, false)))
        .chain(sources.user.iter().map(|path| optional(path, Role::User)));
    let mut loaded = Loaded::default();
    for (path, role, optional) in files {
        if loaded.files.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let Some(text) = read(&path, role, optional)? else { continue };
        loaded.policies.files.push(file::parse(&text, &path)?);
        loaded.files.push((path, role));
    }
    Ok(loaded)
}

/// Reads a file to look at, whoever may have written it.
///
/// # Errors
/// If it cannot be read.
pub fn read_untrusted(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    // One byte more than is allowed, so that it is seen.
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file that only its owner, or the system's administrator, can change.
fn read(path: &Path, role: Role, optional: bool) -> Result<Option<String>, SourceError> {
    let fail = |reason: String| SourceError::File { path: path.to_owned(), reason };
    let unreadable =
        |error: std::io::Error| fail(format!("{error}; make it readable, or have it removed by its owner"));
    // Before it is opened: opening something else than a file may wait for ever.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(fail(NO_FILE.to_owned())),
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
            return absent(path, role).map(|()| None).map_err(fail);
        }
        Err(error) => return Err(unreadable(error)),
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(|error| fail(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fail(NO_FILE.to_owned()));
    }
    trusted(path, &metadata).map_err(fail)?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    Ok(Some(text))
}

const NO_FILE: &str = "it is not a file; put the policy there as a file, or have what is there removed by its owner";

/// Whether a file that is not there was never there, as far as can be told.
fn absent(path: &Path, role: Role) -> Result<(), String> {
    // A link whose target is missing is there, and means a policy that is lost; so does one on the way to it.
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        match part.symlink_metadata() {
            Ok(found) if found.is_symlink() && part.metadata().is_err() => {
                return Err(format!(
                    "`{}` is a link that leads nowhere, so that the policy is lost; restore what it leads to, or have the link \
                     removed by its owner",
                    part.display()
                ));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("`{}`: {error}", part.display()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    // Where others can put a policy they can remove one. Users' own directories are their own business.
    match path.parent() {
        Some(directory) if role == Role::Organisation && directory.is_dir() => trusted_directory(directory),
        _ => Ok(()),
    }
}

/// Whether nobody but its owner can change the file or put another in its place.
#[cfg(unix)]
fn trusted(path: &Path, file: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    if file.mode() & OTHERS != 0 {
        return Err("others may write to it; take that away with `chmod go-w`".to_owned());
    }
    if !is_trusted(file.uid()) {
        return Err("it belongs neither to you nor to the administrator; correct that with `chown`".to_owned());
    }
    // Both the way that is written and the way that it leads, if there are links on it.
    let written = std::path::absolute(path).map_err(|error| error.to_string())?;
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    written.ancestors().skip(1).chain(real.ancestors().skip(1)).try_for_each(trusted_directory)
}

/// The bits of a mode that let others write.
#[cfg(unix)]
const OTHERS: u32 = 0o022;

/// Whether somebody may have a say: the user, and the system's administrator.
#[cfg(unix)]
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Whether nobody else can replace or remove what is in a directory.
#[cfg(unix)]
fn trusted_directory(directory: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    const STICKY: u32 = 0o1000;
    let found = std::fs::metadata(directory).map_err(|error| format!("`{}`: {error}", directory.display()))?;
    // In a directory such as `/tmp` nobody can replace what is somebody else's.
    if found.mode() & OTHERS != 0 && found.mode() & STICKY == 0 {
        return Err(format!(
            "others may write to `{}` and so replace or remove it; take that away with `chmod go-w`",
            directory.display()
        ));
    }
    if !is_trusted(found.uid()) {
        return Err(format!(
            "somebody else owns `{}` and so may replace or remove it; correct that",
            directory.display()
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "the other systems have something to say")]
fn trusted_directory(_directory: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "the other systems have something to say")]
fn trusted(_path: &Path, _file: &std::fs::Metadata) -> Result<(), String> {
    Ok(())
}
