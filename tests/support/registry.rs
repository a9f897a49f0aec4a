//! A registry on loopback, for tests that pull.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures::StreamExt;

/// The user that a registry with credentials knows.
pub(crate) const USER: &str = "puller";
/// Its password: with characters whose base64 differs between the standard and the URL-safe alphabet.
pub(crate) const PASSWORD: &str = "pa?ss>>~~??ÿword";
const HTPASSWD: &str = "puller:$2y$05$8PUmSkwudxb/G94Q1C1jreYM4MMja8gV/DZu9SKMpqrjaARxIQTgK\n";

/// Runs a registry until standard input ends, and so no longer than whoever holds the other end.
const KEEPER: &str = r#"docker-registry serve "$0/config.yml" & read -r _; kill $!; wait; rm -rf "$0""#;

/// A running registry. Ends when dropped, and with the process at the latest.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Its standard input ends when this is dropped.
    _keeper: Child,
}

impl Registry {
    /// Starts a registry, or says that the test is skipped.
    pub(crate) async fn start(with_credentials: bool) -> Option<Self> {
        if let Err(error) = Command::new("docker-registry").arg("--version").output() {
            assert!(
                std::env::var("DOCKER_MCP_REQUIRE_ENGINE").as_deref() != Ok("1"),
                "DOCKER_MCP_REQUIRE_ENGINE=1 and `docker-registry` cannot be run: {error}"
            );
            eprintln!("skipped: no docker-registry ({error})");
            return None;
        }
        let directory = tempfile::tempdir().unwrap().keep();
        let root = directory.display();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
             http: {{addr: \"{address}\"}}\n"
        );
        if with_credentials {
            std::fs::write(directory.join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n");
        }
        std::fs::write(directory.join("config.yml"), config).unwrap();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::contract::within(async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(Self { address, _keeper: keeper })
    }

    /// Pushes an image under this name and removes it from the engine. Gives its reference.
    pub(crate) async fn push(&self, docker: &Docker, image: &str, name: &str) -> String {
        let repository = format!("{}/{name}", self.address);
        let tag = TagImageOptionsBuilder::default().repo(&repository).tag("1").build();
        docker.tag_image(image, Some(tag)).await.unwrap();
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            // The library writes the standard alphabet where the engine reads the URL-safe one; this password
            // would get lost on the way, so the header is mended as the backend does it.
            password: Some(PASSWORD.to_owned()),
            ..DockerCredentials::default()
        };
        let docker = docker.clone().with_request_modifier(|mut request| {
            if let Some(header) = request.headers_mut().get_mut("X-Registry-Auth") {
                let text = header.to_str().unwrap().replace('+', "-").replace('/', "_");
                *header = text.parse().unwrap();
            }
            request
        });
        let options = PushImageOptionsBuilder::default().tag("1").build();
        let mut reports = docker.push_image(&repository, Some(options), Some(credentials));
        while let Some(report) = reports.next().await {
            report.unwrap();
        }
        let reference = format!("{repository}:1");
        forget(&docker, &reference).await;
        reference
    }
}

/// Removes an image from the engine.
pub(crate) async fn forget(docker: &Docker, image: &str) {
    docker.remove_image(image, None::<RemoveImageOptions>, None).await.unwrap();
}
