//! A tour of the commands that look at and change the user's files, with the built binary and a home directory of its
//! own: what is typed, what comes back on standard output and standard error, and the exit code. `tests/snapshots` has
//! what it looks like; `cargo insta review` shows what a change makes of it.
//!
//! None of it needs an engine or a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "tour/web.rs"]
mod web;

#[cfg(unix)]
#[path = "tour/terminal.rs"]
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const TEAM: &str = "\
# Servers of the team
name: team
displayName: The team's servers
registry:
  time: # the clock
    description: The time in any time zone
    title: Time
    image: mcp/time
    tools: [{name: get_current_time}, {name: convert_time, description: Converts a time}]
  github:
    description: Repositories, issues and pull requests
    image: mcp/github
    secrets:
      - name: github.token
        env: GITHUB_TOKEN
    config:
      - name: github
        type: object
        properties: {host: {type: string}}
        required: [host]
    tools:
      - name: search_code
";

/// A home directory, and what was done in it so far.
struct Tour {
    home: TempDir,
    told: String,
}

impl Tour {
    fn new() -> Self {
        let tour = Self { home: TempDir::new().unwrap(), told: String::new() };
        tour.file("team.yaml", TEAM);
        tour
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        command
    }

    /// Runs a command line and tells what happened.
    fn step(&mut self, line: &str) -> &mut Self {
        self.words(&line.split_whitespace().collect::<Vec<_>>(), "")
    }

    fn words(&mut self, words: &[&str], input: &str) -> &mut Self {
        let mut child = self
            .command(env!("CARGO_BIN_EXE_docker-mcp"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let shown: Vec<String> = words
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        self.told.push_str(&format!("$ docker-mcp {}\n", shown.join(" ")));
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            self.told.push_str(&format!("  {line}\n"));
        }
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            self.told.push_str(&format!("! {line}\n"));
        }
        match output.status.code() {
            Some(0) => self.told.push('\n'),
            code => self.told.push_str(&format!("[exit {}]\n\n", code.unwrap())),
        }
        self
    }

    /// Tells the content of a file.
    fn show(&mut self, name: &str) -> &mut Self {
        let content = fs::read_to_string(self.path(name)).unwrap_or_else(|error| format!("{error}\n"));
        self.told.push_str(&format!("> {name}\n"));
        for line in content.lines() {
            self.told.push_str(&format!("  {line}\n"));
        }
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
                (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
                (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
                (env!("CARGO_PKG_VERSION"), "VERSION"),
            ],
        }, { insta::assert_snapshot!(name, told) });
    }
}

#[test]
fn catalogs_come_from_files_and_addresses_and_can_be_changed() {
    let web = web::Site::start();
    let mut tour = Tour::new();
    tour.file("unnamed.yaml", "registry: {}\n");
    tour.step("catalog ls")
        .step("catalog import ./team.yaml --dry-run")
        .step("catalog import ./team.yaml")
        .step("catalog import ./unnamed.yaml")
        .step("catalog import ./unnamed.yaml --name spare")
        .step(&format!("catalog import {}", web.at("/catalog.yaml")))
        .step("catalog ls")
        .step("catalog ls --format json")
        .step("catalog create mine")
        .step("catalog add mine time ./team.yaml")
        .step("catalog add mine time ./team.yaml")
        .step("catalog add mine time ./team.yaml --force")
        .show(".docker/mcp/catalogs/mine.yaml")
        .step("catalog fork team ours")
        .step("catalog show ours")
        .step("catalog show mine --format yaml")
        .step("catalog show mine --format json")
        .step("catalog export ours out/ours.yaml")
        .step("catalog rm ours")
        .step("catalog update web")
        .step("catalog update mine")
        .step("catalog update")
        .step("catalog reset")
        .step("catalog list");
    tour.file(
        ".docker/mcp/catalogs/docker-mcp.yaml",
        "name: docker-mcp\nregistry:\n  docker: {image: docker} # as it stands\n  time: {image: mcp/time}\n",
    );
    tour.step("catalog init")
        .step("catalog show")
        .step("catalog bootstrap out/start.yaml")
        .show("out/start.yaml")
        .step("catalog bootstrap out/start.yaml")
        .step("catalog reset")
        .step("catalog ls");
    tour.end("catalogs");
    assert!(fs::read_to_string(tour.path("out/ours.yaml")).unwrap().contains("# the clock"));
}

