//! Registry credentials from the Docker configuration: stored there, or with a credential helper.
//!
//! They are used for one pull or one look at an image and kept nowhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};

/// How long a credential helper may take; some ask the person in front of the screen.
const HELPER: Duration = Duration::from_secs(60);

/// The key under which credentials for Docker Hub are stored.
const HUB: &str = "https://index.docker.io/v1/";

/// The credentials for a registry, if there are any. Whatever is wrong with them is logged and the pull is tried
/// without: most images are public, and a refusal by the registry says what to do.
pub(super) async fn find(directory: Option<PathBuf>, registry: &str) -> Option<DockerCredential> {
    let directory = directory?;
    let server = server(registry);
    let lookup = tokio::task::spawn_blocking(move || read(&directory, &server));
    match tokio::time::timeout(HELPER, lookup).await {
        Ok(Ok(Ok(credential))) => credential,
        Ok(Ok(Err(reason))) => {
            tracing::warn!(registry, reason, "no credentials for the registry; trying without");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(registry, %error, "the look-up of credentials failed; trying without");
            None
        }
        Err(_) => {
            tracing::warn!(registry, "the credential helper does not answer; trying without credentials");
            None
        }
    }
}

/// What the Docker configuration calls a registry.
pub(super) fn server(registry: &str) -> String {
    if registry == "docker.io" { HUB } else { registry }.to_owned()
}

/// The messages of helpers may quote what they store, so none is passed on.
fn read(directory: &Path, server: &str) -> Result<Option<DockerCredential>, &'static str> {
    let file = match std::fs::File::open(directory.join("config.json")) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err("the Docker configuration cannot be read"),
    };
    match docker_credential::get_credential_from_reader(std::io::BufReader::new(file), server) {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { .. }) => Err("the credential helper failed"),
        Err(CredentialRetrievalError::HelperCommunicationError) => Err("the credential helper cannot be run"),
        Err(CredentialRetrievalError::MalformedHelperResponse) => Err("the credential helper's answer is malformed"),
        Err(CredentialRetrievalError::ConfigReadError) => Err("the Docker configuration is malformed"),
        Err(CredentialRetrievalError::CredentialDecodingError | CredentialRetrievalError::CredentialMismatchError) => {
            Err("the stored credentials are malformed; run `docker login` again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(config: &str, server: &str) -> Result<Option<DockerCredential>, &'static str> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        read(directory.path(), server)
    }

    #[test]
    fn stored_credentials_are_found_by_registry_and_by_the_key_of_docker_hub() {
        let config =
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "r.example": {"identitytoken": "t"}}}"#;
        let hub = DockerCredential::UsernamePassword("u".to_owned(), "p".to_owned());
        assert_eq!(read_of(config, HUB), Ok(Some(hub)));
        assert_eq!(read_of(config, "r.example"), Ok(Some(DockerCredential::IdentityToken("t".to_owned()))));
        assert_eq!(read_of(config, "other.example"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_told_without_quoting_the_configuration() {
        assert_eq!(read(Path::new("/nowhere"), "r.example"), Ok(None));
        assert_eq!(read_of("{", "r.example"), Err("the Docker configuration is malformed"));
        let helper = r#"{"credHelpers": {"r.example": "no-such-helper-of-docker-mcp"}}"#;
        assert_eq!(read_of(helper, "r.example"), Err("the credential helper cannot be run"));
        assert_eq!(read_of(helper, "other.example"), Ok(None));
    }
}
