//! Policies from end to end: files with mistakes, files that cannot be trusted, what is refused at which place, and
//! plans. Only the comparison of a plan with the real thing needs an engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/world.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use docker_mcp::builtin;
use docker_mcp::policy::sources::{self, Sources};
use docker_mcp::provision::{Endpoint, ProvisionError};
use docker_mcp::sandbox::contract::digest;
use proptest::prelude::*;
use tempfile::TempDir;
use world::{ALL, CATALOG, World, cache, docker, fixture, hostile};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A home directory with a catalog, which is also the current directory.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.file("catalog.yaml", "registry:\n  time: {image: mcp/time}\n  sample: {image: 'embedded:sample'}\n");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("DOCKER_MCP_CACHE", cache())
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .stdin(Stdio::null());
        command
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn everything_wrong_in_a_file_is_told_with_its_place() {
    let cases = [
        ("", "1:1"),
        ("version: 2\nrules: []\n", "1:10: there is no version `2`"),
        ("version: 1\nrule: []\n", "2:1: unknown"),
        ("version: 1\nrules:\n  - name: a\n    image: {allow: ['*/**']}\n", "4:5: unknown"),
        ("version: 1\nrules:\n  - name: a\n    images:\n      alow: []\n", "5:7: unknown"),
        ("version: 1\nrules:\n  - name: a\n    images:\n      allow:\n", "nothing stands behind this key"),
        ("version: 1\nrules:\n  - name: a\n    images:\n", "nothing stands behind this key"),
        ("version: 1\nrules:\n  - name: a\n    images: {}\n", "4:13: `images` says nothing"),
        ("version: 1\nrules:\n  - name: a\n", "3:5: rule `a` says nothing"),
        ("version: 1\nrules:\n  - name: a\n    images: {allow: [mcp/time]}\n", "4:22: `mcp/time` names no registry"),
        ("version: 1\nrules:\n  - name: a\n    hosts: {deny: ['a*b']}\n", "4:20: `a*b` has `*` inside"),
        ("version: 1\nrules:\n  - {name: a, require: [x]}\n  - {name: a, require: []}\n", "3:25: unknown"),
        (
            "version: 1\nrules:\n  - {name: a, require: [image-digest]}\n  - {name: a, require: [image-digest]}\n",
            "4:12: the rule on line 3 has the name `a` too",
        ),
        ("version: 1\nrules:\n  - {name: a, for: {servers: []}, require: [image-digest]}\n", "means nobody"),
        // What is wrong with a name is told, and the name does not drive a terminal in what is told besides.
        ("version: 1\nrules:\n  - name: \"a\\e[2K\"\n", "3:5: rule `a\\u{1b}[2K` says nothing"),
        (
            "version: 1\ncomponents:\n  allow:\n    - {component: '*', grants: [\"add-l\\e[2Kbel=x\"]}\n",
            "4:33: there is no grant `add-l\\u{1b}[2Kbel=x`",
        ),
        ("version: 1\nversion: 1\n", "2:1: duplicate"),
        ("version: 1\na: &x {}\nrules: *x\n", "2:1: unknown"),
        ("version: 1\ncomponents:\n  allow:\n    - {component: 'sha256:12'}\n", "4:19: `sha256:12` is no digest"),
        (
            "version: 1\ncomponents:\n  allow:\n    - {component: '*', interfaces: [lug]}\n",
            "4:37: there is no grant `lug`",
        ),
        (
            "version: 1\ncomponents:\n  allow:\n    - {component: '*', grants: [log]}\n",
            "4:33: `log` is no grant to leave",
        ),
        ("version: 1\ncomponents:\n  allow:\n    - {component: '*', limits: {time: 5}}\n", "4:39: `5` is no time"),
        ("version: 1\nrules:\n  - {name: a, mounts: {deny: ['/x:ro']}}\n", "3:31: `:ro` has no meaning"),
        ("version: 1\nrules:\n  - {name: a, resources: {memory: 1k}}\n", "3:35: `1k` is too little memory"),
    ];
    let place = Place::new();
    let schema = jsonschema::validator_for(&policy::file::schema()).unwrap();
    for (text, expected) in cases {
        // An editor sees what the schema can tell.
        if expected.contains("unknown") || expected.contains("images` says") || expected.contains("stands behind") {
            let seen = serde_saphyr::from_str::<serde_json::Value>(text).is_ok_and(|value| schema.is_valid(&value));
            assert!(!seen, "the schema takes {text}");
        }
        let error = policy::file::parse(text, Path::new("p.yaml")).map(drop).expect_err(text);
        let lines: Vec<String> = error.lines().collect();
        let told = lines.iter().any(|line| line.contains(expected) && line.starts_with("p.yaml:"));
        assert!(told, "{text}\n  expected {expected}\n  {lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
    }
    // What looks as if it protected somebody and does not.
    let futile =
        |list: &str, entry: &str| format!("version: 1\nrules:\n  - name: a\n    {list}: {{deny: ['{entry}']}}\n");
    for (text, expected) in [
        (
            futile("images", "embedded:smaple"),
            "4:21: `embedded:smaple` is no embedded server; there is `embedded:sample`",
        ),
        (futile("images", "*/**:{server}"), "4:21: `*/**:{server}` covers nothing"),
        (futile("images", "*/**:a+b"), "no tag has `+`"),
        (futile("mounts", "volume:a/b"), "4:21: `volume:a/b` covers nothing: no volume has `/`"),
        (futile("networks", "none"), "4:23: `none` denies nothing"),
        (futile("variables", "HTTP PROXY"), "4:24: `HTTP PROXY` covers nothing: no variable has ` `"),
        (futile("variables", "1*"), "a variable begins with a letter"),
        (futile("labels", "team=x"), "4:21: `team=x` covers nothing: no label has `=`"),
        (futile("namespaces", "Kube-*"), "4:25: `Kube-*` covers nothing: no namespace has `K`"),
        ("version: 1\nservers: {deny: ['{server}']}\n".to_owned(), "2:18: `{server}` covers nothing"),
        ("version: 1\ncomponents: {deny: ['builtin:dokcer']}\n".to_owned(), "2:21: `builtin:dokcer` is no component"),
        (
            "version: 1\nrules:\n  - {name: a, for: {components: ['builtin:x']}, secrets: {deny: ['*']}}\n".to_owned(),
            "3:34: `builtin:x` is no component of this gateway",
        ),
        (
            "version: 1\nrules:\n  - {name: a, for: {kinds: [remote]}, images: {deny: ['*/**']}}\n".to_owned(),
            "3:55: `*/**` in `images.deny` has no effect",
        ),
        (
            "version: 1\nrules:\n  - {name: a, for: {kinds: [remote]}, require: [image-digest]}\n".to_owned(),
            "`require` has no effect",
        ),
    ] {
        let error = policy::file::parse(&text, Path::new("p.yaml")).map(drop).expect_err(&text);
        assert!(error.lines().any(|line| line.contains(expected)), "{text}\n  expected {expected}\n  {error}");
        // The same in a list that allows leaves out nothing, and is told.
        let allowing = text.replace("deny", "allow");
        if let Ok(checked) = policy::file::check(&allowing, Path::new("p.yaml")) {
            assert_eq!(checked.warnings.len(), usize::from(!allowing.contains("none")), "{allowing}");
        }
    }
    place.file("futile.yaml", &futile("labels", "team=x").replace("deny", "allow"));
    let output = place.run("policy check futile.yaml");
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("futile.yaml: valid\nfutile.yaml:4:22: warning: `team=x` covers nothing"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_slice(&place.run("policy check --format json futile.yaml").stdout).unwrap();
    assert_eq!((&json["files"][0]["valid"], &json["files"][0]["warnings"][0]["line"]), (&true.into(), &4.into()));
    let several = "version: 1\nrules:\n  - name: a\n    images: {allow: [mcp/time, 'docker.io/**', busybox]}\n";
    place.file("several.yaml", several);
    place.file("good.yaml", "version: 1\n");
    let output = place.run("policy check good.yaml several.yaml missing.yaml");
    assert_eq!(output.status.code(), Some(3));
    let shown = stdout(&output);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 4, "{shown}");
    assert_eq!(lines[0], "good.yaml: valid");
    assert!(lines[1].starts_with("several.yaml:4:22: ") && lines[2].starts_with("several.yaml:4:48: "), "{shown}");
    let json: serde_json::Value =
        serde_json::from_slice(&place.run("policy check --format json several.yaml").stdout).unwrap();
    assert_eq!(json["files"][0]["valid"], false);
    assert_eq!(json["files"][0]["problems"][1]["column"], 48);
    assert_eq!(place.run("policy check good.yaml").status.code(), Some(0));
}

/// The body of the fuzz target looks for these at its crate's root.
mod policy {
    pub(crate) use docker_mcp::policy::{file, grants};
}
#[path = "../fuzz/src/bodies/policy.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are another crate")]
mod body;

proptest! {
    #[test]
    fn policies_hold_on_any_input(
        lines in prop::collection::vec(prop::sample::select(vec![
            "version: 1", "rules:", "  - name: a", "  - name: b", "    images: {allow: ['*/**']}", "    images: {deny: ['docker.io/**']}",
            "    hosts: {deny: ['api.example:443']}", "    secrets: {allow: ['{server}.*']}", "    config: {deny: [s.a]}",
            "    require: [image-digest]", "    for: {kinds: [remote]}", "    for: {servers: ['o*']}", "components:", "  deny: ['builtin:docker']",
            "  allow: [{component: '*', interfaces: [log], grants: ['add-label=x.'], limits: {time: 5ms}}]", "servers: {deny: [s]}",
            "    mounts: {allow: ['volume:x', '/a/**:ro']}", "    resources: {cpus: 1, memory: 64m}", "- x", "&a *a",
        ]), 0..12),
        grants in prop::sample::select(vec!["", "\0log", "\0rewrite-image=h.x,wasi:io", "\0add-env=*", "\0add-env=**", "\0rewrite-command=x"]),
    ) {
        body::policy(format!("{}{grants}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn reading_a_file_is_total(text in any::<String>(), lines in prop::collection::vec(
        prop::sample::select(vec![
            "version: 1", "rules:", "  - name: a", "    images: {allow: ['*/**']}", "    hosts:", "      deny: [x]", "components:",
            "  allow: []", "servers: {deny: ['{server}']}", "    for: {kinds: [remote]}", "    resources: {cpus: 1e9}", "- x", "&a *a",
        ]), 0..10))
    {
        drop(policy::file::parse(&text, Path::new("p.yaml")));
        drop(policy::file::parse(&lines.join("\n"), Path::new("p.yaml")));
    }
}

#[test]
fn every_example_is_valid_and_the_schema_is_the_published_one() {
    let root = repository();
    let guide = std::fs::read_to_string(root.join("docs/policy.md")).unwrap();
    let examples: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    let validator = jsonschema::validator_for(&policy::file::schema()).unwrap();
    let fits = |text: &str| {
        let value: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{text}");
    };
    fits(&std::fs::read_to_string(root.join("examples/policy.yaml")).unwrap());
    for example in examples {
        // A part of a file begins with one of its keys.
        let whole = if example.contains("version:") { example.to_owned() } else { format!("version: 1\n{example}") };
        if let Err(error) = policy::file::parse(&whole, Path::new("docs/policy.md")) {
            panic!("{error}\n{example}");
        }
        fits(&whole);
    }
    let output = Place::new().run(&format!("policy check {}", root.join("examples/policy.yaml").display()));
    assert!(output.status.success(), "{}", stdout(&output));

    let published = root.join("docs/policy.schema.json");
    let schema = stdout(&Place::new().run("policy schema"));
    if std::env::var_os("DOCKER_MCP_BLESS").is_some() {
        std::fs::write(&published, &schema).unwrap();
    }
    let remedy = "docs/policy.schema.json is not what `docker-mcp policy schema` prints; write that to it";
    assert!(std::fs::read_to_string(&published).unwrap_or_default() == schema, "{remedy}");
}

fn load(system: &Path, named: &[PathBuf], user: Option<&Path>) -> Result<sources::Loaded, String> {
    let sources = Sources { system: system.to_owned(), named: named.to_vec(), user: user.map(Path::to_owned) };
    sources::load(&sources).map_err(|error| error.to_string())
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_change_or_nobody_can_read_stops_everything() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new();
    let mode = |name: &str, mode| std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(mode)).unwrap();
    let system = place.path("etc/policy.yaml");
    let missing = place.path("missing.yaml");
    place.file("etc/policy.yaml", "version: 1\nservers: {allow: [time]}\n");
    mode("etc/policy.yaml", 0o644);
    let loaded = load(&system, &[], Some(&missing)).unwrap();
    assert_eq!(loaded.files.len(), 1);
    assert!(load(&missing, &[], None).unwrap().policies.is_empty());
    assert!(load(&missing, std::slice::from_ref(&missing), None).unwrap_err().contains("missing.yaml"));

    for bad in [0o664, 0o646] {
        mode("etc/policy.yaml", bad);
        assert!(load(&system, &[], None).unwrap_err().contains("chmod go-w"));
        // As the user's own, too.
        assert!(load(&missing, &[], Some(&system)).is_err());
    }
    mode("etc/policy.yaml", 0o644);
    mode("etc", 0o777);
    assert!(load(&system, &[], None).unwrap_err().contains("replace or remove it"));
    symlink(&system, place.path("link.yaml")).unwrap();
    assert!(load(&place.path("link.yaml"), &[], None).unwrap_err().contains("replace or remove it"));
    mode("etc", 0o755);
    assert!(load(&place.path("link.yaml"), &[], None).is_ok());
    symlink("/nowhere/policy.yaml", place.path("lost.yaml")).unwrap();
    assert!(load(&place.path("lost.yaml"), &[], None).is_err(), "a policy that is lost is not one that is not there");
    assert!(load(&place.path("etc"), &[], None).unwrap_err().contains("not a file"));
    // Nor is one on the way to which a link leads nowhere or a file stands, or that others could have removed.
    symlink("/nowhere/docker-mcp", place.path("lost")).unwrap();
    let lost = load(&place.path("lost/policy.yaml"), &[], None).unwrap_err();
    assert!(lost.contains("lost` is a link that leads nowhere, so that the policy is lost"), "{lost}");
    assert!(load(&system, &[], Some(&place.path("lost/x/policy.yaml"))).is_err());
    assert!(load(&place.path("etc/policy.yaml/policy.yaml"), &[], None).is_err());
    mode("etc", 0o777);
    assert!(load(&place.path("etc/other.yaml"), &[], None).unwrap_err().contains("replace or remove it"));
    assert!(load(&missing, &[], Some(&place.path("etc/other.yaml"))).is_ok(), "a user's own place is the user's own");
    mode("etc", 0o755);
    assert!(load(&place.path("etc/other.yaml"), &[], None).unwrap().policies.is_empty());
    // Something else than a file is not waited for.
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    assert!(load(&place.path("pipe"), &[], None).unwrap_err().contains("not a file"));
    place.file("etc/policy.yaml", "version: 1\nserver: {}\n");
    assert!(load(&system, &[], None).unwrap_err().contains("policy.yaml:2:1: unknown"));
}

#[test]
fn no_file_loosens_another_and_a_broken_one_stops_every_command() {
    let place = Place::new();
    place.file("organisation.yaml", "version: 1\nservers: {allow: [time]}\n");
    place.file(".docker/mcp/policy.yaml", "version: 1\nservers: {allow: ['*']}\n");
    let plan = place.run("provisioner plan --catalog catalog.yaml --servers time,sample --policy organisation.yaml");
    assert_eq!(plan.status.code(), Some(3), "{}", stderr(&plan));
    let shown = stdout(&plan);
    assert!(shown.contains("sample: refused\n") && shown.contains("(organisation.yaml:2)"), "{shown}");
    assert!(shown.contains("time: runs in a container"), "{shown}");
    // The variable adds to the flags and replaces nothing.
    place.file("third.yaml", "version: 1\nservers: {deny: [time]}\n");
    let mut both =
        place.command("provisioner plan --catalog catalog.yaml --servers time,sample --policy organisation.yaml");
    let shown = stdout(&both.env(sources::VARIABLE, "third.yaml").output().unwrap());
    assert_eq!(shown.matches(": refused\n").count(), 2, "{shown}");

    let shown = stdout(&place.run("policy show --policy organisation.yaml"));
    for text in
        ["2 policy files hold here", "organisation.yaml (named)", ".docker/mcp/policy.yaml (user)", "secret-resolver,"]
    {
        assert!(shown.contains(text), "`{text}` is missing in {shown}");
    }
    let call = place.run(
        "tools call calculate expression=6*7 --catalog catalog.yaml --servers sample --max-server-startup-timeout 90",
    );
    assert_eq!(stdout(&call), "42\n", "{}", stderr(&call));
    let call = place.run("tools call calculate expression=6*7 --catalog catalog.yaml --servers sample --policy third.yaml --policy organisation.yaml");
    assert!(!call.status.success() && stdout(&call).is_empty(), "{}", stderr(&call));

    place.file(".docker/mcp/policy.yaml", "version: 1\nservers: {alow: ['*']}\n");
    for command in ["gateway run", "tools ls", "provisioner plan"] {
        let output = place.run(&format!("{command} --catalog catalog.yaml --servers sample"));
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains("policy.yaml:2:11: unknown"), "{command}: {}", stderr(&output));
    }
}

