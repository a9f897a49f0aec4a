//! The real Docker Engine for tests, with tiny images that are made of busybox.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListContainersOptionsBuilder};
use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::docker::connect::Surroundings;
use docker_mcp::lease::Reaper;
use docker_mcp::session::Session;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use crate::contract::{Image, Images, OneSecret, Subject};

/// What images are made of.
const BUSYBOX: &str = "/bin/busybox";

/// The process's environment and home, as the gateway passes them.
pub(crate) fn surroundings() -> Surroundings {
    Surroundings { context: None, variables: std::env::vars().collect(), home: std::env::home_dir() }
}

/// The engine, or `None` after saying that the test is skipped.
pub(crate) async fn engine() -> Option<Docker> {
    let reason = match Docker::connect_with_defaults() {
        Ok(docker) => match docker.ping().await {
            Ok(_) if Path::new(BUSYBOX).exists() => return Some(docker),
            Ok(_) => format!("images need `{BUSYBOX}`: install busybox-static"),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    assert!(
        std::env::var("DOCKER_MCP_REQUIRE_ENGINE").as_deref() != Ok("1"),
        "DOCKER_MCP_REQUIRE_ENGINE=1 and there is no Docker Engine for tests: {reason}"
    );
    eprintln!("skipped: no Docker Engine ({reason})");
    None
}

/// A Docker runtime with images, in a session of its own.
pub(crate) async fn subject() -> Option<Subject> {
    static SESSIONS: AtomicU32 = AtomicU32::new(0);
    let docker = engine().await?;
    let images = images(&docker).await;
    let session = format!("t{}-{}", std::process::id(), SESSIONS.fetch_add(1, Ordering::Relaxed));
    let reaper = Reaper::new();
    let runtime = runtime(surroundings(), &reaper);
    let left = Arc::new(move |session: String| {
        let docker = docker.clone();
        Box::pin(async move { containers(&docker, &session).await.len() }) as _
    });
    Some(Subject {
        runtime: Arc::new(runtime),
        reaper,
        images,
        session,
        left,
        counts_running: true,
        pulls_at_start: false,
        stores_secrets: false,
    })
}

/// A Docker runtime that passes every volume except below `/forbidden`.
pub(crate) fn runtime(surroundings: Surroundings, reaper: &Reaper) -> DockerRuntime {
    runtime_in(Arc::new(Session::without_lock("no-lock".to_owned())), surroundings, reaper)
}

/// The same in a session that may have a lock.
pub(crate) fn runtime_in(session: Arc<Session>, surroundings: Surroundings, reaper: &Reaper) -> DockerRuntime {
    let check = Arc::new(|volume: &str| match volume.starts_with("/forbidden") {
        true => Err(format!("volume `{volume}` is refused")),
        false => Ok(volume.to_owned()),
    });
    DockerRuntime::new(surroundings, Arc::new(OneSecret), check, reaper.clone(), session)
}

/// The names of a session's containers, in whatever state.
pub(crate) async fn containers(docker: &Docker, session: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label", vec![format!("docker-mcp-session={session}")])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.unwrap();
    found.into_iter().flat_map(|container| container.names.unwrap_or_default()).collect()
}

/// Expects that a session has no container. The engine no longer knows a container a moment before it leaves it out of
/// its lists, so that what is listed just after a removal that found nothing is looked at again.
pub(crate) async fn no_containers(docker: &Docker, session: &str) {
    let start = std::time::Instant::now();
    loop {
        let left = containers(docker, session).await;
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "containers are left: {left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Makes the images; making one again changes nothing.
async fn images(docker: &Docker) -> Images {
    let shell = async |name: &str, script: &str| {
        let script = script.replace('"', "\\\"");
        let instruction = format!(r#"ENTRYPOINT ["/bin/sh","-c","{script}","sh"]"#);
        Image::new(image(docker, name, &instruction).await, &[])
    };
    Images {
        echo: shell("echo", r#"while IFS= read -r line; do printf '%s\n' "$line"; done"#).await,
        fails: shell("exits-7", "exit 7").await,
        failure: 7,
        both_streams: shell("both-streams", "echo to stdout; echo to stderr >&2").await,
        arguments: shell("arguments", r#"for a in "$@"; do echo "$a"; done"#).await,
        key: shell("key", r#"printf %s "$KEY""#).await,
        million: shell("million", "yes | tr -d '\\\\n' | tr y x | head -c 1000000").await,
        ignores_stdin: shell("ignores-stdin", "exec sleep 600").await,
        missing: Image::new("127.0.0.1:1/docker-mcp-test/missing:1", &[]),
    }
}

/// Makes an image of a shell with this Dockerfile instruction, once: its tag comes from the instruction.
pub(crate) async fn image(docker: &Docker, name: &str, instruction: &str) -> String {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let repository = format!("docker-mcp-test/{name}");
    let tag: String = Sha256::digest(instruction).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let reference = format!("{repository}:{tag}");
    if docker.inspect_image(&reference).await.is_ok() {
        return reference;
    }
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    // A layer of its own for each image: one that another image shares is never pulled.
    std::fs::write(root.path().join("instruction"), instruction).unwrap();
    for applet in ["sh", "sleep", "head", "tr", "yes", "id"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "."]).output().unwrap();
    assert!(tar.status.success());
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(&repository)
        .tag(&tag)
        .changes(vec![instruction.to_owned()])
        .build();
    let mut reports = docker.create_image(Some(options), Some(bollard::body_full(tar.stdout.into())), None);
    while let Some(report) = reports.next().await {
        report.unwrap();
    }
    reference
}
