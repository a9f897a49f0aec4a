//! A call that gets a container of its own, beside what the engine itself needs for one.

use std::time::Instant;

use serde_json::json;

use super::Effort;
use super::client::Call;
use super::engine::{EVERYTHING, Engine, TINY};
use super::gateway::{Place, Server};
use super::report::{Series, end, note, reference, row, title};

pub(crate) async fn measure(effort: Effort, engine: &Engine) -> anyhow::Result<()> {
    let ping = Call { tool: "ping".to_owned(), arguments: json!({}), answer: "pong" };
    let echo = Call { tool: "echo".to_owned(), arguments: json!({"message": "hello"}), answer: "hello" };
    compare(effort, engine, "a shell", Server::new("tiny", TINY), ping).await?;
    compare(effort, engine, "server-everything", Server::new("everything", EVERYTHING), echo).await
}

async fn compare(effort: Effort, engine: &Engine, name: &str, server: Server, call: Call) -> anyhow::Result<()> {
    let through = Call { tool: format!("{}__{}", server.name, call.tool), ..call.clone() };
    let (server_name, image) = (server.name.clone(), server.image.clone());
    let place = Place::new(&[server])?;
    let mut gateway = place.stdio(&[]).await?;
    gateway.client.ask("tools/list", json!({})).await?;
    engine.wait_until_gone(&server_name).await?;
    let (mut floor, mut ours) = (Series::default(), Series::default());
    let mut steps: [Series; 6] = Default::default();
    for _ in 0..effort.samples(30) {
        let started = Instant::now();
        let mut direct = engine.start(&image).await?;
        let connected = started.elapsed();
        direct.client.call(&call).await?;
        let time = started.elapsed();
        floor.push(time);
        let own = &direct.steps;
        let times = [own.create, own.attach, own.start, own.greeting, time.saturating_sub(connected)];
        for (series, time) in steps.iter_mut().zip(times) {
            series.push(time);
        }
        let removed = engine.end(direct).await?;
        if let Some(series) = steps.last_mut() {
            series.push(removed);
        }
        let started = Instant::now();
        gateway.client.call(&through).await?;
        ours.push(started.elapsed());
        // Its container is removed after the answer, and must not be in the way of the next sample.
        engine.wait_until_gone(&server_name).await?;
    }
    gateway.end().await?;
    title(&format!("fresh: a call that gets a container of its own, {name}"));
    let labels = ["  create", "  attach", "  start", "  `initialize` answered", "  `tools/call` answered"];
    for (label, series) in labels.iter().zip(&steps) {
        row(label, series, "");
    }
    row("floor: create to result, directly", &floor, "");
    row("through the gateway, call to result", &ours, reference::FRESH);
    if let Some(removal) = steps.last() {
        row("forced removal, which no caller waits for", removal, "");
    }
    note(&format!("the gateway adds {:.1} ms at p50", ours.adds(&floor, 50)));
    end();
    Ok(())
}