/// Provisions the server of `CATALOG` under a policy, and returns why not.
async fn refused(policy: &str, name: &str) -> String {
    let component = if name == "s" { docker() } else { hostile() };
    let world = World::under(policy, component, ALL, name, &CATALOG.replace("NAME", name));
    let error = world.provision(name).await.map(drop).expect_err(policy);
    assert!(matches!(error, ProvisionError::Denied(_)), "{policy}: {error:?}");
    assert_eq!(world.left().await, 0);
    let text = error.to_string();
    assert!(!text.contains("canary"), "{text}");
    text
}

#[tokio::test]
async fn each_place_refuses_what_is_its_to_refuse() {
    let rule = |text: &str| format!("version: 1\nrules:\n  - name: r\n    {text}\n");
    for (policy, expected) in [
        (
            "version: 1\ncomponents: {allow: [{component: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}]}",
            "must not run: component `builtin:docker`",
        ),
        ("version: 1\ncomponents: {deny: ['builtin:docker']}", "`components.deny`"),
        (
            "version: 1\ncomponents: {allow: [{component: 'builtin:docker', interfaces: [log, config-resolver]}]}",
            "interface `",
        ),
        ("version: 1\nservers: {deny: ['s']}", "server `s` is denied"),
        (&rule("images: {allow: ['docker.io/other/*']}"), "image `docker.io/library/img:latest`"),
        (&rule("secrets: {allow: ['other.*']}"), "secret `s.token`"),
        (&rule("config: {deny: ['s.user']}"), "configuration `s.user`"),
        (&rule("mounts: {allow: ['volume:data']}"), "mount `<config:s.path>:<config:s.path>`"),
        (&rule("variables: {deny: ['URL']}"), "environment variable `URL`"),
        (&rule("require: [read-only-root]"), "requirement `read-only-root` of rule `r` (policy.yaml:4)"),
        (&rule("hosts: {deny: ['db']}"), "host `db`"),
    ] {
        let text = refused(policy, "s").await;
        assert!(text.contains(expected) && text.contains("policy.yaml:"), "{expected}: {text}");
    }
    // A grant that the policy does not leave to the component.
    let bounded = "version: 1\ncomponents: {allow: [{component: '*', grants: ['rewrite-image=other.example']}]}";
    let world = World::under(
        bounded,
        hostile(),
        &format!("{ALL},rewrite-image=registry.example"),
        "other-image",
        &CATALOG.replace("NAME", "other-image"),
    );
    let text = world.provision("other-image").await.map(drop).unwrap_err().to_string();
    assert!(text.contains("is beyond `grants` of rule `*` (policy.yaml:2)"), "{text}");
}

