//! What every container runtime must do, whatever runs behind it: Docker, embedded and fake are held to the same
//! rules. A test crate calls each rule with a runtime and with images or arguments that behave as the rule needs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docker_mcp::capability::container_runtime::{
    ContainerRuntime, Identity, Quiet, Request, RunLimits, RuntimeError, Streams,
};
use docker_mcp::lease::Reaper;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use provisioning_core::value::ObjectKind;
use provisioning_core::{ContainerSpec, Network, Resources, SecurityProfile, Segment, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// How long anything may take here before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An image, and arguments that make it behave in one way.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
}

impl Image {
    pub(crate) fn new(image: impl Into<String>, arguments: &[&str]) -> Self {
        Self { image: image.into(), arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
    }

    /// A request for it, with defaults, where there is no subject.
    #[allow(dead_code, reason = "not every backend is tested without a subject")]
    pub(crate) fn request(&self) -> Request {
        request("contract", self)
    }
}

impl From<&Image> for Image {
    fn from(image: &Image) -> Self {
        image.clone()
    }
}

impl From<&String> for Image {
    fn from(image: &String) -> Self {
        Self::new(image, &[])
    }
}

/// How a backend comes by these behaviours.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    /// Writes every line of standard input back.
    pub(crate) echo: Image,
    /// Fails at once.
    pub(crate) fails: Image,
    /// With this exit code: 7, or 1 where a program can tell its parent no more than that it failed.
    pub(crate) failure: i64,
    /// Writes `to stdout` and `to stderr`, a line to each stream, and ends with 0. May wait for a line, or the end of
    /// standard input, before: a server speaks when it is spoken to.
    pub(crate) both_streams: Image,
    /// Writes each further argument and a line end.
    pub(crate) arguments: Image,
    /// Writes the environment variable `KEY` without a line end.
    pub(crate) key: Image,
    /// Writes 1,000,000 times `x` without a line end, and to standard error what it likes.
    pub(crate) million: Image,
    /// Runs on for minutes although its standard input is closed.
    pub(crate) ignores_stdin: Image,
    /// Does not exist anywhere.
    pub(crate) missing: Image,
}

/// The secret store of the subjects.
pub(crate) struct OneSecret;

#[async_trait]
impl SecretStore for OneSecret {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        match name {
            "x.key" => Ok(SecretText::new("s3cret value".to_owned())),
            _ => Err(SecretError::Missing { name: name.to_owned(), remedy: "set it".to_owned() }),
        }
    }
}

/// How many things a session has left.
pub(crate) type Left = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = usize> + Send>> + Send + Sync>;

/// A runtime to be held to the contract.
pub(crate) struct Subject {
    /// The runtime, with [`OneSecret`].
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    /// The reaper that it was made with.
    pub(crate) reaper: Reaper,
    /// Its images.
    pub(crate) images: Images,
    /// The session of the requests.
    pub(crate) session: String,
    /// Counts what a session has left in the backend.
    pub(crate) left: Left,
    /// Whether that counts what runs as well, or only what is being removed.
    pub(crate) counts_running: bool,
    /// Whether images are pulled by starting only, so that nothing can be told before.
    pub(crate) pulls_at_start: bool,
    /// Whether a secret must be kept in an object of the server's own.
    pub(crate) stores_secrets: bool,
}

impl Subject {
    /// A request in the subject's session, with defaults.
    pub(crate) fn request(&self, image: impl Into<Image>) -> Request {
        request(&self.session, image)
    }

    /// A secret as a provisioner for this backend hands it over.
    fn secret(&self, name: &str) -> Value {
        let content = Value::secret(name);
        match self.stores_secrets {
            true => Value::from_segments([Segment::Stored { kind: ObjectKind::Secret, key: name.to_owned(), content }]),
            false => content,
        }
    }

