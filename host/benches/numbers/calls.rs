//! What the gateway adds to a call of a server that is kept: over stdio and over HTTP, beside the same server called
//! directly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::embedded::{EmbeddedRuntime, SAMPLE};
use docker_mcp::capability::container_runtime::{ContainerRuntime, Identity, Request, Running};
use docker_mcp::lease::Reaper;
use docker_mcp::sandbox::engine::Engine as Sandbox;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use provisioning_core::{ContainerSpec, Network, Resources, SecurityProfile};
use serde_json::json;

use super::Effort;
use super::client::{Call, Client, HttpClient};
use super::engine::{EVERYTHING, Engine, TINY};
use super::gateway::{Place, Server};
use super::report::{Series, end, note, reference, row, title, verdict};

pub(crate) async fn measure(effort: Effort, engine: &Engine) -> anyhow::Result<()> {
    let servers = [Server::new("tiny", TINY), Server::new("everything", EVERYTHING), Server::new("sample", SAMPLE)];
    let calls = [
        Call { tool: "ping".to_owned(), arguments: json!({}), answer: "pong" },
        Call { tool: "echo".to_owned(), arguments: json!({"message": "hello"}), answer: "hello" },
        Call { tool: "text_stats".to_owned(), arguments: json!({"text": "one two"}), answer: "2" },
    ];
    let names = ["a shell in a container", "server-everything in a container", "the embedded sample server"];

    let place = Place::new(&servers)?;
    let mut stdio = place.stdio(&["--long-lived"]).await?;
    let (served, url) = place.http(&["--long-lived"]).await?;
    let mut http = HttpClient::connect(&url).await?;
    let (tiny, everything) = (engine.start(TINY).await?, engine.start(EVERYTHING).await?);
    let (sample, client) = embedded().await?;
    let mut direct = [tiny, everything].map(Some);
    let mut embedded_client = Some(client);

    for (index, ((server, call), name)) in servers.iter().zip(&calls).zip(names).enumerate() {
        let through = Call { tool: format!("{}__{}", server.name, call.tool), ..call.clone() };
        let mut container = direct.get_mut(index).and_then(Option::take);
        let mut in_process = if container.is_none() { embedded_client.take() } else { None };
        let client = container.as_mut().map(|direct| &mut direct.client).or(in_process.as_mut());
        let Some(client) = client else { anyhow::bail!("there is no direct way to `{name}`") };
        let (mut alone, mut by_stdio, mut by_http) = (Series::default(), Series::default(), Series::default());
        // The first ones start the server and warm up its interpreter.
        let warm_up = effort.samples(200);
        for sample in 0..warm_up + effort.samples(2000) {
            let mut times = [std::time::Duration::ZERO; 3];
            // Nobody is always first.
            for turn in 0..3 {
                let started = Instant::now();
                match (sample + turn) % 3 {
                    0 => client.call(call).await?,
                    1 => stdio.client.call(&through).await?,
                    _ => http.call(&through).await?,
                }
                if let Some(time) = times.get_mut((sample + turn) % 3) {
                    *time = started.elapsed();
                }
            }
            if sample >= warm_up {
                let [first, second, third] = times;
                alone.push(first);
                by_stdio.push(second);
                by_http.push(third);
            }
        }
        title(&format!("calls: {name}, kept for the session"));
        row("floor: called directly", &alone, "");
        row("through the gateway, stdio", &by_stdio, reference::CALL_STDIO);
        row("through the gateway, streamable HTTP", &by_http, reference::CALL_HTTP);
        verdict("the gateway adds over stdio at p50", by_stdio.adds(&alone, 50), 0.2, "ms");
        note(&format!("over HTTP it adds {:.3} ms at p50", by_http.adds(&alone, 50)));
        end();
        if let Some(container) = container {
            engine.end(container).await?;
        }
    }
    drop(sample);
    stdio.end().await?;
    served.end().await
}

struct NoSecrets;

#[async_trait]
impl SecretStore for NoSecrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        Err(SecretError::Missing { name: name.to_owned(), remedy: "none is needed".to_owned() })
    }
}

/// The sample server in this process, without a gateway.
async fn embedded() -> anyhow::Result<(docker_mcp::lease::Lease, Client)> {
    let cache = Place::cache().join("components");
    std::fs::create_dir_all(&cache)?;
    let runtime = EmbeddedRuntime::new(
        Sandbox::for_servers(Some(&cache)).map_err(|error| anyhow::anyhow!("{error:#}"))?,
        Reaper::new(),
        Arc::new(NoSecrets),
        std::env::current_dir()?,
        BTreeMap::from([(SAMPLE.trim_start_matches("embedded:"), builtin::SAMPLE_SERVER)]),
    )?;
    let spec = ContainerSpec {
        image: SAMPLE.to_owned(),
        command: Vec::new(),
        environment: Vec::new(),
        volumes: Vec::new(),
        user: None,
        network: Network::None,
        hosts: Vec::new(),
        labels: Vec::new(),
        resources: Resources::default(),
        security: SecurityProfile::default(),
    };
    let identity = Identity { session: "bench".to_owned(), server: "sample".to_owned(), tool: None };
    let Running { lease, streams } = runtime.start(Request { identity, spec }).await?;
    let mut client = Client::over(streams.stdin, streams.stdout);
    client.initialize().await?;
    client.initialized().await?;
    Ok((lease, client))
}
