//! The cluster without the gateway: the very pods that the gateway makes, made with plain requests and a watch, which is
//! the floor under what it needs.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::future::BoxFuture;
use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ContainerState, Pod, Secret};
use kube::api::{Api, AttachParams, AttachedProcess, DeleteParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::client::Client;
use super::cluster::{Cluster, PATIENCE, TEXT};

/// How many random bytes what starts a tool is sent as digits, in a line.
const NONCE: usize = 16;
/// The label that tells a session's objects, which the pods here are not.
const SESSION: &str = "mcp-gateway.docker.com/session";

/// When each step was done, from the beginning.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) created: Duration,
    pub(crate) runs: Duration,
    pub(crate) attached: Duration,
    pub(crate) answered: Duration,
}

/// Makes pods like those of the gateway.
pub(crate) struct Direct {
    pods: Api<Pod>,
    server: Pod,
    tool: Pod,
}

/// A server that runs.
pub(crate) struct Served {
    name: String,
    _process: AttachedProcess,
    _client: Client,
}

/// What happens to a pod.
type Events = std::pin::Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Pod>>> + Send>>;

/// Catches the first pod that the gateway makes while the work is done, as the cluster admitted it.
pub(crate) async fn caught<T>(cluster: &Cluster, work: BoxFuture<'_, anyhow::Result<T>>) -> anyhow::Result<(T, Pod)> {
    let params = WatchParams::default().labels(SESSION);
    let events = cluster.api::<Pod>().watch(&params, "0").await?;
    let done = work.await?;
    let added = events.try_filter_map(async |event| match event {
        WatchEvent::Added(pod) => Ok(Some(pod)),
        _ => Ok(None),
    });
    let pod = tokio::time::timeout(PATIENCE, pin!(added).try_next()).await??;
    Ok((done, pod.context("the gateway made no pod")?))
}

