//! The same component on the real Docker Engine: what it leaves, what errors of the engine tell it, and what arguments
//! become.

use std::path::Path;
use std::sync::Arc;

use bollard::Docker;
use bollard::query_parameters::{
    ListNetworksOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions, TagImageOptionsBuilder,
};
use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::{Quiet, RunLimits};
use docker_mcp::catalog::Catalog;
use docker_mcp::lease::Reaper;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision as _, ProvisionError};
use docker_mcp::resolve::ServerSettings;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::session::Session;
use futures::StreamExt as _;
use provisioning_core::Resources;
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::attempt::{CANARY, PERMISSIVE, log, log_length, name, open, red_team, with};
use crate::contract::PATIENCE;
use crate::engine;
use crate::kills::{EVERY, SOME};
use crate::world::{self, Secrets};

/// A component and one server over the engine, in a session of their own.
struct Place {
    docker: Docker,
    provisioner: SandboxedProvisioner,
    reaper: Reaper,
    session: String,
    audit: docker_mcp::audit::Audit,
    directory: TempDir,
}

impl Place {
    /// `entry` is the server's, with `NAME` for its name; `config` is its section.
    async fn new(
        component: Source,
        server: &str,
        entry: &str,
        config: Json,
        grants: &str,
        policy: Option<&str>,
    ) -> Option<Self> {
        static SESSIONS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let docker = engine::engine().await?;
        let number = SESSIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let session = format!("r{}-{number}", std::process::id());
        let reaper = Reaper::new();
        let lock = Arc::new(Session::without_lock("no-lock".to_owned()));
        // All volumes pass: what the engine says of them is part of this.
        let check = Arc::new(|volume: &str| Ok(volume.to_owned()));
        let runtime = DockerRuntime::new(engine::surroundings(), Arc::new(Secrets), check, reaper.clone(), lock);
        let text = format!("registry:\n  {server}:\n{}", entry.replace("NAME", server));
        let (catalog, _) = Catalog::parse(&text, Path::new("test.yaml")).unwrap();
        let directory = TempDir::new().unwrap();
        let audit = open(directory.path());
        let config = Map::from_iter([(server.to_owned(), config)]);
        let provisioner = SandboxedProvisioner::new(Setup {
            engine: Engine::new(Some(&world::cache())).unwrap(),
            component,
            grants: grants.parse().unwrap(),
            session: session.clone(),
            runtime: Arc::new(runtime),
            servers: vec![ServerSettings {
                name: server.to_owned(),
                entry: Arc::new(catalog.get(server).unwrap().clone()),
                config: Arc::new(config),
                secrets: Arc::new(Secrets),
                cluster: None,
                resources: Resources::default(),
                long_lived: false,
                refused: None,
            }],
            startup_timeout: PATIENCE,
            tool_timeout: RunLimits::default().time,
            limits: Limits::default(),
            progress: Arc::new(Quiet),
            audit: audit.clone(),
            dry_run: false,
            enforcement: policy.map_or_else(Enforcement::default, world::enforcement),
        });
        Some(Self { docker, provisioner, reaper, session, audit, directory })
    }

    async fn provision(&self, server: &str) -> Result<Endpoint, ProvisionError> {
        self.provisioner.provision(server, CancellationToken::new()).await
    }

    /// Expects that nothing of the session is left, and that no private text is in the audit log. Returns that.
    async fn closed(self) -> String {
        let log = self.recorded().await;
        let leaks: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        log
    }

