//! Running a tool to its end, in a pod of its own.
//!
//! The tool is started by what [`super::runner`] puts before it, which gives both streams byte for byte and the exit code at once. That
//! needs to know what the image runs. Where its registry cannot be asked, or no runner fits the nodes, the cluster starts
//! the image as it is, and the output comes from the log of the pod; most clusters do not keep the streams apart there.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use provisioning_core::policy::known_text;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use super::Backend;
use super::attach::{Attached, End, Piece};
use super::client::QUICK;
use super::error::{self, Step};
use super::failure::Ended;
use super::image::Inspected;
use super::patience::runs;
use super::pod::CONTAINER;
use super::removal::Ward;
use super::runner::{Means, Nonce, Reported, Shells, Started};
use super::start::{self, Connected, How, Made, abandoned};
use super::watch::{self, Followed};
use crate::capability::container_runtime::{Captured, Completed, Request, RunLimits, RuntimeError};

/// How long the cluster may take to say how a container ended.
const ENDED: Duration = Duration::from_secs(10);
/// The exit code of a process that was killed.
const KILLED: i64 = 137;
/// How long the cluster may take to say why a process was killed.
const WHY: Duration = Duration::from_secs(10);
/// How much longer than a tool the cluster lets its pod live, for pulling its image.
const SPARE: Duration = Duration::from_secs(20 * 60);
/// How many images are remembered.
const IMAGES: usize = 1000;
/// What the scheduler says of nodes of the wrong kind.
const WRONG_NODES: &str = "node affinity/selector";

/// Runs a tool to its end, inside the limits.
pub(super) async fn run(
    backend: Arc<Backend>,
    request: Request,
    input: Vec<u8>,
    limits: RunLimits,
) -> Result<Completed, RuntimeError> {
    let (mut answer, outcome) = oneshot::channel();
    let reaper = backend.reaper.clone();
    drop(reaper.spawn(async move {
        let outcome = loop {
            let started = match runner(&backend, &request).await {
                Ok(started) => started,
                Err(error) => break Err(error),
            };
            let means = started.as_ref().map(|started| (started.means.clone(), started.architecture));
            let stdin = started.is_some() || !input.is_empty();
            let how = How { started, user: None, stdin, deadline: Some(deadline(&backend, limits.time)) };
            let Made { lease, ward, mut followed } =
                match start::create(&backend, &request, how, &|| answer.is_closed()).await {
                    Ok(made) => made,
                    Err(error) => break Err(error),
                };
            let patience = backend.settings.start_timeout;
            let work = async {
                match &means {
                    Some((means, _)) => with_runner(means, &ward, &mut followed, patience, &input, limits).await,
                    None => with_log(&backend, &ward, &mut followed, patience, &input, limits).await,
                }
            };
            let outcome = tokio::select! {
                () = answer.closed() => return drop(lease),
                outcome = work => outcome,
            };
            match (outcome, means) {
                // The image has no shell.
                (Err(RuntimeError::Engine(reason)), Some((Means::Shell, _))) if Shells::is_missing(&reason) => {
                    backend.shells.rule_out(request.spec.image.clone());
                    lease.release().await;
                }
                // The nodes are of another kind than the runner.
                (Err(RuntimeError::Unavailable(reason)), Some((_, architecture)))
                    if reason.contains(WRONG_NODES)
                        && !backend.settings.node_selector.contains_key("kubernetes.io/arch") =>
                {
                    backend.runner.rule_out(architecture);
                    lease.release().await;
                }
                (Err(RuntimeError::TimedOut { what, seconds, advice }), _) if what.is_empty() => {
                    lease.release().await;
                    break Err(RuntimeError::TimedOut { what: of(&request), seconds, advice });
                }
                // It has ended; its lease removes it in the background.
                (outcome, _) => break outcome,
            }
        };
        let _ = answer.send(outcome);
    }));
    outcome.await.unwrap_or_else(|_| Err(abandoned()))
}

/// The images whose tools are started by the cluster as they are, which is said once of each.
#[derive(Default)]
pub(super) struct ByLog(Mutex<HashSet<String>>);

impl ByLog {
    fn warn(&self, image: &str, reason: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < IMAGES && told.insert(image.to_owned()) {
            tracing::warn!(
                image,
                "the output of tools comes from the logs of their pods, later than it could: {reason}"
            );
        }
    }
}

/// What took too long.
fn of(request: &Request) -> String {
    match &request.identity.tool {
        Some(tool) => format!("tool `{tool}` of server `{}`", request.identity.server),
        None => format!("a container of server `{}`", request.identity.server),
    }
}

