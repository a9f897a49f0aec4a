//! Several stores of secrets, asked one after the other: what `--secrets` names.

use async_trait::async_trait;

use super::credential_helper::CredentialHelper;
use super::env_file::{EnvFileStore, EnvFileStoreError};
use super::{SecretError, SecretStore, SecretText};

/// The word that stands for Docker Desktop's store.
pub const DOCKER_DESKTOP: &str = "docker-desktop";

/// Stores in the order in which they are asked. The first that has a secret counts.
pub struct SearchPath {
    stores: Vec<Box<dyn SecretStore>>,
}

impl SearchPath {
    /// The given stores.
    pub fn new(stores: Vec<Box<dyn SecretStore>>) -> Self {
        Self { stores }
    }

    /// Reads `--secrets`: files and the word `docker-desktop`, separated by `:`, such as `a.env:b.env:docker-desktop`.
    ///
    /// # Errors
    /// If a file cannot be read or is no `.env` file.
    pub async fn from_flag(flag: &str) -> Result<Self, EnvFileStoreError> {
        let mut stores: Vec<Box<dyn SecretStore>> = Vec::new();
        for part in flag.split(':').map(str::trim).filter(|part| !part.is_empty()) {
            stores.push(match part {
                DOCKER_DESKTOP => Box::new(CredentialHelper::desktop()),
                path => Box::new(EnvFileStore::new(path).await?),
            });
        }
        Ok(Self::new(stores))
    }
}

#[async_trait]
impl SecretStore for SearchPath {
    /// A store that does not answer ends the search: another one further on may have an older secret of this name.
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        let mut remedies = Vec::new();
        for store in &self.stores {
            match store.get(name).await {
                Err(SecretError::Missing { remedy, .. }) => remedies.push(remedy),
                answer => return answer,
            }
        }
        if remedies.is_empty() {
            remedies.push(format!("pass `--secrets FILE` with a line `{name}=...`"));
        }
        Err(SecretError::Missing { name: name.to_owned(), remedy: remedies.join(", or ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_store_that_has_a_secret_counts_and_all_remedies_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (first, second) = (file("a.env", "A=1\n"), file("b.env", "A=2\nB=2\n"));
        let path = SearchPath::from_flag(&format!("{first}:{second}")).await.unwrap();
        assert_eq!(path.get("A").await.unwrap().expose(), "1");
        assert_eq!(path.get("B").await.unwrap().expose(), "2");
        let message = path.get("C").await.unwrap_err().to_string();
        assert!(message.contains("a.env`, or add `C=...`"), "{message}");
        // A store that fails is not passed over.
        std::fs::write(&first, "nonsense").unwrap();
        assert!(matches!(path.get("B").await, Err(SecretError::Unavailable { .. })));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_refused_and_no_store_says_what_to_pass() {
        assert!(SearchPath::from_flag("/does/not/exist.env:docker-desktop").await.is_err());
        let message = SearchPath::from_flag("").await.unwrap().get("A").await.unwrap_err().to_string();
        assert!(message.contains("pass `--secrets FILE` with a line `A=...`"), "{message}");
    }
}
