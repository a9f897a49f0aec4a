//! `docker-mcp provisioner plan`, and `gateway run --dry-run`: asks the real component what it would do, against a
//! runtime that only records, and shows it.
//!
//! A plan is a forecast. What a component may do is bounded by the envelope, not by its plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use provisioning_core::policy::Decision;
use provisioning_core::text::one_line;
use provisioning_core::value::ObjectKind;
use provisioning_core::{Segment, Value, VolumeMount};
use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::assemble::{Assembled, Mode, Observers, assemble_observed, rights_text};
use super::options::ServerOptions;
use super::{Status, gateway_run};
use crate::capability::container_runtime::Request;
use crate::capability::container_runtime::docker;
use crate::capability::container_runtime::kubernetes::permissions::Report;
use crate::capability::container_runtime::kubernetes::{self, Address, PodSettings};
use crate::capability::container_runtime::plan::{PlanRuntime, Recorded};
use crate::capability::container_runtime::routed::is_embedded;
use crate::catalog::Entry;
use crate::lease::Reaper;
use crate::policy::enforcement::DecisionSink;
use crate::provision::{Endpoint, Provision as _, ProvisionError};
use crate::secrets::SecretText;

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
#[group(id = "plan")]
pub(super) struct Arguments {
    /// Only these of the enabled servers
    #[arg(value_name = "SERVER")]
    only: Vec<String>,
    #[command(flatten)]
    gateway: gateway_run::Arguments,
    /// How to show it
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
    /// Show also what was allowed because no rule of a policy is about it
    #[arg(long)]
    all_decisions: bool,
}

pub(super) async fn run(mut arguments: Arguments) -> anyhow::Result<Status> {
    // `plan time` means the server `time`, whether or not it is enabled otherwise.
    let servers = &mut arguments.gateway.servers;
    if servers.servers.is_empty() && !servers.enable_all_servers {
        servers.servers.clone_from(&arguments.only);
    }
    let shown = if arguments.all_decisions { Shown::All } else { Shown::Notable };
    gateway_run::plan(arguments.gateway, &arguments.only, (arguments.output, shown), Look::Nowhere).await
}

/// What a plan may look at besides files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: what would be in a cluster is taken to be there.
    Nowhere,
    /// The cluster that is used: which configuration and secrets it has, and what the gateway may do there.
    AtCluster,
}

/// Where containers that are not embedded would run.
enum Place {
    Engine,
    Cluster { settings: PodSettings, namespace: String },
}

impl Place {
    /// The name of what would run a request.
    fn engine(&self, request: &Request) -> &'static str {
        match self {
            _ if is_embedded(&request.spec.image) => "embedded",
            Self::Engine => "docker",
            Self::Cluster { .. } => "kubernetes",
        }
    }
}

/// What would happen for one server or tool.
enum Planned {
    Container(Box<Request>),
    Remote { url: String, headers: Vec<String> },
    Refused(String),
}

/// What the component asks for besides what it hands back.
struct Besides {
    request: Request,
    /// It runs to its end; otherwise it is started, and removed when the component has ended.
    ends: bool,
}

struct Step {
    server: String,
    tool: Option<String>,
    planned: Planned,
    besides: Vec<Besides>,
    decisions: Vec<Decision>,
}

impl Step {
    /// `held` names the lease that was handed back. For a tool it is the last container that was run to its end.
    fn sort(recorded: Vec<Recorded>, held: Option<&str>, is_tool: bool) -> (Option<Request>, Vec<Besides>) {
        let handed_back = match is_tool {
            true => recorded.iter().rposition(|recorded| recorded.lease.is_none()),
            false => recorded.iter().position(|recorded| recorded.lease.is_some() && recorded.lease.as_deref() == held),
        };
        let (mut planned, mut besides) = (None, Vec::new());
        for (index, Recorded { request, lease }) in recorded.into_iter().enumerate() {
            match handed_back {
                Some(at) if at == index => planned = Some(request),
                _ => besides.push(Besides { request, ends: lease.is_none() }),
            }
        }
        (planned, besides)
    }
}

/// Which decisions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Those in which a rule had a part, and refusals.
    Notable,
    /// All.
    All,
}

/// Keeps the decisions of the policies, each once in a step.
struct Decisions {
    shown: Shown,
    known: Mutex<Vec<Decision>>,
}

