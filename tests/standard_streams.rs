//! Clients give the gateway pipes, sockets or files as its standard streams, and are served over all of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn gateway(home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
    command
        .args(["gateway", "run", "--catalog", "builtin:sample", "--servers", "sample"])
        .args(["--max-server-startup-timeout", "90"])
        .env("HOME", home.path())
        .env("DOCKER_MCP_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache/docker-mcp"));
    command
}

fn conversation() -> String {
    let requests = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
            "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        // Larger than what a pipe holds, in both directions.
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": {"name": "text_stats", "arguments": {"text": "word ".repeat(50_000)}}}),
    ];
    requests.map(|request| format!("{request}\n")).concat()
}

/// Reads up to the answer to the call.
fn assert_served(output: impl Read) {
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if message["id"] == 2 {
            let text = message["result"]["content"][0]["text"].as_str().unwrap();
            assert!(text.contains("50000"), "{message}");
            return;
        }
    }
    panic!("the call was not answered");
}

#[test]
fn over_pipes() {
    let home = TempDir::new().unwrap();
    let mut child = gateway(&home).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(conversation().as_bytes()).unwrap();
    assert_served(child.stdout.take().unwrap());
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// Sends what the gateway logs a line about, far more than a pipe holds, and expects an answer all the same.
fn assert_served_without_a_reader_of_the_log(mut child: std::process::Child, log: impl Read) {
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (answered, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        assert_served(stdout);
        answered.send(()).unwrap();
    });
    let writing = std::thread::spawn(move || {
        let conversation = conversation();
        let (first, call) = conversation.trim_end().rsplit_once('\n').unwrap();
        let noise = "this is not MCP\n{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}\n".repeat(3_000);
        stdin.write_all(format!("{first}\n{noise}{call}\n").as_bytes()).unwrap();
        stdin
    });
    answer.recv_timeout(PATIENCE).expect("the gateway should not wait for the reader of its log");
    // Not before: calls of a client that has left are not waited for.
    drop(writing.join().unwrap());
    assert!(child.wait().unwrap().success(), "nor should its end");
    drop(log);
}

#[test]
fn nobody_need_read_the_log() {
    let home = TempDir::new().unwrap();
    let command = || {
        let mut command = gateway(&home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let mut child = command().stderr(Stdio::piped()).spawn().unwrap();
    let log = child.stderr.take().unwrap();
    assert_served_without_a_reader_of_the_log(child, log);
    let (log, theirs) = UnixStream::pair().unwrap();
    let child = command().stderr(OwnedFd::from(theirs)).spawn().unwrap();
    assert_served_without_a_reader_of_the_log(child, log);
}

#[test]
fn over_sockets_as_some_clients_have_them() {
    let home = TempDir::new().unwrap();
    let (mut stdin, theirs_in) = UnixStream::pair().unwrap();
    let (stdout, theirs_out) = UnixStream::pair().unwrap();
    stdout.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = gateway(&home).stdin(OwnedFd::from(theirs_in)).stdout(OwnedFd::from(theirs_out)).spawn().unwrap();
    stdin.write_all(conversation().as_bytes()).unwrap();
    assert_served(stdout);
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn over_one_socket_that_standard_error_shares() {
    let home = TempDir::new().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let clone = || OwnedFd::from(theirs.try_clone().unwrap());
    let mut command = gateway(&home);
    // Nothing but messages may come here, so the log is silent.
    command.env("DOCKER_MCP_LOG", "off").stdin(clone()).stdout(clone()).stderr(clone());
    let mut child = command.spawn().unwrap();
    drop((command, theirs));
    ours.write_all(conversation().as_bytes()).unwrap();
    assert_served(ours.try_clone().unwrap());
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn input_from_a_file_is_read_to_its_end() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("input");
    let initialize = conversation().lines().next().unwrap().to_owned();
    // Nothing that has to start first: what is under way at the end of the input has two seconds.
    let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "ping", "params": {"_meta": {"x": "x".repeat(250_000)}}});
    let pings = (2..=5).map(|id| format!("{}\n", ping(id))).collect::<String>();
    std::fs::write(&path, format!("{initialize}\n{pings}")).unwrap();
    let output = gateway(&home).stdin(File::open(path).unwrap()).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let answers = output.stdout.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let answered: BTreeSet<u64> = answers.filter_map(|answer| answer["id"].as_u64()).collect();
    assert_eq!(answered, BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up_when_the_gateway_is_to_end() {
    for by_signal in [true, false] {
        let home = TempDir::new().unwrap();
        let mut child = gateway(&home).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        stdin.write_all(conversation().as_bytes()).unwrap();
        let mut answers = BufReader::new(stdout);
        let mut line = String::new();
        while !line.contains("\"id\":2") {
            line.clear();
            answers.read_line(&mut line).unwrap();
        }
        // Answers to more than a pipe holds of them, which nobody reads.
        for id in 3..2000 {
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "text_stats", "arguments": {"text": "word"}}});
            if writeln!(stdin, "{call}").is_err() {
                break;
            }
        }
        let started = std::time::Instant::now();
        let stdin = match by_signal {
            true => {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
                Some(stdin)
            }
            false => {
                drop(stdin);
                None
            }
        };
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => {
                    child.kill().unwrap();
                    panic!("it does not end (by a signal: {by_signal})");
                }
                None => std::thread::yield_now(),
            }
        };
        assert!(ended.success(), "{ended} (by a signal: {by_signal})");
        drop((stdin, answers));
    }
}
