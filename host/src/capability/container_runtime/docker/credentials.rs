//! Registry credentials as the engine takes them.

use std::path::PathBuf;

use bollard::auth::DockerCredentials;
use docker_credential::DockerCredential;

use crate::capability::container_runtime::credentials;

/// The credentials for a registry, if there are any.
pub(super) async fn find(directory: Option<PathBuf>, registry: &str) -> Option<DockerCredentials> {
    let found = credentials::find(directory, registry).await?;
    Some(into_credentials(found, credentials::server(registry)))
}

fn into_credentials(credential: DockerCredential, server: String) -> DockerCredentials {
    let serveraddress = Some(server);
    match credential {
        DockerCredential::IdentityToken(token) => {
            DockerCredentials { identitytoken: Some(token), serveraddress, ..DockerCredentials::default() }
        }
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress,
            ..DockerCredentials::default()
        },
    }
}
