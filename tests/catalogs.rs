//! Every real catalog and entry of the registry project: loaded, configured as its schema asks, given its secrets, and
//! planned with the real component. And the built binary with the files that users of the existing gateway have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docker_mcp::audit::Audit;
use docker_mcp::capability::container_runtime::docker::create;
use docker_mcp::capability::container_runtime::kubernetes::{PodSettings, objects};
use docker_mcp::capability::container_runtime::plan::PlanRuntime;
use docker_mcp::capability::container_runtime::{Quiet, Request, RunLimits};
use docker_mcp::catalog::configuration::ServerConfiguration;
use docker_mcp::catalog::{Catalog, Entry, Warning, configuration, enabled};
use docker_mcp::lease::Reaper;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision as _};
use docker_mcp::resolve::cluster::{Cluster, ClusterValues, SingleSecrets, Unseen};
use docker_mcp::resolve::{NetworkRule, ServerSettings, refusal};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::contract::digest;
use docker_mcp::sandbox::mapping::Mapping;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText, materialise};
use docker_mcp::{builtin, catalog};
use proptest::prelude::*;
use provisioning_core::template::section_name;
use provisioning_core::volume::{BindRules, TEMPORARY};
use provisioning_core::{Network, Resources};
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

#[path = "../fuzz/src/bodies/catalog.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are another crate")]
mod body;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/catalog")
}

/// The catalogs of the fixtures by name, and how many servers each has.
const CATALOGS: [(&str, usize); 5] = [
    ("catalog-v3_2025-10-20.yaml", 232),
    ("catalog_2025-08-14.yaml", 1),
    ("catalog_2025-10-20.yaml", 1),
    ("remote-mcp-catalog.yaml", 31),
    ("ui-catalog.yaml", 225),
];

/// Mistakes in the files of the registry project, with what is said about each.
const ODD: [(&str, &str, &str); 3] = [
    ("dotnet-types-explorer", "config.volumes", "belongs below `run`"),
    ("kgrag-mcp-server", "config.properties", "belongs below `parameters`"),
    ("simplechecklist", "run.ports", "no port is published"),
];

/// The default of a setting is a directory of its author's machine, which an operator has to allow or replace.
const OUTSIDE: &str = "its source is outside the allowed directories";
/// The default of a setting begins with `$HOME`, which nothing expands.
const RELATIVE: &str = "its source is neither the name of a volume nor an absolute path";
/// The engine's own socket, which would give the server the whole machine.
const SOCKET: &str = "its source is, lies below or contains `/var/run`, a system path, which is never mounted";

/// What cannot be planned on a fresh installation, and why: the catalog, the server, and what is said. Everything else
/// is planned.
const REFUSED: [(&str, &str, &str); 13] = [
    ("ui-catalog.yaml", "docker", SOCKET),
    ("servers", "arm-mcp", OUTSIDE),
    ("servers", "arxiv-mcp-server", OUTSIDE),
    ("servers", "ast-grep", OUTSIDE),
    ("servers", "aws-diagram", RELATIVE),
    ("servers", "desktop-commander", OUTSIDE),
    ("servers", "filesystem", OUTSIDE),
    ("servers", "git", OUTSIDE),
    ("servers", "inspektor-gadget", RELATIVE),
    ("servers", "kubectl-mcp-server", RELATIVE),
    ("servers", "markitdown", OUTSIDE),
    ("servers", "okta-mcp-server", OUTSIDE),
    ("servers", "rust-mcp-filesystem", OUTSIDE),
];

fn load(path: &Path) -> (Catalog, Vec<Warning>) {
    Catalog::load(path).unwrap_or_else(|error| panic!("{error}"))
}

type Named<T> = Vec<(String, T)>;