#[tokio::test]
async fn a_policy_lowers_limits_and_ceilings_and_raises_none() {
    let few = "version: 1\ncomponents: {allow: [{component: '*', limits: {host-calls: 3}}]}";
    let world = World::under(few, docker(), ALL, "s", &CATALOG.replace("NAME", "s"));
    let text = world.provision("s").await.map(drop).unwrap_err().to_string();
    assert!(text.contains("too many host calls"), "{text}");
    let small = "version: 1\nrules: [{name: r, for: {servers: ['s']}, resources: {cpus: 0.25, memory: 64g}}]\n\
                 components: {allow: [{component: '*', limits: {host-calls: 1000000000000, memory: 1t}}]}";
    let world = World::under(small, docker(), ALL, "s", &CATALOG.replace("NAME", "s"));
    assert!(world.provision("s").await.is_ok());
    let resources = world.request().spec.resources;
    assert_eq!((resources.cpu_millis, resources.memory_bytes), (250, 2 << 30));
}

#[tokio::test]
async fn a_remote_server_is_reached_only_at_hosts_that_are_allowed() {
    let policy = "version: 1\nrules: [{name: r, hosts: {allow: ['*.example:443']}}]";
    let entry = |url: &str| {
        format!(
            "registry:\n  far:\n    type: remote\n    remote: {{url: '{url}'}}\n    secrets: [{{name: far.token, env: KEY}}]\n"
        )
    };
    for url in ["https://mcp.example/mcp", "https://MCP.example./?key=${KEY}"] {
        let world = World::under(policy, docker(), ALL, "far", &entry(url));
        assert!(matches!(world.provision("far").await, Ok(Endpoint::Remote(_))), "{url}");
    }
    for url in [
        "https://mcp.example:8443/",
        "http://mcp.example/",
        "https://evil.test/?a.example",
        "https://a.example@evil.test/",
        "https://${KEY}/",
        "https://a.example${KEY}/",
        "https://0x7f.1/",
    ] {
        let world = World::under(policy, docker(), ALL, "far", &entry(url));
        let error = world.provision("far").await.map(drop).expect_err(url);
        assert!(matches!(error, ProvisionError::Denied(_)), "{url}: {error}");
    }
    // An address is denied however it is written, and stays so for whoever connects to a name.
    let policy = "version: 1\nrules: [{name: r, hosts: {deny: ['10.0.0.0/8']}}]";
    for url in
        ["https://10.1.2.3/", "https://[::ffff:10.1.2.3]/", "https://[64:ff9b::a01:203]/", "https://[2002:a01:203::]/"]
    {
        let world = World::under(policy, docker(), ALL, "far", &entry(url));
        let error = world.provision("far").await.map(drop).expect_err(url);
        assert!(matches!(error, ProvisionError::Denied(_)), "{url}: {error}");
    }
    let world = World::under(policy, docker(), ALL, "far", &entry("https://mcp.example/"));
    let Ok(Endpoint::Remote(remote)) = world.provision("far").await else { panic!("it is allowed") };
    let refusal = remote.denied.refusal("mcp.example", "10.9.9.9".parse().unwrap(), Some(443)).unwrap().to_string();
    assert!(refusal.starts_with("host `mcp.example:443` leads to an address that is denied by rule `r`"), "{refusal}");
    assert!(remote.denied.refusal("mcp.example", "11.9.9.9".parse().unwrap(), None).is_none());
}