/// After how many seconds the cluster itself ends the pod, should the gateway not.
fn deadline(backend: &Backend, time: Duration) -> i64 {
    let own = i64::try_from((time + SPARE).as_secs()).unwrap_or(i64::MAX);
    super::objects::deadline(&backend.settings).map_or(own, |set| set.min(own))
}

/// What the runner has to start. None if it cannot be used, which is said once for each image.
async fn runner(backend: &Backend, request: &Request) -> Result<Option<Started>, RuntimeError> {
    let image = &request.spec.image;
    let cluster = backend.cluster().await?;
    let Some(architecture) = backend.runner.now(&backend.settings.node_selector) else {
        backend.by_log.warn(image, "this gateway was built without a program for the nodes' kind of processor");
        return Ok(None);
    };
    let inspected = match backend.images.inspect(cluster, image, architecture, &backend.settings.pull_secrets).await {
        Ok(inspected) => inspected,
        Err(reason) => {
            backend.by_log.warn(image, &format!("what the image runs cannot be found out: {reason}"));
            return Ok(None);
        }
    };
    if inspected.entry_point.is_empty() && inspected.arguments.is_empty() && request.spec.command.is_empty() {
        return Err(RuntimeError::Invalid(format!(
            "image `{image}` has no entry point and no command; give the tool a `command`"
        )));
    }
    let given = request.spec.environment.iter().map(|(name, _)| name.as_str());
    let variables = given.chain(inspected.variables.iter().map(String::as_str));
    let means = match backend.shells.fits(image, variables, first_word(request, &inspected).as_deref()) {
        true => Means::Shell,
        false => Means::Program(backend.session.runner(cluster).await?),
    };
    Ok(Some(Started {
        means,
        architecture,
        // An image that was loaded onto the nodes by hand may be known there by its tag only.
        image: match backend.settings.pull_policy.as_deref() {
            Some("Never") => image.clone(),
            _ => inspected.pinned.clone(),
        },
        entry_point: inspected.entry_point.clone(),
        arguments: inspected.arguments.clone(),
        user: inspected.user.clone(),
    }))
}

/// What the container would begin with, if that can be told.
fn first_word(request: &Request, inspected: &Inspected) -> Option<String> {
    match (inspected.entry_point.first(), request.spec.command.first()) {
        (Some(word), _) => Some(word.clone()),
        (None, Some(value)) => known_text(value),
        (None, None) => inspected.arguments.first().cloned(),
    }
}

/// Stands for the tool's name where that is not known.
fn timed_out(limit: Duration) -> RuntimeError {
    RuntimeError::ran_too_long(String::new(), limit)
}

async fn with_runner(
    means: &Means,
    ward: &Ward,
    followed: &mut Followed,
    patience: Duration,
    input: &[u8],
    limits: RunLimits,
) -> Result<Completed, RuntimeError> {
    let nonce = Nonce::new()?;
    let Attached { mut output, input: mut target } = match start::connect(ward, followed, patience).await? {
        Connected::Attached(attached) => attached,
        Connected::Ended(ended) => return Err(unexpected(&ended.to_string())),
    };
    let feed = async {
        // A process need not read: what it does not take is given up when it ends.
        if target.write_all(&nonce.greeting(means)).await.is_ok() && target.write_all(input).await.is_ok() {
            let _ = target.shutdown().await;
        }
        std::future::pending::<Infallible>().await
    };
    let mut stdout = Reported::new(nonce, means, limits.output_bytes);
    let mut stderr = Reported::new(nonce, means, limits.output_bytes);
    let collect = async {
        loop {
            match output.next().await {
                Ok(Piece::Stdout(bytes)) => stdout.extend(&bytes),
                Ok(Piece::Stderr(bytes)) => stderr.extend(&bytes),
                Err(end) => return Some(end),
            }
            if stdout.code().is_some() && stderr.code().is_some() {
                return None;
            }
        }
    };
    let collected = tokio::select! {
        collected = tokio::time::timeout(limits.time, collect) => collected,
        never = feed => match never {},
    };
    let (exit_code, ended) = match (collected, stdout.code().or(stderr.code())) {
        (Err(_), _) => return Err(timed_out(limits.time)),
        // Why it was killed, the cluster tells a little later.
        (Ok(None), Some(KILLED)) => (KILLED, watch::ended(followed, WHY).await),
        (Ok(None), Some(code)) => (code, None),
        // The whole container was killed, or the connection broke.
        (Ok(end), _) => match watch::ended(followed, ENDED).await {
            Some(ended) => (ended.code, Some(ended)),
            None => {
                let reason = match end {
                    Some(End::Broken(reason)) => reason,
                    _ => "the streams ended before the tool".to_owned(),
                };
                return Err(unexpected(&reason));
            }
        },
    };
    Ok(Completed { exit_code, stdout: stdout.finish(), stderr: stderr.finish(), note: ended.and_then(note) })
}

