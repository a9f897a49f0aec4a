//! The Docker backend on a real engine: the contract of all runtimes, and what is Docker's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test fails by panicking")]

#[path = "support/contract.rs"]
mod contract;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/engine.rs"]
mod engine;
#[allow(dead_code, reason = "some of it is for the tests of lifetimes")]
#[path = "support/proxy.rs"]
mod proxy;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::docker::connect::Surroundings;
use docker_mcp::capability::container_runtime::{ContainerRuntime, Quiet, RunLimits, RuntimeError};
use docker_mcp::lease::Reaper;
use docker_mcp::policy::bind_mounts::BindPolicy;
use docker_mcp::session::Session;
use futures::StreamExt;
use provisioning_core::value::Origin;
use provisioning_core::{HostAlias, Network, SecurityProfile, Value, VolumeMount};

use contract::within;
use proxy::{Mode, Proxy};

/// One test for each rule of the contract.
macro_rules! held_to {
    ($($rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(subject) = engine::subject().await {
                    contract::$rule(&subject).await;
                }
            }
        )*
    };
}

held_to!(
    lines_are_exchanged_until_stdin_closes,
    dropping_stdin_closes_it,
    a_servers_streams_are_kept_apart,
    a_run_gives_streams_and_exit_code,
    arguments_arrive_exactly,
    secrets_arrive_in_the_environment,
    output_is_bounded,
    a_run_is_stopped_at_its_time_limit,
    a_missing_image_is_named,
    five_of_one_name_start_at_once,
    a_stubborn_server_is_removed_soon,
    output_ends_with_the_lease,
    a_caller_who_goes_away_leaves_nothing,
);

fn docker_host(host: &str) -> Surroundings {
    Surroundings { context: None, variables: [("DOCKER_HOST".to_owned(), host.to_owned())].into(), home: None }
}

