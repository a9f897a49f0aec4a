//! `docker-mcp provisioner inspect, diff, ls, install, uninstall, export, verify`: what they show, what they refuse,
//! and that what was agreed to is what runs. None of it needs an engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use docker_mcp::builtin;
use docker_mcp::sandbox::contract::digest;
use serde_json::Value as Json;
use tempfile::TempDir;

const ALL: &str = "secret-resolver,config-resolver,container-runtime,remote-endpoint,log";

/// A directory that is also the home.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.file("docker.wasm", builtin::DOCKER);
        std::fs::copy(Path::new(env!("FIXTURE_COMPONENTS")).join("hostile.wasm"), place.path("hostile.wasm")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn store(&self, name: &str) -> PathBuf {
        self.path(".local/share/docker-mcp/provisioners").join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_docker-mcp"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("USER", "ada")
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Standard output of a command that ends with this code.
    fn prints(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &str, code: i32) -> Json {
        serde_json::from_str(&self.prints(arguments, code)).unwrap()
    }

    /// The last line on standard error of a command that fails.
    fn fails(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments}");
        stderr.trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_reader_who_does_not_know_wasm_sees_what_a_component_could_reach() {
    let place = Place::new();
    let text = place.prints("provisioner inspect docker", 0);
    for expected in [
        "docker (built in)",
        &digest(builtin::DOCKER),
        "high    mcp-gateway:provisioning/container-runtime@0.1.0  [granted]",
        "Starts, runs and stops containers for the one server it deploys.",
        "start  Starts a container whose standard streams carry the MCP protocol.",
        "It imports no files, no network, no environment",
        "with these grants it can run",
        "claims: whoever made it could write anything",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains("The gateway links no interface of WASI for it."), "{text}");

    let text = place.prints("provisioner inspect ./docker.wasm --grant log,cluster-objects", 0);
    for expected in [
        "[not granted]",
        "granted, not wanted cluster-objects",
        "it will not run; to allow it add `--grant secret-resolver,config-resolver,container-runtime,remote-endpoint`",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
    }

    let wit = place.prints("provisioner inspect docker --format wit", 0);
    assert!(wit.contains("export mcp-gateway:provisioning/provisioner@0.1.0;"), "{wit}");
    let json = place.json("provisioner inspect docker --format json", 0);
    assert_eq!(json["component"]["digest"], digest(builtin::DOCKER));
    assert_eq!(json["grants"]["canRun"], true);
    assert_eq!(json["component"]["worlds"][0]["fits"], true);
}

#[test]
fn what_policies_leave_of_grants_is_shown_with_the_rule_that_takes_away() {
    let place = Place::new();
    place.prints(&format!("provisioner install ./docker.wasm --name mine --grant {ALL},add-label=team. --yes"), 0);
    place.file(
        "policy.yaml",
        "version: 1\ncomponents:\n  allow:\n    - component: '*'\n      name: few\n      interfaces: [config-resolver, log]\n      \
         grants: [add-label=other.]\n      limits: {host-calls: 300}\n",
    );
    let taken = "without `container-runtime`: interface `container-runtime` is not in `interfaces` of rule `few` (policy.yaml:6)";
    for command in ["provisioner inspect mine", "provisioner ls", "policy show"] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words(&place.prints(&format!("{command} --policy policy.yaml"), 0));
        for expected in [taken, "`host-calls` at most 300 (rule `few` (policy.yaml:8))"] {
            assert!(text.contains(expected), "{command}: `{expected}` is missing in\n{text}");
        }
        let beyond = "beyond the catalog at most: add-label=other. (rule `few` (policy.yaml:7))";
        assert_eq!(text.contains(beyond), command != "policy show", "{command}: {text}");
        let json = place.json(&format!("{command} --policy policy.yaml --format json"), 0);
        let effect = match command {
            "provisioner inspect mine" => &json["policies"]["effect"],
            "provisioner ls" => &json["provisioners"][1]["policies"],
            _ => &json["effective"]["docker"],
        };
        assert_eq!(effect["left"], serde_json::json!(["config-resolver", "log"]), "{command}: {json:#}");
        assert_eq!(effect["taken"][0]["rule"]["line"], 6, "{command}: {json:#}");
    }
    place.file("closed.yaml", "version: 1\ncomponents: {allow: [{component: 'builtin:other'}]}\n");
    let text = place.prints("provisioner inspect docker --policy closed.yaml", 0);
    assert!(text.contains("it does not run: component `builtin:docker` is not in `components.allow`"), "{text}");
    place.file("open.yaml", "version: 1\n");
    let text = place.prints("provisioner inspect docker --policy open.yaml", 0);
    assert!(text.contains("What is left of that by the policy file that holds here\n  all of it\n"), "{text}");
    assert!(!place.prints("provisioner inspect docker", 0).contains("What is left of that"));
}

#[test]
fn what_cannot_be_inspected_is_named_with_what_to_do() {
    let place = Place::new();
    place.file("text.wasm", "#!/bin/sh\n");
    place.file("core.wasm", b"\0asm\x01\0\0\0");
    for (arguments, expected) in [
        ("./missing.wasm", "cannot read `./missing.wasm`"),
        ("./text.wasm", "it is text, not WebAssembly; build a component for the world"),
        ("./core.wasm", "a core module, not a component"),
        ("podman", "there is no provisioner `podman`; for a file write its path (`./podman.wasm`)"),
        ("podman.wat", "for a file write its path (`./podman.wat`)"),
    ] {
        let line = place.fails(&format!("provisioner inspect {arguments}"));
        assert!(line.contains(expected), "{line}");
    }
    // An MCP server is a component, and no provisioner: it can be looked at, and not installed.
    place.file("server.wasm", builtin::SAMPLE_SERVER);
    let text = place.prints("provisioner inspect ./server.wasm", 0);
    assert!(text.contains("no world of the contract") && text.contains("wasi:cli"), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("wasi:io/streams@0.2"), "{text}");
    assert!(words.contains("streams that other interfaces of WASI hand out"), "{text}");
    assert!(text.contains("no grant makes it a provisioner") && !text.contains("add `--grant"), "{text}");
    let line = place.fails("provisioner install ./server.wasm --yes");
    assert!(line.contains("is no provisioner"), "{line}");
}

#[test]
fn a_difference_is_shown_and_told_by_the_exit_code() {
    let place = Place::new();
    assert!(place.prints("provisioner diff docker ./docker.wasm", 0).contains("the same, byte for byte"));
    // The hostile one makes values of its own and stops containers.
    let text = place.prints("provisioner diff docker ./hostile.wasm", 3);
    assert!(text.contains("wants more\n") && text.contains("container-runtime@0.1.0 stop"), "{text}");
    let json = place.json("provisioner diff docker ./hostile.wasm --format json", 3);
    let names: Vec<&str> = json["difference"]["wantsMore"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["risk"] == "high")
        .map(|change| change["function"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["stop"], "{json:#}");
    let less = place.prints("provisioner diff ./hostile.wasm docker", 0);
    assert!(less.contains("wants no longer\n") && less.contains("container-runtime@0.1.0 stop"), "{less}");
    assert!(place.fails("provisioner diff docker ./missing.wasm").contains("cannot read"));
}

#[test]
fn a_component_is_installed_with_consent_and_runs_with_what_it_was_granted() {
    let place = Place::new();
    let line = place.fails("provisioner install ./docker.wasm --name mine --grant log --yes");
    assert!(line.contains("imports what it is not granted; to allow it add `--grant "), "{line}");
    let line = place.fails(&format!("provisioner install ./docker.wasm --name mine --grant {ALL}"));
    assert!(line.contains("standard input is no terminal; add `--yes`"), "{line}");
    let line = place.fails(&format!("provisioner install ./docker.wasm --grant {ALL} --yes"));
    assert!(line.contains("built-in") && line.contains("choose one with `--name`"), "{line}");
    assert!(
        place
            .fails("tools ls --catalog builtin:sample --servers sample --provisioner mine")
            .contains("there is no provisioner `mine`")
    );
    assert!(!place.store("provisioners.lock.json").exists(), "nothing was agreed to");

    let line = place.prints(&format!("provisioner install docker.wasm --name mine --grant {ALL} --yes"), 0);
    assert!(line.contains("use it with `--provisioner mine`"), "{line}");
    let json = place.json("provisioner ls --format json", 0);
    let names: Vec<&str> =
        json["provisioners"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docker", "kubernetes", "cluster-mapping", "mine"]);
    let mine = &json["provisioners"][3];
    assert_eq!(mine["digest"], digest(builtin::DOCKER));
    assert_eq!(mine["consent"]["by"], "ada");
    assert!(mine["from"].as_str().unwrap().ends_with("/docker.wasm"), "{mine}");
    assert!(place.prints("provisioner ls", 0).contains("agreed to by ada at 20"));

    let call = "tools call calculate expression=6*7 --catalog builtin:sample --servers sample --provisioner mine --max-server-startup-timeout 90";
    assert_eq!(place.prints(call, 0), "42\n");
    // It is the content that counts, not the file it came from.
    std::fs::remove_file(place.path("docker.wasm")).unwrap();
    assert_eq!(place.prints(call, 0), "42\n");
    assert!(place.prints("provisioner inspect mine", 0).contains("installed from "));
    place.prints("provisioner export mine copy.wasm", 0);
    assert_eq!(std::fs::read(place.path("copy.wasm")).unwrap(), builtin::DOCKER);
    assert!(place.fails("provisioner export docker copy.wasm").contains("add `--force`"));

    assert_eq!(place.prints("provisioner rm mine", 0), "removed `mine`\n");
    assert!(place.fails(call).contains("there is no provisioner `mine`"));
}

#[test]
fn what_was_changed_after_it_was_agreed_to_does_not_run_until_it_is_agreed_to_again() {
    let place = Place::new();
    let install = |file: &str| place.run(&format!("provisioner install ./{file} --name mine --grant {ALL} --yes"));
    assert!(install("docker.wasm").status.success());
    assert!(place.prints("provisioner verify", 0).contains("as agreed to"));

    let content = place.store("sha256").join(format!("{}.wasm", digest(builtin::DOCKER)));
    std::fs::copy(place.path("hostile.wasm"), &content).unwrap();
    let run = "tools ls --catalog builtin:sample --servers sample --provisioner mine --max-server-startup-timeout 90";
    let line = place.fails(run);
    assert!(line.contains("is not what was agreed to") && line.contains("install it again"), "{line}");
    assert!(place.fails("provisioner inspect mine").contains("was changed after it was installed"));
    assert!(place.prints("provisioner verify mine", 3).contains("CHANGED"));
    assert!(install("docker.wasm").status.success());
    place.prints(run, 0);

    // A lock file with fewer imports than the content has: an import that nobody agreed to.
    let lock = place.store("provisioners.lock.json");
    let text = std::fs::read_to_string(&lock).unwrap();
    std::fs::write(&lock, text.replace("mcp-gateway:provisioning/log@0.1.0\"", "mcp-gateway:provisioning/lag@0.1.0\""))
        .unwrap();
    let line = place.fails(run);
    assert!(line.contains("imports `mcp-gateway:provisioning/log@0.1.0`, which was not among its imports"), "{line}");
    assert!(place.prints("provisioner verify", 3).contains("install it again"));

    // Another version under the same name: what is different is shown.
    let output = install("hostile.wasm");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.contains("`mine` is installed already") && stderr.contains("wants more"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn a_store_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.prints(&format!("provisioner install ./docker.wasm --name mine --grant {ALL} --yes"), 0);
    std::fs::set_permissions(place.store(""), std::fs::Permissions::from_mode(0o777)).unwrap();
    let line = place.fails("tools ls --catalog builtin:sample --servers sample --provisioner mine");
    assert!(line.contains("others may write to it"), "{line}");
}