/// What is to be said of the end besides its exit code.
fn note(ended: Ended) -> Option<String> {
    ended.is_out_of_memory().then(|| Completed::OUT_OF_MEMORY.to_owned())
}

fn unexpected(reason: &str) -> RuntimeError {
    RuntimeError::Engine(format!("the tool's pod was lost before the tool had ended: {reason}"))
}

async fn with_log(
    backend: &Backend,
    ward: &Ward,
    followed: &mut Followed,
    patience: Duration,
    input: &[u8],
    limits: RunLimits,
) -> Result<Completed, RuntimeError> {
    let ended = match input.is_empty() {
        true => runs(ward, followed, patience).await?,
        false => match start::connect(ward, followed, patience).await? {
            Connected::Ended(ended) => Some(ended),
            Connected::Attached(Attached { mut output, input: mut target }) => {
                let feed = async {
                    if target.write_all(input).await.is_ok() {
                        let _ = target.shutdown().await;
                    }
                    std::future::pending::<Infallible>().await
                };
                let drain = async { while output.next().await.is_ok() {} };
                tokio::select! {
                    drained = tokio::time::timeout(limits.time, drain) => drained.map_err(|_| timed_out(limits.time))?,
                    never = feed => match never {},
                }
                None
            }
        },
    };
    let ended: Option<Ended> = match ended {
        Some(ended) => Some(ended),
        None => watch::ended(followed, limits.time).await,
    };
    let Some(ended) = ended else { return Err(timed_out(limits.time)) };
    let (stdout, stderr) = logged(backend, ward, limits.output_bytes).await?;
    Ok(Completed { exit_code: ended.code, stdout, stderr, note: note(ended) })
}

/// What a container wrote, from its log: the streams apart where the cluster can do that, else all as standard output.
async fn logged(backend: &Backend, ward: &Ward, limit: usize) -> Result<(Captured, Captured), RuntimeError> {
    if backend.split_logs.get().is_none_or(|split| *split) {
        match tokio::try_join!(log(ward, Some("Stdout"), limit), log(ward, Some("Stderr"), limit)) {
            Ok(both) => {
                let _ = backend.split_logs.set(true);
                return Ok(both);
            }
            // A parameter that it does not know.
            Err(error) if matches!(error::status(&error), Some(400 | 422)) => {
                if backend.split_logs.set(false).is_ok() {
                    tracing::warn!(
                        "this cluster does not keep standard output and error apart in its logs (`PodLogsQuerySplitStreams`): of \
                         tools whose output comes from there, both come as standard output"
                    );
                }
            }
            Err(error) => return Err(ward.cluster().error(&error, Step::new("get", "pods/log", ward.name()))),
        }
    }
    match log(ward, None, limit).await {
        Ok(all) => Ok((all, Captured::default())),
        Err(error) => Err(ward.cluster().error(&error, Step::new("get", "pods/log", ward.name()))),
    }
}

/// Reads a log to its end.
async fn log(ward: &Ward, stream: Option<&str>, limit: usize) -> Result<Captured, kube::Error> {
    let cluster = ward.cluster();
    let path = Pod::url_path(&(), Some(cluster.namespace()));
    let stream = stream.map(|stream| format!("&stream={stream}")).unwrap_or_default();
    let uri = format!("{path}/{}/log?container={CONTAINER}{stream}", ward.name());
    let request = http::Request::get(uri).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let read = async {
        let mut text = std::pin::pin!(cluster.client().request_stream(request).await?);
        let mut captured = Captured::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = text.read(&mut buffer).await.map_err(kube::Error::ReadEvents)?;
            match buffer.get(..count) {
                Some([]) | None => return Ok(captured),
                Some(bytes) => captured.extend(bytes, limit),
            }
        }
    };
    match tokio::time::timeout(QUICK, read).await {
        Ok(read) => read,
        Err(_) => Err(kube::Error::ReadEvents(std::io::ErrorKind::TimedOut.into())),
    }
}
