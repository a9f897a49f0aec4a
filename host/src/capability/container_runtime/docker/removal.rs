//! Stopping and removing a container, whatever state it is in and whether or not its create request was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures::StreamExt;
use tokio::time::Instant;

use super::client::Client;
use super::error::{self, Step};
use crate::capability::container_runtime::input::SharedInput;
use crate::lease::Attempts;
use crate::session::Asking;

/// How long a server may take to end after its standard input was closed.
const GRACE: Duration = Duration::from_secs(1);
/// How long one remove request may take. Bounded well below what removal as a whole may take: a connection that breaks at
/// the moment of the request can leave it without an answer for ever (seen with hyper 1.12 and an engine that was killed),
/// and only another request finds out.
pub(super) const REMOVE: Duration = Duration::from_secs(10);
/// How long a container may still appear whose create request got no answer, from when the engine was there to say that
/// there is none.
pub(super) const APPEAR: Duration = Duration::from_secs(10);

/// What is known about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// It was not asked for, or the engine refused: there is nothing to remove.
    Absent,
    /// It was asked for, and there is no answer yet.
    Asked,
    /// It exists.
    Created,
    /// Its process was started.
    Started,
}

/// A container on its way from the create request to its removal. Shared by whoever makes it and by its lease.
pub(super) struct Ward {
    client: Client,
    name: String,
    birth: Mutex<Birth>,
    /// While it may come into being unseen.
    asking: Mutex<Option<Asking>>,
    input: Mutex<Option<SharedInput>>,
    hurry: AtomicBool,
}

impl Ward {
    pub(super) fn new(client: Client, name: String) -> Arc<Self> {
        Arc::new(Self {
            client,
            name,
            birth: Mutex::new(Birth::Absent),
            asking: Mutex::new(None),
            input: Mutex::new(None),
            hurry: AtomicBool::new(false),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The create request is about to be sent.
    pub(super) fn ask(&self, asking: Asking) {
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = Some(asking);
        self.set_birth(Birth::Asked);
    }

    /// The engine answered.
    pub(super) fn set(&self, birth: Birth) {
        self.set_birth(birth);
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn set_birth(&self, birth: Birth) {
        *self.birth.lock().unwrap_or_else(PoisonError::into_inner) = birth;
    }

    fn birth(&self) -> Birth {
        *self.birth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standard input to close before the process is killed.
    pub(super) fn set_input(&self, input: SharedInput) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }

    /// Kill without grace: the process was told to end, or is not to go on.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// Stops and removes it. Returns when it is gone, however long the engine is away.
    pub(super) async fn remove(self: Arc<Self>) {
        if self.birth() == Birth::Absent {
            return;
        }
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(input) = input {
            input.close().await;
        }
        if self.birth() == Birth::Started && !self.hurry.load(Ordering::Relaxed) {
            self.give_grace().await;
        }
        let (mut attempts, mut missed_since) = (Attempts::begin(), None);
        while let Some(reason) = self.try_remove(&mut missed_since).await {
            if attempts.is_news() {
                tracing::warn!(
                    container = self.name,
                    reason,
                    "a container cannot be removed; it is tried again every half minute while this process lives, and \
                     `docker rm --force --volumes {}` does the same",
                    self.name
                );
            }
            attempts.pause().await;
        }
        if attempts.was_news() {
            let seconds = attempts.elapsed().as_secs();
            tracing::info!(container = self.name, seconds, "the container is removed at last");
        }
    }

    async fn give_grace(&self) {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut ends = self.client.api().wait_container(&self.name, Some(options));
        // Whether it ended, is gone already, or the engine is away: removing it comes next.
        let _ = tokio::time::timeout(GRACE, ends.next()).await;
    }

    /// One attempt. None if it is gone, else why not. `missed_since` is when the engine first said that there is none.
    async fn try_remove(&self, missed_since: &mut Option<Instant>) -> Option<String> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let request = self.client.api().remove_container(&self.name, Some(options));
        let error = match tokio::time::timeout(REMOVE, request).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error,
            Err(_) => bollard::errors::Error::RequestTimeoutError,
        };
        match error::status(&error) {
            Some(404) if self.birth() != Birth::Asked => None,
            Some(404) if missed_since.get_or_insert_with(Instant::now).elapsed() >= APPEAR => None,
            Some(404) => Some("it may still appear".to_owned()),
            // The engine removes it already, because its process ended; the next attempt finds it gone.
            Some(409) => Some("its removal is in progress".to_owned()),
            _ => Some(self.client.error(error, Step::Remove).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::capability::container_runtime::docker::connect::Surroundings;

    /// An engine that knows its version and removes everything.
    fn engine(socket: &Path) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                let body = r#"{"ApiVersion":"1.41","Version":"1"}"#;
                let answer = match request[..read].starts_with(b"DELETE") {
                    true => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned(),
                    false => format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                         Connection: close\r\n\r\n{body}",
                        body.len()
                    ),
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_away_for_ten_minutes_has_nothing_left_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let alive = engine(&socket);
        let variables = [("DOCKER_HOST".to_owned(), format!("unix://{}", socket.display()))].into();
        let client = Client::connect(&Surroundings { variables, ..Surroundings::default() }).await.unwrap();
        alive.abort();
        std::fs::remove_file(&socket).unwrap();

        let ward = Ward::new(client, "docker-mcp-x".to_owned());
        ward.set(Birth::Created);
        let removal = tokio::spawn(ward.remove());
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!removal.is_finished(), "given up");
        let _alive = engine(&socket);
        tokio::time::timeout(Duration::from_secs(90), removal).await.expect("it is tried every half minute").unwrap();
    }
}
