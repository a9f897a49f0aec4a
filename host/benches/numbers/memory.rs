//! Resident memory of the gateway with idle servers, and whether it sleeps when it has nothing to do.

use std::time::Duration;

use anyhow::Context as _;
use docker_mcp::capability::container_runtime::embedded::SAMPLE;
use serde_json::json;

use super::Effort;
use super::client::Call;
use super::engine::TINY;
use super::gateway::{Place, Server};
use super::report::{Spread, end, note, reference, verdict};

/// What one gateway used.
struct Used {
    resident: f64,
    anonymous: f64,
    peak: f64,
    wake_ups: u64,
    idle: Duration,
}

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<()> {
    let runs = effort.samples(5);
    println!(
        "memory: the gateway's own, with idle servers that are kept: medians of {runs} gateways, and what they lie \
         between (reference {})",
        reference::MEMORY
    );
    println!(
        "  {:30} {:>8} {:>22} {:>22} {:>22} {:>16}",
        "MB", "servers", "resident", "of it heap", "peak", "wake-ups"
    );
    for (name, image, tool, answer) in [("in Docker", TINY, "ping", "pong"), ("embedded", SAMPLE, "text_stats", "1")] {
        let (mut one, mut twenty) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            // In turns, so that both meet the same machine.
            one.push(idle(effort, image, 1, tool, answer).await?);
            twenty.push(idle(effort, image, 20, tool, answer).await?);
        }
        for (servers, used) in [(1, &one), (20, &twenty)] {
            let of = |what: fn(&Used) -> f64| Spread::of(used.iter().map(what));
            let (resident, heap, peak) = (of(|used| used.resident), of(|used| used.anonymous), of(|used| used.peak));
            let wake_ups = of(|used| used.wake_ups as f64);
            println!("  {name:30} {servers:>8} {resident:>22} {heap:>22} {peak:>22} {wake_ups:>16.0}");
        }
        let resident = |used: &[Used]| Spread::of(used.iter().map(|used| used.resident)).median;
        let each = one.iter().zip(&twenty).map(|(one, twenty)| (twenty.resident - one.resident) / 19.0);
        verdict(&format!("{name}, one server, median"), resident(&one), 31.0, "MB");
        verdict(&format!("{name}, twenty servers, median"), resident(&twenty), 50.0, "MB");
        verdict(&format!("{name}, each further server, median"), Spread::of(each).median, 1.0, "MB");
        let (wake_ups, idle) = (Spread::of(twenty.iter().map(|used| used.wake_ups as f64)), twenty.first());
        let seconds = idle.map_or(0, |used| used.idle.as_secs());
        note(&format!("threads of the idle gateway ran {:.0} times in {seconds} s", wake_ups.median));
    }
    end();
    Ok(())
}

async fn idle(effort: Effort, image: &str, count: usize, tool: &str, answer: &'static str) -> anyhow::Result<Used> {
    let servers: Vec<Server> = (0..count).map(|index| Server::new(&format!("idle{index}"), image)).collect();
    let place = Place::new(&servers)?;
    // Twenty containers start at once on a machine that may have two cores.
    let mut gateway = place.stdio(&["--long-lived", "--max-server-startup-timeout", "120"]).await?;
    gateway.client.ask("tools/list", json!({})).await?;
    for server in &servers {
        let call = Call { tool: format!("{}__{tool}", server.name), arguments: json!({"text": "one"}), answer };
        gateway.client.call(&call).await.with_context(|| place.log())?;
    }
    let process = gateway.id()?;
    // Until the servers of the discovery are gone and everything has come to rest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = switches(process)?;
    let idle = Duration::from_secs(if effort.quick { 2 } else { 10 });
    tokio::time::sleep(idle).await;
    let wake_ups = switches(process)?.saturating_sub(before);
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let megabytes = |name| field(&status, name).map(|kilobytes| kilobytes as f64 * 1024.0 / 1e6);
    let used = Used {
        resident: megabytes("VmRSS")?,
        anonymous: megabytes("RssAnon")?,
        peak: megabytes("VmHWM")?,
        wake_ups,
        idle,
    };
    gateway.end().await?;
    Ok(used)
}

/// How often threads of a process went to sleep so far.
fn switches(process: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        if let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) {
            sum += field(&status, "voluntary_ctxt_switches")?;
        }
    }
    Ok(sum)
}

/// A number in a status file of the kernel.
fn field(status: &str, name: &str) -> anyhow::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("the kernel does not tell `{name}`"))
}
