//! Secrets from a Docker credential helper, such as Docker Desktop's, by its protocol: the key goes to standard
//! input, JSON comes back. Nothing secret is ever an argument.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{SecretError, SecretStore, SecretText};

/// How long a helper may take. It may ask the user to unlock a key chain.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The secrets that a credential helper keeps.
#[derive(Clone, Debug)]
pub struct CredentialHelper {
    program: OsString,
}

impl CredentialHelper {
    /// The store of Docker Desktop: the program `docker-credential-desktop`.
    pub fn desktop() -> Self {
        Self::new("docker-credential-desktop")
    }

    /// A helper by its program.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned() }
    }

    /// Asks the helper. None if the program is not installed.
    async fn ask(&self, key: &str) -> std::io::Result<Option<Answer>> {
        let mut command = Command::new(&self.program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input has answered already.
            drop(stdin.write_all(key.as_bytes()).await);
        }
        let mut output = Zeroizing::new(Vec::with_capacity(16 << 10));
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_BYTES).read_to_end(&mut output).await?;
        }
        let success = child.wait().await?.success();
        Ok(Some(Answer { success, output }))
    }
}

struct Answer {
    success: bool,
    output: Zeroizing<Vec<u8>>,
}

/// What a helper answers to `get`.
#[derive(serde::Deserialize)]
struct Credential {
    #[serde(rename = "Secret")]
    secret: String,
}

/// The key under which Docker Desktop keeps a secret of this name.
fn key(name: &str) -> String {
    format!("sm_{name}")
}

#[async_trait]
impl SecretStore for CredentialHelper {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        let program = self.program.display();
        let missing = |remedy| SecretError::Missing { name: name.to_owned(), remedy };
        let unavailable = |reason| SecretError::Unavailable { name: name.to_owned(), reason };
        // The protocol is line by line: a name with a line break would ask for another key.
        if name.contains(char::is_control) {
            return Err(missing("its name holds control characters; correct the catalog".to_owned()));
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(&key(name))).await.map_err(|_| {
            unavailable(format!("`{program}` did not answer within {} s; unlock the key chain", PATIENCE.as_secs()))
        })?;
        let answer = asked
            .map_err(|error| unavailable(format!("`{program}` cannot be run: {error}; check its installation")))?;
        let Some(answer) = answer else {
            return Err(missing(format!(
                "`{program}` is not installed: install Docker Desktop, or keep secrets in a file and pass it as \
                 `--secrets FILE`"
            )));
        };
        if !answer.success {
            // The protocol says so on standard output, in words that are fixed.
            let said = String::from_utf8_lossy(&answer.output).to_lowercase();
            return Err(if said.contains("credentials not found") {
                missing(format!("set it with `docker mcp secret set {name}`"))
            } else {
                unavailable(format!("`{program} get` failed; is Docker Desktop running?"))
            });
        }
        // Not with the parser's own message: it may quote what it read.
        let credential: Credential = serde_json::from_slice(&answer.output)
            .map_err(|_| unavailable(format!("`{program} get` did not answer with a credential; update it")))?;
        Ok(SecretText::new(credential.secret))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn helper(directory: &Path, script: &str) -> CredentialHelper {
        let path = directory.join("helper");
        let staged = directory.join("staged");
        std::fs::write(&staged, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&staged, &path).unwrap();
        CredentialHelper::new(path)
    }

    const SCRIPT: &str = r#"
        [ "$*" = get ] || exit 9
        read -r key
        case "$key" in
          sm_github.token) printf '{"ServerURL":"x","Username":"mcp","Secret":"it is me"}' ;;
          sm_broken) printf 'hunter2' ;;
          sm_locked) printf 'hunter2'; exit 1 ;;
          *) echo 'credentials not found in native keychain'; exit 1 ;;
        esac"#;

    #[tokio::test]
    async fn a_secret_is_asked_for_on_standard_input_only() {
        let directory = tempfile::tempdir().unwrap();
        let helper = helper(directory.path(), SCRIPT);
        assert_eq!(helper.get("github.token").await.unwrap().expose(), "it is me");
        assert!(matches!(helper.get("other").await, Err(SecretError::Missing { .. })));
        assert!(!helper.contains("x\nsm_github.token").await.unwrap());
        for name in ["broken", "locked"] {
            let error = helper.get(name).await.unwrap_err();
            assert!(matches!(error, SecretError::Unavailable { .. }) && !error.to_string().contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn a_helper_that_is_not_installed_has_nothing_and_says_so() {
        let helper = CredentialHelper::new("/does/not/exist/docker-credential-desktop");
        let message = helper.get("github.token").await.unwrap_err().to_string();
        assert!(message.contains("is not installed") && message.contains("--secrets FILE"), "{message}");
        assert!(!helper.contains("github.token").await.unwrap());
    }
}
