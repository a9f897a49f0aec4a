//! What a pod of a server and of a tool costs through the gateway, beside the very same pod made with plain requests; and
//! what is asked of the API server for each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::FutureExt as _;

use super::Effort;
use super::client::Client;
use super::cluster::{Cluster, Session};
use super::direct::{self, Direct, Steps};
use super::engine::{ECHO, Engine, TINY};
use super::registry::Registry;
use super::report::{Series, end, milliseconds, note, reference, row, title, verdict};
use super::requests::line;

/// How much longer than the floor it may take, in percent, and a call of a tool at all, in milliseconds.
const MORE: f64 = 10.0;
const CALL: f64 = 600.0;
const SAMPLES: usize = 45;

pub(crate) async fn measure(effort: Effort, engine: &Engine) -> anyhow::Result<()> {
    let cluster = match Cluster::find().await {
        Ok(cluster) => cluster,
        Err(reason) if std::env::var("DOCKER_MCP_REQUIRE_CLUSTER").as_deref() == Ok("1") => return Err(reason),
        Err(reason) => {
            println!("kubernetes is left out: {reason:#}\n");
            return Ok(());
        }
    };
    let measured = on(effort, engine, &cluster).await;
    cluster.finish().await;
    measured
}

async fn on(effort: Effort, engine: &Engine, cluster: &Cluster) -> anyhow::Result<()> {
    let registry = Registry::start().await?;
    let server = engine.push(TINY, &registry.address).await?;
    let tool = engine.push(ECHO, &registry.address).await?;
    let session = || cluster.session(&server, &tool);

    // The images get onto the node, and the pods are caught.
    let warm = session().await?;
    let (_, server_pod) = direct::caught(cluster, start(&warm).boxed()).await?;
    let (_, tool_pod) = direct::caught(cluster, warm.run().boxed()).await?;
    warm.rest().await?;
    let direct = Direct::new(cluster, server_pod, tool_pod).await?;
    cluster.settle().await?;

    servers(effort, cluster, &direct, &warm).await?;
    tools(effort, cluster, &direct, &warm).await?;
    warm.end().await?;

    let (mut first_server, mut first_tool) = (Series::default(), Series::default());
    for sample in 0..2 * effort.samples(5) {
        cluster.settle().await?;
        let session = session().await?;
        let (series, time) = match sample % 2 {
            0 => (&mut first_server, start(&session).await?.0),
            _ => (&mut first_tool, timed(session.run()).await?),
        };
        series.push(time);
        session.end().await?;
    }
    let last = session().await?;
    title("kubernetes: the first of a session, which makes its lease, its watch and its connection");
    row("first server: start to `initialize` answered", &first_server, "");
    row("first tool: call to result", &first_tool, "");
    start(&last).await?;
    note(&format!("requests for the first start and stop: {}", line(&last.requests.take(), 1)));
    last.run().await?;
    last.rest().await?;
    note(&format!("requests for the first call after it: {}", line(&last.requests.take(), 1)));
    let requests = last.requests.clone();
    last.end().await?;
    note(&format!("requests for the end of the session: {}", line(&requests.take(), 1)));
    end();
    cluster.settle().await
}

/// Starts the server, greets it and stops it. How long the start and the stop took.
async fn start(session: &Session) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let running = session.start().await?;
    let mut client = Client::over(running.streams.stdin, running.streams.stdout);
    client.initialize().await?;
    let time = started.elapsed();
    let stopping = Instant::now();
    drop(client);
    running.lease.release().await;
    Ok((time, stopping.elapsed()))
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed())
}

