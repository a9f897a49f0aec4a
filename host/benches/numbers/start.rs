//! From the start of the process to the answer to `initialize`, with servers in Docker in the catalog.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::Effort;
use super::engine::{EVERYTHING, Engine};
use super::gateway::{Gateway, Place, Server, program};
use super::report::{Series, end, milliseconds, reference, row, title, verdict};

pub(crate) async fn measure(effort: Effort, engine: &Engine) -> anyhow::Result<()> {
    let servers = [
        Server::new("everything", EVERYTHING),
        Server::new("time", "mcp-test/time:1"),
        Server::new("memory", "mcp-test/memory:1"),
    ];
    let place = Place::new(&servers)?;
    // Fills the cache.
    start(&place, &Place::cache()).await?;
    let (mut process, mut warm, mut cold) = (Series::default(), Series::default(), Series::default());
    for _ in 0..effort.samples(15) {
        let started = Instant::now();
        let status =
            tokio::process::Command::new(program()).arg("version").stdout(std::process::Stdio::null()).status().await?;
        ensure!(status.success(), "`docker-mcp version` ended with {status}");
        process.push(started.elapsed());
        warm.push(start(&place, &Place::cache()).await?);
        cold.push(start(&place, TempDir::new()?.path()).await?);
        for server in &servers {
            engine.wait_until_gone(&server.name).await?;
        }
    }
    title("start: process start to `initialize` answered, three servers in Docker in the catalog, stdio");
    row("floor: `docker-mcp version`, start to end", &process, "");
    row("components compiled before", &warm, reference::START);
    row("components not yet compiled", &cold, reference::START);
    verdict("compiled before, p50", milliseconds(warm.percentile(50)), 50.0, "ms");
    end();
    Ok(())
}

async fn start(place: &Place, cache: &std::path::Path) -> anyhow::Result<std::time::Duration> {
    let command = place.command(cache, &[])?;
    let started = Instant::now();
    let mut gateway = Gateway::spawn(command)?;
    gateway.client.initialize().await.with_context(|| place.log())?;
    let time = started.elapsed();
    gateway.end().await?;
    Ok(time)
}