#[test]
fn servers_are_enabled_looked_at_and_disabled() {
    let mut tour = Tour::new();
    tour.file("secrets.env", "github.token=canary\n");
    tour.file(".docker/mcp/registry.yaml", "# mine\nregistry:\n  # from an old catalog\n  gone: {ref: \"\"}\n");
    tour.step("catalog import team.yaml")
        .step("server ls")
        .step("server enable time github")
        .step("server add time")
        .show(".docker/mcp/registry.yaml")
        .step("server ls")
        .words(&["config", "write", "github: {host: example.com}"], "")
        .step("server ls --json --secrets secrets.env")
        .step("server inspect time")
        .step("server inspect github --format text")
        .step("server disable gone nothing")
        .step("server rm time")
        .step("server reset")
        .show(".docker/mcp/registry.yaml")
        .step("server list");
    tour.end("servers");
    assert!(!tour.told.contains("canary"));
}

#[test]
fn configuration_is_read_written_and_emptied() {
    let mut tour = Tour::new();
    tour.step("config read")
        .words(&["config", "write", "time: {zone: UTC} # mine"], "")
        .step("config read")
        .step("config read --format json")
        .words(&["config", "write", "-"], "github:\n  host: example.com\n")
        .step("config read")
        .words(&["config", "write", "time: [broken"], "")
        .words(&["config", "write", "just text"], "")
        .step("config read")
        .step("config reset")
        .step("config read --format json");
    tour.end("config");
}

#[test]
fn features_are_switched_in_the_configuration_of_docker() {
    let mut tour = Tour::new();
    tour.file(".docker/config.json", "{\n\t\"auths\": {},\n\t\"features\": {\n\t\t\"profiles\": \"enabled\"\n\t}\n}");
    tour.step("feature ls")
        .step("gateway run --catalog team.yaml --servers time --provisioner kubernetes")
        .step("feature enable kubernetes-provisioning")
        .step("feature enable kubernetes-provisioning")
        .step("feature list --format json")
        .show(".docker/config.json")
        .step("feature disable kubernetes-provisioning")
        .step("feature enable dynamic-tools")
        .step("feature disable dynamic-tools")
        .step("feature enable nonsense");
    tour.end("features");
}

#[test]
fn tools_are_listed_counted_called_and_selected() {
    let mut tour = Tour::new();
    let sample = "--catalog builtin:sample --servers sample";
    tour.file(".docker/mcp/tools.yaml", "# few are enough\ntime: [get_current_time] # no other\n");
    tour.step(&format!("tools ls {sample}"))
        .step(&format!("tools --format list ls {sample}"))
        .step(&format!("tools count {sample}"))
        .step("tools count --format json --gateway-arg=--catalog=builtin:sample,--servers=sample")
        .step(&format!("tools inspect greet {sample}"))
        .step(&format!("tools inspect gret {sample}"))
        .step(&format!("tools call greet name=1 {sample}"))
        .step(&format!("tools call calculate {{\"expression\":\"6*7\"}} {sample}"))
        .step(&format!("tools call calculate expression=1/0 {sample}"))
        .step(&format!("tools call date_math time=2026-01-01T00:00:00Z days=1 {sample}"))
        .step(&format!("tools call date_math time=2026-01-01T00:00:00Z days=one {sample}"))
        .step(&format!("tools call nothing {sample}"))
        .step("tools call greet =x --catalog builtin:sample --servers sample")
        .step("catalog import team.yaml")
        .step("tools enable convert_time")
        .step("tools disable get_current_time --format json")
        .step("tools enable search_code")
        .step("tools disable search_code --server github")
        .step("tools disable convert_tim")
        .step("tools disable search_code --server time")
        .show(".docker/mcp/tools.yaml");
    tour.end("tools");
}

