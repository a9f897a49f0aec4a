//! `docker mcp ...`: the built binary as a plugin of the real `docker` command.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A Docker configuration with the plugin in it; none, and said so, where there is no `docker`.
fn installed() -> Option<TempDir> {
    if Command::new("docker").arg("--version").output().is_err() {
        assert!(std::env::var_os("DOCKER_MCP_REQUIRE_ENGINE").is_none(), "there is no `docker` command");
        eprintln!("skipped: there is no `docker` command");
        return None;
    }
    let home = TempDir::new().unwrap();
    let plugins = home.path().join("config/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    symlink(env!("CARGO_BIN_EXE_docker-mcp"), plugins.join("docker-mcp")).unwrap();
    Some(home)
}

fn docker(home: &Path, words: &str) -> Command {
    let mut command = Command::new("docker");
    command
        .args(words.split(' '))
        .current_dir(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("DOCKER_CONFIG", home.join("config"))
        .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command
}

fn text(output: Output) -> (String, String, Option<i32>) {
    let utf8 = |bytes| String::from_utf8(bytes).unwrap();
    (utf8(output.stdout), utf8(output.stderr), output.status.code())
}

#[test]
fn docker_runs_the_commands_and_passes_on_its_options_and_the_exit_code() {
    let Some(home) = installed() else { return };
    let run = |words: &str| text(docker(home.path(), words).output().unwrap());
    let version = format!("docker-mcp {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run("mcp version"), (version, String::new(), Some(0)));
    let (stdout, ..) = run("mcp catalog --help");
    assert!(stdout.contains("Usage: docker mcp catalog <COMMAND>"), "{stdout}");
    let (_, stderr, code) = run("mcp catalog rm nothing");
    assert!(stderr.contains("there is no catalog `nothing`"), "{stderr}");
    assert_eq!(code, Some(1));
    // Features are in the configuration that `docker` is told of.
    assert_eq!(run("mcp feature enable kubernetes-provisioning").2, Some(0));
    let other = home.path().join("other");
    fs::create_dir_all(other.join("cli-plugins")).unwrap();
    symlink(env!("CARGO_BIN_EXE_docker-mcp"), other.join("cli-plugins/docker-mcp")).unwrap();
    let (stdout, stderr, _) = run(&format!("--config {} mcp feature ls", other.display()));
    assert!(stdout.contains("kubernetes-provisioning  disabled"), "{stdout}{stderr}");
    assert!(run("mcp feature ls").0.contains("kubernetes-provisioning  enabled"));
    let (_, stderr, code) = run("-H unix:///nowhere/else.sock mcp doctor");
    assert_eq!(code, Some(3), "{stderr}");
    let (stdout, ..) = run("-H unix:///nowhere/else.sock mcp doctor");
    assert!(stdout.contains("unix:///nowhere/else.sock"), "{stdout}");
}

#[test]
fn docker_completes_the_commands() {
    let Some(home) = installed() else { return };
    let (stdout, stderr, _) = text(docker(home.path(), "__complete mcp server en").output().unwrap());
    assert!(stdout.starts_with("enable\tEnable servers\n:4\n"), "{stdout}{stderr}");
    let (stdout, ..) = text(docker(home.path(), "__complete mcp catalog ").output().unwrap());
    assert!(stdout.contains("import\t") && stdout.contains("show\t"), "{stdout}");
}

#[test]
fn a_gateway_that_docker_started_ends_when_docker_is_told_to() {
    let Some(home) = installed() else { return };
    let mut child = docker(home.path(), "mcp gateway run --catalog builtin:sample --servers sample")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{hello}").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    stdout.read_line(&mut answer).unwrap();
    assert!(answer.contains("\"serverInfo\""), "{answer}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    // Standard input is still open; the gateway ends because of the signal, and with it the pipe.
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = String::new();
        ended.send(stdout.read_to_string(&mut rest).is_ok()).unwrap();
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(true), "the gateway runs on");
    child.wait().unwrap();
    drop(stdin);
}