#[tokio::test]
async fn an_engine_that_is_away_is_an_error_at_use_that_says_what_to_do() {
    let runtime = engine::runtime(docker_host("unix:///nowhere/docker.sock"), &Reaper::new());
    let error = within(runtime.prepare("busybox", &Quiet)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable(_)));
    let text = error.to_string();
    assert!(text.contains("cannot reach the Docker Engine at `unix:///nowhere/docker.sock`"), "{text}");
    assert!(text.contains("start it") && text.contains("DOCKER_HOST"), "{text}");

    let runtime = engine::runtime(docker_host("tcp://127.0.0.1:1"), &Reaper::new());
    let error = within(runtime.prepare("busybox", &Quiet)).await.unwrap_err();
    assert!(error.to_string().contains("tcp://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut request = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut read, &mut request).await;
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"ApiVersion\":\"1.40\"}";
        tokio::io::AsyncWriteExt::write_all(&mut write, answer.as_bytes()).await.unwrap();
    });
    let runtime = engine::runtime(docker_host(&format!("tcp://{address}")), &Reaper::new());
    let error = within(runtime.prepare("busybox", &Quiet)).await.unwrap_err().to_string();
    assert!(error.contains("speaks API 1.40, and 1.41 is needed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_gets_what_the_specification_says() {
    let (Some(subject), Some(docker)) = (engine::subject().await, engine::engine().await) else { return };
    let mut request = subject.request(&subject.images.echo);
    request.spec.network = Network::Declared;
    request.spec.hosts = vec![HostAlias { name: "db.local".to_owned(), address: "10.1.2.3".to_owned() }];
    request.spec.volumes = vec![
        VolumeMount { value: Value::text("/anonymous"), read_only: false },
        VolumeMount { value: Value::text("/tmp:/host:rw"), read_only: true },
    ];
    request.spec.user = Some(Value::text("1000:1000"));
    request.spec.security = SecurityProfile { read_only_root: true, drop_capabilities: true, run_as_non_root: true };
    let running = within(subject.runtime.start(request)).await.unwrap();
    assert!(running.lease.name().starts_with("docker-mcp-contract-server-"));
    let found = docker.inspect_container(running.lease.name(), None::<InspectContainerOptions>).await.unwrap();
    let (host, config) = (found.host_config.unwrap(), found.config.unwrap());
    assert_eq!(host.memory, Some(2 << 30));
    assert_eq!(host.nano_cpus, Some(1_000_000_000));
    assert_eq!(host.init, Some(true));
    assert_eq!(host.auto_remove, Some(true));
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!(host.extra_hosts, Some(vec!["db.local:10.1.2.3".to_owned()]));
    assert_eq!(host.binds, Some(vec!["/tmp:/host:ro".to_owned()]));
    assert_eq!(config.user.as_deref(), Some("1000:1000"));
    let labels = config.labels.unwrap();
    assert_eq!(labels["docker-mcp-name"], "Contract Server");
    assert_eq!(labels["docker-mcp-session"], subject.session);
    let volume = found.mounts.unwrap().into_iter().find_map(|mount| mount.name).unwrap();
    drop(running);
    subject.expect_nothing_left().await;
    let began = Instant::now();
    while docker.inspect_volume(&volume).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "the volume without a name goes with the container");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_run_as_root_is_refused_if_that_is_asked_for() {
    let Some(subject) = engine::subject().await else { return };
    let mut request = subject.request(&subject.images.echo);
    request.spec.security.run_as_non_root = true;
    let error = within(subject.runtime.start(request)).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("numeric `user`")), "{error}");
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_volume_is_named_by_where_it_comes_from() {
    let Some(subject) = engine::subject().await else { return };
    let mut request = subject.request(&subject.images.echo);
    let value = Value::concat([&Value::private(Origin::Config, "s.path", "/forbidden/hunter2"), &Value::text(":/x")]);
    request.spec.volumes = vec![VolumeMount { value, read_only: false }];
    let error = within(subject.runtime.start(request)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Denied(_)));
    let name = "volume `<config:s.path>:/x`";
    assert_eq!(error.to_string(), format!("{name}: {name} is refused"), "what the check quotes is hidden too");
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_becomes_a_link_while_the_container_is_made_is_refused() {
    let Some(subject) = engine::subject().await else { return };
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let root = directory.path().canonicalize().unwrap();
    let (mine, other) = (root.join("mine"), root.join("other"));
    std::fs::create_dir(&mine).unwrap();
    std::fs::create_dir(&other).unwrap();
    let volume = format!("{}:/x", mine.display());
    // Whoever may write here waits for the moment after the check.
    let (policy, swapped) = (BindPolicy::from_environment(|_| None), AtomicBool::new(false));
    let check = Arc::new(move |volume: &str| {
        let checked = policy.check(volume).map_err(|error| error.to_string());
        if !swapped.swap(true, Ordering::SeqCst) {
            std::fs::remove_dir(&mine).unwrap();
            std::os::unix::fs::symlink(&other, &mine).unwrap();
        }
        checked
    });
    let session = Arc::new(Session::without_lock("no-lock".to_owned()));
    let secrets = Arc::new(contract::OneSecret);
    let runtime = DockerRuntime::new(engine::surroundings(), secrets, check, subject.reaper.clone(), session);
    let mut request = subject.request(&subject.images.echo);
    request.spec.volumes = vec![VolumeMount { value: Value::text(volume), read_only: false }];
    let error = within(runtime.start(request)).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("was replaced")), "{error}");
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_exist_is_an_error_and_leaves_nothing() {
    let Some(subject) = engine::subject().await else { return };
    let docker = engine::engine().await.unwrap();
    let image = engine::image(&docker, "no-program", r#"ENTRYPOINT ["/no/such/program"]"#).await;
    let outcome = within(subject.runtime.run(subject.request(&image), RunLimits::default())).await;
    // With `--init`, it is the init process that starts and then reports the program missing, with code 127.
    match outcome {
        Ok(done) => assert!(done.exit_code != 0, "{done:?}"),
        Err(error) => assert!(error.to_string().contains("/no/such/program"), "{error}"),
    }
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_else_removed_is_released_without_fuss() {
    let (Some(subject), Some(docker)) = (engine::subject().await, engine::engine().await) else { return };
    let mut running = within(subject.runtime.start(subject.request(&subject.images.echo))).await.unwrap();
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(running.lease.name(), Some(options)).await.unwrap();
    let mut rest = Vec::new();
    within(tokio::io::AsyncReadExt::read_to_end(&mut running.streams.stdout, &mut rest)).await.unwrap();
    let began = Instant::now();
    drop(running);
    subject.expect_nothing_left().await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

/// The gateway's part of the next test: runs in a container and starts a server, whose networks it prints.
#[tokio::test(flavor = "multi_thread")]
async fn inside_a_container() {
    if std::env::var_os("DOCKER_MCP_TEST_INSIDE").is_none() {
        return;
    }
    let docker = engine::engine().await.unwrap();
    let reaper = Reaper::new();
    let runtime = engine::runtime(engine::surroundings(), &reaper);
    let mut request = contract::request(
        &std::env::var("DOCKER_MCP_TEST_SESSION").unwrap(),
        &std::env::var("DOCKER_MCP_TEST_IMAGE").unwrap(),
    );
    request.spec.network = Network::Declared;
    let running = within(runtime.start(request)).await.unwrap();
    let found = docker.inspect_container(running.lease.name(), None::<InspectContainerOptions>).await.unwrap();
    let mut networks: Vec<_> = found.network_settings.unwrap().networks.unwrap().into_keys().collect();
    networks.sort();
    println!("networks: {networks:?}");
    drop(running);
    assert!(reaper.drain(contract::PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_in_a_container_attaches_servers_to_its_networks() {
    let (Some(subject), Some(docker)) = (engine::subject().await, engine::engine().await) else { return };
    let networks = ["a", "b"].map(|name| format!("docker-mcp-test-{}-{name}", subject.session));
    for name in &networks {
        let request = NetworkCreateRequest { name: name.clone(), ..NetworkCreateRequest::default() };
        docker.create_network(request).await.unwrap();
    }
    let image = engine::image(&docker, "shell", "LABEL test=shell").await;
    let gateway = format!("docker-mcp-test-{}", subject.session);
    let program = std::env::current_exe().unwrap().display().to_string();
    // The test program finds its libraries where it found them here.
    let libraries = ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|path| Path::new(path).exists());
    let mut binds: Vec<_> = libraries.map(|path| format!("{path}:{path}:ro")).collect();
    binds.push(format!("{program}:/test:ro"));
    binds.push("/var/run/docker.sock:/var/run/docker.sock".to_owned());
    let body = ContainerCreateBody {
        image: Some(image),
        entrypoint: Some(["/test", "--exact", "inside_a_container", "--nocapture"].map(str::to_owned).to_vec()),
        env: Some(vec![
            "DOCKER_MCP_TEST_INSIDE=1".to_owned(),
            format!("DOCKER_MCP_TEST_SESSION={}", subject.session),
            format!("DOCKER_MCP_TEST_IMAGE={}", subject.images.echo.image),
        ]),
        host_config: Some(HostConfig {
            binds: Some(binds),
            network_mode: Some(networks[0].clone()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&gateway).build();
    docker.create_container(Some(options), body).await.unwrap();
    let connect = NetworkConnectRequest { container: gateway.clone(), endpoint_config: None };
    docker.connect_network(&networks[1], connect).await.unwrap();
    docker.start_container(&gateway, None::<StartContainerOptions>).await.unwrap();
    let ended = within(docker.wait_container(&gateway, None::<WaitContainerOptions>).next()).await;
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    let pieces: Vec<_> = docker.logs(&gateway, Some(options)).collect().await;
    let log: String = pieces.into_iter().map(|piece| piece.unwrap().to_string()).collect();
    let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(&gateway, Some(force)).await.unwrap();
    subject.expect_nothing_left().await;
    for name in &networks {
        docker.remove_network(name).await.unwrap();
    }
    assert!(ended.unwrap().is_ok(), "{log}");
    assert!(log.contains(&format!("networks: {networks:?}")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_request_without_an_answer_leaves_nothing() {
    let Some(subject) = engine::subject().await else { return };
    let proxy = Proxy::start();
    let runtime = engine::runtime(docker_host(&proxy.host()), &subject.reaper);
    within(runtime.prepare(&subject.images.echo.image, &Quiet)).await.unwrap();
    proxy.set(Mode::LoseCreateAnswer);
    let error = within(runtime.start(subject.request(&subject.images.echo))).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable(_)), "{error:?}");
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_goes_on_when_the_engine_is_back() {
    let (Some(subject), Some(docker)) = (engine::subject().await, engine::engine().await) else { return };
    let proxy = Proxy::start();
    let runtime = engine::runtime(docker_host(&proxy.host()), &subject.reaper);
    let running = within(runtime.start(subject.request(&subject.images.ignores_stdin))).await.unwrap();
    proxy.set(Mode::Refuse);
    drop(running);
    // It does not end while the engine is away.
    assert!(!subject.reaper.drain(Duration::from_secs(2)).await);
    assert_eq!(engine::containers(&docker, &subject.session).await.len(), 1);
    proxy.set(Mode::Pass);
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_a_short_run_is_never_lost() {
    let Some(subject) = engine::subject().await else { return };
    let runs = (0..30).map(|_| subject.runtime.run(subject.request(&subject.images.fails), RunLimits::default()));
    let codes = futures::stream::iter(runs).buffer_unordered(6).map(|done| done.unwrap().exit_code);
    assert_eq!(within(codes.collect::<Vec<_>>()).await, [7; 30]);
    subject.expect_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_reads_has_to_wait_and_can_be_removed() {
    let Some(subject) = engine::subject().await else { return };
    let mut running = within(subject.runtime.start(subject.request(&subject.images.million))).await.unwrap();
    // The rest is more than what may be buffered, and is never read.
    let mut first = vec![0; 200_000];
    within(tokio::io::AsyncReadExt::read_exact(&mut running.streams.stdout, &mut first)).await.unwrap();
    assert!(first.iter().all(|byte| *byte == b'x'));
    drop(running.lease);
    assert!(subject.reaper.drain(contract::PATIENCE).await);
    subject.expect_nothing_left().await;
}
