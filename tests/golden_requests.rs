//! What the engine is really asked for, against what was measured on the existing gateway: for each row the built-in
//! component runs in the real sandbox over the Docker backend, whose create request an engine of the test's own
//! writes down and refuses.
//!
//! Rows in which the existing gateway is wrong, or cannot be followed, are listed with what happens here instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use docker_mcp::audit::Audit;
use docker_mcp::builtin;
use docker_mcp::capability::container_runtime::docker::connect::Surroundings;
use docker_mcp::capability::container_runtime::docker::{DockerRuntime, create};
use docker_mcp::capability::container_runtime::plan::PlanRuntime;
use docker_mcp::capability::container_runtime::{ContainerRuntime, Quiet};
use docker_mcp::catalog::{Catalog, configuration};
use docker_mcp::lease::Reaper;
use docker_mcp::policy::bind_mounts::BindPolicy;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::sandboxed::{SandboxedProvisioner, Setup};
use docker_mcp::provision::{Endpoint, Provision as _, ProvisionError};
use docker_mcp::resolve::ServerSettings;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use docker_mcp::sandbox::engine::Engine;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use docker_mcp::session::Session;
use provisioning_core::Resources;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What happens here in rows that are not followed.
enum Instead {
    /// The server or call is refused with a message that says this.
    Refused(&'static str),
    /// The request has these arguments.
    Command(&'static [&'static str]),
    /// The request has this variable.
    Variable(&'static str, &'static str),
    /// A container of this image is made with these arguments and without mounts, although the server is refused there.
    Runs(&'static str, &'static [&'static str]),
    /// The request has this user.
    User(&'static str),
}

/// The rows that are not followed, each with the reason.
fn differences(id: &str) -> Vec<(Instead, &'static str)> {
    use Instead::{Command, Refused, Runs, User, Variable};
    const NO_MOUNT: &str = "a mount whose source is not set is left out; there the whole server is refused";
    const MISSING_SECRET: &str = "a missing secret is no value; the server is refused with the way to set it";
    const IN_VALUES: &str = "a `$` in the user's own value is text; only the catalog's own `$NAME` is expanded";
    const NO_ARGUMENT: &str = "a list that is not given adds no argument";
    let awkward = "a $HOME ${PATH} {{x.y}} {b} \\ = \"q\" 'é' \n2nd";
    assert_eq!(awkward.len(), AWKWARD[1].len() - "--access-level=".len());
    match id {
        "aks/empty" => vec![(Runs("mcp/aks", &UNSET), NO_MOUNT)],
        "arxiv-mcp-server/empty" | "git/empty" => vec![(Refused("volume"), DEFAULTS)],
        "aks/documented" => {
            vec![(Refused("volume"), "as there: credentials are mounted only if the operator names them")]
        }
        "aks/tricky" => vec![(Command(&AWKWARD), IN_VALUES)],
        "aws-kb-retrieval-server/empty" => vec![(Refused("`aws.secret_access_key`"), MISSING_SECRET)],
        "brave/empty" => vec![(Refused("`brave.api_key`"), MISSING_SECRET)],
        "dockerhub/empty" => vec![(Refused("`dockerhub.pat_token`"), MISSING_SECRET)],
        "elasticsearch/empty" => vec![(Refused("`elasticsearch.api_key`"), MISSING_SECRET)],
        "firecrawl/empty" => vec![(Refused("`firecrawl.api_key`"), MISSING_SECRET)],
        "neo4j/empty" => vec![(Refused("`neo4j.password`"), MISSING_SECRET)],
        "okta-mcp-server/empty" => vec![(Refused("`okta-mcp-server.okta_private_key`"), MISSING_SECRET)],
        "slack/empty" | "slack/partial" => vec![(Refused("`slack.bot_token`"), MISSING_SECRET)],
        "rust-mcp-filesystem/empty" => vec![(Refused("volume"), DEFAULTS)],
        "curl/calls/2" | "curl/calls/7" => vec![(Command(&[]), NO_ARGUMENT)],
        "curl/calls/6" => vec![(
            Command(&["1000000", "true", "", "1.5", "[\"x\",\"y\"]"]),
            "numbers are written in full, lists as JSON, and null is empty",
        )],
        "firecrawl/numbers" => {
            vec![(Variable("FIRECRAWL_RETRY_MAX_DELAY", "1500000"), "a number is written in full, not as 1.5e+06")]
        }
        "aks/user-flag" => vec![
            (User("--privileged"), "the engine's API has no flags: it is the name of no user"),
            (Command(&UNSET), DEFAULTS),
        ],
        _ => Vec::new(),
    }
}

/// There they are for people only. Those of these entries that name directories name their authors'.
const DEFAULTS: &str = "what is not set has the default of the schema";
const UNSET: [&str; 4] = ["--transport=stdio", "--access-level=readonly", "--allow-namespaces=", "--additional-tools="];
const AWKWARD: [&str; 4] = [
    "--transport=stdio",
    "--access-level=a $HOME ${PATH} {{x.y}} {b} \\ = \"q\" 'é' \n2nd",
    "--allow-namespaces=a $HOME ${PATH} {{x.y}} {b} \\ = \"q\" 'é' \n2nd",
    "--additional-tools=a $HOME ${PATH} {{x.y}} {b} \\ = \"q\" 'é' \n2nd",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_measured_row_makes_the_same_request_or_is_listed() {
    let sandbox = sandbox();
    let mut counted = BTreeMap::from([("same", 0), ("listed", 0), ("remote", 0)]);
    let mut complaints = Vec::new();
    for row in include_str!("../components/core/tests/golden/docker_args.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let id = row["id"].as_str().unwrap();
        let outcome = ask(&sandbox, &row).await;
        let mut expected = expected(&row);
        let differences = differences(id);
        let kind = match (row["kind"].as_str().unwrap(), differences.is_empty()) {
            ("remote", _) => "remote",
            (_, true) => "same",
            (_, false) => "listed",
        };
        *counted.get_mut(kind).unwrap() += 1;
        let is_ours = id == "firecrawl/numbers" || differences.iter().all(|(_, reason)| *reason == DEFAULTS);
        let is_fault = row["quirk"] == json!(true) || is_ours;
        assert!(is_fault || differences.is_empty(), "{id}: a difference needs a fault on the other side");
        for (instead, _) in differences {
            expected = match instead {
                Instead::Refused(word) => Expected::Refused(word.to_owned()),
                Instead::Command(command) => expected.with("Cmd", json!(command)),
                Instead::Runs(image, command) => Expected::Request(BTreeMap::from([
                    ("Image".to_owned(), json!(image)),
                    ("Cmd".to_owned(), json!(command)),
                    ("Binds".to_owned(), json!([])),
                ])),
                Instead::Variable(name, value) => expected.with_variable(name, value),
                Instead::User(user) => expected.with("User", json!(user)),
            };
        }
        match (outcome, expected) {
            (Ok(asked), Expected::Request(expected)) => {
                for (field, expected) in expected {
                    let asked = asked.get(&field).cloned().unwrap_or_default();
                    if asked != expected {
                        complaints.push(format!("{id}: {field} is {asked}, not {expected}"));
                    }
                }
            }
            (Err(reason), Expected::Refused(word)) if reason.contains(&word) => {}
            (outcome, Expected::Refused(word)) => complaints.push(format!("{id}: {outcome:?} does not say {word}")),
            (Err(reason), Expected::Request(_)) => complaints.push(format!("{id}: {reason}")),
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    assert_eq!(counted, BTreeMap::from([("same", 34), ("listed", 20), ("remote", 2)]), "every row counts");
}

/// What a row demands.
enum Expected {
    Request(BTreeMap<String, Value>),
    Refused(String),
}

impl Expected {
    fn with(self, field: &str, value: Value) -> Self {
        let Self::Request(mut fields) = self else { panic!("no request to change") };
        fields.insert(field.to_owned(), value);
        Self::Request(fields)
    }

    fn with_variable(self, name: &str, value: &str) -> Self {
        let Self::Request(mut fields) = self else { panic!("no request to change") };
        fields.get_mut("Env").unwrap()[name] = json!(value);
        Self::Request(fields)
    }
}

/// Reads the measured command line.
fn expected(row: &Value) -> Expected {
    if row["kind"] == "remote" {
        let remote = &row["remote"];
        return Expected::Request(BTreeMap::from([
            ("url".to_owned(), remote["url"].clone()),
            ("headers".to_owned(), remote["headers"].clone()),
        ]));
    }
    let Some(arguments) = row["args"].as_array() else { return Expected::Refused(String::new()) };
    let mut arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
    assert_eq!(arguments.next(), Some("run"));
    let mut fields = BTreeMap::from(["AutoRemove", "OpenStdin", "Init"].map(|field| (field.to_owned(), json!(false))));
    let mut set = |field: &str, value: Value| fields.insert(field.to_owned(), value);
    let (mut labels, mut env, mut binds, mut hosts) = (json!({}), json!({}), Vec::new(), Vec::new());
    let mut network = Value::Null;
    let mut user = Value::Null;
    let image = loop {
        let argument = arguments.next().unwrap();
        match argument {
            "--rm" => drop(set("AutoRemove", json!(true))),
            "-i" => drop(set("OpenStdin", json!(true))),
            "--init" => drop(set("Init", json!(true))),
            "--security-opt" => drop(set("SecurityOpt", json!([arguments.next().unwrap()]))),
            "--cpus" => {
                let cpus: f64 = arguments.next().unwrap().parse().unwrap();
                set("NanoCpus", json!((cpus * 1e9) as i64));
            }
            "--memory" => {
                assert_eq!(arguments.next(), Some("2Gb"));
                set("Memory", json!(2_147_483_648_i64));
            }
            // Over the API nothing is pulled at create.
            "--pull" => assert_eq!(arguments.next(), Some("never")),
            "-l" => {
                let (key, text) = arguments.next().unwrap().split_once('=').unwrap();
                labels[key] = json!(text);
            }
            "--network" => network = json!(arguments.next().unwrap()),
            "-e" => {
                let name = arguments.next().unwrap();
                env[name] = row["env"][name].clone();
            }
            "-v" => binds.push(arguments.next().unwrap()),
            "-u" => user = json!(arguments.next().unwrap()),
            "--add-host" => hosts.push(arguments.next().unwrap()),
            flag if flag.starts_with('-') => panic!("what is {flag}?"),
            image => break image,
        }
    };
    set("Image", json!(image));
    set("Cmd", arguments.collect());
    set("Labels", labels);
    set("Env", env);
    set("Binds", json!(binds));
    set("ExtraHosts", json!(hosts));
    set("NetworkMode", network);
    set("User", user);
    Expected::Request(fields)
}

/// The same fields of a create request.
fn fields_of(body: &Value) -> BTreeMap<String, Value> {
    let host = &body["HostConfig"];
    let list = |value: &Value| if value.is_null() { json!([]) } else { value.clone() };
    let mut labels = body["Labels"].clone();
    for own in [create::SESSION_LABEL, create::SESSIONS_AT_LABEL] {
        assert!(labels.as_object_mut().unwrap().remove(own).is_some(), "the gateway's own labels");
    }
    let mut env = json!({});
    for variable in body["Env"].as_array().into_iter().flatten() {
        let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
        assert!(env.get(name).is_none(), "`{name}` is set twice");
        env[name] = json!(value);
    }
    assert_eq!(host["Privileged"], Value::Null);
    let mut fields = BTreeMap::new();
    for field in ["Image", "User", "OpenStdin"] {
        fields.insert(field.to_owned(), body[field].clone());
    }
    for field in ["AutoRemove", "Init", "SecurityOpt", "NanoCpus", "Memory", "NetworkMode"] {
        fields.insert(field.to_owned(), host[field].clone());
    }
    for field in ["Binds", "ExtraHosts"] {
        fields.insert(field.to_owned(), list(&host[field]));
    }
    fields.extend([("Cmd".to_owned(), list(&body["Cmd"])), ("Labels".to_owned(), labels), ("Env".to_owned(), env)]);
    fields
}

/// Lets the component deploy what a row says, and returns what the engine was asked for, or why it was not.
async fn ask(sandbox: &Engine, row: &Value) -> Result<BTreeMap<String, Value>, String> {
    let recorder = Recorder::start().await;
    let reaper = Reaper::new();
    let session = Arc::new(Session::without_lock("golden".to_owned()));
    let secrets: Arc<dyn SecretStore> = Arc::new(Secrets(row["secrets"].clone()));
    let environment = row["process_env"].clone();
    let binds = BindPolicy::from_environment(|name| environment[name].as_str().map(str::to_owned));
    let check = Arc::new(move |volume: &str| binds.check(volume).map_err(|error| error.to_string()));
    let docker = DockerRuntime::new(recorder.surroundings(), Arc::clone(&secrets), check, reaper.clone(), session);
    let plan = Arc::new(PlanRuntime::new("docker", reaper));

    let real = deploy(sandbox, row, Arc::new(docker), &secrets, false).await;
    let body = match (real, recorder.take()) {
        (Ok(Some(remote)), None) => return Ok(remote),
        (Err(error), Some(body)) => {
            // The refusal of the engine must not show what it quotes.
            assert!(!error.to_string().contains("0123"), "{error}");
            body
        }
        (Err(error), None) => return Err(error.to_string()),
        (outcome, body) => panic!("{outcome:?} {body:?}"),
    };
    // The forecast comes from the same code, with names in place of values, so it has the same fields.
    deploy(sandbox, row, plan.clone(), &secrets, true).await.unwrap();
    let planned = create::render(&plan.take().pop().unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(keys(&planned), keys(&body), "{}", row["id"]);
    assert_eq!(keys(&planned["HostConfig"]), keys(&body["HostConfig"]), "{}", row["id"]);
    Ok(fields_of(&body))
}

async fn deploy(
    sandbox: &Engine,
    row: &Value,
    runtime: Arc<dyn ContainerRuntime>,
    secrets: &Arc<dyn SecretStore>,
    dry_run: bool,
) -> Result<Option<BTreeMap<String, Value>>, ProvisionError> {
    let server = row["server"].as_str().unwrap();
    let catalog = json!({ "registry": { server: row["catalog_entry"] } }).to_string();
    let (catalog, _) = Catalog::parse(&catalog, Path::new("golden.json")).unwrap();
    let entry = catalog.get(server).unwrap().clone();
    let configured = configuration::for_server(row["config"].as_object().unwrap(), server, &entry);
    let provisioner = SandboxedProvisioner::new(Setup {
        engine: sandbox.clone(),
        component: Source::BuiltIn { name: "docker", bytes: builtin::DOCKER },
        grants: Grants::builtin_docker(),
        session: "golden".to_owned(),
        runtime,
        servers: vec![ServerSettings {
            name: server.to_owned(),
            entry: Arc::new(entry),
            config: Arc::new(configured.scope),
            secrets: Arc::clone(secrets),
            resources: Resources::default(),
            long_lived: false,
            // What a missing or wrong setting leads to is no matter of requests; `catalogs` tests it.
            cluster: None,
            refused: None,
        }],
        startup_timeout: Duration::from_secs(60),
        tool_timeout: Duration::from_secs(60),
        limits: Limits::default(),
        progress: Arc::new(Quiet),
        audit: Audit::off(),
        dry_run,
        enforcement: Enforcement::default(),
    });
    let cancel = CancellationToken::new();
    if let Some(tool) = row["tool"].as_str() {
        let arguments = row["arguments"].as_object().unwrap().clone();
        return provisioner.run_tool(server, tool, arguments, cancel).await.map(|_| None);
    }
    match provisioner.provision(server, cancel).await? {
        Endpoint::Container(_) => Ok(None),
        Endpoint::Remote(remote) => {
            let headers: BTreeMap<_, _> =
                remote.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
            Ok(Some(BTreeMap::from([
                ("url".to_owned(), json!(remote.url.expose())),
                ("headers".to_owned(), json!(headers)),
            ])))
        }
    }
}

fn sandbox() -> Engine {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
    std::fs::create_dir_all(&cache).unwrap();
    Engine::new(Some(&cache)).unwrap()
}

struct Secrets(Value);

#[async_trait]
impl SecretStore for Secrets {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        match self.0[name].as_str() {
            Some(text) => Ok(SecretText::new(text.to_owned())),
            None => Err(SecretError::Missing { name: name.to_owned(), remedy: "set it".to_owned() }),
        }
    }
}

/// An engine that has every image, writes create requests down and refuses them.
struct Recorder {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Option<Value>>>,
}

impl Recorder {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(directory.path().join("engine")).unwrap();
        let asked = Arc::<Mutex<Option<Value>>>::default();
        let notes = Arc::clone(&asked);
        let answer = move |method: Method, uri: Uri, body: Bytes| async move {
            let (status, answer) = match (method, uri.path()) {
                (_, path) if path.ends_with("/_ping") || path.ends_with("/version") => {
                    (StatusCode::OK, json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}))
                }
                (Method::GET, path) if path.contains("/images/") => (StatusCode::OK, json!({"Id": "sha256:0"})),
                (Method::POST, path) if path.ends_with("/containers/create") => {
                    let before = notes.lock().unwrap().replace(serde_json::from_slice(&body).unwrap());
                    assert_eq!(before, None, "asked once");
                    (StatusCode::INTERNAL_SERVER_ERROR, json!({"message": format!("noted {:?}", uri.query())}))
                }
                _ => (StatusCode::NOT_FOUND, json!({"message": "there is nothing here"})),
            };
            (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { directory, asked }
    }

    fn surroundings(&self) -> Surroundings {
        let socket = self.directory.path().join("engine");
        let variables = BTreeMap::from([("DOCKER_HOST".to_owned(), format!("unix://{}", socket.display()))]);
        Surroundings { context: None, variables: variables.into_iter().collect(), home: None }
    }

    fn take(&self) -> Option<Value> {
        self.asked.lock().unwrap().take()
    }
}
