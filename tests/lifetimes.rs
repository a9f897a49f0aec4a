//! What happens to containers when the engine dies in the middle of a request, when a client goes away, and when a
//! gateway is killed: nothing remains, and nothing of the living is touched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[allow(dead_code, reason = "the rules of the contract are for the backends' own tests")]
#[path = "support/contract.rs"]
mod contract;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/engine.rs"]
mod engine;
#[allow(dead_code, reason = "what is held up is for the test that kills gateways")]
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, NetworkCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::docker::connect::Surroundings;
use docker_mcp::capability::container_runtime::{ContainerRuntime, Quiet, RunLimits};
use docker_mcp::lease::Reaper;
use docker_mcp::session::{Session, Sessions};
use futures::future::join_all;

use contract::{request, within};
use proxy::{Mode, Moment, Proxy, Verdict};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_at_any_request_and_comes_back_has_nothing_left() {
    if engine::engine().await.is_none() {
        return;
    }
    let points = ["create", "attach", "start", "wait", "remove"]
        .into_iter()
        .flat_map(|kind| [Moment::Asked, Moment::Answered].map(|moment| (kind, moment)));
    join_all(points.map(|(kind, moment)| dies_at(kind, moment))).await;
}

async fn dies_at(kind: &'static str, moment: Moment) {
    let subject = engine::subject().await.unwrap();
    let proxy = Proxy::start();
    let around =
        Surroundings { context: None, variables: [("DOCKER_HOST".to_owned(), proxy.host())].into(), home: None };
    let runtime = engine::runtime(around, &subject.reaper);
    within(runtime.prepare(&subject.images.ignores_stdin.image, &Quiet)).await.unwrap();
    let died = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&died);
    proxy.watch(move |asked, at| match asked == kind && at == moment && !first.swap(true, Ordering::SeqCst) {
        true => Verdict::Die,
        false => Verdict::Pass,
    });
    let start = || runtime.start(subject.request(&subject.images.ignores_stdin));
    match kind {
        "wait" => {
            // The run hangs on its wait request until the engine dies, and then cannot know how it ended.
            let run = runtime.run(subject.request(&subject.images.ignores_stdin), RunLimits::default());
            within(run).await.unwrap_err();
        }
        "remove" => drop(within(start()).await.unwrap()),
        _ => drop(within(start()).await.unwrap_err()),
    }
    within(async {
        while !died.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The engine stays away for a while, in which removal cannot succeed.
    let drained = subject.reaper.drain(Duration::from_millis(1500)).await;
    let container_is_gone =
        (kind, moment) == ("create", Moment::Asked) || (kind, moment) == ("remove", Moment::Answered);
    assert!(!drained || container_is_gone, "{kind} {moment:?}: given up while the engine was away");
    proxy.set(Mode::Pass);
    subject.expect_nothing_left().await;
}

/// Sessions in a directory of a test's own, on the real engine.
struct Scene {
    _directory: tempfile::TempDir,
    docker: Docker,
    sessions: Sessions,
    image: String,
}

impl Scene {
    async fn new() -> Option<Self> {
        let docker = engine::engine().await?;
        let directory = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(directory.path().join("sessions")).unwrap();
        let image = engine::subject().await?.images.ignores_stdin.image;
        Some(Self { _directory: directory, docker, sessions, image })
    }

    fn runtime(&self, session: &Arc<Session>, reaper: &Reaper) -> DockerRuntime {
        engine::runtime_in(Arc::clone(session), engine::surroundings(), reaper)
    }

    /// A session with a container, as a gateway leaves it that is killed: nothing was released but the lock.
    async fn killed(&self) -> String {
        let session = Arc::new(self.sessions.begin().unwrap());
        let id = session.id().to_owned();
        let running = within(self.runtime(&session, &Reaper::new()).start(request(&id, &self.image))).await.unwrap();
        std::mem::forget(running.lease);
        id
    }

    async fn left(&self, session: &str) -> usize {
        engine::containers(&self.docker, session).await.len()
    }

    /// What cleans up: another gateway.
    async fn reap(&self, dry_run: bool) -> docker_mcp::capability::container_runtime::docker::reap::Report {
        let session = Arc::new(Session::without_lock("reaper".to_owned()));
        within(self.runtime(&session, &Reaper::new()).reap(&self.sessions, dry_run)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_dead_sessions_left_is_removed() {
    let Some(scene) = Scene::new().await else { return };
    let dead = scene.killed().await;
    let network = format!("docker-mcp-test-{dead}");
    let labels = [
        ("docker-mcp", "true"),
        ("docker-mcp-session", dead.as_str()),
        ("docker-mcp-sessions-at", scene.sessions.at()),
    ];
    let labels = labels.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let body = NetworkCreateRequest { name: network.clone(), labels: Some(labels.into()), ..Default::default() };
    scene.docker.create_network(body).await.unwrap();

    let alive = Arc::new(scene.sessions.begin().unwrap());
    let reaper = Reaper::new();
    let living = within(scene.runtime(&alive, &reaper).start(request(alive.id(), &scene.image))).await.unwrap();
    // One whose lock is somewhere else, and one of the other implementation of the gateway.
    let other = Scene::new().await.unwrap();
    let elsewhere = other.killed().await;
    let reference = format!("docker-mcp-test-reference-{dead}");
    let labels = [("docker-mcp", "true"), ("docker-mcp-tool-type", "mcp"), ("docker-mcp-name", "time")];
    let labels: HashMap<_, _> = labels.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
    let body = ContainerCreateBody { image: Some(scene.image.clone()), labels: Some(labels), ..Default::default() };
    let options = CreateContainerOptionsBuilder::default().name(&reference).build();
    scene.docker.create_container(Some(options), body).await.unwrap();

    let forecast = scene.reap(true).await;
    assert_eq!((scene.left(&dead).await, scene.left(alive.id()).await), (1, 1), "a dry run removes nothing");
    let done = scene.reap(false).await;
    assert_eq!(forecast.dead, done.dead);
    assert_eq!(done.dead.len(), 1);
    assert_eq!(done.dead[0].session, dead);
    assert_eq!((done.dead[0].containers.len(), done.dead[0].failures.len()), (1, 0));
    assert_eq!(done.dead[0].containers[0].server, "Contract Server");
    assert_eq!(done.dead[0].networks[0].name, network);
    assert_eq!(done.held, [alive.id()]);
    assert!(done.foreign >= 1);
    assert_eq!((scene.left(&dead).await, scene.left(alive.id()).await, scene.left(&elsewhere).await), (0, 1, 1));
    assert!(scene.docker.inspect_network(&network, None).await.is_err(), "the network is gone");
    assert!(scene.docker.inspect_container(&reference, None).await.is_ok(), "the other implementation's is there");
    assert_eq!(scene.sessions.ids().unwrap(), [alive.id()], "the dead session's lock file is gone");
    assert_eq!(scene.reap(false).await.dead, [], "a second time there is nothing to do");

    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    scene.docker.remove_container(&reference, Some(force)).await.unwrap();
    assert_eq!(other.reap(false).await.dead.len(), 1);
    drop(living);
    assert!(reaper.drain(contract::PATIENCE).await);
    assert_eq!(scene.left(alive.id()).await + scene.left(&elsewhere).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_clean_up_at_once_do_not_get_in_each_others_way() {
    let Some(scene) = Scene::new().await else { return };
    let dead = join_all((0..3).map(|_| scene.killed())).await;
    let reports = join_all((0..3).map(|_| scene.reap(false))).await;
    for report in &reports {
        assert!(report.dead.iter().all(|dead| dead.failures.is_empty()), "{reports:#?}");
    }
    for session in dead {
        assert_eq!(scene.left(&session).await, 0);
    }
    assert!(scene.sessions.ids().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_after_the_lock_file_is_gone_is_removed_the_next_time() {
    let Some(scene) = Scene::new().await else { return };
    let dead = scene.killed().await;
    std::fs::remove_file(scene._directory.path().join(format!("sessions/{dead}.lock"))).unwrap();
    assert_eq!(scene.reap(false).await.dead.len(), 1);
    assert_eq!(scene.left(&dead).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_cleaned_up_after_keeps_its_lock_file() {
    let Some(scene) = Scene::new().await else { return };
    let dead = scene.killed().await;
    let proxy = Proxy::start();
    proxy.watch(|asked, at| match (asked, at) {
        ("remove", Moment::Asked) => Verdict::Die,
        _ => Verdict::Pass,
    });
    let around =
        Surroundings { context: None, variables: [("DOCKER_HOST".to_owned(), proxy.host())].into(), home: None };
    let runtime = engine::runtime(around, &Reaper::new());
    let report = within(runtime.reap(&scene.sessions, false)).await.unwrap();
    assert_eq!(report.dead[0].failures.len(), 1, "{report:#?}");
    assert!(report.dead[0].failures[0].contains("docker rm --force"), "{report:#?}");
    assert_eq!(scene.sessions.ids().unwrap(), std::slice::from_ref(&dead));
    assert_eq!(scene.reap(false).await.dead[0].failures.len(), 0);
    assert_eq!(scene.left(&dead).await, 0);
    assert!(scene.sessions.ids().unwrap().is_empty());
}
