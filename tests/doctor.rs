//! `docker-mcp doctor` as a program: its exit code, and output that programs can read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::process::{Command, Output};

use serde_json::Value as Json;

fn doctor(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_docker-mcp"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .output()
        .unwrap()
}

#[test]
fn a_problem_is_exit_code_3_and_both_formats_say_the_same() {
    let text = doctor(&[]);
    let json = doctor(&["--format", "json"]);
    for output in [&text, &json] {
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty());
    }
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("problem  engine "), "{text}");
    assert!(text.contains("`unix:///nowhere/docker.sock` (from `DOCKER_HOST`)"), "{text}");
    let findings: Vec<Json> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(findings[0]["check"], "engine");
    assert_eq!(findings[0]["state"], "problem");
    assert!(findings[0]["fix"].as_str().unwrap().contains("DOCKER_HOST"));
    let components: Vec<_> = findings.iter().filter(|finding| finding["check"] == "component").collect();
    assert!(components.len() == 4 && components.iter().all(|finding| finding["state"] == "ok"), "{findings:#?}");
}
