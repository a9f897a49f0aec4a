//! Where secrets come from. Values are read just in time, live in [`SecretText`] and are wiped when dropped; they
//! are never logged and never reach a guest.
//!
//! [`search_path`] reads `--secrets` and asks the sources in their order. Each kind of source is a module that
//! implements [`SecretSource`]; what `docker-mcp secret` writes to is [`own_stores`]. Nothing here asks the user: what
//! may be asked comes from `cli` as [`Ask`].

pub mod credential_helper;
pub mod directory;
pub mod docker_config;
pub mod encrypted_file;
pub mod env_file;
pub mod environment;
pub mod keyring;
pub mod own_stores;
mod permissions;
pub mod search_path;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use zeroize::Zeroizing;

/// The largest text of one secret, in bytes.
pub const MAX_SECRET: u64 = 1 << 20;

/// The text of a secret. Cannot be printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes over the text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one place that hands it to an engine or a server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// No store has it.
    #[error("secret `{name}` is not set; {remedy}")]
    Missing {
        /// The secret's name.
        name: String,
        /// How to set it.
        remedy: String,
    },
    /// A store did not answer or its content is wrong.
    #[error("cannot read secret `{name}`: {reason}")]
    Unavailable {
        /// The secret's name.
        name: String,
        /// Why, without any secret's text.
        reason: String,
    },
}

/// A place that secrets are read from.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Reads one secret.
    ///
    /// # Errors
    /// See [`SecretError`].
    async fn get(&self, name: &str) -> Result<SecretText, SecretError>;

    /// Whether the secret is set, without keeping its text.
    ///
    /// # Errors
    /// [`SecretError::Unavailable`] if that cannot be found out.
    async fn contains(&self, name: &str) -> Result<bool, SecretError> {
        match self.get(name).await {
            Ok(_) => Ok(true),
            Err(SecretError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Why a source did not do what it was asked for. Holds no secret's text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{source_name}: {reason}")]
pub struct SourceError {
    /// The source, as messages call it.
    pub source_name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What a source answers.
#[derive(Debug)]
pub enum Answer {
    /// It has the secret.
    Found(SecretText),
    /// It does not have it.
    NotThere,
    /// There is no such source on this machine, so it has nothing.
    Absent(&'static str),
}

/// One source of secrets.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// What messages call it.
    fn label(&self) -> String;

    /// Looks a secret up.
    ///
    /// # Errors
    /// If it is there and does not answer, or its content is wrong.
    async fn look_up(&self, name: &str) -> Result<Answer, SourceError>;

    /// How to set a secret that it does not have, as words after "it is not set; ". None if it cannot have one of
    /// this name.
    fn remedy(&self, name: &str) -> Option<String>;

    /// The names of all its secrets, in any order.
    ///
    /// # Errors
    /// As for [`Self::look_up`].
    async fn names(&self) -> Result<Vec<String>, SourceError>;

    /// Sets a secret.
    ///
    /// # Errors
    /// If it is read only, does not answer, or cannot have a secret of this name.
    async fn set(&self, name: &str, text: &SecretText) -> Result<(), SourceError> {
        let _ = (name, text);
        Err(self.error("secrets cannot be changed there with this command"))
    }

    /// Removes a secret. False if it was not there.
    ///
    /// # Errors
    /// As for [`Self::set`].
    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        let _ = name;
        Err(self.error("secrets cannot be changed there with this command"))
    }

    /// An error of this source.
    fn error(&self, reason: &str) -> SourceError {
        SourceError { source_name: self.label(), reason: reason.to_owned() }
    }
}

/// What is asked of the person in front of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The passphrase of the encrypted file.
    Passphrase,
    /// A passphrase for a new encrypted file, to be given twice.
    NewPassphrase,
}

/// Asks the person in front of the screen; none if there is nobody. Blocks.
pub type Ask = Arc<dyn Fn(Question) -> std::io::Result<Option<Zeroizing<String>>> + Send + Sync>;

/// Reads a variable of the environment.
pub type Variable = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// What sources know of their surroundings.
#[derive(Clone)]
pub struct Place {
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Reads a variable of the environment.
    pub variable: Variable,
    /// Lists the names of the variables.
    pub variables: Arc<dyn Fn() -> Vec<OsString> + Send + Sync>,
    /// Asks the user.
    pub ask: Ask,
}

impl Place {
    /// The surroundings of this process, with nobody to ask.
    pub fn of_process(home: Option<PathBuf>) -> Self {
        Self {
            home,
            variable: Arc::new(|name| std::env::var_os(name)),
            variables: Arc::new(|| std::env::vars_os().map(|(name, _)| name).collect()),
            ask: Arc::new(|_| Ok(None)),
        }
    }

    /// Where the stores of this program are: `~/.docker/mcp/secrets`.
    pub fn own_directory(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".docker/mcp/secrets"))
    }

    /// A path in a variable.
    fn path(&self, variable: &str) -> Option<PathBuf> {
        (self.variable)(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// Reads the text of a value: the one place where secrets, configuration and plain text become one string.
///
/// # Errors
/// If a secret in it cannot be had, or if it refers to a key in a cluster, whose text the gateway does not read.
pub async fn materialise(value: &provisioning_core::Value, store: &dyn SecretStore) -> Result<SecretText, SecretError> {
    use provisioning_core::Segment;
    let value = &value.content();
    let mut secrets = Vec::new();
    let mut length = 0;
    for segment in value.segments() {
        match segment {
            Segment::Text(plain) => length += plain.len(),
            Segment::Private { text: private, .. } => length += private.len(),
            Segment::Secret(name) => {
                let secret = store.get(name).await?;
                length += secret.expose().len();
                secrets.push(secret);
            }
            Segment::ClusterKey { object, key, .. } => {
                return Err(SecretError::Unavailable {
                    name: format!("{object}/{key}"),
                    reason: "it is a key in the cluster, which only a cluster can read".to_owned(),
                });
            }
            // Its content stands in its place.
            Segment::Stored { .. } => {}
        }
    }
    // Large enough from the start: a buffer that moves leaves copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut secrets = secrets.into_iter();
    for segment in value.segments() {
        match segment {
            Segment::Text(plain) => text.push_str(plain),
            Segment::Private { text: private, .. } => text.push_str(private),
            Segment::Secret(_) => text.push_str(secrets.next().as_ref().map_or("", SecretText::expose)),
            Segment::ClusterKey { .. } | Segment::Stored { .. } => {}
        }
    }
    Ok(SecretText(text))
}
