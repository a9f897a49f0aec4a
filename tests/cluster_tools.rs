//! `cluster-tools`, as it is built: its files and outputs against what the existing tools print, row by row; and in a
//! real cluster what it makes, changes, judges and deletes. `tests/snapshots` has what it looks like.
//!
//! Tests with a cluster take a namespace of their own in the one that KUBECONFIG names, and skip where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "cluster_tools/files.rs"]
mod files;
#[path = "cluster_tools/golden.rs"]
mod golden;
#[path = "cluster_tools/namespace.rs"]
mod namespace;
#[path = "cluster_tools/objects.rs"]
mod objects;
#[path = "cluster_tools/sessions.rs"]
mod sessions;
#[path = "cluster_tools/workflow.rs"]
mod workflow;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A home directory to run the program in. It has no kubeconfig, unless one is given.
struct Tools {
    home: TempDir,
    kubeconfig: Option<OsString>,
    told: String,
}

/// How a run ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// What a run printed that must have gone well.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What a run complained about that must have failed.
    #[track_caller]
    fn failed(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Tools {
    fn new() -> Self {
        Self { home: TempDir::new().unwrap(), kubeconfig: None, told: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.envs(self.kubeconfig.iter().map(|path| ("KUBECONFIG", path)));
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, "")
    }

    fn run_with(&self, words: &[&str], input: &str) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_cluster-tools"));
        let mut child =
            command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who fails early does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0..=3)), "{output:?}");
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command line and tells what happened.
    fn step(&mut self, line: &str) -> &mut Self {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn words(&mut self, words: &[&str]) -> &mut Self {
        let ran = self.run(words);
        let shown: Vec<String> = words
            .iter()
            .map(|word| if word.contains([' ', '"', '{']) { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        self.told.push_str(&format!("$ cluster-tools {}\n", shown.join(" ")));
        ran.stdout.lines().for_each(|line| self.told.push_str(&format!("  {line}\n")));
        ran.stderr.lines().for_each(|line| self.told.push_str(&format!("! {line}\n")));
        match ran.code {
            0 => self.told.push('\n'),
            code => self.told.push_str(&format!("[exit {code}]\n\n")),
        }
        self
    }

    /// Tells the content of a file.
    fn show(&mut self, name: &str) -> &mut Self {
        let content = self.read(name);
        self.told.push_str(&format!("> {name}\n"));
        content.lines().for_each(|line| self.told.push_str(&format!("  {line}\n")));
        self.told.push('\n');
        self
    }

    /// Compares what was told, without what differs from run to run.
    fn end(&self, name: &str) {
        let told = self.told.replace(self.home.path().to_str().unwrap(), "~");
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => vec![
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
                (r"test-cluster-tools-[0-9a-f]+", "NAMESPACE"),
                // The column is as wide as the longest of them.
                (r"(Pending|Running)  \d+[smh] +", "$1  AGE  "),
                (r"\b\d+s\b( +\S|$)", "AGE$1"),
                (env!("CARGO_PKG_VERSION"), "VERSION"),
            ],
        }, { insta::assert_snapshot!(name, told) });
    }
}
