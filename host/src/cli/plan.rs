//! `docker-mcp provisioner plan`, and `gateway run --dry-run`: asks the real component what it would do, against a
//! runtime that only records, and shows it.
//!
//! A plan is a forecast. What a component may do is bounded by the envelope, not by its plan.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use provisioning_core::Value;
use provisioning_core::policy::Decision;
use provisioning_core::text::one_line;
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::Status;
use super::assemble::{Assembled, Mode, Observers, assemble_observed};
use super::options::ServerOptions;
use crate::capability::container_runtime::Request;
use crate::capability::container_runtime::docker;
use crate::capability::container_runtime::plan::PlanRuntime;
use crate::capability::container_runtime::routed::is_embedded;
use crate::catalog::Entry;
use crate::lease::Reaper;
use crate::policy::enforcement::DecisionSink;
use crate::provision::{Endpoint, Provision as _, ProvisionError};

/// How a plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// The request to the engine, as YAML
    Yaml,
    /// The request to the engine, as JSON
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Only these of the enabled servers
    #[arg(value_name = "SERVER")]
    only: Vec<String>,
    #[command(flatten)]
    servers: ServerOptions,
    /// How to show it
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(mut arguments: Arguments) -> anyhow::Result<Status> {
    // `plan time` means the server `time`, whether or not it is enabled otherwise.
    if arguments.servers.servers.is_empty() && !arguments.servers.enable_all_servers {
        arguments.servers.servers.clone_from(&arguments.only);
    }
    show(&arguments.servers, &arguments.only, arguments.output, |_| Ok(())).await
}

/// What would happen for one server or tool.
enum Planned {
    Container(Box<Request>),
    Remote { url: String, headers: Vec<String> },
    Refused(String),
}

struct Step {
    server: String,
    tool: Option<String>,
    planned: Planned,
    decisions: Vec<Decision>,
}

/// Keeps the decisions of the policies, each once in a step.
#[derive(Default)]
struct Decisions(Mutex<Vec<Decision>>);

impl Decisions {
    fn take(&self) -> Vec<Decision> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DecisionSink for Decisions {
    fn decided(&self, _server: Option<&str>, decision: &Decision) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if decision.is_notable() && !known.contains(decision) {
            known.push(decision.clone());
        }
    }
}

/// Plans the enabled servers, or `only` some of them, and prints the plan.
pub(super) async fn show(
    options: &ServerOptions,
    only: &[String],
    format: Format,
    check: impl FnOnce(&Assembled) -> anyhow::Result<()>,
) -> anyhow::Result<Status> {
    super::log_to_stderr(options.verbosity, true);
    let reaper = Reaper::new();
    let recorder = Arc::new(PlanRuntime::new("docker", reaper.clone()));
    let decisions = Arc::new(Decisions::default());
    let observers = Observers { decisions: Some(Arc::clone(&decisions) as _), ..Observers::default() };
    let assembled = assemble_observed(options, Mode::Plan(Arc::clone(&recorder)), reaper, observers).await?;
    check(&assembled)?;
    if let Some(unknown) = only.iter().find(|name| assembled.loaded.servers.iter().all(|server| server.name != **name))
    {
        anyhow::bail!("server `{unknown}` is not enabled; add it to `--servers`");
    }
    assembled.provisioner.ready().await?;
    let component = decisions.take();
    let mut steps = Vec::new();
    for server in assembled.loaded.servers.iter().filter(|server| only.is_empty() || only.contains(&server.name)) {
        steps.extend(plan_server(&assembled, &recorder, &decisions, &server.name, &server.entry).await);
    }
    match format {
        Format::Text => print!("{}{}", component_text(&options.provisioner, &component), text(&steps)),
        Format::Yaml => print!("{}", serde_saphyr::to_string(&document(&component, &steps)?)?),
        Format::Json => println!("{}", serde_json::to_string_pretty(&document(&component, &steps)?)?),
    }
    let refused = steps.iter().any(|step| matches!(step.planned, Planned::Refused(_)));
    assembled.finish().await;
    Ok(if refused { Status::Partial } else { Status::Success })
}

async fn plan_server(
    assembled: &Assembled,
    recorder: &PlanRuntime,
    decisions: &Decisions,
    name: &str,
    entry: &Entry,
) -> Vec<Step> {
    let provisioner = &assembled.provisioner;
    let tools: Vec<_> = entry.tools.iter().filter(|tool| tool.container.is_some()).collect();
    let mut steps = Vec::new();
    let step = |tool: Option<&str>, result: Result<Option<Planned>, ProvisionError>| {
        let planned = match result {
            Ok(Some(planned)) => planned,
            Ok(None) => match recorder.take().pop() {
                Some(request) => Planned::Container(Box::new(request)),
                None => Planned::Refused("the provisioner started no container".to_owned()),
            },
            Err(error) => Planned::Refused(error.to_string()),
        };
        Step { server: name.to_owned(), tool: tool.map(str::to_owned), planned, decisions: decisions.take() }
    };
    if !entry.is_poci() {
        let endpoint = match provisioner.pre_validate(name).await {
            Ok(()) => provisioner.provision(name, CancellationToken::new()).await,
            Err(error) => Err(error),
        };
        steps.push(step(
            None,
            endpoint.map(|endpoint| match endpoint {
                Endpoint::Container(_) => None,
                Endpoint::Remote(remote) => Some(Planned::Remote {
                    url: remote.url.expose().to_owned(),
                    headers: remote.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect(),
                }),
            }),
        ));
    }
    for tool in tools {
        let result =
            provisioner.run_tool(name, &tool.name, sample_arguments(&tool.parameters), CancellationToken::new());
        steps.push(step(Some(&tool.name), result.await.map(|_| None)));
    }
    steps
}