#[tokio::test]
async fn a_component_is_known_by_its_bytes() {
    let bytes = std::fs::read(fixture("hostile")).unwrap();
    let policy = |digest: &str| format!("version: 1\ncomponents: {{allow: [{{component: 'sha256:{digest}'}}]}}");
    let catalog = CATALOG.replace("NAME", "drop-everything");
    let world = World::under(&policy(&digest(&bytes)), hostile(), ALL, "drop-everything", &catalog);
    assert!(world.provision("drop-everything").await.is_ok());
    let world = World::under(&policy(&digest(builtin::DOCKER)), hostile(), ALL, "drop-everything", &catalog);
    let text = world.provision("drop-everything").await.map(drop).unwrap_err().to_string();
    assert!(text.contains("must not run") && text.contains(&digest(&bytes)), "{text}");
}

#[test]
fn plans_are_the_same_bytes_each_time() {
    let fixtures = repository().join("tests/fixtures/plan");
    let place = Place::new();
    for name in ["catalog.yaml", "config.yaml", "secrets.env", "policy.yaml"] {
        place.file(name, &std::fs::read_to_string(fixtures.join(name)).unwrap());
    }
    let inputs = "--catalog catalog.yaml --enable-all-servers --config config.yaml --secrets secrets.env";
    for (golden, flags) in [
        ("open.txt", "-o text"),
        ("open.json", "-o json"),
        ("open.yaml", "-o yaml"),
        ("policy.txt", "-o text --policy policy.yaml"),
        ("policy.json", "-o json --policy policy.yaml"),
    ] {
        let plan = || {
            let output = place.run(&format!("provisioner plan {inputs} {flags}"));
            assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
            stdout(&output)
        };
        let shown = plan();
        assert_eq!(shown, plan(), "{golden}");
        assert!(!shown.contains("canary"), "{shown}");
        let path = fixtures.join(golden);
        if std::env::var_os("DOCKER_MCP_BLESS").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(shown == expected, "the plan is not `{}`; it is\n{shown}", path.display());
    }
}

