//! What the audit log costs: one provisioning through the built-in component with the log and without, and one call of
//! the host with and without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use docker_mcp::audit::files::Directory;
use docker_mcp::audit::line::name;
use docker_mcp::audit::{Audit, Call, Ending, Operation, Options, Retention, Subject, verify};
use docker_mcp::provision::sandboxed::SandboxedProvisioner;
use docker_mcp::provision::{Endpoint, Provision};
use tokio_util::sync::CancellationToken;

use super::Effort;
use super::report::{Series, end, note, row, title, verdict};
use super::sandbox::{release, world};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<()> {
    let place = tempfile::TempDir::new()?;
    let options =
        Options { directory: place.path().to_owned(), session: "bench".to_owned(), retention: Retention::default() };
    let audit = Audit::open(options)?;
    let ((without, ..), (with, ..)) = (world(Audit::off())?, world(audit.clone())?);
    without.ready().await?;
    with.ready().await?;
    let (mut bare, mut recorded) = (Series::default(), Series::default());
    let warm_up = effort.samples(200);
    for sample in 0..warm_up + effort.samples(5000) {
        // As in a gateway, where they come one by one, the log is written in between: not by a thread that has the
        // other half of a core at the same time.
        if sample % 25 == 24 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        // Nobody is always first.
        let (first, second) = if sample % 2 == 0 { (&without, &with) } else { (&with, &without) };
        let (one, other) = (provision(first).await?, provision(second).await?);
        let (off, on) = if sample % 2 == 0 { (one, other) } else { (other, one) };
        if sample >= warm_up {
            bare.push(off);
            recorded.push(on);
        }
    }
    title("audit: one provisioning with a fresh instance, with the log and without");
    row("without", &bare, "");
    row("with", &recorded, "");
    verdict("the log adds to a provisioning at p50", recorded.adds(&bare, 50) * 1e3, 20.0, "us");
    note(&format!("at p99 it adds {:.1} us", recorded.adds(&bare, 99) * 1e3));
    // So that all of it is written.
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Some(busy) = writing() {
        let each = busy.as_secs_f64() * 1e6 / (warm_up + effort.samples(5000)) as f64;
        note(&format!("the thread that writes, which nobody waits for, takes {each:.1} us of processor time for each"));
    }
    end();

    let (mut off, mut small, mut large) = (Series::default(), Series::default(), Series::default());
    let digest = "0".repeat(64);
    let subject =
        || Subject { task: "provision", server: Some("github"), tool: None, component: "docker", digest: &digest };
    for sample in 0..effort.samples(5000) {
        // So many at once as here never are in a gateway: the writer would fall behind.
        if sample % 500 == 499 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let mut unrecorded = Operation::unrecorded();
        let mut operation = audit.operation(subject);
        off.push(call(&mut unrecorded, false));
        small.push(call(&mut operation, false));
        large.push(call(&mut operation, true));
        operation.end(Ending::ok, Default::default);
    }
    title("audit: one call of the host, without what it does");
    row("without", &off, "");
    row("a resolver", &small, "");
    row("`start`, with what is asked for", &large, "");
    verdict("the log adds to `start` at p50", large.adds(&off, 50) * 1e3, 20.0, "us");
    verdict("and at p99", large.adds(&off, 99) * 1e3, 20.0, "us");
    drop((with, without));
    let closed = audit.close(PATIENCE).await;
    let report = verify::directory(&Directory::at(place.path().to_owned()))?;
    let session = report.sessions.first().context("nothing was recorded")?;
    ensure!(report.is_sound() && closed.is_ok(), "the log is not sound: {:?} {closed:?}", report.problems);
    note(&format!("{} records were written, {} lost", session.records, session.lost));
    end();
    Ok(())
}

/// How long the thread that writes the log has run. None where the kernel does not tell.
fn writing() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let mut paths = threads.filter_map(|thread| Some(thread.ok()?.path()));
    let writer =
        paths.find(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "audit"))?;
    let statistics = std::fs::read_to_string(writer.join("schedstat")).ok()?;
    Some(Duration::from_nanos(statistics.split_whitespace().next()?.parse().ok()?))
}

async fn provision(provisioner: &SandboxedProvisioner) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let endpoint = provisioner.provision("github", CancellationToken::new()).await?;
    let time = started.elapsed();
    let Endpoint::Container(container) = endpoint else { anyhow::bail!("no container was provisioned") };
    release(container).await;
    Ok(time)
}

fn call(operation: &mut Operation, acts: bool) -> Duration {
    let started = Instant::now();
    let call = Call { interface: "container-runtime", function: "start", acts };
    operation.enter(100, call, |arguments| {
        if acts {
            arguments.text(name::IMAGE, "mcp/github");
            arguments.texts(name::COMMAND, ["--path=<config:github.path>", "<config:github.more>"]);
            let url = "URL=https://<config:github.user>@host";
            arguments.texts(name::ENVIRONMENT, ["TOKEN=<secret:github.token>", url]);
        }
    });
    operation.leave(None, |_| Ending::ok());
    started.elapsed()
}