#[test]
fn help_names_every_command_and_flag() {
    let mut tour = Tour::new();
    for group in ["catalog", "server", "config", "feature"] {
        tour.step(&format!("{group} --help"));
    }
    tour.step("catalog import --help")
        .step("config write --help")
        .step("completion --help")
        .step("version")
        .step("mcp version --format json")
        .step("mcp catalog show --bad")
        .step("catalog frobnicate")
        .step("docker-cli-plugin-metadata");
    tour.told = tour.told.replace(std::env::consts::ARCH, "ARCHITECTURE").replace(std::env::consts::OS, "SYSTEM");
    tour.end("help");
}

#[test]
fn shells_get_completions_and_man_gets_pages() {
    let mut tour = Tour::new();
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef docker-mcp"), ("fish", "complete -c docker-mcp")] {
        tour.told.clear();
        tour.step(&format!("completion {shell}"));
        assert!(
            tour.told.contains(part) && tour.told.contains("kubernetes") | tour.told.contains("catalog"),
            "{shell}"
        );
    }
    tour.told.clear();
    tour.step("man pages")
        .step("__complete mcp catalog s")
        .step("__complete mcp server en")
        .step("__complete mcp feature ls --format ");
    tour.words(&["__complete", "mcp", "catalog", "show", "--format", ""], "");
    tour.told = tour.told.lines().filter(|line| !line.starts_with("! wrote")).collect::<Vec<_>>().join("\n");
    tour.end("completion");
    let page = fs::read_to_string(tour.path("pages/docker-mcp-catalog-import.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("allow"), "{page}");
    assert!(tour.path("pages/docker-mcp.1").exists() && tour.path("pages/docker-mcp-gateway-run.1").exists());
}

#[test]
fn bad_input_is_answered_with_what_to_do_and_files_stay_as_they_are() {
    let web = web::Site::start();
    let mut tour = Tour::new();
    tour.step("catalog import team.yaml");
    let registry = "registry:\n  time: {ref: \"\"}\n broken: [\n";
    tour.file(".docker/mcp/registry.yaml", registry);
    tour.file("list.yaml", "registry: [a]\n");
    tour.file("words.yaml", "just: words\n");
    tour.step("server enable tme")
        .step("server inspect githb")
        .step("server enable time")
        .step("server reset")
        .step("server ls")
        .step("catalog show nothing")
        .step("catalog rm team2")
        .step("catalog rm docker-mcp")
        .step("catalog export docker-mcp x.yaml")
        .step("catalog create ../up")
        .step("catalog create team")
        .step("catalog fork team docker-mcp")
        .step("catalog import list.yaml")
        .step("catalog import words.yaml")
        .step("catalog import missing.yaml")
        .step("catalog add team nothing team.yaml")
        .step("catalog add nothing time team.yaml")
        .step("catalog import team --mcp-registry https://registry.example/x")
        .step("catalog import ftp://example.com/catalog.yaml")
        .step("catalog import http://user:canary@example.com/catalog.yaml?key=canary")
        .step(&format!("catalog import {}", web.at("/missing")))
        .step(&format!("catalog import {}", web.at("/page")))
        .step(&format!("catalog import {}", web.at("/huge")))
        .step(&format!("catalog import {}", web.at("/endless")))
        .step(&format!("catalog import {}", web.at("/loop")))
        .step(&format!("catalog import {}", web.at("/elsewhere")))
        .step(&format!("catalog import {}", web.at("/binary")));
    assert_eq!(fs::read_to_string(tour.path(".docker/mcp/registry.yaml")).unwrap(), registry);
    tour.file(".docker/config.json", "{\"auths\": {},}");
    tour.step("feature ls").step("feature enable kubernetes-provisioning");
    tour.file(".docker/mcp/catalog.json", "{");
    tour.step("catalog ls").step("catalog create new");
    assert!(!tour.told.replace("user:canary@", "").replace("?key=canary", "").contains("canary"));
    assert!(!tour.path(".docker/mcp/catalogs/new.yaml").exists());
    tour.end("bad_input");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_no_home_is_a_clear_error() {
    let tour = Tour::new();
    let program = env!("CARGO_BIN_EXE_docker-mcp");
    let script = format!("{program} catalog import team.yaml && {{ {program} completion bash; echo $? >&2; }} | true");
    let output = tour.command("/bin/sh").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().last(), Some("0"), "{stderr}");
}

/// Root may write anywhere.
#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_to_is_said() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        // A file in place of the directory stops root as well.
        let tour = Tour::new();
        tour.file(".docker/mcp", "in the way");
        let output = tour.command(env!("CARGO_BIN_EXE_docker-mcp")).args(["catalog", "create", "x"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("cannot lock") && stderr.contains("see that you may write"), "{stderr}");
        assert_eq!(output.status.code(), Some(1));
        return;
    }
    let tour = Tour::new();
    fs::create_dir_all(tour.path(".docker/mcp")).unwrap();
    fs::set_permissions(tour.path(".docker/mcp"), fs::Permissions::from_mode(0o500)).unwrap();
    let output = tour.command(env!("CARGO_BIN_EXE_docker-mcp")).args(["catalog", "create", "x"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot lock"), "{stderr}");
}

#[test]
fn two_processes_that_change_one_file_lose_nothing() {
    let mut tour = Tour::new();
    let servers: String = (0..24).map(|number| format!("  s{number}: {{image: i}}\n")).collect();
    tour.file("many.yaml", &format!("name: many\nregistry:\n{servers}"));
    tour.step("catalog import many.yaml");
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let tour = &tour;
            scope.spawn(move || {
                for number in (0..24).filter(|number| number % 2 == worker) {
                    let name = format!("s{number}");
                    let status = tour
                        .command(env!("CARGO_BIN_EXE_docker-mcp"))
                        .args(["server", "enable", &name])
                        .stderr(Stdio::null())
                        .status();
                    assert!(status.unwrap().success());
                }
            });
        }
    });
    let registry = fs::read_to_string(tour.path(".docker/mcp/registry.yaml")).unwrap();
    assert_eq!(registry.matches("ref").count(), 24, "{registry}");
}

