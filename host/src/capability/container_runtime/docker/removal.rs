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
use crate::session::Asking;

/// How long a server may take to end after its standard input was closed.
const GRACE: Duration = Duration::from_secs(1);
/// How long one remove request may take. Bounded well below what removal as a whole may take: a connection that breaks at
/// the moment of the request can leave it without an answer for ever (seen with hyper 1.12 and an engine that was killed),
/// and only another request finds out.
pub(super) const REMOVE: Duration = Duration::from_secs(10);
/// How long removal is tried while the engine is away.
const GIVE_UP: Duration = Duration::from_secs(45);
/// How long a container may still appear whose create request got no answer.
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

    /// Stops and removes it. Returns when it is gone, or with a warning in the log when that is given up.
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
        let began = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let Some(reason) = self.try_remove(began.elapsed() < APPEAR).await else { return };
            if began.elapsed() >= GIVE_UP {
                tracing::warn!(
                    container = self.name,
                    reason,
                    "the container could not be removed; run `docker rm --force --volumes {}`",
                    self.name
                );
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn give_grace(&self) {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut ends = self.client.api().wait_container(&self.name, Some(options));
        // Whether it ended, is gone already, or the engine is away: removing it comes next.
        let _ = tokio::time::timeout(GRACE, ends.next()).await;
    }

    /// One attempt. None if it is gone, else why not.
    async fn try_remove(&self, may_still_appear: bool) -> Option<String> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let request = self.client.api().remove_container(&self.name, Some(options));
        let error = match tokio::time::timeout(REMOVE, request).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error,
            Err(_) => bollard::errors::Error::RequestTimeoutError,
        };
        match error::status(&error) {
            Some(404) if self.birth() == Birth::Asked && may_still_appear => Some("it may still appear".to_owned()),
            Some(404) => None,
            // The engine removes it already, because its process ended; the next attempt finds it gone.
            Some(409) => Some("its removal is in progress".to_owned()),
            _ => Some(self.client.error(error, Step::Remove).to_string()),
        }
    }
}
