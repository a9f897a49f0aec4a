//! Several sources of secrets, asked one after the other: what `--secrets` names.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use thiserror::Error;

use super::credential_helper::{CredentialHelper, DOCKER_DESKTOP};
use super::directory::Directory;
use super::docker_config::{self, DOCKER_CONFIG};
use super::encrypted_file::{ENCRYPTED_FILE, EncryptedFile};
use super::env_file::{EnvFileStore, EnvFileStoreError};
use super::environment::Environment;
use super::keyring::{KEYRING, Keyring};
use super::own_stores::{self, DEFAULT};
use super::{Answer, Place, SecretError, SecretSource, SecretStore, SecretText, SourceError};

/// Sources in the order in which they are asked. The first that has a secret counts.
pub struct SearchPath {
    sources: Vec<Box<dyn SecretSource>>,
    /// Whether [`DEFAULT`] is part of it, so that what `docker-mcp secret set` sets is found.
    has_default: bool,
}

/// Why a search path cannot be used.
#[derive(Debug, Error)]
pub enum SearchPathError {
    /// A `.env` file cannot be used.
    #[error(transparent)]
    EnvFile(#[from] EnvFileStoreError),
    /// Another source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A word names no source.
    #[error("{0}")]
    Word(String),
}

impl SearchPath {
    /// The given sources.
    pub fn new(sources: Vec<Box<dyn SecretSource>>) -> Self {
        Self { sources, has_default: false }
    }

    /// Reads `--secrets`: sources separated by `:`, such as `a.env:/run/secrets:default`.
    ///
    /// # Errors
    /// If a file or directory cannot be read, or a word names no source.
    pub async fn from_flag(flag: &str, place: &Place) -> Result<Self, SearchPathError> {
        let mut path = Self::new(Vec::new());
        for part in parts(flag, cfg!(windows)) {
            if part == DEFAULT {
                path.has_default = true;
                path.sources.extend(own_stores::in_use(place)?);
            } else {
                path.sources.push(source(&part, place).await?);
            }
        }
        Ok(path)
    }

    /// The sources.
    pub fn sources(&self) -> &[Box<dyn SecretSource>] {
        &self.sources
    }

    /// How to set a secret that no source has, and which were asked.
    fn remedy(&self, name: &str, absent: &[Option<&'static str>]) -> String {
        let mut remedies = Vec::new();
        let set = format!("set it with `docker-mcp secret set {name}`");
        if self.has_default {
            remedies.push(set.clone());
        } else {
            let there = self.sources.iter().zip(absent).filter(|(_, absent)| absent.is_none());
            remedies.extend(there.filter_map(|(source, _)| source.remedy(name)));
            if remedies.iter().all(|remedy| !remedy.contains("docker-mcp secret set")) {
                remedies.push(format!("{set} and add `{DEFAULT}` to `--secrets`"));
            }
        }
        let asked = self.sources.iter().zip(absent).map(|(source, absent)| match absent {
            Some(why) => format!("{} ({why})", source.label()),
            None => source.label(),
        });
        let asked: Vec<String> = asked.collect();
        let asked = if asked.is_empty() { "no source".to_owned() } else { asked.join(", ") };
        format!("{} (asked: {asked})", remedies.join(", or "))
    }
}

/// One source by its word, path or `kind=what`.
///
/// # Errors
/// If it cannot be read, or the word names none.
pub async fn source(part: &str, place: &Place) -> Result<Box<dyn SecretSource>, SearchPathError> {
    let own_directory = || {
        place.own_directory().ok_or_else(|| SearchPathError::Word(format!("`{part}` needs a home directory; set HOME")))
    };
    let word = SearchPathError::Word;
    Ok(match part.split_once('=') {
        None if part == DOCKER_DESKTOP => Box::new(CredentialHelper::desktop()),
        None if part == DOCKER_CONFIG => {
            Box::new(docker_config::helper(place).map_err(|reason| word(format!("`{DOCKER_CONFIG}`: {reason}")))?)
        }
        None if part == KEYRING => Box::new(Keyring::new(own_directory()?)),
        None if part == ENCRYPTED_FILE => Box::new(EncryptedFile::in_place(&own_directory()?, place)),
        Some((ENCRYPTED_FILE, path)) => Box::new(EncryptedFile::at(&path_after("encrypted-file=", path)?, place)),
        Some(("helper", name)) => Box::new(CredentialHelper::named(name).map_err(word)?),
        Some(("env", prefix)) => Box::new(Environment::new(prefix, place).map_err(word)?),
        Some(("dir", path)) => Box::new(Directory::new(path_after("dir=", path)?)?),
        _ if part.ends_with(['/', std::path::MAIN_SEPARATOR]) || Path::new(part).is_dir() => {
            Box::new(Directory::new(part)?)
        }
        _ => Box::new(EnvFileStore::new(part).await?),
    })
}

fn path_after(kind: &str, path: &str) -> Result<PathBuf, SearchPathError> {
    if path.is_empty() {
        return Err(SearchPathError::Word(format!("`{kind}` needs the path of a directory behind it")));
    }
    Ok(PathBuf::from(path))
}

/// The parts between colons. The colon behind the letter of a Windows drive belongs to its path.
fn parts(flag: &str, drives: bool) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in flag.split(':') {
        match parts.last_mut() {
            Some(last) if drives && ends_with_drive(last) && part.starts_with(['\\', '/']) => {
                last.push(':');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn ends_with_drive(part: &str) -> bool {
    let path = part.rsplit('=').next().unwrap_or_default().trim();
    path.len() == 1 && path.chars().all(|letter| letter.is_ascii_alphabetic())
}

#[async_trait]
impl SecretStore for SearchPath {
    /// A source that does not answer ends the search: another one further on may have an older secret of this name, or
    /// one that somebody else put there.
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        let mut absent = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            match source.look_up(name).await {
                Ok(Answer::Found(text)) => return Ok(text),
                Ok(Answer::NotThere) => absent.push(None),
                Ok(Answer::Absent(why)) => absent.push(Some(why)),
                Err(error) => {
                    return Err(SecretError::Unavailable { name: name.to_owned(), reason: error.to_string() });
                }
            }
        }
        Err(SecretError::Missing { name: name.to_owned(), remedy: self.remedy(name, &absent) })
    }
}

#[cfg(test)]
mod tests;
