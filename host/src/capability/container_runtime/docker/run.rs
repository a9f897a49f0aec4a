//! Running a container to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, WaitContainerOptionsBuilder};
use futures::StreamExt;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Backend;
use super::client::Client;
use super::error::Step;
use super::removal::Ward;
use super::start::{self, Prepared, abandoned};
use super::texts::Texts;
use crate::capability::container_runtime::input::SharedInput;
use crate::capability::container_runtime::{Captured, Completed, Request, RunLimits, RuntimeError};

/// How long output may still arrive after the process has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// How long after the end of the output it is asked whether the process has ended.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long looking at a container may take.
const INSPECT: Duration = Duration::from_secs(15);

/// Runs a container to its end, inside the limits.
pub(super) async fn run(
    backend: Arc<Backend>,
    request: Request,
    input: Vec<u8>,
    limits: RunLimits,
) -> Result<Completed, RuntimeError> {
    let (mut answer, outcome) = oneshot::channel();
    let reaper = backend.reaper.clone();
    drop(reaper.spawn(async move {
        let prepared = match start::create(&backend, &request, &|| answer.is_closed()).await {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let Prepared { lease, ward, attached, texts } = prepared;
        // Whatever happens, the process has ended by then or must not go on.
        ward.hurry();
        let work = execute(&ward, attached, &request, &texts, input, limits.output_bytes);
        let outcome = tokio::select! {
            () = answer.closed() => return drop(lease),
            outcome = tokio::time::timeout(limits.time, work) => outcome,
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(_) => {
                lease.release().await;
                let what = match &request.identity.tool {
                    Some(tool) => format!("tool `{tool}` of server `{}`", request.identity.server),
                    None => format!("a container of server `{}`", request.identity.server),
                };
                let _ = answer.send(Err(RuntimeError::ran_too_long(what, limits.time)));
                return;
            }
        };
        let _ = answer.send(outcome);
        // The engine removes the container by itself now; the lease sees to it in the background.
        drop(lease);
    }));
    outcome.await.unwrap_or_else(|_| Err(abandoned()))
}

async fn execute(
    ward: &Ward,
    attached: AttachContainerResults,
    request: &Request,
    texts: &Texts,
    text: Vec<u8>,
    limit: usize,
) -> Result<Completed, RuntimeError> {
    let AttachContainerResults { mut output, mut input } = attached;
    // Sent before the start request, so that the engine notes the exit code before it removes the container.
    let wait = wait_in_background(ward.client().clone(), ward.name().to_owned());
    start::launch(ward, request, texts).await?;
    let feed = async move {
        // A process need not read: what it does not take is given up when it ends.
        let _ = input.write_all(&text).await;
        SharedInput::new(input).close().await;
        std::future::pending::<Infallible>().await
    };
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let collect = async {
        while let Some(piece) = output.next().await {
            match piece.map_err(|error| ward.client().error(error, Step::Attach))? {
                LogOutput::StdOut { message } => stdout.extend(&message, limit),
                LogOutput::StdErr { message } => stderr.extend(&message, limit),
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
            }
        }
        Ok::<(), RuntimeError>(())
    };
    let exit = exit_code(wait, ward.client(), ward.name());
    let end = async {
        tokio::pin!(collect, exit);
        tokio::select! {
            code = &mut exit => {
                let code = code?;
                match tokio::time::timeout(LAST_OUTPUT, collect).await {
                    Ok(collected) => collected?,
                    Err(_) => tracing::warn!(container = ward.name(), "the output did not end with the process"),
                }
                Ok::<i64, RuntimeError>(code)
            }
            collected = &mut collect => {
                collected?;
                exit.await
            }
        }
    };
    let exit_code = tokio::select! {
        exit_code = end => exit_code?,
        never = feed => match never {},
    };
    Ok(Completed { exit_code, stdout, stderr, note: None })
}

type Waiting = AbortOnDropHandle<Option<Result<i64, Error>>>;

fn wait_in_background(client: Client, name: String) -> Waiting {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let options = WaitContainerOptionsBuilder::default().condition("next-exit").build();
        let mut exits = client.api().wait_container(&name, Some(options));
        Some(match exits.next().await? {
            Ok(exit) => Ok(exit.status_code),
            // The library takes an exit code other than 0 for an error.
            Err(Error::DockerContainerWaitError { code, error }) if error.is_empty() => Ok(code),
            Err(error) => Err(error),
        })
    }))
}

/// The exit code, from the wait request; if that got lost, by looking.
async fn exit_code(mut wait: Waiting, client: &Client, name: &str) -> Result<i64, RuntimeError> {
    loop {
        match tokio::time::timeout(ASK_AGAIN, &mut wait).await {
            Ok(Ok(Some(Ok(code)))) => return Ok(code),
            Ok(Ok(Some(Err(error)))) => {
                let state = look(client, name).await;
                return state?.ok_or_else(|| client.error(error, Step::Wait));
            }
            Ok(Ok(None) | Err(_)) => {
                let state = look(client, name).await;
                return state?.ok_or_else(|| {
                    RuntimeError::Engine("the Docker Engine did not tell how the container ended".to_owned())
                });
            }
            Err(_) => {
                if let Some(code) = look(client, name).await? {
                    return Ok(code);
                }
            }
        }
    }
}

/// The exit code of a container that has ended; none if it runs.
async fn look(client: &Client, name: &str) -> Result<Option<i64>, RuntimeError> {
    let inspect = client.api().inspect_container(name, None::<InspectContainerOptions>);
    let state = client.call(Step::Inspect, INSPECT, inspect).await?.state.unwrap_or_default();
    let ended = state.running == Some(false) && state.finished_at.is_some_and(|at| !at.starts_with("0001-"));
    Ok(state.exit_code.filter(|_| ended))
}