/// The answers of a component that tries to find out whether its containers are real, and the refusals of everything
/// that it asks for.
#[test]
fn a_plan_shows_all_that_a_component_asks_for_and_what_is_handed_back() {
    let place = Place::new();
    let names = ["start-twice", "stop-first", "fail-after-start", "run-many"];
    let entries: String =
        names.map(|name| format!("  {name}: {{title: t, type: server, image: 'mcp/{name}'}}\n")).concat();
    place.file("hostile.yaml", &format!("registry:\n{entries}"));
    std::fs::copy(fixture("hostile"), place.path("hostile.wasm")).unwrap();
    let plan = |server: &str, more: &str| {
        place.run(&format!(
            "provisioner plan {server} --catalog hostile.yaml --provisioner hostile.wasm --grant container-runtime,secret-resolver,\
             config-resolver,remote-endpoint,log {more}"
        ))
    };
    for (server, besides, text) in [
        (
            "start-twice",
            "removed",
            "start-twice, besides, and is removed, because it is not what is handed back: runs in a container",
        ),
        ("stop-first", "removed", "stop-first, besides, and is removed"),
        ("fail-after-start", "removed", "fail-after-start, besides, and is removed, because nothing is handed back"),
        ("run-many", "ends", "run-many, besides, and to its end: runs in a container"),
    ] {
        let shown = stdout(&plan(server, ""));
        assert!(shown.contains(text), "{shown}");
        let json: serde_json::Value = serde_json::from_slice(&plan(server, "-o json").stdout).unwrap();
        let step = &json["plan"][0];
        assert_eq!(step["besides"][0]["fate"], besides, "{step}");
        assert_eq!(step["besides"][0]["create"]["Image"], format!("mcp/{server}"), "{step}");
        let count = step["besides"].as_array().unwrap().len();
        let is_handed_back = step.get("create").is_some();
        match server {
            "run-many" => assert!(count == 16 && !is_handed_back),
            "fail-after-start" => assert!(count == 1 && !is_handed_back),
            _ => assert!(count == 1 && is_handed_back, "{step}"),
        }
    }
    // Every decision, only if that is asked for.
    let (few, all) = (stdout(&plan("start-twice", "")), stdout(&plan("start-twice", "--all-decisions")));
    assert!(!few.contains("no rule is about it"), "{few}");
    assert!(all.contains("  policy    interface `container-runtime` is allowed: no rule is about it"), "{all}");
    place.file("p.yaml", "version: 1\nrules: [{name: r, secrets: {deny: ['x']}}]\n");
    let all = stdout(&plan("start-twice", "--all-decisions --policy p.yaml"));
    assert!(all.contains("image `mcp/start-twice` is allowed: no rule is about it"), "{all}");
}

