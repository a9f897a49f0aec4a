//! What every container runtime does, as functions over the trait, so that the fake and the real ones cannot drift
//! apart. A backend says how to get each behaviour ([`Images`]) and how many containers it has left.

use std::time::Duration;

use docker_mcp::capability::container_runtime::{
    ContainerRuntime, Identity, Quiet, Request, RunLimits, Running, RuntimeError,
};
use provisioning_core::{ContainerSpec, Network, Resources, SecurityProfile, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Longer than anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An image and arguments that make it behave in one way.
pub(crate) struct Image {
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
}

impl Image {
    pub(crate) fn new(image: impl Into<String>, arguments: &[&str]) -> Self {
        Self { image: image.into(), arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            identity: Identity { session: "contract".to_owned(), server: "behaviour".to_owned(), tool: None },
            spec: ContainerSpec {
                image: self.image.clone(),
                command: self.arguments.iter().map(Value::text).collect(),
                environment: vec![],
                volumes: vec![],
                user: None,
                network: Network::None,
                hosts: vec![],
                labels: vec![],
                resources: Resources::default(),
                security: SecurityProfile::default(),
            },
        }
    }
}

/// One image per behaviour.
pub(crate) struct Images {
    /// Repeats its input line by line until it ends.
    pub(crate) echo: Image,
    /// Writes `to stdout` and `to stderr`, a line each.
    pub(crate) both_streams: Image,
    /// Ends with the exit code 1.
    pub(crate) fails: Image,
    /// Never ends by itself, whatever its standard input does.
    pub(crate) endless: Image,
    /// Writes 100,000 bytes to each stream.
    pub(crate) flood: Image,
    /// Is not there.
    pub(crate) missing: Image,
    /// Writes the value of the environment variable `GREETING`.
    pub(crate) greeting: Image,
}

/// Every rule of the contract. `live` counts the containers that the backend has not removed.
pub(crate) async fn holds<F: Future<Output = usize>>(
    runtime: &dyn ContainerRuntime,
    images: &Images,
    live: impl Fn() -> F,
) {
    an_image_that_is_there_can_be_prepared_again_and_again(runtime, images).await;
    a_missing_image_is_an_image_error(runtime, images).await;
    lines_go_in_and_come_out(runtime, images).await;
    closed_standard_input_ends_a_server(runtime, images).await;
    the_streams_stay_apart(runtime, images).await;
    a_failing_process_is_a_result(runtime, images).await;
    the_environment_arrives(runtime, images).await;
    output_is_bounded_and_what_is_dropped_is_counted(runtime, images).await;
    time_is_bounded(runtime, images).await;
    a_dropped_lease_ends_a_server_that_does_not_want_to(runtime, images).await;
    a_dropped_run_leaves_nothing_behind(runtime, images).await;
    eventually_none(live).await;
}

async fn an_image_that_is_there_can_be_prepared_again_and_again(runtime: &dyn ContainerRuntime, images: &Images) {
    for _ in 0..2 {
        runtime.prepare(&images.echo.image, &Quiet).await.unwrap();
    }
}

async fn a_missing_image_is_an_image_error(runtime: &dyn ContainerRuntime, images: &Images) {
    let error = runtime.start(images.missing.request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Image { image, .. } if *image == images.missing.image), "{error}");
}

async fn lines_go_in_and_come_out(runtime: &dyn ContainerRuntime, images: &Images) {
    let Running { lease, mut streams } = runtime.start(images.echo.request()).await.unwrap();
    let mut stdout = BufReader::new(streams.stdout).lines();
    for line in ["one", "zwei", "три"] {
        streams.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        streams.stdin.flush().await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, stdout.next_line()).await.unwrap().unwrap();
        assert_eq!(answer.as_deref(), Some(line));
    }
    lease.release().await;
}

async fn closed_standard_input_ends_a_server(runtime: &dyn ContainerRuntime, images: &Images) {
    let Running { lease, mut streams } = runtime.start(images.echo.request()).await.unwrap();
    streams.stdin.write_all(b"last\n").await.unwrap();
    streams.stdin.shutdown().await.unwrap();
    drop(streams.stdin);
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, streams.stdout.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "last\n");
    lease.release().await;
}

async fn the_streams_stay_apart(runtime: &dyn ContainerRuntime, images: &Images) {
    let completed = runtime.run(images.both_streams.request(), RunLimits::default()).await.unwrap();
    assert_eq!(completed.exit_code, 0);
    assert_eq!(completed.stdout.bytes, b"to stdout\n");
    assert_eq!(completed.stderr.bytes, b"to stderr\n");
}

async fn a_failing_process_is_a_result(runtime: &dyn ContainerRuntime, images: &Images) {
    let completed = runtime.run(images.fails.request(), RunLimits::default()).await.unwrap();
    assert_eq!(completed.exit_code, 1);
}

async fn the_environment_arrives(runtime: &dyn ContainerRuntime, images: &Images) {
    let mut request = images.greeting.request();
    request.spec.environment.push(("GREETING".to_owned(), Value::text("Grüß = Gott")));
    let completed = runtime.run(request, RunLimits::default()).await.unwrap();
    let text = String::from_utf8(completed.stdout.bytes).unwrap();
    assert!(text.lines().any(|line| line.ends_with("Grüß = Gott")), "{text}");
}

async fn output_is_bounded_and_what_is_dropped_is_counted(runtime: &dyn ContainerRuntime, images: &Images) {
    let limits = RunLimits { output_bytes: 1000, ..RunLimits::default() };
    let completed = runtime.run(images.flood.request(), limits).await.unwrap();
    for stream in [completed.stdout, completed.stderr] {
        assert_eq!((stream.bytes.len(), stream.dropped), (1000, 99_000));
    }
}

async fn time_is_bounded(runtime: &dyn ContainerRuntime, images: &Images) {
    let limits = RunLimits { time: Duration::from_secs(1), ..RunLimits::default() };
    let work = runtime.run(images.endless.request(), limits);
    let error = tokio::time::timeout(PATIENCE, work).await.unwrap().unwrap_err();
    assert!(matches!(error, RuntimeError::TimedOut { seconds: 1, .. }), "{error}");
}

async fn a_dropped_lease_ends_a_server_that_does_not_want_to(runtime: &dyn ContainerRuntime, images: &Images) {
    let Running { lease, mut streams } = runtime.start(images.endless.request()).await.unwrap();
    drop(lease);
    let mut rest = Vec::new();
    // The stream may end with an error: what counts is that it ends.
    let _ = tokio::time::timeout(PATIENCE, streams.stdout.read_to_end(&mut rest)).await.unwrap();
}

async fn a_dropped_run_leaves_nothing_behind(runtime: &dyn ContainerRuntime, images: &Images) {
    let work = runtime.run(images.endless.request(), RunLimits::default());
    assert!(tokio::time::timeout(Duration::from_millis(300), work).await.is_err());
}

async fn eventually_none<F: Future<Output = usize>>(live: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    loop {
        poll.tick().await;
        let left = live().await;
        if left == 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left} containers are left");
    }
}
