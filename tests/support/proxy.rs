//! A Unix socket in front of the engine's that can fail like an engine that is away or dies in the middle.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What the proxy does with new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Passes everything.
    Pass,
    /// Closes them at once.
    Refuse,
    /// Passes them, but closes create requests before they are answered.
    LoseCreateAnswer,
}

/// A running proxy.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    /// Starts one in front of `/var/run/docker.sock`.
    pub(crate) fn start() -> Self {
        let proxy = Self { directory: tempfile::tempdir().unwrap(), mode: Arc::default() };
        let listener = UnixListener::bind(proxy.path()).unwrap();
        let mode = Arc::clone(&proxy.mode);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = mode.load(Ordering::SeqCst);
                if mode != Mode::Refuse as u8 {
                    tokio::spawn(pass(client, mode == Mode::LoseCreateAnswer as u8));
                }
            }
        });
        proxy
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// The value of `DOCKER_HOST` for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path().display())
    }

    /// Changes what happens to new connections.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

async fn pass(mut client: UnixStream, lose_create_answer: bool) {
    let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
    let mut first = vec![0; 64 << 10];
    let Ok(read) = client.read(&mut first).await else { return };
    first.truncate(read);
    engine.write_all(&first).await.unwrap();
    if lose_create_answer && first.starts_with(b"POST /containers/create") {
        // The client sees a broken connection while the engine is still at work.
        drop(client);
        let _ = engine.read(&mut [0; 1024]).await;
        return;
    }
    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
}