    /// The audit log, after nothing of the session is left.
    async fn recorded(self) -> String {
        assert!(self.reaper.drain(PATIENCE).await, "the reaper did not finish");
        engine::no_containers(&self.docker, &self.session).await;
        let label = format!("docker-mcp-session={}", self.session);
        let filters = std::collections::HashMap::from([("label", vec![label.as_str()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        assert!(self.docker.list_networks(Some(options)).await.unwrap().is_empty());
        self.audit.close(PATIENCE).await.unwrap().unwrap();
        std::fs::read_to_string(self.directory.path().join("s.000001.jsonl")).unwrap()
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_dies_before_any_of_its_host_calls_leaves_no_container_network_or_connection() {
    let Some(docker) = engine::engine().await else { return };
    let instruction = r#"ENTRYPOINT ["/bin/sh","-c","while read -r line; do echo ok; done","sh"]"#;
    let image = engine::image(&docker, "red-team-echo", instruction).await;
    let before = open_files();
    let elsewhere = format!("registry.example/{image}");
    let (repository, tag) = elsewhere.rsplit_once(':').unwrap();
    let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    docker.tag_image(&image, Some(options)).await.unwrap();
    // With the engine's network and without any.
    for (suffix, grants, policy, network) in [
        ("", &[][..], None, true),
        (" grants", &SOME[..], Some(PERMISSIVE), false),
        (" everywhere", &EVERY[..], Some(PERMISSIVE), true),
    ] {
        let entry = format!(
            "    image: '{image}'\n    disableNetwork: {}\n    secrets: [{{name: NAME.token, env: TOKEN}}]\n    volumes: ['/scratch']\n",
            !network
        );
        let die = async |number: u32| {
            let server = name("kill", &format!("{number}{suffix}"));
            let place = Place::new(red_team(), &server, &entry, json!({}), &with(grants), policy).await.unwrap();
            let result = place.provision(&server).await.map(drop);
            let log = place.closed().await;
            assert!(result.is_ok() || log.contains(r#""outcome":"trapped""#), "{number}{suffix}: {result:?} {log}");
            if suffix == " everywhere" {
                // It got past the rehearsal, and the engine was asked for what the grants allow.
                let real = log.lines().filter(|line| line.contains(r#""task":"provision""#));
                let asked = real.filter(|line| line.contains(r#""event":"asked""#)).collect::<String>();
                assert!(asked.contains(&elsewhere) && asked.contains("evil=198.51.100.6"), "{number}: {log}");
                assert!(asked.contains("docker-mcp-test-red-team:/cache"), "{number}: {log}");
            }
            result.is_ok()
        };
        let ended: Vec<bool> = futures::stream::iter(0..80).map(die).buffered(4).collect().await;
        let first =
            ended.iter().position(|ended| *ended).unwrap_or_else(|| panic!("{suffix}: it never got to its end"));
        assert!(first > 40 && ended.iter().skip(first).all(|ended| *ended), "{ended:?}");
    }
    docker.remove_image(&elsewhere, None::<RemoveImageOptions>, None).await.unwrap();
    // A named volume outlives its containers; with one of them left, it could not be removed.
    docker.remove_volume("docker-mcp-test-red-team", None::<RemoveVolumeOptions>).await.unwrap();
    // Others of this process may have some open; one for each of them would be more.
    let after = open_files();
    assert!(after < before + 40, "{before} files before, {after} after");
}

/// Configuration and secrets that the engine will not take, and says so by quoting them, whole or in part.
const QUOTED: [(&str, &str); 12] = [
    ("user: '{{NAME.x}}'", "canary-user"),
    ("user: '{{NAME.x}}'", "canary-user:canary-group"),
    ("user: '{{NAME.x}}'", "0:canary-group"),
    ("user: '{{NAME.x}}'", "canary\"user\\canary"),
    ("user: 'x{{NAME.x}}'", "canary user"),
    ("command: ['{{NAME.x}}']", "canary-program"),
    ("command: ['{{NAME.x}}']", "/canary-directory/canary program\n\"x\""),
    ("command: ['$TOKEN']", ""),
    ("volumes: ['{{NAME.x}}']", "canary!volume:/x"),
    ("volumes: ['{{NAME.x}}']", "/tmp:canary/relative"),
    ("volumes: ['{{NAME.x}}']", "/tmp:/x:canary-mode"),
    ("volumes: ['{{NAME.x}}:/x']", "/proc/canary-directory/below"),
];

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_engine_tell_neither_the_component_nor_anybody_else_a_private_text() {
    let Some(docker) = engine::engine().await else { return };
    let image = engine::image(&docker, "red-team-bare", r#"CMD ["/bin/sh"]"#).await;
    let mut wrong = Vec::new();
    for (line, text) in QUOTED {
        let entry = format!(
            "    image: '{image}'\n    disableNetwork: true\n    {line}\n    secrets: [{{name: NAME.token, env: TOKEN}}]\n"
        );
        let from = log_length();
        let place = Place::new(red_team(), "scan", &entry, json!({"x": text}), &with(&[]), None).await.unwrap();
        let error = place.provision("scan").await.map(drop).unwrap_err().to_string();
        let recorded = place.recorded().await;
        wrong.extend(
            recorded.lines().filter(|line| line.contains(CANARY)).map(|found| format!("{line} {text}: {found}")),
        );
        let logged = log().since(from);
        if !error.starts_with("private 0, public ") || error.contains("public 0") || error.contains(CANARY) {
            wrong.push(format!("{line} {text}: {error}"));
        }
        // What a container writes itself, here its `init` that cannot run the command, is logged as it is.
        let own = logged.lines().filter(|line| !line.contains(" server: "));
        wrong.extend(own.filter(|line| line.contains(CANARY)).map(|found| format!("{line} {text}: {found}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_writes_goes_to_the_caller_and_not_through_the_component() {
    let Some(docker) = engine::engine().await else { return };
    let script = r#"echo $TOKEN canary-output; echo $TOKEN >&2"#;
    let image =
        engine::image(&docker, "red-team-tells", &format!(r#"ENTRYPOINT ["/bin/sh","-c","{script}","sh"]"#)).await;
    let entry = format!(
        "    image: '{image}'\n    disableNetwork: true\n    secrets: [{{name: NAME.token, env: TOKEN}}]\n    tools:\n      - name: tell\n        \
         container: {{image: '{image}', command: []}}\n"
    );
    let place = Place::new(red_team(), "scan", &entry, json!({}), &with(&[]), None).await.unwrap();
    let error = place.provision("scan").await.map(drop).unwrap_err().to_string();
    assert!(error.starts_with("private 0, public ") && !error.contains("public 0"), "{error}");
    let completed = place.provisioner.run_tool("scan", "tell", Map::new(), CancellationToken::new()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout.bytes), "canary-secret canary-output\n");
    place.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_is_one_argument_whatever_is_in_it() {
    let Some(docker) = engine::engine().await else { return };
    let script = r#"for a in \"$@\"; do echo \"[$a]\"; done"#;
    let image =
        engine::image(&docker, "red-team-arguments", &format!(r#"ENTRYPOINT ["/bin/sh","-c","{script}","sh"]"#)).await;
    let entry = format!(
        "    image: '{image}'\n    disableNetwork: true\n    secrets: [{{name: NAME.token, env: TOKEN}}]\n    tools:\n      - name: tell\n        \
         parameters: {{type: object, properties: {{text: {{type: string}}}}}}\n        container: {{image: '{image}', command: ['{{{{text}}}}']}}\n"
    );
    for text in [
        "; id",
        "$(id)",
        "`id`",
        "$TOKEN",
        "${TOKEN}",
        "a b",
        "a\nb",
        "'",
        "\"",
        "\\",
        "--privileged",
        "-v/:/host",
        "&& id #",
        "*",
        "~",
        "{a,b}",
        "%s",
        "\u{1b}[2J",
    ] {
        let server = name("argument", text);
        let place =
            Place::new(red_team(), &server, &entry, json!({}), &with(&["rewrite-command"]), None).await.unwrap();
        // Once from the client and once from the component.
        let arguments = Map::from_iter([("text".to_owned(), json!(text))]);
        let completed = place.provisioner.run_tool(&server, "tell", arguments, CancellationToken::new()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&completed.stdout.bytes), format!("[{text}]\n[{text}]\n"));
        place.closed().await;
    }
}