/// The registry project's entries as one catalog, with what is odd in each.
fn project() -> (Named<Entry>, Named<Warning>) {
    let (mut entries, mut odd) = (Vec::new(), Vec::new());
    let mut folders: Vec<_> = std::fs::read_dir(fixtures().join("servers")).unwrap().map(Result::unwrap).collect();
    folders.sort_by_key(std::fs::DirEntry::file_name);
    for folder in folders {
        let (catalog, warnings) = load(&folder.path().join("server.yaml"));
        let name = catalog.names().next().unwrap().to_owned();
        entries.extend(catalog.select(std::slice::from_ref(&name)).unwrap());
        odd.extend(warnings.into_iter().map(|warning| (name.clone(), warning)));
    }
    (entries, odd)
}

#[test]
fn every_real_file_loads_and_only_its_mistakes_are_told() {
    for (name, servers) in CATALOGS {
        let (catalog, warnings) = load(&fixtures().join("generated").join(name));
        assert_eq!((catalog.names().count(), warnings.as_slice()), (servers, [].as_slice()), "{name}");
    }
    let (entries, odd) = project();
    assert_eq!(entries.len(), 273);
    let told: Vec<String> =
        odd.iter().map(|(name, warning)| format!("{name} {} {}", warning.key, warning.text)).collect();
    assert_eq!(told.len(), ODD.len(), "{told:#?}");
    for ((name, key, text), told) in ODD.into_iter().zip(told) {
        assert!(told.starts_with(&format!("{name} {key} ")) && told.contains(text), "{told}");
    }
    let (names, odd) = enabled::servers(&[fixtures().join("generated/tool-registrations-registry.yaml")]).unwrap();
    assert_eq!((names.len(), odd.len()), (41, 0));
}

/// Every secret is set.
struct Secrets;

#[async_trait]
impl SecretStore for Secrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        Ok(SecretText::new(format!("secret of {name}")))
    }
}

/// A value that a schema accepts.
fn sample(schema: &Json) -> Json {
    let given = ["default", "const"].iter().find_map(|key| schema.get(*key).filter(|value| !value.is_null()));
    if let Some(value) = given.or_else(|| schema.get("enum").and_then(|options| options.get(0))) {
        return value.clone();
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => {
            let properties = schema.get("properties").and_then(Json::as_object).cloned().unwrap_or_default();
            Json::Object(properties.iter().map(|(key, schema)| (key.clone(), sample(schema))).collect())
        }
        Some("array") => json!([sample(schema.get("items").unwrap_or(&Json::Null))]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(8080)),
        Some("boolean") => json!(true),
        _ => json!("/tmp/sample"),
    }
}

/// A configuration for a server, as its schemas ask for it.
fn configured(name: &str, entry: &Entry) -> Map<String, Json> {
    let mut section = Map::new();
    for schema in &entry.config {
        let mut schema = schema.clone();
        schema["type"] = json!("object");
        section.extend(sample(&schema).as_object().cloned().unwrap());
    }
    Map::from_iter([(section_name(name), Json::Object(section))])
}

/// Where servers are planned to run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Kubernetes,
    /// In a cluster that holds the secrets and the configuration too, under the keys that the built-in mapping says.
    KubernetesWithValues,
}

