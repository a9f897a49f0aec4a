//! One server behind a component, with a container runtime in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use docker_mcp::audit::Audit;
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::fake::FakeRuntime;
use docker_mcp::capability::container_runtime::{Quiet, Request};
use docker_mcp::catalog::{Catalog, Entry};
use docker_mcp::lease::Reaper;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision, ProvisionError};
use docker_mcp::resolve::ServerSettings;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use provisioning_core::Resources;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a tool may run, which is not the usual time.
pub(crate) const TOOL_TIME: Duration = Duration::from_secs(4321);
pub(crate) const ALL: &str = "secret-resolver,config-resolver,container-runtime,remote-endpoint,log";

/// A server of everything, under the name that tells the hostile component what to do.
pub(crate) const CATALOG: &str = r"
registry:
  NAME:
    image: img
    command: ['--path={{NAME.path}}', '{{NAME.more}}']
    env:
      - {name: URL, value: 'https://{{NAME.user}}@host'}
      - {name: EMPTY, value: '{{NAME.nothing}}'}
      - {name: HEADER, value: 'Bearer $TOKEN'}
    secrets:
      - {name: NAME.token, env: TOKEN}
      - {name: NAME.optional, env: OPTIONAL, required: false}
    volumes: ['data:/data', '{{NAME.path|volume}}']
    user: '{{NAME.uid}}'
    disableNetwork: true
    extraHosts: ['db:10.0.0.1']
    tools:
      - name: shout
        parameters: {type: object, properties: {text: {type: string}}}
        container: {image: tool, command: ['{{text}}', '$TOKEN']}
";

pub(crate) struct Secrets;

#[async_trait]
impl SecretStore for Secrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        match name.ends_with(".token") && !name.starts_with("unset") {
            true => Ok(SecretText::new("canary-secret".to_owned())),
            false => Err(SecretError::Missing { name: name.to_owned(), remedy: "set it".to_owned() }),
        }
    }
}

/// What is around a server and its component.
pub(crate) struct Around {
    pub(crate) limits: Limits,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) audit: Audit,
    pub(crate) enforcement: Enforcement,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            secrets: Arc::new(Secrets),
            audit: Audit::off(),
            enforcement: Enforcement::default(),
        }
    }
}