#[cfg(unix)]
#[test]
fn on_a_terminal_there_are_colours_a_prompt_and_no_line_is_too_long() {
    let mut tour = Tour::new();
    tour.file(
        "unnamed.yaml",
        "registry:\n  long: {image: i, description: 'A description that is longer than the terminal is wide'}\n",
    );
    let program = env!("CARGO_BIN_EXE_docker-mcp");
    let run = |words: &str, answers: &[(&str, &str)], no_color: bool| {
        let mut command = tour.command(program);
        command.args(words.split_whitespace()).env("TERM", "xterm-256color");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        terminal::run(command, (60, 24), answers)
    };
    let mut told = String::new();
    for (words, answers, no_color) in [
        ("catalog import unnamed.yaml", &[("Call it: ", "asked\n")][..], false),
        ("catalog show asked", &[], false),
        ("catalog show asked", &[], true),
        ("catalog show asked --format json", &[], false),
        ("catalog show nothing", &[], false),
        ("tools call greet name=Ada --catalog builtin:sample --servers sample", &[], false),
        ("catalog nothing", &[], true),
    ] {
        let (shown, code) = run(words, answers, no_color);
        let colour = if no_color { "NO_COLOR=1 " } else { "" };
        told.push_str(&format!(
            "$ {colour}docker-mcp {words}\n{}[exit {code}]\n\n",
            shown.replace('\r', "").replace('\u{1b}', "ESC")
        ));
    }
    tour.told = told;
    tour.end("terminal");
}
