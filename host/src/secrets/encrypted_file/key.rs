//! The key of an encrypted file: a key file that the user names, or `key.age` beside the file, which a passphrase
//! opens.
//!
//! Opening `key.age` costs what makes guessing expensive: 128 MiB and a good part of a second. It is done when the first
//! secret is asked for, once per process, and the memory is given back. A key file costs nothing.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519::Identity;
use zeroize::Zeroizing;

use super::super::own_stores::write_private;
use super::super::permissions::{self, ReadError};
use super::super::{Ask, Place, Question};
use super::{decrypt, encrypt};

/// The variable that names a key file.
pub(super) const KEY_FILE: &str = "DOCKER_MCP_SECRET_KEY_FILE";
/// The variable that names a file with the passphrase.
pub(super) const PASSPHRASE_FILE: &str = "DOCKER_MCP_SECRET_PASSPHRASE_FILE";
/// The key that a passphrase opens.
const ENCRYPTED: &str = "key.age";
/// The largest file that is read here, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// What a passphrase costs: 2^17 rounds, as OWASP recommends for scrypt.
const WORK: u8 = 17;
/// What a foreign `key.age` may cost at most.
const MAX_WORK: u8 = 20;

/// The key, once it was needed.
pub(super) struct Key {
    encrypted: PathBuf,
    file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    ask: Ask,
    /// Held while the key is opened, so that this happens once however many wait for it.
    opened: Mutex<Option<Arc<Identity>>>,
}

impl Key {
    pub(super) fn new(directory: &Path, place: &Place) -> Self {
        Self {
            encrypted: directory.join(ENCRYPTED),
            file: place.path(KEY_FILE),
            passphrase_file: place.path(PASSPHRASE_FILE),
            ask: Arc::clone(&place.ask),
            opened: Mutex::new(None),
        }
    }

    /// What messages call it.
    pub(super) fn name(&self) -> String {
        format!("the key in `{}`", self.file.as_ref().unwrap_or(&self.encrypted).display())
    }

    /// The key of a file that is there.
    pub(super) fn open(&self) -> Result<Arc<Identity>, String> {
        self.once(|| match &self.file {
            Some(path) => read_key_file(path),
            None if self.encrypted.exists() => self.unlock(),
            None => Err(format!("its key is not there; set `{KEY_FILE}` to the key file that it was made with")),
        })
    }

    /// The key for a new file, made if there is none. To be called with the lock.
    pub(super) fn open_or_make(&self) -> Result<Arc<Identity>, String> {
        self.once(|| match &self.file {
            Some(path) if path.exists() => read_key_file(path),
            Some(path) => make_key_file(path),
            None if self.encrypted.exists() => self.unlock(),
            None => self.make_encrypted(),
        })
    }

    fn once(&self, open: impl FnOnce() -> Result<Identity, String>) -> Result<Arc<Identity>, String> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = &*opened {
            return Ok(Arc::clone(identity));
        }
        let identity = Arc::new(open()?);
        *opened = Some(Arc::clone(&identity));
        Ok(identity)
    }

    /// Opens `key.age` with the passphrase.
    fn unlock(&self) -> Result<Identity, String> {
        let shown = self.encrypted.display();
        let bytes = read(&self.encrypted, permissions::refuse_shared)?;
        let passphrase = self.passphrase(Question::Passphrase)?.ok_or_else(|| {
            format!(
                "it is locked; set `{PASSPHRASE_FILE}` to a file with its passphrase (only `docker-mcp secret` asks \
                 for it)"
            )
        })?;
        let mut lock = age::scrypt::Identity::new(passphrase);
        lock.set_max_work_factor(MAX_WORK);
        let text = decrypt(&lock, &bytes).map_err(|error| match error {
            age::DecryptError::ExcessiveWork { .. } => format!("`{shown}` is not one that this program made"),
            _ => format!("the passphrase does not open `{shown}`; correct it"),
        })?;
        parse(&text).ok_or_else(|| format!("`{shown}` holds no key; restore it from a backup"))
    }

    /// Makes `key.age`.
    fn make_encrypted(&self) -> Result<Identity, String> {
        let passphrase = self.passphrase(Question::NewPassphrase)?.ok_or_else(|| {
            format!(
                "it needs a passphrase or a key, and there is no terminal to ask at; set `{PASSPHRASE_FILE}` to a file \
                 with a passphrase, or `{KEY_FILE}` to a file for a key, which is made if it is not there"
            )
        })?;
        let identity = Identity::generate();
        let mut lock = age::scrypt::Recipient::new(passphrase);
        lock.set_work_factor(WORK);
        encrypt(&lock, key_text(&identity).as_bytes())
            .and_then(|bytes| write_private(&self.encrypted, &bytes))
            .map_err(|error| format!("cannot write `{}`: {error}", self.encrypted.display()))?;
        Ok(identity)
    }

    /// The passphrase: from its file, or from the user. None if there is neither.
    fn passphrase(&self, question: Question) -> Result<Option<SecretString>, String> {
        let text = match &self.passphrase_file {
            Some(path) => {
                let bytes = read(path, permissions::refuse_writable)?;
                let text = permissions::trimmed(&bytes).map_err(|reason| format!("`{}`: {reason}", path.display()))?;
                if text.is_empty() {
                    return Err(format!("`{}` is empty; put the passphrase into it", path.display()));
                }
                text
            }
            None => match (self.ask)(question).map_err(|error| format!("no passphrase was given: {error}"))? {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        Ok(Some(SecretString::from(text.as_str())))
    }
}

fn read(path: &Path, check: fn(&std::fs::Metadata) -> Result<(), String>) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let (bytes, metadata) = permissions::read(path, MAX_BYTES, check).map_err(|error| match error {
        ReadError::Io(error) => format!("cannot read `{shown}`: {error}"),
        ReadError::Wrong(reason) => format!("`{shown}`: {reason}"),
    })?;
    if permissions::is_public(path, &metadata) {
        tracing::warn!(
            "everybody on this machine may read `{shown}`, which opens secrets; `chmod 600` makes it private"
        );
    }
    Ok(bytes)
}

fn read_key_file(path: &Path) -> Result<Identity, String> {
    let bytes = read(path, permissions::refuse_writable)?;
    parse(&bytes).ok_or_else(|| {
        format!("`{}` is no key file: it needs a line that begins with `AGE-SECRET-KEY-1`", path.display())
    })
}

fn make_key_file(path: &Path) -> Result<Identity, String> {
    let identity = Identity::generate();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .and_then(|mut file| {
            file.write_all(key_text(&identity).as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| format!("cannot make key file `{}`: {error}", path.display()))?;
    Ok(identity)
}

/// The key as other programs that know `age` read it.
fn key_text(identity: &Identity) -> Zeroizing<String> {
    let key = identity.to_string();
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str("# Opens secrets of docker-mcp. Keep it to yourself.\n");
    text.push_str(key.expose_secret());
    text.push('\n');
    text
}

fn parse(bytes: &[u8]) -> Option<Identity> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1"))?.parse().ok()
}
