//! One attempt of the hostile component, and everything that it left where somebody could see it.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use docker_mcp::audit::files::Directory;
use docker_mcp::audit::reader::{Filter, Records};
use docker_mcp::audit::record::{Kind, Record, Verdict};
use docker_mcp::audit::{Audit, Options, Retention, verify};
use docker_mcp::capability::container_runtime::Request;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::provision::{Endpoint, Provision as _, ProvisionError};
use docker_mcp::sandbox::component::Source;
use serde_json::{Map, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{self, ALL, Around, PATIENCE, World, fixture};

/// In each private value: secrets, configuration, arguments, output of servers.
pub(crate) const CANARY: &str = "canary";

/// One of each grant, each as wide as an operator could sensibly write it.
pub(crate) const GRANTS: [&str; 9] = [
    "rewrite-image=registry.example",
    "rewrite-command",
    "rewrite-user=65532",
    "add-argument=--up*",
    "add-env=COLLECT_*",
    "add-env=ADDED",
    "add-mount=cache",
    "add-label=team.",
    "add-host=evil:198.51.100.6",
];

/// A policy that allows all that a policy can speak of.
pub(crate) const PERMISSIVE: &str = "version: 1
components: {allow: [{component: '*'}]}
servers: {allow: ['*']}
rules:
  - name: open
    images: {allow: ['*/**']}
    secrets: {allow: ['*']}
    config: {allow: ['*']}
    mounts: {allow: ['/**', 'volume:*']}
    networks: {allow: [none, declared]}
    hosts: {allow: ['*']}
    variables: {allow: ['*']}
    labels: {allow: ['*']}
";

/// A server with a value of every kind.
const CATALOG: &str = r"
registry:
  NAME:
    image: img
    command: ['--path={{NAME.path}}', '{{NAME.more}}']
    env:
      - {name: URL, value: 'https://{{NAME.user}}@host'}
      - {name: FIRST, value: '{{NAME.first}}'}
      - {name: SECOND, value: '{{NAME.second}}'}
    secrets:
      - {name: NAME.token, env: TOKEN}
    volumes: ['data:/data', '{{NAME.path|volume}}']
    user: '{{NAME.user}}'
    disableNetwork: true
    extraHosts: ['db:10.0.0.1']
    tools:
      - name: shout
        parameters: {type: object, properties: {text: {type: string}}}
        container: {image: img, command: ['{{text}}'], user: '{{NAME.user}}', volumes: ['{{NAME.path|volume}}']}
";

pub(crate) fn red_team() -> Source {
    Source::File(fixture("red-team"))
}

/// All interfaces, and these grants.
pub(crate) fn with(grants: &[&str]) -> String {
    [&[ALL], grants].concat().join(",")
}

/// The name of a server that makes the component try this.
pub(crate) fn name(attempt: &str, text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    if text.is_empty() { attempt.to_owned() } else { format!("{attempt}-x{digits}") }
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What was tried, for messages.
    pub(crate) what: String,
    /// How the operation ended.
    pub(crate) result: Result<Got, ProvisionError>,
    /// What reached the runtime.
    pub(crate) requests: Vec<Request>,
    /// The audit log.
    pub(crate) records: Vec<Record<'static>>,
}

/// What an operation gave.
#[derive(Debug)]
pub(crate) enum Got {
    Container,
    Remote,
    Completed,
}

/// An attempt to be made.
pub(crate) struct Attempt<'a> {
    pub(crate) attempt: &'a str,
    pub(crate) text: &'a str,
    pub(crate) grants: &'a [&'a str],
    pub(crate) policy: Option<&'a str>,
    pub(crate) catalog: &'a str,
    pub(crate) enforcement: Enforcement,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(attempt: &'a str, text: &'a str) -> Self {
        Self { attempt, text, grants: &[], policy: None, catalog: CATALOG, enforcement: Enforcement::default() }
    }

    pub(crate) fn granted(self, grants: &'a [&'a str]) -> Self {
        Self { grants, ..self }
    }

    pub(crate) fn under(self, policy: Option<&'a str>) -> Self {
        Self { policy, ..self }
    }

    pub(crate) fn of(self, catalog: &'a str) -> Self {
        Self { catalog, ..self }
    }

    /// Provisions the server.
    pub(crate) async fn made(self) -> Seen {
        self.done(false).await
    }

    /// Runs its tool.
    pub(crate) async fn for_tool(self) -> Seen {
        self.done(true).await
    }

    /// Whatever is tried, nothing is left, the log is whole, and no private text is anywhere.
    async fn done(self, for_tool: bool) -> Seen {
        let (log, from) = (log(), log_length());
        let name = name(self.attempt, self.text);
        let place = TempDir::new().unwrap();
        let audit = open(place.path());
        let mut enforcement = self.policy.map_or_else(Enforcement::default, world::enforcement);
        enforcement.binds = self.enforcement.binds.clone();
        let around = Around { audit: audit.clone(), enforcement, ..Around::default() };
        let world = World::within(red_team(), &with(self.grants), &name, &self.catalog.replace("NAME", &name), around);
        let result = if for_tool {
            let arguments = Map::from_iter([("text".to_owned(), json!("canary-argument"))]);
            let run = world.provisioner.run_tool(&name, "shout", arguments, CancellationToken::new());
            tokio::time::timeout(PATIENCE, run).await.unwrap().map(|_| Got::Completed)
        } else {
            world.provision(&name).await.map(|endpoint| match endpoint {
                Endpoint::Container(_) => Got::Container,
                Endpoint::Remote(_) => Got::Remote,
            })
        };
        assert_eq!(world.left().await, 0, "{name}");
        audit.close(PATIENCE).await.unwrap().unwrap();
        let directory = Directory::at(place.path().to_owned());
        assert!(verify::directory(&directory).unwrap().is_sound());
        let lines: Vec<_> = Records::open(&directory, Filter::default()).unwrap().collect();
        let what = format!("{} `{:.80}` with {:?}", self.attempt, self.text.escape_debug(), self.grants);
        for line in &lines {
            assert!(!line.line.contains(CANARY), "{what}: {}", line.line);
            assert!(!line.line.contains(char::is_control), "{what}: {}", line.line);
        }
        let requests = world.runtime.requests();
        // What containers write is theirs; those of the tests beside this one, on a real engine, are in the same log.
        let logged = log.since(from);
        let logged: Vec<&str> = logged.lines().filter(|line| !line.contains(" server: ")).collect();
        let shown = format!("{result:?} {requests:?} {logged:?}");
        assert!(!shown.contains(CANARY), "{what}: {shown}");
        Seen { what, result, requests, records: lines.into_iter().map(|line| line.record).collect() }
    }
}