    /// Waits until the reaper has finished and then nothing of the session is left.
    pub(crate) async fn expect_nothing_left(&self) {
        assert!(self.reaper.drain(PATIENCE).await, "the reaper did not finish");
        let gone = async {
            while (self.left)(self.session.clone()).await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(gone).await;
    }

    async fn expect_something_left(&self) {
        if !self.counts_running {
            return;
        }
        let there = async {
            while (self.left)(self.session.clone()).await == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(there).await;
    }
}

/// A request with defaults.
pub(crate) fn request(session: &str, image: impl Into<Image>) -> Request {
    let Image { image, arguments } = image.into();
    Request {
        identity: Identity { session: session.to_owned(), server: "Contract Server".to_owned(), tool: None },
        spec: ContainerSpec {
            image,
            command: arguments.into_iter().map(Value::text).collect(),
            environment: Vec::new(),
            volumes: Vec::new(),
            user: None,
            network: Network::None,
            hosts: Vec::new(),
            labels: Vec::new(),
            resources: Resources::default(),
            security: SecurityProfile::default(),
        },
    }
}

/// Awaits something that must not hang.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this hangs")
}

/// Sends a line and reads one.
pub(crate) async fn exchange(streams: &mut Streams, line: &str) -> String {
    within(async {
        streams.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        streams.stdin.flush().await.unwrap();
        let mut answer = String::new();
        BufReader::new(&mut streams.stdout).read_line(&mut answer).await.unwrap();
        answer
    })
    .await
}

/// Lines go in and come out, also long ones; closing standard input ends the server and its output.
pub(crate) async fn lines_are_exchanged_until_stdin_closes(subject: &Subject) {
    // Again is no different.
    for _ in 0..2 {
        subject.runtime.prepare(&subject.images.echo.image, &Quiet).await.unwrap();
    }
    let mut running = within(subject.runtime.start(subject.request(&subject.images.echo))).await.unwrap();
    for line in ["one", "{\"jsonrpc\":\"2.0\"}", "ünï ✓"] {
        assert_eq!(exchange(&mut running.streams, line).await, format!("{line}\n"));
    }
    let long = "y".repeat(60_000);
    assert_eq!(exchange(&mut running.streams, &long).await, format!("{long}\n"));
    running.streams.stdin.shutdown().await.unwrap();
    let mut rest = String::new();
    within(running.streams.stdout.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "");
    drop(running);
    subject.expect_nothing_left().await;
}

/// Dropping standard input closes it.
pub(crate) async fn dropping_stdin_closes_it(subject: &Subject) {
    let running = within(subject.runtime.start(subject.request(&subject.images.echo))).await.unwrap();
    let Streams { stdin, mut stdout, .. } = running.streams;
    drop(stdin);
    let mut rest = Vec::new();
    within(stdout.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    drop(running.lease);
    subject.expect_nothing_left().await;
}

/// Standard output carries nothing of standard error, which is kept for messages.
pub(crate) async fn a_servers_streams_are_kept_apart(subject: &Subject) {
    let mut running = within(subject.runtime.start(subject.request(&subject.images.both_streams))).await.unwrap();
    // It may have ended already.
    let _ = within(running.streams.stdin.write_all(b"\n")).await;
    let _ = within(running.streams.stdin.flush()).await;
    let mut output = String::new();
    within(running.streams.stdout.read_to_string(&mut output)).await.unwrap();
    assert_eq!(output, "to stdout\n");
    let lines = async {
        while running.streams.stderr.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(lines).await;
    assert_eq!(running.streams.stderr.lines(), ["to stderr"]);
    drop(running);
    subject.expect_nothing_left().await;
}

/// A run gives both streams and the exit code.
pub(crate) async fn a_run_gives_streams_and_exit_code(subject: &Subject) {
    let run = |image: &Image| subject.runtime.run(subject.request(image), RunLimits::default());
    let both = within(run(&subject.images.both_streams)).await.unwrap();
    assert_eq!((both.exit_code, both.stdout.bytes.as_slice()), (0, b"to stdout\n".as_slice()));
    assert_eq!(both.stderr.bytes, b"to stderr\n");
    assert_eq!(within(run(&subject.images.fails)).await.unwrap().exit_code, subject.images.failure);
    // Its standard input is empty, so a server ends too.
    assert_eq!(within(run(&subject.images.echo)).await.unwrap().exit_code, 0);
    subject.expect_nothing_left().await;
}

/// Arguments arrive as they are: no shell, no splitting.
pub(crate) async fn arguments_arrive_exactly(subject: &Subject) {
    let mut request = subject.request(&subject.images.arguments);
    let arguments = [
        "a b",
        "",
        "it's",
        "\"q\"",
        "$HOME",
        "$(HOME)",
        "; echo no",
        "*",
        "ü✓",
        "--x=y",
        "-x",
        "--",
        "a\nb",
        "\\n\t",
        "",
    ];
    request.spec.command.extend(arguments.map(Value::text));
    let done = within(subject.runtime.run(request.clone(), RunLimits::default())).await.unwrap();
    let expected: String = arguments.iter().map(|argument| format!("{argument}\n")).collect();
    assert_eq!(String::from_utf8(done.stdout.bytes).unwrap(), expected);
    // Half of it would be another argument.
    request.spec.command.push(Value::text("a\0b"));
    let error = within(subject.runtime.run(request, RunLimits::default())).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Invalid(text) if text.contains("null character")), "{error}");
    subject.expect_nothing_left().await;
}

/// A secret arrives in the environment, and a missing one stops the request.
pub(crate) async fn secrets_arrive_in_the_environment(subject: &Subject) {
    let mut request = subject.request(&subject.images.key);
    let value = Value::concat([&Value::text("Grüß = "), &subject.secret("x.key")]);
    request.spec.environment = vec![("KEY".to_owned(), value)];
    let done = within(subject.runtime.run(request.clone(), RunLimits::default())).await.unwrap();
    assert_eq!(String::from_utf8(done.stdout.bytes).unwrap(), "Grüß = s3cret value");
    request.spec.environment = vec![("KEY".to_owned(), subject.secret("not.set"))];
    let error = within(subject.runtime.start(request)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Secret(_)), "{error}");
    subject.expect_nothing_left().await;
}

