//! A Unix socket in front of the engine's that can fail like an engine that is away or dies in the middle, and that
//! tells a test what is asked and answered.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

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

/// A point in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// It has come, and the engine has not seen it.
    Asked,
    /// The engine has begun to answer, and the client has not seen it.
    Answered,
}

/// What happens at such a point.
pub(crate) enum Verdict {
    /// It goes on.
    Pass,
    /// It goes on when the sender has sent, whether or not the client is still there.
    Hold(oneshot::Receiver<()>),
    /// The engine dies: every connection breaks, and new ones are refused until the mode is set again.
    Die,
}

/// Judges requests by their kind, such as `create`, `attach` or `remove`.
type Watch = dyn Fn(&str, Moment) -> Verdict + Send + Sync;

/// A running proxy.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    state: Arc<State>,
}

struct State {
    mode: AtomicU8,
    watch: Mutex<Option<Arc<Watch>>>,
    /// Breaks the connections of now.
    death: Mutex<CancellationToken>,
}

impl State {
    fn judge(&self, kind: &str, moment: Moment) -> Verdict {
        let watch = self.watch.lock().unwrap().clone();
        watch.map_or(Verdict::Pass, |watch| watch(kind, moment))
    }

    fn die(&self) {
        self.mode.store(Mode::Refuse as u8, Ordering::SeqCst);
        std::mem::take(&mut *self.death.lock().unwrap()).cancel();
    }
}

impl Proxy {
    /// Starts one in front of `/var/run/docker.sock`.
    pub(crate) fn start() -> Self {
        let state = State { mode: AtomicU8::default(), watch: Mutex::default(), death: Mutex::default() };
        let proxy = Self { directory: tempfile::tempdir().unwrap(), state: Arc::new(state) };
        let listener = UnixListener::bind(proxy.path()).unwrap();
        let state = Arc::clone(&proxy.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = state.mode.load(Ordering::SeqCst);
                if mode != Mode::Refuse as u8 {
                    let state = Arc::clone(&state);
                    let death = state.death.lock().unwrap().clone();
                    tokio::spawn(async move {
                        let lose_create_answer = mode == Mode::LoseCreateAnswer as u8;
                        death.run_until_cancelled(pass(client, lose_create_answer, &state)).await;
                    });
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
        self.state.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Asks `watch` about every request from now on.
    pub(crate) fn watch(&self, watch: impl Fn(&str, Moment) -> Verdict + Send + Sync + 'static) {
        *self.state.watch.lock().unwrap() = Some(Arc::new(watch));
    }
}

/// One connection, which carries one request: the client library keeps none open for the next.
async fn pass(mut client: UnixStream, lose_create_answer: bool, state: &State) {
    let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
    let mut first = vec![0; 64 << 10];
    let Ok(read) = client.read(&mut first).await else { return };
    first.truncate(read);
    let kind = kind(&first);
    match state.judge(&kind, Moment::Asked) {
        Verdict::Pass => {}
        Verdict::Hold(until) => {
            let _ = until.await;
            // The client may be dead by now. The engine does not learn of it: it gets the request and acts.
        }
        Verdict::Die => return state.die(),
    }
    engine.write_all(&first).await.unwrap();
    if lose_create_answer && kind == "create" {
        // The client sees a broken connection while the engine is still at work.
        drop(client);
        let _ = engine.read(&mut [0; 1024]).await;
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_engine, mut to_engine) = engine.split();
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_engine).await;
        if kind != "create" {
            let _ = to_engine.shutdown().await;
        }
    };
    let down = async {
        let mut answer = vec![0; 64 << 10];
        let read = from_engine.read(&mut answer).await.unwrap_or(0);
        answer.truncate(read);
        match state.judge(&kind, Moment::Answered) {
            Verdict::Pass => {}
            Verdict::Hold(until) => drop(until.await),
            Verdict::Die => return state.die(),
        }
        if to_client.write_all(&answer).await.is_ok() {
            let _ = tokio::io::copy(&mut from_engine, &mut to_client).await;
            let _ = to_client.shutdown().await;
        }
    };
    tokio::join!(up, down);
}

/// What a request is about: the last part of its path, or `remove` for what deletes.
fn kind(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match method {
        "DELETE" => "remove".to_owned(),
        _ => path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned(),
    }
}
