use super::*;

/// A home, with nothing on the machine but what a test puts there.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["home", "root", "bin"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn place(&self) -> Place {
        let nowhere = format!("unix://{}", self.path("nowhere.sock").display());
        let variables = [
            ("DOCKER_HOST", nowhere),
            ("PATH", self.path("bin").display().to_string()),
            ("XDG_RUNTIME_DIR", self.path("run").display().to_string()),
        ];
        Place {
            home: Some(self.path("home")),
            variables: variables.map(|(name, value)| (name.to_owned(), value)).into(),
            root: self.path("root"),
            context: None,
        }
    }

    /// Without what differs from run to run: places, times and digests.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.directory.path().display().to_string(), "/T");
        let mut plain = String::new();
        for line in text.split_inclusive('\n') {
            match (line.find("(sha256:"), line.find(" ms")) {
                (Some(begin), Some(end)) => {
                    plain += &format!("{}(DIGEST) loads in TIME{}", &line[..begin], &line[end..])
                }
                _ => plain += line,
            }
        }
        plain
    }
}

#[tokio::test]
async fn a_machine_without_anything_has_one_problem_and_learns_what_to_do() {
    let bench = Bench::new();
    let findings = examine(&bench.place()).await;
    insta::assert_snapshot!(bench.plain(&text(&findings)), @r"
    problem  engine         cannot reach the Docker Engine at `unix:///T/nowhere.sock` (from `DOCKER_HOST`): there is no such socket
                            fix: start it (`sudo systemctl start docker`, or open Docker Desktop) or set `DOCKER_HOST`
    ok       docker config  there is no `/T/home/.docker/config.json`, and none is needed for public images
    warning  secrets        `docker-credential-desktop` is not on the `PATH`, so there are no secrets of Docker Desktop
                            fix: set secrets with `docker-mcp secret set`, pass `--secrets FILE`, or install Docker Desktop
    ok       cache          `/T/home/.cache/docker-mcp/components` is private and can be written to
    ok       sessions       `/T/home/.local/state/docker-mcp/sessions` is private and takes locks; it has 0 now
    ok       wasm           WebAssembly runs here
    ok       component      `docker` (DIGEST) loads in TIME ms
    ok       component      `embedded:sample` (DIGEST) loads in TIME ms
    warning  catalog        there is no default catalog
                            fix: pass `--catalog FILE` (`--catalog builtin:sample` to try it out)
    ok       configuration  there is no default configuration, and none is needed
    ");
    insta::assert_snapshot!(bench.plain(&serde_json::to_string_pretty(&findings[..2]).unwrap()), @r#"
    [
      {
        "check": "engine",
        "state": "problem",
        "detail": "cannot reach the Docker Engine at `unix:///T/nowhere.sock` (from `DOCKER_HOST`): there is no such socket",
        "fix": "start it (`sudo systemctl start docker`, or open Docker Desktop) or set `DOCKER_HOST`"
      },
      {
        "check": "docker config",
        "state": "ok",
        "detail": "there is no `/T/home/.docker/config.json`, and none is needed for public images"
      }
    ]
    "#);
}

#[tokio::test]
async fn files_and_programs_are_reported_as_they_are() {
    let bench = Bench::new();
    bench.file("home/.docker/config.json", r#"{"credsStore": "desktop", "credHelpers": {"ghcr.io": "missing"}}"#);
    bench.file("bin/docker-credential-desktop", "");
    bench.file("home/.docker/mcp/catalogs/docker-mcp.yaml", "registry:\n  time: {image: 'mcp/time'}\n");
    bench.file("home/.docker/mcp/config.yaml", "time: {zone: hunter2}\n");
    let listening = bench.path("run/podman/podman.sock");
    std::fs::create_dir_all(listening.parent().unwrap()).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&listening).unwrap();
    let dead = bench.path("home/.colima/default/docker.sock");
    std::fs::create_dir_all(dead.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let findings = examine(&bench.place()).await;
    insta::assert_snapshot!(bench.plain(&text(&findings)), @r"
    problem  engine         cannot reach the Docker Engine at `unix:///T/nowhere.sock` (from `DOCKER_HOST`): there is no such socket
                            fix: start it (`sudo systemctl start docker`, or open Docker Desktop) or set `DOCKER_HOST`
    warning  engine         Colima has a socket at `/T/home/.colima/default/docker.sock` that cannot be connected to: Connection refused (os error 111)
                            fix: start Colima, or ask for access to the socket
    warning  engine         rootless Podman listens at `/T/run/podman/podman.sock`
                            fix: to use it: `export DOCKER_HOST=unix:///T/run/podman/podman.sock`
    ok       docker config  `/T/home/.docker/config.json` can be read
    ok       credentials    `docker-credential-desktop` is installed
    warning  credentials    `docker-credential-missing`, which the Docker configuration names, is not on the `PATH`
                            fix: install it, or remove it from `/T/home/.docker/config.json`; without it private images cannot be pulled
    ok       secrets        `docker-credential-desktop` is installed, which holds Docker Desktop's secrets
    ok       cache          `/T/home/.cache/docker-mcp/components` is private and can be written to
    ok       sessions       `/T/home/.local/state/docker-mcp/sessions` is private and takes locks; it has 0 now
    ok       wasm           WebAssembly runs here
    ok       component      `docker` (DIGEST) loads in TIME ms
    ok       component      `embedded:sample` (DIGEST) loads in TIME ms
    ok       catalog        `/T/home/.docker/mcp/catalogs/docker-mcp.yaml` has 1 server
    ok       configuration  `/T/home/.docker/mcp/config.yaml` has 1 section
    ");
}

#[tokio::test]
async fn broken_files_are_problems_and_are_not_quoted() {
    let bench = Bench::new();
    bench.file("home/.docker/config.json", "{\"auths\": hunter2");
    bench.file("home/.docker/mcp/catalogs/docker-mcp.yaml", "registry: [hunter2]\n");
    bench.file("home/.docker/mcp/config.yaml", "time: hunter2\n");
    let mut place = bench.place();
    place.variables.insert("DOCKER_HOST".to_owned(), "ssh://somewhere".to_owned());
    let shown = text(&examine(&place).await);
    assert_eq!(shown.matches("problem").count(), 4, "{shown}");
    assert!(shown.contains("SSH is not supported") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let cache = bench.path("home/.cache/docker-mcp/components");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (directory, finding) = check_cache(&bench.place());
    assert_eq!((directory, finding.state), (None, State::Warning));
    assert!(finding.detail.contains("others may write to it"), "{}", finding.detail);
}

#[test]
fn sessions_that_cannot_be_locked_are_a_warning_with_what_it_means() {
    let bench = Bench::new();
    bench.file("home/.local/state/docker-mcp", "in the way");
    let finding = check_sessions(&bench.place());
    assert_eq!(finding.state, State::Warning);
    assert!(finding.detail.contains("nobody cleans up after a gateway that is killed"), "{}", finding.detail);
    assert!(finding.fix.unwrap().contains("/home/.local/state/docker-mcp/sessions"));
}
