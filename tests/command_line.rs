//! The command line with bad input: exit code, what is on stdout, and one line on stderr that says what to do. None
//! of it needs an engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use docker_mcp::builtin;
use tempfile::TempDir;

/// A directory with a catalog, which is also the home and the current directory.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.file("catalog.yaml", "registry:\n  time: {image: mcp/time}\n  sample: {image: 'embedded:sample'}\n");
        place
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), content).unwrap();
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

    /// Expects failure with nothing on stdout, and returns the last line on stderr.
    fn fails(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments}");
        stderr.trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

const TIME: &str = "gateway run --catalog catalog.yaml --servers time";

#[test]
fn what_is_wrong_with_the_servers_is_said_with_the_fix() {
    let place = Place::new();
    assert_eq!(
        place.fails("gateway run --catalog catalog.yaml --servers tme", 1),
        "error: server `tme` is in no catalog; did you mean `time`?"
    );
    assert_eq!(
        place.fails("gateway run --catalog catalog.yaml", 1),
        "error: no server is enabled; name some with `--servers` or take all with `--enable-all-servers` (the catalog \
         has sample, time)"
    );
    assert_eq!(
        place.fails("gateway run --servers time", 1),
        "error: no catalog; pass one with `--catalog FILE` (`--catalog builtin:sample` to try it out)"
    );
    assert_eq!(
        place.fails("provisioner plan --catalog catalog.yaml --servers time sample", 1),
        "error: server `sample` is not enabled; add it to `--servers`"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_place() {
    let place = Place::new();
    place.file("list.yaml", "registry:\n  time:\n    command: {a: b}\n");
    place.file("broken.yaml", "registry:\n  time: [\n");
    place.file("bad.env", "just words\n");
    let cases = [
        ("--catalog missing.yaml --servers time", "cannot read `missing.yaml`"),
        ("--catalog list.yaml --servers time", "list.yaml:3:14: `registry.time.command`"),
        ("--catalog broken.yaml --servers time", "broken.yaml:2:"),
        ("--catalog catalog.yaml --servers time --config broken.yaml", "broken.yaml:2:"),
        ("--catalog catalog.yaml --servers time --secrets missing.env", "cannot read secrets file `missing.env`"),
        ("--catalog catalog.yaml --servers time --secrets bad.env", "bad.env"),
    ];
    for (arguments, expected) in cases {
        let line = place.fails(&format!("gateway run {arguments}"), 1);
        assert!(line.starts_with("error: ") && line.contains(expected), "{line}");
        assert!(!line.contains("just words"), "a line of a secrets file is shown: {line}");
    }
}

#[test]
fn a_provisioner_that_cannot_be_used_ends_the_gateway() {
    let place = Place::new();
    place.file("text.wasm", "#!/bin/sh\n");
    place.file("server.wasm", builtin::SAMPLE_SERVER);
    place.file("docker.wasm", builtin::DOCKER);
    let cases = [
        ("--provisioner ./text.wasm", "`./text.wasm` is not WebAssembly"),
        ("--provisioner ./server.wasm", "is a component but no provisioner"),
        ("--provisioner ./missing.wasm", "cannot read provisioner `./missing.wasm`"),
        ("--provisioner ./docker.wasm", "add `--grant "),
        ("--provisioner podman", "there is no provisioner `podman`"),
        (
            "--provisioner kubernetes",
            "kubernetes provisioner feature is not enabled; enable it with `docker mcp feature",
        ),
    ];
    for (arguments, expected) in cases {
        let line = place.fails(&format!("{TIME} {arguments}"), 1);
        assert!(line.contains(expected), "{line}");
    }
    let line = place.fails(&format!("{TIME} --grant everything"), 2);
    assert!(line.contains("--help"), "{line}");
}

#[test]
fn a_component_from_a_file_works_with_its_grants() {
    let place = Place::new();
    place.file("docker.wasm", builtin::DOCKER);
    let grants = "secret-resolver,config-resolver,container-runtime,remote-endpoint,log";
    let arguments = format!(
        "--catalog catalog.yaml --servers sample --provisioner ./docker.wasm --grant {grants} --max-server-startup-timeout 90"
    );
    let output = place.run(&format!("tools call calculate expression=6*7 {arguments}"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts() {
    let place = Place::new();
    let twice = "--provisioner nowhere --long-lived --cpus 3 --provisioner docker --long-lived=false --cpus 1";
    let output =
        place.run(&format!("tools call calculate expression=6*7 --catalog catalog.yaml --servers sample {twice}"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_plan_takes_the_flags_of_the_gateway() {
    let place = Place::new();
    let flags = "--transport streaming --port 1234 --call-timeout 5 --tools greet --interceptor before:exec:true --watch=false \
                 --max-sessions 3 --static --verify-signatures=false --log-calls=false";
    let output = place.run(&format!("provisioner plan sample --catalog catalog.yaml {flags} --output json"));
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && stdout.contains("\"sample\""), "{stdout}{stderr}");
    // What the gateway refuses, the plan does.
    let line = place.fails("provisioner plan sample --catalog catalog.yaml --port 1234", 1);
    assert!(line.contains("`--port` cannot be used with `--transport stdio`"), "{line}");
}

#[test]
fn an_engine_that_is_away_fails_its_servers_and_not_the_embedded_ones() {
    let place = Place::new();
    let output = place.run("tools ls --catalog catalog.yaml --servers time,sample --max-server-startup-timeout 90");
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stdout.contains("calculate") && !stdout.contains("get_current_time"), "{stdout}");
    assert!(stderr.contains("cannot reach the Docker Engine at `unix:///nowhere/docker.sock`"), "{stderr}");
}

#[test]
fn a_closed_standard_input_ends_the_gateway_with_success() {
    let place = Place::new();
    let output = place.run("gateway run --catalog builtin:sample --servers sample");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_demonstration_works_without_an_engine() {
    let output = Place::new().run("demo three.short.words");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("> tools/list") && stdout.contains("characters: 17"), "{stdout}");
}

#[test]
fn a_plan_is_the_same_each_time_and_shows_names_instead_of_values() {
    let place = Place::new();
    let catalog = "registry:\n  s:\n    image: img\n    secrets: [{name: s.key, env: KEY}]\n    \
                   env: [{name: URL, value: 'http://{{s.host}}'}]\n    \
                   tools: [{name: t, parameters: {properties: {p: {}}}, container: {image: i, command: ['{{p}}']}}]\n";
    place.file("catalog.yaml", catalog);
    place.file("secrets.env", "s.key=canary-one\n");
    place.file("config.yaml", "s: {host: canary-two}\n");
    let files = "--catalog catalog.yaml --secrets secrets.env --config config.yaml";
    for format in ["text", "json", "yaml"] {
        let plan = || {
            let output = place.run(&format!("provisioner plan s {files} -o {format}"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let one = plan();
        assert_eq!(one, plan());
        for name in ["KEY=<secret:s.key>", "URL=http://<config:s.host>", "<argument:p>"] {
            assert!(one.contains(name), "`{name}` is missing in {one}");
        }
        assert!(!one.contains("canary"), "{one}");
    }
}