/// Output beyond the limit is counted, not kept.
pub(crate) async fn output_is_bounded(subject: &Subject) {
    let limits = RunLimits { output_bytes: 1000, ..RunLimits::default() };
    let done = within(subject.runtime.run(subject.request(&subject.images.million), limits)).await.unwrap();
    assert_eq!((done.stdout.bytes.len(), done.stdout.dropped), (1000, 999_000));
    assert!(done.stderr.bytes.len() <= 1000);
    subject.expect_nothing_left().await;
}

/// A run that does not end is stopped.
pub(crate) async fn a_run_is_stopped_at_its_time_limit(subject: &Subject) {
    let limits = RunLimits { time: Duration::from_secs(1), ..RunLimits::default() };
    let request = subject.request(&subject.images.ignores_stdin);
    let error = within(subject.runtime.run(request, limits)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::TimedOut { seconds: 1, .. }), "{error}");
    subject.expect_nothing_left().await;
}

/// An image that does not exist is an error that names it.
pub(crate) async fn a_missing_image_is_named(subject: &Subject) {
    let image = subject.images.missing.clone();
    let mut errors = vec![
        within(subject.runtime.start(subject.request(&image))).await.unwrap_err(),
        within(subject.runtime.run(subject.request(&image), RunLimits::default())).await.unwrap_err(),
    ];
    if !subject.pulls_at_start {
        errors.push(within(subject.runtime.prepare(&image.image, &Quiet)).await.unwrap_err());
    }
    for error in errors {
        assert!(matches!(error, RuntimeError::Image { .. }), "{error:?}");
        assert!(error.to_string().contains(&image.image), "{error}");
    }
    subject.expect_nothing_left().await;
}

/// Servers of one name do not get in each other's way.
pub(crate) async fn five_of_one_name_start_at_once(subject: &Subject) {
    let starts = (0..5).map(|_| subject.runtime.start(subject.request(&subject.images.echo)));
    let mut all = Vec::new();
    for started in within(futures::future::join_all(starts)).await {
        all.push(started.unwrap());
    }
    for (index, running) in all.iter_mut().enumerate() {
        let line = format!("server {index}");
        assert_eq!(exchange(&mut running.streams, &line).await, format!("{line}\n"));
    }
    drop(all);
    subject.expect_nothing_left().await;
}

/// A server that does not care about its standard input is killed, within seconds.
pub(crate) async fn a_stubborn_server_is_removed_soon(subject: &Subject) {
    let running = within(subject.runtime.start(subject.request(&subject.images.ignores_stdin))).await.unwrap();
    subject.expect_something_left().await;
    let began = std::time::Instant::now();
    drop(running);
    subject.expect_nothing_left().await;
    assert!(began.elapsed() < Duration::from_secs(90), "it took {:?}", began.elapsed());
}

/// A server whose lease is gone has no more output.
pub(crate) async fn output_ends_with_the_lease(subject: &Subject) {
    let running = within(subject.runtime.start(subject.request(&subject.images.ignores_stdin))).await.unwrap();
    let Streams { stdin, mut stdout, .. } = running.streams;
    drop(running.lease);
    let mut rest = Vec::new();
    // It may end with an error: what counts is that it ends.
    let _ = within(stdout.read_to_end(&mut rest)).await;
    drop(stdin);
    subject.expect_nothing_left().await;
}

/// Wherever a caller goes away, nothing is left behind.
pub(crate) async fn a_caller_who_goes_away_leaves_nothing(subject: &Subject) {
    for milliseconds in [0, 1, 3, 6, 10, 20, 50, 100, 150, 200, 300, 500] {
        let patience = Duration::from_millis(milliseconds);
        let start = subject.runtime.start(subject.request(&subject.images.ignores_stdin));
        drop(tokio::time::timeout(patience, start).await);
        let run = subject.runtime.run(subject.request(&subject.images.ignores_stdin), RunLimits::default());
        drop(tokio::time::timeout(patience, run).await);
    }
    subject.expect_nothing_left().await;
}