impl Seen {
    /// The error of an attempt that was refused before anything reached the runtime, and that the audit log tells of:
    /// what was asked for, that it was denied, and by what.
    pub(crate) fn refusal(&self) -> String {
        self.refused().unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Likewise, or how it was not so: tables show all that is wrong.
    pub(crate) fn refused(&self) -> Result<String, String> {
        let wrong = |how: String| Err(format!("{}: {how}", self.what));
        let error = match &self.result {
            Err(error @ ProvisionError::Denied(_)) => error,
            other => return wrong(format!("{other:?}")),
        };
        if !self.requests.is_empty() {
            return wrong(format!("{:?}", self.requests));
        }
        let call = self.denied();
        if call.outcome.as_deref() != Some("access-denied") || !call.arguments.contains_key("image") {
            return wrong(format!("{call:?}"));
        }
        Ok(error.to_string())
    }

    /// The record of the call that was denied.
    pub(crate) fn denied(&self) -> &Record<'static> {
        let is_denied = |record: &&Record<'_>| record.event == Kind::Call && record.decision == Some(Verdict::Denied);
        let mut calls = self.records.iter().filter(is_denied);
        calls.rfind(|record| record.server.is_some()).unwrap_or_else(|| panic!("{self:#?}"))
    }

    /// The record of a call that was made, and the one request that reached the runtime.
    pub(crate) fn allowed(&self, function: &str) -> (&Record<'static>, &Request) {
        assert!(!self.requests.is_empty(), "{}: {:?}", self.what, self.result);
        let is_call = |record: &&Record<'_>| {
            record.event == Kind::Call
                && record.function.as_deref() == Some(function)
                && record.task.as_deref() != Some("rehearse")
        };
        let call = self.records.iter().find(is_call).unwrap();
        assert_eq!(call.decision, Some(Verdict::Allowed), "{}", self.what);
        (call, &self.requests[0])
    }

    /// How the operation ended, in the log.
    pub(crate) fn ended(&self) -> &Record<'static> {
        let is_end = |record: &&Record<'_>| record.event == Kind::Ended && record.server.is_some();
        self.records.iter().rfind(is_end).unwrap()
    }
}

pub(crate) fn open(directory: &Path) -> Audit {
    let options = Options { directory: directory.to_owned(), session: "s".to_owned(), retention: Retention::default() };
    Audit::open(options).unwrap()
}

/// All that is logged, at the most talkative level. The tests of this process share it: none of them may leak.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn since(&self, from: usize) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()[from..]).into_owned()
    }
}

pub(crate) fn log() -> &'static Log {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        // As the gateway's own filter: the engine's client would log whole requests.
        let all = "trace,bollard=off,hyper=off,hyper_util=off,mio=off,cranelift=off,cranelift_codegen=off,regalloc2=off,\
                   wasmtime_environ=off,wasmtime=off";
        tracing_subscriber::fmt().with_writer(log.clone()).with_env_filter(EnvFilter::new(all)).with_ansi(false).init();
        log
    });
    &LOG
}

pub(crate) fn log_length() -> usize {
    log().0.lock().unwrap().len()
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
