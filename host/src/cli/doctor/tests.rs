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
    ok       secrets        none are kept here; `docker-mcp secret set` keeps some, `--secrets FILE` reads a file
    ok       cache          `/T/home/.cache/docker-mcp/components` is private and can be written to
    ok       sessions       `/T/home/.local/state/docker-mcp/sessions` is private and takes locks; it has 0 now
    ok       wasm           WebAssembly runs here
    ok       component      `docker` (DIGEST) loads in TIME ms
    ok       component      `kubernetes` (DIGEST) loads in TIME ms
    ok       component      `cluster-mapping` (DIGEST) loads in TIME ms
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
    bench.file("home/.docker/mcp/secrets/secrets.age", "");
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
                            fix: start Colima
    warning  engine         rootless Podman listens at `/T/run/podman/podman.sock`
                            fix: to use it: `export DOCKER_HOST=unix:///T/run/podman/podman.sock`
    ok       docker config  `/T/home/.docker/config.json` can be read
    ok       credentials    `docker-credential-desktop` is installed
    warning  credentials    `docker-credential-missing`, which the Docker configuration names, is not on the `PATH`
                            fix: install it, or remove it from `/T/home/.docker/config.json`; without it private images cannot be pulled
    ok       secrets        looked for in Docker Desktop (`docker-credential-desktop`), then in the encrypted file `~/.docker/mcp/secrets/secrets.age`
    ok       cache          `/T/home/.cache/docker-mcp/components` is private and can be written to
    ok       sessions       `/T/home/.local/state/docker-mcp/sessions` is private and takes locks; it has 0 now
    ok       wasm           WebAssembly runs here
    ok       component      `docker` (DIGEST) loads in TIME ms
    ok       component      `kubernetes` (DIGEST) loads in TIME ms
    ok       component      `cluster-mapping` (DIGEST) loads in TIME ms
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

/// An engine that knows its version.
fn engine(socket: &std::path::Path, version: &'static str) {
    use std::io::{Read as _, Write as _};
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // One that only looks whether somebody listens says nothing.
            if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
                let length = version.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{version}").as_bytes()).unwrap();
            }
        }
    });
}

