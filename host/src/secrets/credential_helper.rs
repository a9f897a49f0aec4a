//! Secrets in a Docker credential helper, such as Docker Desktop's, by its protocol: a verb is the argument, the key or
//! the credential goes to standard input, JSON comes back. Nothing secret is ever an argument.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use provisioning_core::env_file;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{Answer, SecretSource, SecretText, SourceError};

/// How long a helper may take. It may ask the user to unlock a key chain.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// What the keys of secrets begin with, so that they are told from the credentials of registries. Docker Desktop's.
const PREFIX: &str = "sm_";
/// The user that a credential needs besides its secret.
const USER: &str = "docker-mcp";
/// The word in `--secrets` for Docker Desktop's store.
pub const DOCKER_DESKTOP: &str = "docker-desktop";

/// The secrets that a credential helper keeps.
#[derive(Clone, Debug)]
pub struct CredentialHelper {
    /// How `--secrets` names it.
    label: String,
    program: OsString,
}

impl CredentialHelper {
    /// The store of Docker Desktop: the program `docker-credential-desktop`.
    pub fn desktop() -> Self {
        Self::new(DOCKER_DESKTOP, "docker-credential-desktop")
    }

    /// The program `docker-credential-NAME`.
    ///
    /// # Errors
    /// If the name is a path or empty.
    pub fn named(name: &str) -> Result<Self, String> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(format!(
                "`{name}` names no credential helper; write what follows `docker-credential-` in its program, such as \
                 `helper=pass`"
            ));
        }
        Ok(Self::new(format!("helper={name}"), format!("docker-credential-{name}")))
    }

    /// A helper by its program.
    pub fn new(label: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        Self { label: label.into(), program: program.as_ref().to_owned() }
    }

    /// Whether there is such a program on the `PATH`, whether or not it works.
    pub fn is_installed(&self) -> bool {
        let program = Path::new(&self.program);
        if program.components().count() > 1 {
            return program.exists();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |directory: std::path::PathBuf| {
            directory.join(program).exists()
                || (cfg!(windows) && directory.join(program).with_extension("exe").exists())
        };
        std::env::split_paths(&path).any(is_there)
    }

    /// Runs the helper. None if it is not installed.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<Option<Output>, SourceError> {
        let program = self.program.display();
        match tokio::time::timeout(PATIENCE, self.talk(verb, input)).await {
            Ok(Ok(output)) => Ok(Some(output)),
            // A script whose interpreter is missing gives the same error: that is a broken store, not an absent one.
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound && !self.is_installed() => Ok(None),
            Ok(Err(error)) => Err(self.error(&format!("`{program}` cannot be run: {error}; check its installation"))),
            Err(_) => Err(self
                .error(&format!("`{program}` did not answer within {} s; unlock the key chain", PATIENCE.as_secs()))),
        }
    }

    async fn talk(&self, verb: &str, input: &[u8]) -> std::io::Result<Output> {
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A helper that does not read its input has answered already.
                drop(stdin.write_all(input).await);
            }
        };
        // Large enough for almost all: a buffer that moves leaves copies behind that nobody wipes.
        let mut answer = Zeroizing::new(Vec::with_capacity(64 << 10));
        let read = async {
            if let Some(stdout) = stdout {
                stdout.take(MAX_BYTES).read_to_end(&mut answer).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let ((), read) = tokio::join!(write, read);
        read?;
        Ok(Output { success: child.wait().await?.success(), answer })
    }

    /// What a failed `verb` means. True if the helper says that it has no such credential.
    fn is_missing(&self, verb: &str, output: &Output) -> Result<bool, SourceError> {
        // The protocol says so on standard output, in words that are fixed.
        if String::from_utf8_lossy(&output.answer).to_lowercase().contains("credentials not found") {
            return Ok(true);
        }
        let hint = match self.label.as_str() {
            DOCKER_DESKTOP => "is Docker Desktop running?",
            _ => "is the store unlocked?",
        };
        Err(self.error(&format!(
            "`{} {verb}` failed; {hint} Sources that can do without it are named with `--secrets`",
            self.program.display()
        )))
    }

    fn absent(&self) -> SourceError {
        self.error(&format!("`{}` is not installed; install it, or choose another store", self.program.display()))
    }

    fn nonsense(&self, verb: &str) -> SourceError {
        // Not with the parser's own message: it may quote what it read.
        self.error(&format!("`{} {verb}` did not answer as the protocol says; update it", self.program.display()))
    }
}

struct Output {
    success: bool,
    answer: Zeroizing<Vec<u8>>,
}

/// What a helper answers to `get`.
#[derive(serde::Deserialize)]
struct Credential {
    #[serde(rename = "Secret", deserialize_with = "wiped")]
    secret: Zeroizing<String>,
}

fn wiped<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    serde::Deserialize::deserialize(deserializer).map(Zeroizing::new)
}

/// What a helper is told with `store`.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewCredential<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// The key of a secret. None if the name cannot be said in the protocol, which is line by line: a name with a line
/// break would ask for another key.
fn key(name: &str) -> Option<String> {
    env_file::is_name(name).then(|| format!("{PREFIX}{name}"))
}

#[async_trait]
impl SecretSource for CredentialHelper {
    fn label(&self) -> String {
        self.label.clone()
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        let Some(key) = key(name) else { return Ok(Answer::NotThere) };
        let Some(output) = self.run("get", key.as_bytes()).await? else { return Ok(Answer::Absent("not installed")) };
        if !output.success {
            self.is_missing("get", &output)?;
            return Ok(Answer::NotThere);
        }
        let credential: Credential = serde_json::from_slice(&output.answer).map_err(|_| self.nonsense("get"))?;
        if credential.secret.is_empty() {
            return Ok(Answer::NotThere);
        }
        Ok(Answer::Found(SecretText::from(credential.secret)))
    }

    fn remedy(&self, name: &str) -> Option<String> {
        key(name).map(|_| format!("set it with `docker-mcp secret set --store {} {name}`", self.label))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        let Some(output) = self.run("list", b"").await? else { return Ok(Vec::new()) };
        if !output.success {
            self.is_missing("list", &output)?;
            return Ok(Vec::new());
        }
        let all: BTreeMap<String, serde::de::IgnoredAny> =
            serde_json::from_slice(&output.answer).map_err(|_| self.nonsense("list"))?;
        Ok(all.keys().filter_map(|key| key.strip_prefix(PREFIX)).map(str::to_owned).collect())
    }

    async fn set(&self, name: &str, text: &SecretText) -> Result<(), SourceError> {
        let key = key(name).ok_or_else(|| self.error(&env_file::NoName.to_string()))?;
        let credential = NewCredential { server_url: &key, username: USER, secret: text.expose() };
        // One byte of text is at most six of JSON.
        let mut input = Zeroizing::new(Vec::with_capacity(key.len() + 6 * text.expose().len() + 128));
        serde_json::to_writer(&mut *input, &credential).map_err(|_| self.error("the secret is no text"))?;
        let output = self.run("store", &input).await?.ok_or_else(|| self.absent())?;
        if !output.success {
            self.is_missing("store", &output)?;
            return Err(self.error("it cannot keep this secret"));
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        let Some(key) = key(name) else { return Ok(false) };
        // Not all helpers say whether there was something to erase.
        if !matches!(self.look_up(name).await?, Answer::Found(_)) {
            return Ok(false);
        }
        let output = self.run("erase", key.as_bytes()).await?.ok_or_else(|| self.absent())?;
        Ok(output.success || !self.is_missing("erase", &output)?)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