async fn servers(effort: Effort, cluster: &Cluster, direct: &Direct, session: &Session) -> anyhow::Result<()> {
    let (mut floor, mut ours, mut stop) = (Floor::default(), Series::default(), Series::default());
    let samples = effort.samples(SAMPLES);
    session.requests.take();
    for sample in 0..samples {
        // Each goes first in turn.
        for turn in 0..2 {
            cluster.settle().await?;
            if (sample + turn) % 2 == 0 {
                let (served, steps) = direct.start().await?;
                floor.push(steps);
                direct.end(served).await?;
            } else {
                let (started, stopped) = start(session).await?;
                ours.push(started);
                stop.push(stopped);
            }
        }
    }
    let requests = session.requests.take();
    title("kubernetes: a pod of its own for a server, a shell, up to its first answer");
    floor.rows("  `initialize` answered");
    row("floor: create to answer, plain requests", &floor.whole, "");
    row("through component and runtime", &ours, reference::POD);
    row("stop, which no caller waits for", &stop, "");
    compare("start", &ours, &floor.whole);
    of_requests("start and stop", &requests, samples);
    end();
    Ok(())
}

async fn tools(effort: Effort, cluster: &Cluster, direct: &Direct, session: &Session) -> anyhow::Result<()> {
    let (mut floor, mut ours, mut plain) = (Floor::default(), Series::default(), Series::default());
    let samples = effort.samples(SAMPLES);
    session.requests.take();
    for sample in 0..samples {
        for turn in 0..3 {
            cluster.settle().await?;
            match (sample + turn) % 3 {
                0 => floor.push(direct.run().await?),
                1 => {
                    ours.push(timed(session.run()).await?);
                    session.rest().await?;
                }
                _ => plain.push(direct.run_plainly().await?),
            }
        }
    }
    let requests = session.requests.take();
    title("kubernetes: a call of an ephemeral tool, `echo`, up to its result");
    floor.rows("  output and exit code");
    row("floor: create to result, plain requests", &floor.whole, "");
    row("through component and runtime", &ours, "");
    row("without the runner: status, then log", &plain, "");
    compare("call", &ours, &floor.whole);
    verdict("a call, p50", milliseconds(ours.percentile(50)), CALL, "ms");
    of_requests("call", &requests, samples);
    end();
    Ok(())
}

/// Times of the plain requests.
#[derive(Default)]
struct Floor {
    steps: [Series; 4],
    whole: Series,
}

impl Floor {
    fn push(&mut self, steps: Steps) {
        let Steps { created, runs, attached, answered } = steps;
        let times = [created, runs - created, attached - runs, answered - attached];
        for (series, time) in self.steps.iter_mut().zip(times) {
            series.push(time);
        }
        self.whole.push(answered);
    }

    fn rows(&self, last: &str) {
        for (label, series) in ["  create", "  container runs", "  attach", last].iter().zip(&self.steps) {
            row(label, series, "");
        }
    }
}

fn compare(what: &str, ours: &Series, floor: &Series) {
    let adds = ours.adds(floor, 50);
    note(&format!("the gateway adds {adds:.1} ms at p50 of the pairs"));
    let share = |adds: f64| 100.0 * adds / milliseconds(floor.percentile(50));
    let medians = milliseconds(ours.percentile(50)) - milliseconds(floor.percentile(50));
    verdict(&format!("a {what} takes more than the floor, p50 of the pairs"), share(adds), MORE, "%");
    // A pod runs at one of two moments, 0.3 s apart: medians beside each other say which happened to be more frequent.
    note(&format!("p50 beside p50, it takes {:.1} % more", share(medians)));
}

/// What was asked, and whether anything of it only looks.
fn of_requests(what: &str, requests: &BTreeMap<String, usize>, each: usize) {
    note(&format!("requests for each {what}: {}", line(requests, each)));
    let looks = requests.iter().filter(|(name, _)| {
        let verb = name.split(' ').next();
        matches!(verb, Some("get" | "list")) && name.as_str() != "get pods/attach"
    });
    let looks: usize = looks.map(|(_, count)| count).sum();
    verdict("requests that only look how far it is, in all", looks as f64, 1.0, "requests");
}