/// What a policy of this text leads to.
pub(crate) fn enforcement(policy: &str) -> Enforcement {
    let policy = docker_mcp::policy::file::parse(policy, Path::new("policy.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let policies = Arc::new(provisioning_core::policy::Policies { files: vec![policy] });
    Enforcement { policies, ..Enforcement::default() }
}

pub(crate) struct World {
    pub(crate) provisioner: SandboxedProvisioner,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) reaper: Reaper,
}

/// One for all, so that what an operation does to it would be noticed by those after it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Some(&cache())).unwrap());

impl World {
    /// One server with this name and the catalog above, behind a component.
    pub(crate) fn new(component: Source, grants: &str, name: &str) -> Self {
        Self::with(component, grants, name, &CATALOG.replace("NAME", name))
    }

    pub(crate) fn with(component: Source, grants: &str, name: &str, catalog: &str) -> Self {
        let (catalog, _) = Catalog::parse(catalog, Path::new("test.yaml")).unwrap();
        let (_, entry) = catalog.select(&[name.to_owned()]).unwrap().remove(0);
        Self::of_entry(component, grants, name, entry)
    }

    pub(crate) fn of_entry(component: Source, grants: &str, name: &str, entry: Entry) -> Self {
        Self::limited(component, grants, name, entry, Limits::default())
    }

    pub(crate) fn limited(component: Source, grants: &str, name: &str, entry: Entry, limits: Limits) -> Self {
        Self::around(component, grants, name, entry, Around { limits, ..Around::default() })
    }

    pub(crate) fn keeping(
        component: Source,
        grants: &str,
        name: &str,
        entry: Entry,
        limits: Limits,
        secrets: Arc<dyn SecretStore>,
    ) -> Self {
        Self::around(component, grants, name, entry, Around { limits, secrets, ..Around::default() })
    }

    /// Like [`World::new`], with an audit log.
    pub(crate) fn audited(component: Source, grants: &str, name: &str, audit: Audit) -> Self {
        let (catalog, _) = Catalog::parse(&CATALOG.replace("NAME", name), Path::new("test.yaml")).unwrap();
        let (_, entry) = catalog.select(&[name.to_owned()]).unwrap().remove(0);
        Self::around(component, grants, name, entry, Around { audit, ..Around::default() })
    }

    /// Like [`World::with`], under a policy of this text.
    pub(crate) fn under(policy: &str, component: Source, grants: &str, name: &str, catalog: &str) -> Self {
        let around = Around { enforcement: enforcement(policy), ..Around::default() };
        let (catalog, _) = Catalog::parse(catalog, Path::new("test.yaml")).unwrap();
        let (_, entry) = catalog.select(&[name.to_owned()]).unwrap().remove(0);
        Self::around(component, grants, name, entry, around)
    }

    /// Like [`World::audited`], under a policy of this text.
    pub(crate) fn audited_under(policy: &str, component: Source, grants: &str, name: &str, audit: Audit) -> Self {
        let around = Around { enforcement: enforcement(policy), audit, ..Around::default() };
        let (catalog, _) = Catalog::parse(&CATALOG.replace("NAME", name), Path::new("test.yaml")).unwrap();
        let (_, entry) = catalog.select(&[name.to_owned()]).unwrap().remove(0);
        Self::around(component, grants, name, entry, around)
    }

    /// Like [`World::with`], with all around it.
    pub(crate) fn within(component: Source, grants: &str, name: &str, catalog: &str, around: Around) -> Self {
        let (catalog, _) = Catalog::parse(catalog, Path::new("test.yaml")).unwrap();
        let (_, entry) = catalog.select(&[name.to_owned()]).unwrap().remove(0);
        Self::around(component, grants, name, entry, around)
    }

    fn around(component: Source, grants: &str, name: &str, entry: Entry, around: Around) -> Self {
        let Around { mut limits, secrets, audit, enforcement } = around;
        if name == "flood-calls" {
            // It is the number of calls that is to end it, on a machine of any speed.
            limits.guest_time = PATIENCE;
        }
        let reaper = Reaper::new();
        let runtime = FakeRuntime::new(reaper.clone(), Arc::clone(&secrets))
            .image("img", |mut process| async move {
                let _ = tokio::io::copy(&mut process.stdin, &mut tokio::io::sink()).await;
                0
            })
            .image("tool", |_| async { 0 })
            .image("registry.example/evil:1", |_| async { 0 });
        let runtime = Arc::new(runtime);
        let own = json!({
            "path": "/canary/config", "more": "x y", "user": "canary-user", "uid": "1000",
            "first": "canary-same", "second": "canary-same"
        });
        let config = json!({ name.replace('.', "_"): own });
        let Json::Object(config) = config else { unreachable!() };
        let provisioner = SandboxedProvisioner::new(Setup {
            engine: ENGINE.clone(),
            component,
            grants: grants.parse().unwrap(),
            session: "test".to_owned(),
            runtime: runtime.clone(),
            servers: vec![ServerSettings {
                name: name.to_owned(),
                entry: Arc::new(entry),
                config: Arc::new(config),
                secrets,
                resources: Resources::default(),
                long_lived: false,
                cluster: None,
                refused: None,
            }],
            startup_timeout: PATIENCE,
            tool_timeout: TOOL_TIME,
            limits,
            progress: Arc::new(Quiet),
            audit,
            dry_run: false,
            enforcement,
        });
        Self { provisioner, runtime, reaper }
    }

    pub(crate) async fn provision(&self, name: &str) -> Result<Endpoint, ProvisionError> {
        tokio::time::timeout(PATIENCE, self.provisioner.provision(name, CancellationToken::new()))
            .await
            .expect("an operation ends in bounded time")
    }

    /// The one container that was asked for.
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.runtime.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// What is left once everything that was dropped is released.
    pub(crate) async fn left(&self) -> usize {
        assert!(self.reaper.drain(PATIENCE).await);
        self.runtime.live()
    }
}

/// Compiled components are shared between tests, as between processes.
pub(crate) fn cache() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

pub(crate) fn docker() -> Source {
    Source::BuiltIn { name: "docker", bytes: builtin::DOCKER }
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("FIXTURE_COMPONENTS")).join(format!("{name}.wasm"))
}

pub(crate) fn hostile() -> Source {
    Source::File(fixture("hostile"))
}

/// Provisions with the hostile component, expects failure, and expects that nothing is left.
pub(crate) async fn mischief(name: &str) -> String {
    let world = World::new(hostile(), ALL, name);
    let error = world.provision(name).await.map(drop).expect_err(name);
    assert_eq!(world.left().await, 0, "{name}");
    let text = error.to_string();
    assert!(!text.contains("canary"), "{text}");
    text
}

pub(crate) fn texts<'a>(values: impl IntoIterator<Item = &'a (String, provisioning_core::Value)>) -> Vec<String> {
    values.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}
