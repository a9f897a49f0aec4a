//! The configuration of the first versions of Docker's gateway is in a volume. It is taken over once, with a real
//! engine, without pulling an image and without running anything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/contract.rs"]
#[expect(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod contract;
#[path = "support/engine.rs"]
#[expect(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod engine;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use docker_mcp::audit::files::Directory;
use docker_mcp::audit::reader::{Filter, Records};
use docker_mcp::audit::verify;
use docker_mcp::capability::container_runtime::docker::legacy_volume::LegacyVolume;
use docker_mcp::lease::Reaper;
use docker_mcp::session::Session;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The name that the gateway looks for.
const REAL_NAME: &str = "docker-prompts";

/// A volume of a test, under a name as long as the real one: a test leaves a user's volume alone.
struct Volume {
    docker: Docker,
    name: String,
}

impl Volume {
    async fn with(docker: &Docker, which: char, files: &[(&str, &str)]) -> Self {
        let name = format!("test-{which}{:08}", std::process::id());
        assert_eq!(name.len(), REAL_NAME.len());
        let mut archive = tar::Builder::new(Vec::new());
        for (file, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, file, text.as_bytes()).unwrap();
        }
        let image = engine::image(docker, "legacy-volume", "LABEL test=legacy-volume").await;
        let options = CreateContainerOptionsBuilder::default().name(&format!("{name}-maker")).build();
        let mount = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            target: Some("/data".to_owned()),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(image),
            cmd: Some(vec!["/bin/sh".to_owned()]),
            host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let maker = docker.create_container(Some(options), body).await.unwrap().id;
        let into = UploadToContainerOptionsBuilder::default().path("/data").build();
        let archive = bollard::body_full(archive.into_inner().unwrap().into());
        docker.upload_to_container(&maker, Some(into), archive).await.unwrap();
        let force = RemoveContainerOptionsBuilder::default().force(true).build();
        docker.remove_container(&maker, Some(force)).await.unwrap();
        Self { docker: docker.clone(), name }
    }

    async fn remove(self) {
        let force = RemoveVolumeOptionsBuilder::default().force(true).build();
        self.docker.remove_volume(&self.name, Some(force)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_volume_are_read_and_nothing_is_left() {
    let Some(docker) = engine::engine().await else { return };
    let around = engine::surroundings();
    assert!(LegacyVolume::find(&around, "docker-mcp-test-no-such-volume").await.unwrap().is_none());
    let volume = Volume::with(&docker, 'a', &[("registry.yaml", "registry: {}\n"), ("other", "x")]).await;
    let found = LegacyVolume::find(&around, &volume.name).await.unwrap().expect("the volume is there");
    let session = Arc::new(Session::without_lock(format!("legacy-{}", std::process::id())));
    let reaper = Reaper::new();
    let files = found.read(&["registry.yaml", "config.yaml"], &reaper, Arc::clone(&session)).await.unwrap();
    assert_eq!(files, [("registry.yaml".to_owned(), b"registry: {}\n".to_vec())]);
    engine::no_containers(&docker, session.id()).await;
    volume.remove().await;
}

/// A socket in front of the engine's on which the test's volume has the real one's name. Returns what is asked for.
fn alias(socket: &Path, name: &str) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let listener = UnixListener::bind(socket).unwrap();
    let (name, requests) = (name.to_owned(), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (name, requests) = (name.clone(), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_engine, mut to_engine) = engine.split();
                let up = async {
                    let mut piece = vec![0; 64 << 10];
                    let mut is_first = true;
                    while let Ok(read @ 1..) = from_client.read(&mut piece).await {
                        let bytes = &mut piece[..read];
                        if std::mem::take(&mut is_first) {
                            let line = bytes.split(|byte| *byte == b'\r').next().unwrap();
                            requests.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
                        }
                        while let Some(at) =
                            bytes.windows(REAL_NAME.len()).position(|text| text == REAL_NAME.as_bytes())
                        {
                            bytes[at..at + REAL_NAME.len()].copy_from_slice(name.as_bytes());
                        }
                        to_engine.write_all(bytes).await.unwrap();
                    }
                    let _ = to_engine.shutdown().await;
                };
                let down = async {
                    let _ = tokio::io::copy(&mut from_engine, &mut to_client).await;
                    let _ = to_client.shutdown().await;
                };
                tokio::join!(up, down);
            });
        }
    });
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_files_takes_them_over_once() {
    let Some(docker) = engine::engine().await else { return };
    let files = [("registry.yaml", "registry: {sample: {ref: ''}}\n"), ("tools.yaml", "sample: [greet]\n")];
    let volume = Volume::with(&docker, 'b', &files).await;
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("docker.sock");
    let asked = alias(&socket, &volume.name);
    let own = home.path().join(".docker/mcp");
    let policy = home.path().join("policy.yaml");
    let list = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
        command.args(["tools", "ls", "--catalog", "builtin:sample", "--max-server-startup-timeout", "90"]);
        command.arg("--policy").arg(&policy);
        command.current_dir(home.path()).env_clear();
        command.env("HOME", home.path()).env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let text = |output: &Output| {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        text
    };
    // A rule about mounts holds for what no component asks for, too; the sample server has none.
    let rules = |rule: &str| format!("version: 1\nrules: [{{name: few, mounts: {{{rule}}}}}]\n");
    std::fs::write(&policy, rules("deny: ['volume:docker-*']")).unwrap();
    let denied = list().await.unwrap();
    // Nothing is enabled then, and what was refused is in the audit log all the same.
    let said = String::from_utf8_lossy(&denied.stderr);
    assert!(!denied.status.success() && said.contains("a policy refuses to mount it"), "{said}");
    assert!(said.contains("policy.yaml:2"), "{said}");
    assert!(!own.join("registry.yaml").exists());
    assert!(!asked.lock().unwrap().iter().any(|line| line.starts_with("POST")), "{asked:?}");
    std::fs::write(&policy, rules("allow: ['volume:docker-prompts:ro']")).unwrap();
    asked.lock().unwrap().clear();
    let first = list().await.unwrap();
    assert!(text(&first).contains("greet") && !text(&first).contains("calculate"), "{}", text(&first));
    for (name, content) in files {
        let path = own.join(name);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let requests = std::mem::take(&mut *asked.lock().unwrap());
    let count = |method: &str, part: &str| {
        requests.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    };
    assert_eq!((count("DELETE", "/images/"), count("DELETE", "/containers/")), (1, 1), "{requests:#?}");
    assert_eq!(count("POST", "/start"), 0, "{requests:#?}");
    std::fs::write(own.join("tools.yaml"), "sample: [calculate]\n").unwrap();
    let second = list().await.unwrap();
    assert!(text(&second).contains("calculate") && !text(&second).contains("greet"), "{}", text(&second));
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|line| line.contains("/volumes/")), "{asked:#?}");
    volume.remove().await;

    let directory = Directory::at(home.path().join(".local/state/docker-mcp/audit"));
    assert!(verify::directory(&directory).unwrap().is_sound());
    let records = Records::open(&directory, Filter::default()).unwrap().map(|found| found.record);
    let own: Vec<_> = records.filter(|record| record.interface.as_deref() == Some(docker_mcp::audit::OWN)).collect();
    let told: Vec<String> = own
        .iter()
        .map(|record| format!("{:?} {} {:?}", record.event, record.outcome.as_deref().unwrap_or_default(), record.gave))
        .collect();
    assert_eq!(told, ["Asked  []", "Call access-denied []", "Asked  []", r#"Call ok ["registry.yaml", "tools.yaml"]"#]);
    assert!(own.iter().all(|record| record.component.is_none() && record.task.is_none()), "{own:#?}");
    assert!(own.iter().all(|record| record.arguments["volumes"][0] == "read-only docker-prompts"), "{own:#?}");
    let rules: Vec<&str> = own.iter().filter_map(|record| Some(record.rule.as_ref()?.text.as_ref())).collect();
    assert_eq!(rules, ["rule `few`", "rule `few`"]);
}
