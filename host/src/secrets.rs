//! Where secrets come from. Values are read just in time, live in [`SecretText`] and are wiped when dropped; they
//! are never logged and never reach a guest.

pub mod credential_helper;
pub mod env_file;
pub mod search_path;

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use zeroize::Zeroizing;

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

/// Reads the text of a value: the one place where secrets, configuration and plain text become one string.
///
/// # Errors
/// If a secret in it cannot be had, or if it refers to a key in a cluster, whose text the gateway does not read.
pub async fn materialise(value: &provisioning_core::Value, store: &dyn SecretStore) -> Result<SecretText, SecretError> {
    use provisioning_core::Segment;
    let mut text = Zeroizing::new(String::new());
    for segment in value.segments() {
        match segment {
            Segment::Text(plain) => text.push_str(plain),
            Segment::Private { text: private, .. } => text.push_str(private),
            Segment::Secret(name) => text.push_str(store.get(name).await?.expose()),
            Segment::ClusterKey { object, key, .. } => {
                return Err(SecretError::Unavailable {
                    name: format!("{object}/{key}"),
                    reason: "it is a key in the cluster, which only a cluster can read".to_owned(),
                });
            }
        }
    }
    Ok(SecretText(text))
}