/// An argument for every parameter; a plan shows only their names.
fn sample_arguments(parameters: &Map<String, Json>) -> Map<String, Json> {
    let properties = parameters.get("properties").and_then(Json::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let value = match schema.get("type").and_then(Json::as_str) {
                Some("array") => json!(["…"]),
                _ => json!("…"),
            };
            (name.clone(), value)
        })
        .collect()
}

fn engine(request: &Request) -> &'static str {
    if is_embedded(&request.spec.image) { "embedded" } else { "docker" }
}

fn text(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        let what = match &step.tool {
            Some(tool) => format!("{}, tool {tool}", step.server),
            None => step.server.clone(),
        };
        // Writing to a string cannot fail.
        let _ = match &step.planned {
            Planned::Refused(reason) => writeln!(out, "{what}: refused\n  {reason}"),
            Planned::Remote { url, headers } => {
                let headers: String = headers.iter().map(|header| format!("\n  header    {}", line(header))).collect();
                writeln!(out, "{what}: connects to a remote server\n  address   {}{headers}", line(url))
            }
            Planned::Container(request) => writeln!(out, "{what}: {}", container_text(request)),
        };
        step.decisions.iter().filter(|decision| decision.is_allowed()).for_each(|decision| {
            let _ = writeln!(out, "  policy    {decision}");
        });
    }
    out
}

/// What the policies decided about the component itself.
fn component_text(name: &str, decisions: &[Decision]) -> String {
    if decisions.is_empty() {
        return String::new();
    }
    let lines: String = decisions.iter().map(|decision| format!("  policy    {decision}\n")).collect();
    format!("provisioner {name}\n{lines}")
}

/// The longest line of a plan that a catalog or a component can write.
const LINE: usize = 2000;

/// A stranger's text, which must not look like a further line of the plan.
fn line(text: &str) -> String {
    one_line(text, LINE)
}

/// An argument, so that one with blanks does not look like two.
fn argument(value: &Value) -> String {
    let shown = line(&value.to_string());
    match shown.is_empty() || shown.contains([' ', '\'', '"']) {
        true => format!("{shown:?}"),
        false => shown,
    }
}

fn container_text(request: &Request) -> String {
    let spec = &request.spec;
    let place = match engine(request) {
        "embedded" => "runs inside the gateway, as WebAssembly",
        _ => "runs in a container",
    };
    let mut lines = vec![place.to_owned(), format!("  image     {}", line(&spec.image))];
    if !spec.command.is_empty() {
        let command: Vec<String> = spec.command.iter().map(argument).collect();
        lines.push(format!("  command   {}", command.join(" ")));
    }
    let mut add = |what: &str, text: String| lines.push(format!("  {what:9} {}", line(&text)));
    spec.environment.iter().for_each(|(name, value)| add("variable", format!("{name}={value}")));
    for mount in &spec.volumes {
        add("volume", format!("{}{}", mount.value, if mount.read_only { " (read-only)" } else { "" }));
    }
    spec.user.iter().for_each(|user| add("user", user.to_string()));
    spec.hosts.iter().for_each(|host| add("host", format!("{} = {}", host.name, host.address)));
    spec.labels.iter().for_each(|(key, text)| add("label", format!("{key}={text}")));
    let network = match (engine(request), spec.network) {
        ("embedded", _) | (_, provisioning_core::Network::None) => "none",
        (_, provisioning_core::Network::Declared) => "of the engine",
    };
    lines.push(format!("  network   {network}"));
    lines.push(format!(
        "  limits    {} CPUs, {} MiB",
        f64::from(spec.resources.cpu_millis) / 1000.0,
        spec.resources.memory_bytes >> 20
    ));
    let hardening = [
        (spec.security.read_only_root, "read-only root"),
        (spec.security.drop_capabilities, "no capabilities"),
        (spec.security.run_as_non_root, "not as root"),
    ];
    let hardening: Vec<&str> = hardening.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if !hardening.is_empty() {
        lines.push(format!("  hardened  {}", hardening.join(", ")));
    }
    lines.join("\n")
}

/// The plan as data: for containers the very request that the engine would get, with names in place of values.
fn document(component: &[Decision], steps: &[Step]) -> anyhow::Result<Json> {
    let steps = steps.iter().map(|step| {
        let mut item = json!({ "server": step.server });
        let Some(fields) = item.as_object_mut() else { return Ok(item) };
        if let Some(tool) = &step.tool {
            fields.insert("tool".to_owned(), json!(tool));
        }
        match &step.planned {
            Planned::Refused(reason) => fields.insert("refused".to_owned(), json!(reason)),
            Planned::Remote { url, headers } => {
                fields.insert("remote".to_owned(), json!({ "url": url, "headers": headers }))
            }
            Planned::Container(request) => {
                fields.insert("runtime".to_owned(), json!(engine(request)));
                let rendered = match engine(request) {
                    "embedded" => embedded(request),
                    _ => docker::create::render(request)?,
                };
                fields.insert("create".to_owned(), rendered)
            }
        };
        if !step.decisions.is_empty() {
            fields.insert("decisions".to_owned(), serde_json::to_value(&step.decisions)?);
        }
        Ok(item)
    });
    let plan = steps.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(match component.is_empty() {
        true => json!({ "plan": plan }),
        false => json!({ "provisioner": { "decisions": component }, "plan": plan }),
    })
}

fn embedded(request: &Request) -> Json {
    let spec = &request.spec;
    json!({
        "image": spec.image,
        "arguments": spec.command.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "environment": spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "memoryBytes": spec.resources.memory_bytes,
        "cpuMillis": spec.resources.cpu_millis,
    })
}
