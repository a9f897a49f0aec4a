//! The figures that the gateway is held to, measured in one run: what the sandbox, the audit log and policies cost,
//! how long a component takes to inspect, how fast the gateway answers after its start, what it adds to a call, what a
//! fresh container costs beside the engine's own floor and a pod beside the cluster's, and memory.
//!
//! `just bench` runs all parts; `just bench calls memory` only these, `--quick` with three samples of each. What is
//! compared is measured in turns, so that both meet the same noise. Only a wrong result is a failure, never a slow one.
//! With `DOCKER_MCP_BENCH_BINARY` the gateways are those of another build; `just bench` takes the one that is shipped, built
//! with the settings of a release.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a program for developers: it prints, and it waits for what has no event"
)]

#[path = "numbers/audit.rs"]
mod audit;
#[path = "numbers/calls.rs"]
mod calls;
#[path = "numbers/client.rs"]
mod client;
#[path = "numbers/cluster.rs"]
mod cluster;
#[path = "numbers/direct.rs"]
mod direct;
#[path = "numbers/engine.rs"]
mod engine;
#[path = "numbers/fresh.rs"]
mod fresh;
#[path = "numbers/gateway.rs"]
mod gateway;
#[path = "numbers/inspect.rs"]
mod inspect;
#[path = "numbers/kubernetes.rs"]
mod kubernetes;
#[path = "numbers/memory.rs"]
mod memory;
#[path = "numbers/policy.rs"]
mod policy;
#[path = "numbers/registry.rs"]
mod registry;
#[path = "numbers/report.rs"]
mod report;
#[path = "numbers/requests.rs"]
mod requests;
#[path = "numbers/sandbox.rs"]
mod sandbox;
#[path = "numbers/start.rs"]
mod start;

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use engine::Engine;

const PARTS: [&str; 9] = ["sandbox", "audit", "policy", "inspect", "start", "calls", "fresh", "kubernetes", "memory"];

/// How many samples are taken.
#[derive(Clone, Copy)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// `full` samples, or three.
    fn samples(self, full: usize) -> usize {
        if self.quick { 3 } else { full }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut effort = Effort { quick: false };
    let mut parts = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Passed by `cargo bench`.
            "--bench" => {}
            "--quick" => effort.quick = true,
            part if PARTS.contains(&part) => parts.push(part.to_owned()),
            other => bail!("there is no part `{other}`; name some of {}, or nothing for all", PARTS.join(", ")),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|own| own == part);
    println!("{}", report::machine());
    println!("gateways: `{}`\n", gateway::program().display());
    if cfg!(debug_assertions) {
        println!("this is an unoptimised build: use `just bench` for figures that mean something\n");
    }
    // As a gateway over stdio has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        if wanted("sandbox") {
            // As in the gateway: from a task of the runtime, not from the thread that waits for it.
            tokio::spawn(sandbox::measure(effort)).await?.context("sandbox")?;
        }
        if wanted("audit") {
            audit::measure(effort).await.context("audit")?;
        }
        if wanted("policy") {
            policy::measure(effort).context("policy")?;
        }
        if wanted("inspect") {
            inspect::measure(effort).context("inspect")?;
        }
        let engine = match Engine::find().await {
            Ok(engine) => engine,
            Err(reason) if std::env::var_os("DOCKER_MCP_REQUIRE_ENGINE").is_some() => return Err(reason),
            Err(reason) => {
                println!("the other parts are left out: {reason:#}");
                return Ok(());
            }
        };
        let measured = async {
            if wanted("start") {
                start::measure(effort, &engine).await.context("start")?;
            }
            if wanted("calls") {
                calls::measure(effort, &engine).await.context("calls")?;
            }
            if wanted("fresh") {
                fresh::measure(effort, &engine).await.context("fresh")?;
            }
            if wanted("kubernetes") {
                kubernetes::measure(effort, &engine).await.context("kubernetes")?;
            }
            if wanted("memory") {
                memory::measure(effort).await.context("memory")?;
            }
            anyhow::Ok(())
        }
        .await;
        engine.finish().await;
        measured
    })
}