impl Direct {
    /// Makes pods like these two. What the tool's pod refers to is there from now on.
    pub(crate) async fn new(cluster: &Cluster, server: Pod, tool: Pod) -> anyhow::Result<Self> {
        let containers = tool.spec.iter().flat_map(|spec| &spec.containers);
        let variables = containers.flat_map(|container| container.env.iter().flatten());
        let reference = variables.filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.clone()).next();
        let reference = reference.context("the tool's argument is not kept in a Secret")?;
        let secret = Secret {
            metadata: ObjectMeta { name: Some(reference.name), ..ObjectMeta::default() },
            string_data: Some([(reference.key, TEXT.to_owned())].into()),
            ..Secret::default()
        };
        cluster.api::<Secret>().create(&PostParams::default(), &secret).await?;
        Ok(Self { pods: cluster.api(), server: template(server), tool: template(tool) })
    }

    /// Starts the server and greets it.
    pub(crate) async fn start(&self) -> anyhow::Result<(Served, Steps)> {
        let (pod, name, mut events) = self.named(&self.server).await?;
        let started = Instant::now();
        self.pods.create(&PostParams::default(), &pod).await?;
        let created = started.elapsed();
        until(&mut events, |state| state.running.is_some()).await?;
        let runs = started.elapsed();
        let mut process = self.attach(&name).await?;
        let attached = started.elapsed();
        let streams = process.stdin().zip(process.stdout()).context("no streams")?;
        let mut client = Client::over(streams.0, streams.1);
        client.initialize().await?;
        let answered = started.elapsed();
        Ok((Served { name, _process: process, _client: client }, Steps { created, runs, attached, answered }))
    }

    /// Removes the server.
    pub(crate) async fn end(&self, served: Served) -> anyhow::Result<()> {
        self.delete(&served.name).await
    }

    /// Runs the tool with what the gateway starts it with, up to the reports at the end of both streams.
    pub(crate) async fn run(&self) -> anyhow::Result<Steps> {
        let (pod, name, mut events) = self.named(&self.tool).await?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let line: String = nonce.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect();
        let report = format!("{}000", line.trim_end());
        let started = Instant::now();
        self.pods.create(&PostParams::default(), &pod).await?;
        let created = started.elapsed();
        until(&mut events, |state| state.running.is_some()).await?;
        let runs = started.elapsed();
        let mut process = self.attach(&name).await?;
        let attached = started.elapsed();
        let mut stdin = process.stdin().context("no standard input")?;
        let (stdout, stderr) = process.stdout().zip(process.stderr()).context("no output")?;
        stdin.write_all(line.as_bytes()).await?;
        let (stdout, stderr) = tokio::try_join!(reported(stdout, &report), reported(stderr, &report))?;
        let answered = started.elapsed();
        ensure!(stdout == format!("{TEXT}\n").as_bytes() && stderr.is_empty(), "the tool gave {stdout:?} {stderr:?}");
        self.delete(&name).await?;
        Ok(Steps { created, runs, attached, answered })
    }

    /// Runs the tool as clusters run it, up to the end of its log.
    pub(crate) async fn run_plainly(&self) -> anyhow::Result<Duration> {
        let mut tool = self.tool.clone();
        let container = tool.spec.as_mut().and_then(|spec| spec.containers.first_mut()).context("no container")?;
        container.command = container.args.take();
        (container.stdin, container.stdin_once) = (None, None);
        let (pod, name, mut events) = self.named(&tool).await?;
        let started = Instant::now();
        self.pods.create(&PostParams::default(), &pod).await?;
        until(&mut events, |state| state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0)).await?;
        let log = self.pods.logs(&name, &kube::api::LogParams::default()).await?;
        let time = started.elapsed();
        ensure!(log == format!("{TEXT}\n"), "the tool logged {log:?}");
        self.delete(&name).await?;
        Ok(time)
    }

    /// A pod with a name of its own, a watch over it that is open already, and a connection for what comes next: the watch
    /// keeps the one that it is on.
    async fn named(&self, template: &Pod) -> anyhow::Result<(Pod, String, Events)> {
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let name = format!("direct-{:08x}", u32::from_ne_bytes(random));
        let mut pod = template.clone();
        pod.metadata.name = Some(name.clone());
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = self.pods.watch(&params, "0").await?;
        ensure!(self.pods.get_opt(&name).await?.is_none(), "there is a pod `{name}` already");
        Ok((pod, name, Box::pin(events)))
    }

    async fn attach(&self, name: &str) -> anyhow::Result<AttachedProcess> {
        let params = AttachParams::default().stdin(true).stdout(true).stderr(true);
        Ok(self.pods.attach(name, &params).await?)
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

/// What to make pods like this one from.
fn template(mut pod: Pod) -> Pod {
    let ObjectMeta { labels, annotations, owner_references, .. } = pod.metadata;
    pod.metadata = ObjectMeta { labels, annotations, owner_references, ..ObjectMeta::default() };
    if let Some(labels) = &mut pod.metadata.labels {
        labels.remove(SESSION);
    }
    pod.status = None;
    if let Some(spec) = &mut pod.spec {
        spec.node_name = None;
    }
    pod
}

/// Waits for a state of the pod's container.
async fn until(events: &mut Events, is_reached: impl Fn(&ContainerState) -> bool) -> anyhow::Result<()> {
    let reached = async {
        while let Some(event) = events.try_next().await? {
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
            let containers = pod.status.into_iter().flat_map(|status| status.container_statuses.unwrap_or_default());
            if containers.filter_map(|container| container.state).any(|state| is_reached(&state)) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, reached).await.context("the pod does not run")?
}

/// What a stream carries before the report at its end.
async fn reported(mut stream: impl AsyncRead + Unpin, report: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the tool's output ended without a report");
        if let Some(output) = bytes.strip_suffix(report.as_bytes()) {
            return Ok(output.to_owned());
        }
    }
}