impl Engine {
    fn name(self) -> &'static str {
        if self == Self::Docker { "docker" } else { "kubernetes" }
    }

    /// What it would get.
    fn render(self, request: &Request) -> Result<Json, String> {
        match self {
            Self::Docker => create::render(request).map_err(|error| error.to_string()),
            Self::Kubernetes | Self::KubernetesWithValues => {
                match objects::render(request, &PodSettings::default(), "default") {
                    Ok(objects) => Ok(Json::Array(objects)),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}

fn provisioner(
    entries: &[(String, Entry)],
    runtime: Arc<PlanRuntime>,
    rule: NetworkRule,
    engine: Engine,
) -> SandboxedProvisioner {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
    std::fs::create_dir_all(&cache).unwrap();
    let wasm = docker_mcp::sandbox::engine::Engine::new(Some(&cache)).unwrap();
    let cluster = (engine == Engine::KubernetesWithValues).then(|| values(&wasm));
    let servers = entries.iter().map(|(name, entry)| {
        let own = match &cluster {
            Some(_) => ServerConfiguration::default(),
            None => configuration::for_server(&configured(name, entry), name, entry),
        };
        assert_eq!(own.warnings, Vec::<String>::new(), "{name}");
        ServerSettings {
            name: name.clone(),
            entry: Arc::new(entry.clone()),
            config: Arc::new(own.scope),
            secrets: Arc::new(Secrets),
            resources: Resources::default(),
            long_lived: entry.long_lived,
            cluster: cluster.clone(),
            refused: refusal(entry, own.fault, rule),
        }
    });
    let (component, grants) = match engine {
        Engine::Docker => (Source::BuiltIn { name: "docker", bytes: builtin::DOCKER }, Grants::builtin_docker()),
        Engine::Kubernetes | Engine::KubernetesWithValues => {
            (Source::BuiltIn { name: "kubernetes", bytes: builtin::KUBERNETES }, Grants::builtin_kubernetes())
        }
    };
    SandboxedProvisioner::new(Setup {
        engine: wasm,
        component,
        grants,
        session: "test".to_owned(),
        runtime,
        servers: servers.collect(),
        startup_timeout: Duration::from_secs(30),
        tool_timeout: RunLimits::default().time,
        limits: Limits::default(),
        progress: Arc::new(Quiet),
        audit: Audit::off(),
        dry_run: true,
        enforcement: Enforcement::default(),
    })
}

/// What a cluster that is not looked at holds.
fn values(engine: &docker_mcp::sandbox::engine::Engine) -> Arc<Cluster> {
    let (config_name, secret_name) = ("mcp-gateway-config".to_owned(), "mcp-gateway-secrets".to_owned());
    let values: Arc<dyn ClusterValues> = Arc::new(Unseen { config_name, secret_name });
    let source = Source::BuiltIn { name: "cluster-mapping", bytes: builtin::CLUSTER_MAPPING };
    let mapping = Mapping::new(engine.clone(), source, Arc::default(), Limits::default(), Audit::off());
    Arc::new(Cluster {
        remote_secrets: Arc::new(SingleSecrets(Arc::clone(&values))),
        values,
        mapping: Arc::new(mapping),
        keys: Vec::new(),
        secrets: true,
        config: true,
    })
}

/// Looks at a request as the engine would get it. An error is why the engine would not.
async fn examine(request: &Request, engine: Engine) -> Result<(), String> {
    engine.render(request)?;
    // What is in the cluster is nowhere else.
    if engine == Engine::KubernetesWithValues {
        return Ok(());
    }
    let spec = &request.spec;
    let environment = spec.environment.iter().map(|(_, value)| value);
    for value in spec.command.iter().chain(environment).chain(&spec.user) {
        let text = materialise(value, &Secrets).await.unwrap();
        assert!(!text.expose().contains("{{") && !text.expose().contains("${"), "{}: {value}", request.identity.server);
    }
    // A cluster has no directories of this machine.
    if engine == Engine::Kubernetes {
        return Ok(());
    }
    // The rules of a fresh installation, on a machine where nothing is a link.
    let rules = BindRules { roots: TEMPORARY.iter().map(PathBuf::from).collect(), writable: Vec::new() };
    for volume in &spec.volumes {
        let text = materialise(&volume.value, &Secrets).await.unwrap();
        rules.check(text.expose(), &|path| Ok(path.to_owned())).map_err(|error| format!("volume: {error}"))?;
    }
    Ok(())
}

/// A request in one line, with names in the place of values. The number stands for all that the engine would get.
fn compact(request: &Request, engine: Engine) -> String {
    let spec = &request.spec;
    let rendered = engine.render(request).map_or_else(|error| error, |body| body.to_string());
    let words = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join(" ");
    let parts = [
        ("image", spec.image.clone()),
        ("command", words(&mut spec.command.iter().map(ToString::to_string))),
        ("variables", words(&mut spec.environment.iter().map(|(name, value)| format!("{name}={value}")))),
        ("volumes", words(&mut spec.volumes.iter().map(|mount| mount.value.to_string()))),
        ("user", spec.user.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("hosts", words(&mut spec.hosts.iter().map(|host| format!("{}={}", host.name, host.address)))),
        ("labels", words(&mut spec.labels.iter().map(|(key, text)| format!("{key}={text}")))),
        ("network", if spec.network == Network::None { "none".to_owned() } else { String::new() }),
    ];
    let objects = match engine.render(request) {
        Ok(Json::Array(objects)) => objects,
        _ => Vec::new(),
    };
    let kept = words(&mut objects.iter().filter(|object| object["kind"] != "Pod").map(|object| {
        let keys = ["data", "stringData"].into_iter().filter_map(|member| object[member].as_object());
        let keys: Vec<&str> = keys.flat_map(|data| data.keys().map(String::as_str)).collect();
        format!("{}({})", object["kind"].as_str().unwrap_or_default(), keys.join(","))
    }));
    let parts = parts.into_iter().chain([("objects", kept)]);
    let told = parts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("{name} {text}"));
    let told = told.collect::<Vec<_>>().join("; ");
    format!("{}; #{:.12}", told.escape_debug(), digest(rendered.as_bytes()))
}

/// Plans a server and its ephemeral tools, and adds a line for each to `lines`. An error is why one of them is refused.
async fn plan(
    provisioner: &SandboxedProvisioner,
    runtime: &PlanRuntime,
    name: &str,
    entry: &Entry,
    engine: Engine,
    lines: &mut Vec<String>,
) -> Result<(), String> {
    if !entry.is_poci() {
        provisioner.pre_validate(name).await.map_err(|error| error.to_string())?;
        let endpoint = provisioner.provision(name, CancellationToken::new()).await;
        match endpoint.map_err(|error| error.to_string())? {
            Endpoint::Container(_) => {
                let request = runtime.take().remove(0);
                lines.push(format!("{name}: {}", compact(&request, engine)));
                assert_eq!(Some(request.spec.image.as_str()), entry.image.as_deref().map(str::trim), "{name}");
                let set: BTreeSet<&str> = request.spec.environment.iter().map(|(name, _)| name.as_str()).collect();
                for secret in entry.secrets.iter().filter(|secret| !secret.env.is_empty()) {
                    assert!(set.contains(secret.env.as_str()), "{name}: secret `{}` arrives nowhere", secret.name);
                }
                examine(&request, engine).await?;
            }
            Endpoint::Remote(remote) => {
                let headers = remote.headers.iter().map(|(name, value)| format!("; {name}: {}", value.expose()));
                lines.push(format!("{name}: remote {}{}", remote.url.expose(), headers.collect::<String>()));
                let texts = std::iter::once(&remote.url).chain(remote.headers.values());
                for text in texts.map(SecretText::expose) {
                    assert!(!text.contains("{{") && !text.contains("${"), "{name}: {text}");
                }
                assert!(remote.url.expose().starts_with("http"), "{name}: {}", remote.url.expose());
            }
        }
    }
    for tool in entry.tools.iter().filter(|tool| tool.container.is_some()) {
        let arguments = sample(&Json::Object(tool.parameters.clone())).as_object().cloned().unwrap_or_default();
        let ran = provisioner.run_tool(name, &tool.name, arguments, CancellationToken::new()).await;
        ran.map_err(|error| error.to_string())?;
        let request = runtime.take().remove(0);
        lines.push(format!("{name}, tool {}: {}", tool.name, compact(&request, engine)));
        examine(&request, engine).await?;
    }
    Ok(())
}

/// Every real entry, by where it is from.
fn groups() -> Vec<(&'static str, Vec<(String, Entry)>)> {
    let mut groups: Vec<(&str, Vec<(String, Entry)>)> = Vec::new();
    for (file, _) in CATALOGS {
        let (catalog, _) = load(&fixtures().join("generated").join(file));
        let names: Vec<String> = catalog.names().map(str::to_owned).collect();
        groups.push((file, catalog.select(&names).unwrap()));
    }
    groups.push(("servers", project().0));
    groups
}

/// What the same entries become in a cluster. Each refusal stands there with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn every_real_entry_has_a_plan_for_a_cluster_or_a_reason_why_not() {
    plan_for_a_cluster(Engine::Kubernetes, "plans-kubernetes.txt", 600).await;
}

/// The keys are those that the built-in mapping gives. What cannot be in a cluster, such as the address of a remote server,
/// is refused.
#[tokio::test(flavor = "multi_thread")]
async fn every_real_entry_has_a_plan_with_values_of_a_cluster_or_a_reason_why_not() {
    plan_for_a_cluster(Engine::KubernetesWithValues, "plans-cluster-values.txt", 500).await;
}

async fn plan_for_a_cluster(engine: Engine, file: &str, at_least: usize) {
    let (mut planned, mut lines) = (0, Vec::new());
    for (group, entries) in groups() {
        lines.push(format!("# {group}"));
        let runtime = Arc::new(PlanRuntime::new(engine.name(), Reaper::new()));
        let provisioner = provisioner(&entries, Arc::clone(&runtime), NetworkRule::Open, engine);
        for (name, entry) in &entries {
            match plan(&provisioner, &runtime, name, entry, engine, &mut lines).await {
                Ok(()) => planned += 1,
                Err(reason) => lines.push(format!("{name}: refused: {reason}")),
            }
        }
    }
    assert!(planned > at_least, "only {planned} were planned");
    golden(file, &lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_entry_is_planned_or_refused_for_a_reason_that_is_listed() {
    let (groups, engine) = (groups(), Engine::Docker);
    let mut expected: BTreeMap<(&str, &str), &str> =
        REFUSED.iter().map(|(group, server, reason)| ((*group, *server), *reason)).collect();
    let (mut planned, mut wrong, mut lines) = (0, Vec::new(), Vec::new());
    for (group, entries) in &groups {
        lines.push(format!("# {group}"));
        let reaper = Reaper::new();
        let runtime = Arc::new(PlanRuntime::new(engine.name(), reaper.clone()));
        let provisioner = provisioner(entries, Arc::clone(&runtime), NetworkRule::Open, engine);
        for (name, entry) in entries {
            let outcome = plan(&provisioner, &runtime, name, entry, engine, &mut lines).await;
            if let Err(reason) = &outcome {
                lines.push(format!("{name}: refused: {reason}"));
            }
            match (outcome, expected.remove(&(*group, name.as_str()))) {
                (Ok(()), None) => planned += 1,
                (Err(reason), Some(expected)) if reason.contains(expected) => {}
                (outcome, expected) => wrong.push(format!("({group:?}, {name:?}): {outcome:?}, expected {expected:?}")),
            }
        }
    }
    assert!(wrong.is_empty() && expected.is_empty(), "{}\nnot met: {expected:#?}", wrong.join("\n"));
    assert!(planned > 700, "only {planned} were planned");
    golden("plans.txt", &lines);
}

/// Compares with a file of the fixtures, and shows the lines that are different.
fn golden(name: &str, lines: &[String]) {
    let path = fixtures().join(name);
    if std::env::var_os("DOCKER_MCP_BLESS").is_some() {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let known: Vec<&str> = text.lines().collect();
    if known != lines {
        let gone = known.iter().filter(|line| !lines.iter().any(|new| new == *line)).map(|line| format!("- {line}"));
        let new = lines.iter().filter(|line| !known.contains(&line.as_str())).map(|line| format!("+ {line}"));
        let different: Vec<String> = gone.chain(new).take(40).collect();
        panic!("`{}` is no longer what is planned:\n{}", path.display(), different.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_hosts_cannot_be_enforced_does_not_start_where_the_network_is_blocked() {
    let text = "registry:\n  open: {image: i}\n  some: {image: i, allowHosts: ['x:443']}\n  none: {image: i, allowHosts: ['x:443'], \
                disableNetwork: true}\n  tool: {type: poci, allowHosts: ['x:443'], tools: [{name: t, container: {image: i}}]}\n";
    let (catalog, _) = Catalog::parse(text, Path::new("catalog.yaml")).unwrap();
    let entries = catalog.select(&["open", "some", "none", "tool"].map(str::to_owned)).unwrap();
    for (rule, refused) in [(NetworkRule::Open, [].as_slice()), (NetworkRule::Block, ["some", "tool"].as_slice())] {
        let reaper = Reaper::new();
        let runtime = Arc::new(PlanRuntime::new("docker", reaper.clone()));
        let provisioner = provisioner(&entries, Arc::clone(&runtime), rule, Engine::Docker);
        for (name, entry) in &entries {
            match plan(&provisioner, &runtime, name, entry, Engine::Docker, &mut Vec::new()).await {
                Ok(()) => assert!(!refused.contains(&name.as_str()), "{name} {rule:?}"),
                Err(reason) => {
                    assert!(
                        refused.contains(&name.as_str()) && reason.contains("x:443, which cannot be enforced yet"),
                        "{reason}"
                    );
                    assert!(runtime.take().is_empty(), "{name} was started");
                }
            }
        }
    }
}

/// A home directory that is also the current one.
struct Home(TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Self(TempDir::new().unwrap());
        files.iter().for_each(|(name, text)| home.file(name, text));
        home
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_docker-mcp"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a command that succeeds prints, and what it says.
    fn prints(&self, arguments: &str) -> (String, String) {
        let output = self.run(arguments);
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments}: {stderr}");
        (stdout, stderr)
    }

    /// The servers that a plan has, with their images, and what it says.
    fn plans(&self, arguments: &str) -> (Vec<String>, String) {
        let output = self.run(&format!("gateway run --dry-run {arguments}"));
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let mut servers: Vec<String> = Vec::new();
        for line in stdout.lines() {
            match (line.trim().strip_prefix("image"), line.split_once(": ")) {
                (Some(image), _) => servers.last_mut().unwrap().push_str(&format!("={}", image.trim())),
                (None, Some((name, what))) if !line.starts_with(' ') => {
                    servers.push(format!("{name}{}", if what == "refused" { "!" } else { "" }));
                }
                _ => {}
            }
        }
        (servers, format!("{stdout}{stderr}"))
    }
}

const OWN_CATALOG: &str = ".docker/mcp/catalogs/docker-mcp.yaml";
const OWN_REGISTRY: &str = ".docker/mcp/registry.yaml";

#[test]
fn the_files_of_the_existing_gateway_are_enough() {
    let home = Home::new(&[
        (
            OWN_CATALOG,
            "version: 3\nname: docker-mcp\nregistry:\n  a: {image: one, command: ['{{a.x}}']}\n  b: {image: two}\n  broken: {}\n",
        ),
        (".docker/mcp/catalogs/mine.json", r#"{"registry": {"c": {"image": "three"}}}"#),
        (".docker/mcp/catalogs/nonsense.yaml", "["),
        (OWN_REGISTRY, "registry:\n  c: {ref: ''}\n  a: {ref: ''}\n  gone: {ref: ''}\n  broken: {ref: ''}\n"),
        (".docker/mcp/config.yaml", "a: {x: hunter2}\n"),
    ]);
    let (servers, said) = home.plans("");
    assert_eq!(servers, ["c=three", "a=one"], "{said}");
    assert!(said.contains("<config:a.x>") && !said.contains("hunter2"), "{said}");
    for expected in ["catalog left out", "nonsense.yaml:1:", "server `gone` is in no catalog", "server `broken`"] {
        assert!(said.contains(expected), "`{expected}` is not said: {said}");
    }
    assert_eq!(home.plans("--servers b").0, ["b=two"]);
    home.file("more.yaml", "registry: {b: {}, c: {}}");
    assert_eq!(home.plans("--additional-registry more.yaml").0, ["c=three", "a=one", "b=two"]);
    assert_eq!(home.plans("--registry ./more.yaml").0, ["b=two", "c=three"]);
    home.file("catalog.yaml", "registry: {a: {image: replaced}, d: {image: four}}");
    assert_eq!(home.plans("--additional-catalog ./catalog.yaml --servers a,b,d").0, ["a=replaced", "b=two", "d=four"]);
    assert_eq!(home.plans("--catalog ./catalog.yaml --use-configured-catalogs --servers a,d").0, ["a=one", "d=four"]);
    assert_eq!(home.plans("--catalog ./catalog.yaml --enable-all-servers").0, ["a=replaced", "d=four"]);
    assert_eq!(home.plans("--catalog mine --enable-all-servers").0, ["c=three"]);
    let refused = home.run("gateway run --dry-run --catalog https://example.com/c.yaml --servers a");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`https://example.com/c.yaml` is an address"));
    home.file(OWN_REGISTRY, "registry: {}\n");
    let (servers, said) = home.plans("");
    assert!(servers.is_empty() && said.contains("no server is enabled"), "{said}");
}

#[test]
fn a_server_with_a_file_of_its_own_is_enabled_by_naming_the_file() {
    let home = Home::new(&[
        ("entry.yaml", "name: own\nimage: mine:1\n"),
        (
            "project/server.yaml",
            "name: theirs\nimage: mcp/theirs\ntype: server\nabout: {title: T}\nmeta: {category: c}\n",
        ),
        ("catalog.yaml", "registry: {a: {image: one}}"),
    ]);
    assert_eq!(home.plans("--server file://entry.yaml").0, ["own=mine:1"]);
    let both = "--catalog catalog.yaml --servers a --server file://entry.yaml --server project/server.yaml";
    assert_eq!(home.plans(both).0, ["a=one", "own=mine:1", "theirs=mcp/theirs"]);
    let refused = home.run("gateway run --dry-run --server docker://x");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("write `file://PATH`"));
}

#[test]
fn a_server_whose_configuration_does_not_fit_is_refused_and_the_others_run() {
    let home = Home::new(&[
        (
            "catalog.yaml",
            "registry:\n  a:\n    image: one\n    command: ['{{a.level}}', '{{a.port}}']\n    config:\n      - name: a\n        \
             type: object\n        required: [port]\n        properties:\n          port: {type: integer, maximum: 10}\n          \
             level: {type: string, default: INFO}\n  b: {image: two}\n",
        ),
        ("good.yaml", "a: {port: 5}"),
        ("bad.yaml", "a: {port: 77777}"),
    ]);
    let plan = |config: &str| home.plans(&format!("--catalog catalog.yaml --servers a,b {config}"));
    let (servers, said) = plan("");
    assert_eq!(servers, ["a!", "b=two"]);
    assert!(said.contains("`a.port` is not set, and the server needs it; change it in `config.yaml`"), "{said}");
    let (servers, said) = plan("--config bad.yaml");
    assert_eq!(servers, ["a!", "b=two"]);
    assert!(said.contains("`a.port` must be at most 10") && !said.contains("77777"), "{said}");
    // The section of the later file counts.
    let (servers, said) = plan("--config bad.yaml --additional-config good.yaml");
    assert_eq!(servers, ["a=one", "b=two"]);
    assert!(said.contains("<config:a.level> <config:a.port>"), "{said}");
}

#[test]
fn only_enabled_tools_are_listed_and_called() {
    let home = Home::new(&[
        (OWN_REGISTRY, "registry: {sample: {}}"),
        (".docker/mcp/tools.yaml", "sample: [greet, calculate]\nother: []\n"),
        ("all.yaml", "{}"),
        ("more.yaml", "sample: [date_math]"),
    ]);
    let listed = |arguments: &str| -> Vec<String> {
        let (stdout, _) = home.prints(&format!("tools ls --catalog builtin:sample {arguments}"));
        let names = stdout.lines().filter_map(|line| line.split_once("  ")).map(|(name, _)| name.trim().to_owned());
        names.collect()
    };
    assert_eq!(listed(""), ["greet", "calculate"]);
    assert_eq!(listed("--additional-tools-config more.yaml"), ["date_math"]);
    assert_eq!(listed("--tools-config all.yaml").len(), 5);
    let hidden = home.run("tools call date_math --catalog builtin:sample");
    assert!(!hidden.status.success(), "a tool that is not enabled was called");
    assert!(home.prints("tools call greet name=Ada --catalog builtin:sample").0.contains("Ada"));
}

#[test]
fn templates_and_variables_reach_every_field() {
    let home = Home::new(&[
        (
            "catalog.yaml",
            "registry:\n  s:\n    image: i\n    secrets: [{name: s.token, env: TOKEN}]\n    env:\n      - {name: A, value: 'x {{s.token}}'}\n      \
             - {name: B, value: '${TOKEN}-$A'}\n      - {name: EMPTY, value: '{{s.unset}}'}\n    command: ['--k=$TOKEN', '{{s.list|into}}', \
             '{{s.list|last}}', '{{s.unset|or:none}}']\n    volumes: ['{{s.dir|volume}}', '{{s.dir|mount_as:/in:ro}}', '{{s.unset}}:/no']\n    \
             user: '{{s.uid|or:1000}}'\n  r:\n    secrets: [{name: r.key, env: KEY}]\n    remote: {url: 'https://{{r.host}}/mcp', headers: \
             {Authorization: 'Bearer ${KEY}', X-Key: $KEY, X-Name: '{{r.key}}'}}\n",
        ),
        ("config.yaml", "s: {list: [a, b], dir: /tmp/d}\nr: {host: h}\n"),
        ("secrets.env", "s.token=hunter2\nr.key=hunter2\n"),
    ]);
    let arguments = "--catalog catalog.yaml --servers s,r --config ./config.yaml --secrets secrets.env";
    let (servers, said) = home.plans(arguments);
    assert_eq!(servers, ["s=i", "r"], "{said}");
    for expected in [
        "command   --k=<secret:s.token> <config:s.list> <config:s.list> <config:s.list> none\n",
        "variable  A=x <secret:s.token>\n",
        "variable  B=<secret:s.token>-x <secret:s.token>\n",
        "volume    <config:s.dir>:<config:s.dir>\n",
        "volume    <config:s.dir>:/in:ro\n",
        "user      1000\n",
        "address   https://<config:r.host>/mcp\n",
        "Authorization: Bearer <secret:r.key>\n",
        "X-Key: <secret:r.key>\n",
        "X-Name: <secret:r.key>\n",
    ] {
        assert!(said.contains(expected), "`{expected}` is not in {said}");
    }
    assert!(!said.contains("hunter2") && !said.contains("EMPTY") && !said.contains("/no"), "{said}");
}

/// Pieces of catalogs and configurations, and where they begin on a line.
const PIECES: &[&str] = &[
    "registry:\n",
    "  s:\n",
    "    image: i\n",
    "    type: poci\n",
    "    remote: {url: 'https://x', headers: {A: $B}}\n",
    "    env: [{name: A, value: '{{s.a|or:x}}'}]\n",
    "    command: ['{{s.l|into}}', '{{', *a]\n",
    "    tools: [t, {name: u}]\n",
    "    config:\n",
    "      - name: s\n",
    "        required: [a, n]\n",
    "        properties: {a: {type: integer, default: 5}}\n",
    "        anyOf: [{required: [b]}, {properties: {a: {pattern: '^(a+)+$'}}}]\n",
    "        $ref: '#'\n",
    "name: s\n",
    "servers:\n",
    "- name: t\n",
    "run: {env: {A: b}}\n",
    "about: {title: &a [x]}\n",
    "\0s: {a: value, n: {b: [text, 1]}}\n",
    "s.a: flat\n",
    "{",
    "}",
    "[",
    "]",
    "*a",
    "&a ",
    "<<: ",
    "---\n",
    "\"",
    "'",
    ": ",
    "- ",
    "# c\n",
    "|\n",
    "!!binary aGk=\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn catalogs_hold_on_any_input(pieces in prop::collection::vec(prop_oneof![
        12 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ], 0..20)) {
        body::catalog(&pieces.concat());
    }
}