#[tokio::test]
async fn an_engine_that_answers_is_said_to_and_one_that_is_too_old_is_a_problem() {
    let bench = Bench::new();
    let mut place = bench.place();
    let finding = async |place: &Place| {
        let mut findings = engines::check(place).await;
        (findings.remove(0), findings.len())
    };
    engine(&bench.path("new/docker.sock"), r#"{"ApiVersion":"1.43","Version":"24.0","Platform":{"Name":"Colima"}}"#);
    place.variables.insert("DOCKER_HOST".to_owned(), format!("unix://{}", bench.path("new/docker.sock").display()));
    let (found, others) = finding(&place).await;
    assert_eq!((found.state, others), (State::Ok, 0));
    assert!(found.detail.starts_with("Colima 24.0 at `unix:///"), "{}", found.detail);
    engine(&bench.path("old/docker.sock"), r#"{"ApiVersion":"1.30","Version":"17.06"}"#);
    place.variables.insert("DOCKER_HOST".to_owned(), format!("unix://{}", bench.path("old/docker.sock").display()));
    let (found, _) = finding(&place).await;
    assert_eq!(found.state, State::Problem);
    assert!(found.fix.unwrap().contains("update it to Docker 20.10 or newer"));
}

#[tokio::test]
async fn engines_at_their_usual_places_are_found_with_what_to_export() {
    let bench = Bench::new();
    let usual = [
        ("Docker", "root/var/run/docker.sock"),
        ("Docker Desktop", "home/.docker/desktop/docker.sock"),
        ("Docker Desktop", "home/.docker/run/docker.sock"),
        ("Colima", "home/.colima/default/docker.sock"),
        ("Colima", "home/.colima/other/docker.sock"),
        ("Colima", "home/.config/colima/default/docker.sock"),
        ("Rancher Desktop", "home/.rd/docker.sock"),
        ("OrbStack", "home/.orbstack/run/docker.sock"),
        ("Podman Machine", "home/.local/share/containers/podman/machine/podman.sock"),
        ("rootless Docker", "run/docker.sock"),
        ("rootless Podman", "run/podman/podman.sock"),
        ("Podman", "root/run/podman/podman.sock"),
    ];
    for (_, socket) in usual {
        engine(&bench.path(socket), "{}");
    }
    let findings = engines::check(&bench.place()).await;
    assert_eq!(findings.len(), 1 + usual.len());
    for (product, socket) in usual {
        let socket = bench.path(socket).display().to_string();
        let found = findings.iter().find(|found| found.detail == format!("{product} listens at `{socket}`"));
        let fix = found.and_then(|found| found.fix.clone()).unwrap_or_default();
        assert_eq!(fix, format!("to use it: `export DOCKER_HOST=unix://{socket}`"), "{product}");
    }
}

#[test]
fn an_installed_component_must_be_what_was_agreed_to() {
    use crate::installed::{Consent, Installed, Store};
    use crate::sandbox::contract::digest;
    let bench = Bench::new();
    let place = bench.place();
    assert!(components::installed(&place).is_empty());
    let directory = Store::directory(None, place.home.as_deref()).unwrap();
    let (store, bytes) = (Store::open(directory.clone()).unwrap(), crate::builtin::DOCKER);
    let installed = Installed {
        digest: digest(bytes),
        bytes: bytes.len() as u64,
        origin: "/somewhere/x.wasm".to_owned(),
        imports: super::super::provisioner::imports(&crate::inspect::inspect(bytes).unwrap()),
        grants: "log".parse().unwrap(),
        consent: Consent { by: "ada".to_owned(), uid: None, at: "2026-11-22T10:00:00Z".to_owned() },
    };
    store.install("mine", bytes, installed.clone()).unwrap();
    store.install("other", bytes, Installed { imports: Vec::new(), ..installed.clone() }).unwrap();
    let states = |findings: &[Finding]| findings.iter().map(|finding| finding.state).collect::<Vec<_>>();
    let findings = components::installed(&place);
    assert_eq!(states(&findings), [State::Ok, State::Problem], "{findings:#?}");
    assert!(findings[1].detail.contains("which the lock file does not have"), "{findings:#?}");
    std::fs::write(directory.join("sha256").join(format!("{}.wasm", installed.digest)), "evil").unwrap();
    let findings = components::installed(&place);
    assert_eq!(states(&findings), [State::Problem, State::Problem]);
    assert!(findings[0].detail.contains("was changed after it was installed"), "{findings:#?}");
    assert!(findings[0].fix.as_deref().unwrap().contains("docker-mcp provisioner uninstall mine"));
    std::fs::write(store.lock_file(), "{").unwrap();
    let findings = components::installed(&place);
    assert_eq!(states(&findings), [State::Problem]);
    assert!(findings[0].fix.as_deref().unwrap().contains("install the provisioners again"), "{findings:#?}");
}

#[test]
fn a_directory_of_installed_components_that_others_may_write_to_is_a_problem() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let directory = bench.path("home/.local/share/docker-mcp/provisioners");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let findings = components::installed(&bench.place());
    assert_eq!((findings.len(), findings[0].state), (1, State::Problem), "{findings:#?}");
}

#[test]
fn a_machine_without_a_home_learns_what_that_means() {
    let bench = Bench::new();
    let place = Place { home: None, ..bench.place() };
    let (directory, cache) = check_cache(&place);
    assert!(directory.is_none() && cache.fix.unwrap().contains("DOCKER_MCP_CACHE"));
    assert!(check_sessions(&place).fix.unwrap().contains("XDG_STATE_HOME"));
    assert!(components::installed(&place).is_empty());
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