impl Decisions {
    fn take(&self) -> Vec<Decision> {
        std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DecisionSink for Decisions {
    fn decided(&self, _server: Option<&str>, decision: &Decision) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if (decision.is_notable() || self.shown == Shown::All) && !known.contains(decision) {
            known.push(decision.clone());
        }
    }
}

/// Plans the enabled servers, or `only` some of them, and prints the plan.
pub(super) async fn show(
    options: &ServerOptions,
    only: &[String],
    (format, shown): (Format, Shown),
    look: Look,
    check: impl FnOnce(&Assembled) -> anyhow::Result<()>,
) -> anyhow::Result<Status> {
    super::log_to_stderr(options.verbosity, true);
    let reaper = Reaper::new();
    let name = if options.uses_cluster() { "kubernetes" } else { "docker" };
    let recorder = Arc::new(PlanRuntime::new(name, reaper.clone()));
    let decisions = Arc::new(Decisions { shown, known: Mutex::default() });
    let observers = Observers { decisions: Some(Arc::clone(&decisions) as _), ..Observers::default() };
    let mode = Mode::Plan { recorder: Arc::clone(&recorder), asks_cluster: look == Look::AtCluster };
    let assembled = assemble_observed(options, mode, reaper, observers).await?;
    check(&assembled)?;
    let rights = assembled.rights().await?;
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
    let place = match options.uses_cluster() {
        false => Place::Engine,
        true => Place::Cluster {
            settings: options.cluster.pods(options.max_server_startup_timeout),
            namespace: match &rights {
                Some((address, _)) => address.namespace.clone(),
                None => options.cluster.namespace().unwrap_or("default").to_owned(),
            },
        },
    };
    match format {
        Format::Text => {
            let cluster = rights.as_ref().map(|(address, report)| cluster_text(address, report)).unwrap_or_default();
            print!("{cluster}{}{}", component_text(&options.provisioner, &component), text(&place, &steps));
        }
        Format::Yaml => print!("{}", serde_saphyr::to_string(&document(&place, &component, &steps)?)?),
        Format::Json => println!("{}", serde_json::to_string_pretty(&document(&place, &component, &steps)?)?),
    }
    let lacking = rights.as_ref().map(|(_, report)| report).filter(|report| !report.missing.is_empty());
    if let Some(report) = lacking {
        eprintln!("error: {}", rights_text(report));
    }
    let refused = lacking.is_some() || steps.iter().any(|step| matches!(step.planned, Planned::Refused(_)));
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
    // What is handed back: a remote server, or the lease of a container. A tool's container has ended.
    type Handed = Result<(Option<Planned>, Option<String>), ProvisionError>;
    let step = |tool: Option<&str>, result: Handed| {
        let held = result.as_ref().ok().and_then(|(_, lease)| lease.as_deref());
        let is_done = tool.is_some() && result.is_ok();
        let (container, besides) = Step::sort(recorder.take_all(), held, is_done);
        let planned = match (result, container) {
            (Ok((Some(planned), _)), _) => planned,
            (Ok((None, _)), Some(request)) => Planned::Container(Box::new(request)),
            (Ok((None, _)), None) => Planned::Refused("the provisioner started no container".to_owned()),
            (Err(error), _) => Planned::Refused(error.to_string()),
        };
        let (server, tool) = (name.to_owned(), tool.map(str::to_owned));
        Step { server, tool, planned, besides, decisions: decisions.take() }
    };
    if !entry.is_poci() {
        let endpoint = provisioner.provision(name, CancellationToken::new()).await;
        steps.push(step(
            None,
            endpoint.map(|endpoint| match endpoint {
                Endpoint::Container(running) => (None, Some(running.lease.name().to_owned())),
                Endpoint::Remote(remote) => {
                    let header = |(name, value): (&String, &SecretText)| format!("{name}: {}", value.expose());
                    let headers = remote.headers.iter().map(header).collect();
                    (Some(Planned::Remote { url: remote.url.expose().to_owned(), headers }), None)
                }
            }),
        ));
    }
    for tool in tools {
        let result =
            provisioner.run_tool(name, &tool.name, sample_arguments(&tool.parameters), CancellationToken::new());
        steps.push(step(Some(&tool.name), result.await.map(|_| (None, None))));
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

fn text(place: &Place, steps: &[Step]) -> String {
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
            Planned::Container(request) => writeln!(out, "{what}: {}", container_text(place, request)),
        };
        for besides in &step.besides {
            let fate = match (besides.ends, &step.planned) {
                (true, _) => "and to its end",
                (false, Planned::Refused(_)) => "and is removed, because nothing is handed back",
                (false, _) => "and is removed, because it is not what is handed back",
            };
            let _ = writeln!(out, "{what}, besides, {fate}: {}", container_text(place, &besides.request));
        }
        // A refusal that ends it is told above.
        let is_told = |decision: &Decision| matches!(&step.planned, Planned::Refused(reason) if reason.contains(&decision.to_string()));
        step.decisions.iter().filter(|decision| decision.is_allowed() || !is_told(decision)).for_each(|decision| {
            let verdict = if decision.is_allowed() { "" } else { "DENIED: " };
            let _ = writeln!(out, "  policy    {verdict}{decision}");
        });
    }
    out
}

/// Which cluster would be used, and whether the gateway may do there what it would have to.
fn cluster_text(address: &Address, report: &Report) -> String {
    let mut out = format!(
        "cluster {}\n  from      {}\n  namespace {}\n",
        line(&address.server),
        line(&address.origin),
        line(&address.namespace)
    );
    for (what, rights) in [("may", &report.granted), ("may not", &report.missing)] {
        if !rights.is_empty() {
            let rights: Vec<String> = rights.iter().map(ToString::to_string).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  {what:9} {}", rights.join(", "));
        }
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

fn container_text(place: &Place, request: &Request) -> String {
    let spec = &request.spec;
    let engine = place.engine(request);
    let mut lines = vec![match (engine, place) {
        ("embedded", _) => "runs inside the gateway, as WebAssembly".to_owned(),
        (_, Place::Cluster { namespace, .. }) => format!("runs in a pod in namespace `{namespace}`"),
        _ => "runs in a container".to_owned(),
    }];
    lines.push(format!("  image     {}", line(&spec.image)));
    if !spec.command.is_empty() {
        let command: Vec<String> = spec.command.iter().map(argument).collect();
        lines.push(format!("  command   {}", command.join(" ")));
    }
    let told = |what: &str, text: String| format!("  {what:9} {}", line(&text));
    lines.extend(spec.environment.iter().map(|(name, value)| told("variable", format!("{name}={value}"))));
    if engine == "kubernetes" {
        lines.extend(kept(request).into_iter().map(|(kind, keys)| told(kind, keys.join(", "))));
    }
    let mounted = |mount: &VolumeMount| format!("{}{}", mount.value, if mount.read_only { " (read-only)" } else { "" });
    lines.extend(spec.volumes.iter().map(|mount| told("volume", mounted(mount))));
    lines.extend(spec.user.iter().map(|user| told("user", user.to_string())));
    lines.extend(spec.hosts.iter().map(|host| told("host", format!("{} = {}", host.name, host.address))));
    lines.extend(spec.labels.iter().map(|(key, text)| told("label", format!("{key}={text}"))));
    let network = match (engine, spec.network) {
        ("embedded", _) | (_, provisioning_core::Network::None) => "none",
        ("kubernetes", provisioning_core::Network::Declared) => "of the cluster",
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
fn document(place: &Place, component: &[Decision], steps: &[Step]) -> anyhow::Result<Json> {
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
                fields.extend(rendered(place, request)?);
                None
            }
        };
        if !step.besides.is_empty() {
            let besides = step.besides.iter().map(|besides| {
                let fate = if besides.ends { "ends" } else { "removed" };
                let mut fields = Map::from_iter([("fate".to_owned(), json!(fate))]);
                fields.extend(rendered(place, &besides.request)?);
                Ok(Json::Object(fields))
            });
            fields.insert("besides".to_owned(), Json::Array(besides.collect::<anyhow::Result<_>>()?));
        }
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

/// The request that an engine would get.
fn rendered(place: &Place, request: &Request) -> anyhow::Result<Map<String, Json>> {
    let (key, rendered) = match place {
        _ if is_embedded(&request.spec.image) => ("create", embedded(request)),
        Place::Engine => ("create", docker::create::render(request)?),
        Place::Cluster { settings, namespace } => {
            ("objects", Json::Array(kubernetes::objects::render(request, settings, namespace)?))
        }
    };
    Ok(Map::from_iter([("runtime".to_owned(), json!(place.engine(request))), (key.to_owned(), rendered)]))
}

/// The keys of the objects that a server gets of its own.
fn kept(request: &Request) -> BTreeMap<&'static str, Vec<String>> {
    let environment = request.spec.environment.iter().map(|(_, value)| value);
    let mut kept: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for segment in request.spec.command.iter().chain(environment).flat_map(Value::segments) {
        if let Segment::Stored { kind, key, .. } = segment {
            let kind = match kind {
                ObjectKind::Secret => "Secret",
                ObjectKind::ConfigMap => "ConfigMap",
            };
            kept.entry(kind).or_default().push(key.clone());
        }
    }
    kept
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