#[test]
fn a_component_cannot_tell_a_plan_from_an_engine() {
    let required = std::env::var("DOCKER_MCP_REQUIRE_ENGINE").is_ok_and(|text| text == "1");
    if !Path::new("/var/run/docker.sock").exists() {
        assert!(!required, "there is no engine at /var/run/docker.sock");
        eprintln!("skipped: there is no engine");
        return;
    }
    let place = Place::new();
    place.file(
        "catalog.yaml",
        "registry:\n  observe:\n    image: mcp-test/busybox:1\n    command: ['true']\n    disableNetwork: true\n",
    );
    place.file("policy.yaml", "version: 1\nrules: [{name: r, labels: {deny: ['team.*']}}]\n");
    let inputs = format!(
        "--catalog catalog.yaml --policy policy.yaml --provisioner {} --grant {ALL},add-label=team.,rewrite-user=0",
        fixture("hostile").display()
    );
    let observations = |text: &str| {
        let at = text.find("docker | xxxxxxxxxxxxxxxx | ").unwrap_or_else(|| panic!("no observations in {text}"));
        text[at..].lines().next().unwrap().to_owned()
    };
    let planned = observations(&stdout(&place.run(&format!("provisioner plan observe {inputs}"))));
    let mut real = place.command(&format!("tools ls --servers observe {inputs} --max-server-startup-timeout 300"));
    let real = observations(&stderr(&real.env_remove("DOCKER_HOST").output().unwrap()));
    for (planned, real) in planned.split(" | ").zip(real.split(" | ")) {
        assert_eq!(planned, real);
    }
    assert_eq!(planned, real);
}
