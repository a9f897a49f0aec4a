//! Secrets with the built binary: `docker-mcp secret`, and where the servers' secrets come from. None of it needs an
//! engine; a plan is made only if all required secrets are there.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/secret_sources.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod secret_sources;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use secret_sources::{KINDS, Sources, name, text, write_program};
use serde_json::json;
use tempfile::TempDir;

/// A home directory with a catalog. There is no helper and no keyring, and the key of the encrypted file is in a file.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        home.file(
            "catalog.yaml",
            "registry:\n  s:\n    image: img\n    secrets:\n      - {name: s.token, env: TOKEN}\n      \
             - {name: s.more, env: MORE, required: false}\n",
        );
        std::fs::create_dir(home.0.path().join("bin")).unwrap();
        home
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docker-mcp"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.path().join("bin").display()))
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/does/not/exist")
            .env("DOCKER_MCP_SECRET_KEY_FILE", self.0.path().join("key.txt"));
        command
    }

    /// Runs to the end with this standard input; exit code, standard output and standard error.
    fn run(&self, arguments: &str, input: &str) -> (Option<i32>, String, String) {
        shown(feed(self.command(arguments), input))
    }

    /// What succeeds: standard output and standard error.
    fn succeeds(&self, arguments: &str, input: &str) -> (String, String) {
        let (code, stdout, stderr) = self.run(arguments, input);
        assert_eq!(code, Some(0), "{arguments}: {stdout}{stderr}");
        (stdout, stderr)
    }

    /// What fails with this code: the last line on standard error.
    fn fails(&self, arguments: &str, input: &str, code: i32) -> String {
        let (found, stdout, stderr) = self.run(arguments, input);
        assert_eq!(found, Some(code), "{arguments}: {stdout}{stderr}");
        stderr.trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read it has ended already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn shown(output: Output) -> (Option<i32>, String, String) {
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

const PLAN: &str = "provisioner plan --catalog catalog.yaml s";

#[test]
fn a_secret_is_set_found_by_the_gateway_listed_exported_and_removed_in_every_store() {
    for (flag, label, more) in [
        ("", "encrypted-file", ""),
        ("", "docker-desktop", ""),
        ("--store helper=fixture", "helper=fixture", "--secrets helper=fixture"),
        ("--store encrypted-file=own", "encrypted-file=own", "--secrets encrypted-file=own"),
    ] {
        let home = Home::new();
        let helper = Path::new("bin").join(match label {
            "docker-desktop" => "docker-credential-desktop",
            _ => "docker-credential-fixture",
        });
        write_program(&home.0.path().join(helper), secret_sources::HELPER);
        let missing = home.run(&format!("{PLAN} {more}"), "").1;
        assert!(missing.contains("secret `s.token` is not set; set it with `docker-mcp secret set"), "{missing}");
        assert!(missing.contains("(asked: ") && missing.contains(label), "{missing}");

        let (stdout, stderr) = home.succeeds(&format!("secret set s.token {flag}"), "two \"words\"\n\n");
        assert_eq!(stdout, "");
        assert!(stderr.starts_with(&format!("`s.token` is set in {label}\n")), "{stderr}");
        assert_eq!(stderr.contains("is only asked if `--secrets` names it"), !more.is_empty(), "{stderr}");
        home.succeeds(&format!("secret set s.more {flag}"), "$x");
        home.succeeds(&format!("{PLAN} {more}"), "");

        assert_eq!(home.succeeds(&format!("secret ls -q {more}"), "").0, "s.more\ns.token\n");
        let rows = home.succeeds(&format!("secret ls {more}"), "").0;
        assert_eq!(rows, format!("s.more   {label}\ns.token  {label}\n"));
        let rows = json!([{"name": "s.more", "provider": label}, {"name": "s.token", "provider": label}]);
        for form in ["--json", "--format json"] {
            let listed = home.succeeds(&format!("secret ls {form} {more}"), "").0;
            assert_eq!(serde_json::from_str::<serde_json::Value>(&listed).unwrap(), rows);
        }

        let exported = home.succeeds(&format!("secret export s --catalog catalog.yaml {more}"), "").0;
        assert_eq!(exported, "s.more=$x\ns.token=\"two \\\"words\\\"\\n\"\n");
        // What is exported can be read again.
        home.file("exported.env", &exported);
        let again = "secret export s --catalog catalog.yaml --format json --secrets exported.env";
        let again: serde_json::Value = serde_json::from_str(&home.succeeds(again, "").0).unwrap();
        assert_eq!(again, json!({"s.more": "$x", "s.token": "two \"words\"\n"}));

        home.succeeds(&format!("secret rm s.token {flag}"), "");
        let line = home.fails(&format!("secret rm s.token {flag}"), "", 1);
        assert_eq!(line, "error: `s.token` is not set; see `docker-mcp secret ls`");
        let line = home.fails(&format!("secret rm s.token s.more {flag}"), "", 3);
        assert_eq!(line, "error: `s.token` is not set; see `docker-mcp secret ls`");
        home.succeeds(&format!("secret set s.more {flag}"), "x");
        home.succeeds(&format!("secret rm --all {flag}"), "");
        assert_eq!(home.succeeds(&format!("secret ls {more}"), "").0, "");
        let line = home.fails(&format!("secret export s --catalog catalog.yaml {more}"), "", 1);
        assert!(line.starts_with("error: secret `s.token` is not set; "), "{line}");
        if let Ok(arguments) = std::fs::read_to_string(home.0.path().join("bin/arguments")) {
            let verbs = ["get", "store", "erase", "list"];
            assert!(arguments.lines().all(|line| verbs.contains(&line)), "{arguments}");
        }
    }
}

#[test]
fn what_cannot_be_set_is_refused_without_showing_it() {
    let home = Home::new();
    let (_, stderr) = home.succeeds("secret set s.token=hunter2", "");
    assert!(stderr.starts_with("warning: the text of `s.token` was in the arguments"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    assert_eq!(home.succeeds("secret export s --catalog catalog.yaml", "").0, "s.token=hunter2\n");
    let (_, stderr) = home.succeeds("secret set s.token --provider credstore", "hunter2");
    assert!(stderr.contains("`--provider` has no effect"), "{stderr}");
    let large = "hunter2".repeat(200_000);
    for (arguments, input, expected) in [
        ("s.token", "", "is empty; remove a secret with `docker-mcp secret rm s.token`"),
        ("s.token", "\n", "is empty"),
        ("s.token=", "hunter2", "is empty"),
        ("#x", "hunter2", "a name must not be empty"),
        ("=hunter2", "", "a name must not be empty"),
        ("s.token", large.as_str(), "larger than 1 MiB"),
        ("s.more=hunter2 s.token=hunter2", "", "one secret is set at a time"),
        ("s.token --provider oauth/github", "hunter2", "provider `oauth/github` is not part of this version"),
        ("s.token --store env=X_", "hunter2", "secrets cannot be changed there"),
        ("s.token --store catalog.yaml", "hunter2", "catalog.yaml"),
        ("s.token --store keyring", "hunter2", "keyring: the keyring of the system does not answer"),
        ("s.token --store docker-desktop", "hunter2", "`docker-credential-desktop` is not installed"),
    ] {
        let line = home.fails(&format!("secret set {arguments}"), input, 1);
        assert!(line.starts_with("error: ") && line.contains(expected) && !line.contains("hunter2"), "{line}");
    }
    // Without a key, a passphrase or somebody to ask nothing is kept at all.
    let empty = Home::new();
    let mut command = empty.command("secret set s.token");
    command.env_remove("DOCKER_MCP_SECRET_KEY_FILE");
    let (code, _, stderr) = shown(feed(command, "hunter2"));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("set `DOCKER_MCP_SECRET_PASSPHRASE_FILE`") && !stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn every_kind_of_source_gives_its_secret_to_the_gateway() {
    let home = Home::new();
    let sources = Sources::new(home.0.path()).await;
    let mut catalog = "registry:\n  keeper:\n    image: img\n    secrets:\n".to_owned();
    for kind in KINDS {
        catalog.push_str(&format!("      - {{name: {}, env: {}}}\n", name(kind), kind.to_uppercase()));
    }
    home.file("keeper.yaml", &catalog);
    let export = format!("secret export keeper --catalog keeper.yaml --format json --secrets {}", sources.flag());
    let mut command = home.command(&export);
    command.envs(sources.variables());
    let (code, stdout, stderr) = shown(feed(command, ""));
    assert_eq!(code, Some(0), "{stderr}");
    let exported: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(exported.as_object().unwrap().len(), KINDS.len());
    KINDS.iter().for_each(|kind| assert_eq!(exported[name(kind)], text(kind)));
    let mut command = home.command(&format!("secret ls --secrets {}", sources.flag()));
    command.envs(sources.variables());
    let (_, listed, _) = shown(feed(command, ""));
    assert_eq!(listed.lines().count(), KINDS.len(), "{listed}");
    assert!(!listed.contains("canary"), "{listed}");
}

#[test]
fn a_source_that_is_broken_is_named_and_no_later_one_takes_its_place() {
    let home = Home::new();
    home.succeeds("secret set s.token", "hunter2");
    home.succeeds(PLAN, "");
    let refused = |arguments: &str| {
        let (code, stdout, stderr) = home.run(&format!("{PLAN} {arguments}"), "");
        assert_eq!(code, Some(3), "{stdout}{stderr}");
        assert!(stdout.contains("cannot read secret `s.token`: ") && !stdout.contains("hunter2"), "{stdout}");
        stdout
    };
    // Docker Desktop's helper is there and fails: what is in the encrypted file behind it does not count.
    write_program(&home.0.path().join("bin/docker-credential-desktop"), "#!/bin/sh\necho hunter2 locked; exit 1\n");
    assert!(refused("").contains("docker-desktop: `docker-credential-desktop get` failed"));
    let listed = home.run("secret ls", "");
    assert_eq!((listed.0, listed.1.as_str()), (Some(3), "s.token  encrypted-file\n"));
    assert!(listed.2.contains("docker-desktop: `docker-credential-desktop list` failed"), "{}", listed.2);
    // A source in front of it still counts.
    home.file("first.env", "s.token=hunter3\ns.more=hunter5\n");
    home.succeeds(&format!("{PLAN} --secrets first.env:default"), "");
    std::fs::remove_file(home.0.path().join("bin/docker-credential-desktop")).unwrap();
    // The keyring holds secrets, as its file of names says, and does not answer.
    home.file(".docker/mcp/secrets/keyring-names", "s.other\n");
    assert!(refused("").contains("keyring: the keyring of the system does not answer"));
    let line = home.fails("secret set s.more", "hunter2", 1);
    assert!(line.contains("it holds secrets and does not answer") && line.contains("--store encrypted-file"), "{line}");
    std::fs::remove_file(home.0.path().join(".docker/mcp/secrets/keyring-names")).unwrap();
    // The encrypted file is there and its key is another one.
    std::fs::remove_file(home.0.path().join("key.txt")).unwrap();
    assert!(refused("").contains("encrypted-file: cannot read `"));
    home.file("later.env", "s.token=hunter4\n");
    assert!(refused("--secrets default:later.env").contains("encrypted-file: "));
}

#[test]
fn a_text_and_a_passphrase_are_asked_for_at_a_terminal_and_never_shown() {
    let home = Home::new();
    let ask = |arguments: &str, answers: &[(&str, &str)]| {
        let program = env!("CARGO_BIN_EXE_docker-mcp");
        let mut command = home.command("");
        let mut terminal = Command::new("script");
        terminal.args(["-qefc", &format!("{program} {arguments}"), "/dev/null"]).current_dir(home.0.path()).env_clear();
        terminal.envs(command.env_remove("DOCKER_MCP_SECRET_KEY_FILE").get_envs().filter_map(|(k, v)| Some((k, v?))));
        terminal.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = terminal.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut seen, mut buffer) = (String::new(), [0; 1024]);
        for (question, answer) in answers {
            while !seen.contains(question) {
                let count = stdout.read(&mut buffer).unwrap();
                assert!(count > 0, "it ended before `{question}`: {seen}");
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        stdout.read_to_string(&mut seen).unwrap();
        assert!(!seen.contains("hunter2") && !seen.contains("horse"), "{seen}");
        (child.wait().unwrap().code(), seen)
    };
    let new =
        [("Text of `s.token`: ", "hunter2"), ("new encrypted file", "horse battery"), ("same again", "horse battery")];
    let (code, seen) = ask("secret set s.token", &new);
    assert!(code == Some(0) && seen.contains("`s.token` is set in encrypted-file"), "{seen}");
    let (code, seen) = ask("secret ls -q", &[("Passphrase of the encrypted file", "horse battery")]);
    assert!(code == Some(0) && seen.contains("s.token\r\n"), "{seen}");
    let (code, seen) = ask("secret ls -q", &[("Passphrase of the encrypted file", "horse horse")]);
    assert!(code == Some(3) && seen.contains("the passphrase does not open"), "{seen}");
    // The gateway asks nobody: its terminal may be a client.
    let (code, seen) = ask(PLAN, &[]);
    assert!(code == Some(3) && seen.contains("set `DOCKER_MCP_SECRET_PASSPHRASE_FILE`"), "{seen}");
}

#[test]
fn a_secret_in_the_arguments_of_a_container_is_warned_about_with_entry_and_key() {
    let home = Home::new();
    home.file(
        "argument.yaml",
        "registry:\n  s:\n    image: img\n    command: [--fast, '--token=$TOKEN']\n    secrets: [{name: s.token, env: \
         TOKEN}]\n",
    );
    home.succeeds("secret set s.token", "hunter2");
    let (stdout, stderr) = home.succeeds("provisioner plan --catalog argument.yaml s", "");
    assert!(stdout.contains("--token=<secret:s.token>"), "{stdout}");
    assert_eq!(stderr.matches("WARN").count(), 1, "{stderr}");
    for part in ["`registry.s.command`", "`s.token`", "docker inspect"] {
        assert!(stderr.contains(part), "{part} is missing: {stderr}");
    }
    assert!(!home.succeeds(PLAN, "").1.contains("WARN"));
}

#[test]
fn the_keyring_of_the_system_keeps_secrets_where_there_is_one() {
    let there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|found| found.status.success());
    if !there("dbus-run-session") || !there("gnome-keyring-daemon") {
        assert!(std::env::var_os("DOCKER_MCP_REQUIRE_ENGINE").is_none(), "the gate needs a keyring");
        eprintln!("skipped: the programs `dbus-run-session` and `gnome-keyring-daemon` are not there");
        return;
    }
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_docker-mcp");
    // A session bus of its own, with a keyring of its own that is unlocked.
    let script = format!(
        "printf unlock | gnome-keyring-daemon --unlock --components=secrets >&2 && printf hunter2 | {program} secret set \
         s.token && {program} secret ls && {program} {PLAN} && {program} secret export s --catalog catalog.yaml && \
         {program} secret rm s.token && {program} secret ls -q"
    );
    let mut session = Command::new("dbus-run-session");
    session.args(["--", "sh", "-c", &script]).current_dir(home.0.path());
    session.env("HOME", home.0.path()).env("XDG_RUNTIME_DIR", home.0.path()).env_remove("DBUS_SESSION_BUS_ADDRESS");
    session.env_remove("DISPLAY").env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME").env_remove("DOCKER_CONFIG");
    session.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let (code, stdout, stderr) = shown(feed(session, ""));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stderr.contains("`s.token` is set in keyring") && !stderr.contains("hunter2"), "{stderr}");
    assert!(stdout.starts_with("s.token  keyring\n") && stdout.ends_with("s.token=hunter2\n"), "{stdout}");
    let names = std::fs::read_to_string(home.0.path().join(".docker/mcp/secrets/keyring-names")).unwrap();
    assert_eq!(names, "", "only names are in it, and none when all are removed");
}
