//! The red team: a component that tries to get out, one attempt at a time, with nothing granted, with everything
//! granted, and under policies. Each test proves that the attempts of one kind fail: the runtime is asked for nothing,
//! nothing is left, the audit log tells what was tried, and no private text is in an error, a log or a record.
//!
//! `docs/security.md` names these tests as the proof of its promises.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "red_team/attempt.rs"]
mod attempt;
#[path = "support/contract.rs"]
#[allow(dead_code, reason = "the suite itself runs elsewhere; here only its subject is used")]
mod contract;
#[path = "support/engine.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod engine;
#[path = "red_team/kills.rs"]
mod kills;
#[path = "support/raw_guest.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod raw_guest;
#[path = "red_team/real_engine.rs"]
mod real_engine;
#[path = "red_team/secrecy.rs"]
mod secrecy;
#[path = "support/world.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod world;

use std::sync::Arc;

use attempt::{Attempt, GRANTS, Got, PERMISSIVE};
use docker_mcp::policy::bind_mounts::BindPolicy;
use docker_mcp::policy::enforcement::Enforcement;
use docker_mcp::provision::ProvisionError;
use docker_mcp::sandbox::contract::digest;
use provisioning_core::volume::ALLOWED_PATHS;

/// What is tried, the grant that allows exactly that, and what a refusal names.
const GRANTABLE: [(&str, &str, &str, &str); 9] = [
    ("image", "registry.example/evil:1", "rewrite-image=registry.example", "rewrite-image=registry.example/evil"),
    ("command", "--serve", "rewrite-command", "rewrite-command"),
    ("argument", "--upload", "add-argument=--up*", "add-argument=--upload"),
    ("user", "65532", "rewrite-user=65532", "rewrite-user=65532"),
    ("variable", "COLLECT_TO", "add-env=COLLECT_*", "add-env=COLLECT_TO"),
    ("variable-text", "x", "add-env=ADDED", "add-env=ADDED"),
    ("volume", "cache:/cache", "add-mount=cache", "add-mount=cache:/cache"),
    ("label", "team.a", "add-label=team.", "add-label=team.a"),
    ("host", "evil=198.51.100.6", "add-host=evil:198.51.100.6", "add-host=evil:198.51.100.6"),
];

#[tokio::test]
async fn leaving_the_envelope_needs_exactly_its_grant_and_a_policy_takes_that_away_again() {
    let elsewhere = "version: 1\ncomponents: {allow: [{component: '*', grants: [add-label=elsewhere.]}]}\n";
    for (attempt, text, grant, remedy) in GRANTABLE {
        let tried = || Attempt::new(attempt, text);
        let error = tried().made().await.refusal();
        assert!(error.contains(remedy), "{attempt}: {error}");
        // No other grant does, nor does a policy that allows everything. Changing the command includes adding to it.
        let others: Vec<&str> = GRANTS
            .into_iter()
            .filter(|other| *other != grant && (attempt, *other) != ("argument", "rewrite-command"))
            .collect();
        for policy in [None, Some(PERMISSIVE)] {
            let seen = tried().granted(&others).under(policy).made().await;
            assert!(seen.refusal().contains("is outside what the catalog entry allows"), "{attempt}");
            assert_eq!(seen.denied().rule.as_ref().unwrap().text, "envelope", "{attempt}");
        }
        let granted = [grant];
        let seen = tried().granted(&granted).made().await;
        let (call, _) = seen.allowed("start");
        assert_eq!(call.rule.as_ref().unwrap().text, "grant", "{attempt}");
        assert!(matches!(seen.result, Ok(Got::Container)), "{attempt}: {:?}", seen.result);
        // What a policy does not leave to the component, no grant gives it.
        let seen = tried().granted(&granted).under(Some(elsewhere)).made().await;
        assert!(seen.refusal().contains("is beyond `grants` of rule `*` (policy.yaml:2)"), "{attempt}");
        let rule = seen.denied().rule.clone().unwrap();
        assert_eq!((rule.file.as_deref(), rule.line), (Some("policy.yaml"), Some(2)), "{attempt}");
    }
    // A tool is judged like a server.
    for (attempt, text, grant, _) in GRANTABLE.iter().filter(|(attempt, ..)| *attempt != "volume") {
        Attempt::new(attempt, text).for_tool().await.refusal();
        Attempt::new(attempt, text).granted(&[grant]).for_tool().await.allowed("run");
    }
}

#[tokio::test]
async fn a_granted_registry_covers_no_reference_that_only_looks_like_it() {
    let digits = "0".repeat(64);
    let grants = ["rewrite-image=registry.example", "rewrite-image=docker.io/trusted", "rewrite-image=localhost:5000"];
    let others = [
        // Other places.
        "registry.example.evil.test/x",
        "registry.example:5000/x",
        "xregistry.example/x",
        "registry-example/x",
        "evil/registry.example/x",
        "registry.example",
        "trusted",
        "docker.io/trusted-not/x",
        "docker.io/library/trusted",
        "localhost/x",
        "localhost:50000/x",
        "127.0.0.1:5000/x",
        // Userinfo, schemes, and what parsers of addresses disagree about.
        "registry.example@evil.test/x",
        "user@registry.example/x",
        "user:pass@registry.example/x",
        "evil.test/x@registry.example/y",
        "https://registry.example/x",
        "registry.example:443@evil.test/x",
        "registry.example#@evil.test/x",
        "registry.example?x/y",
        "registry.example\\@evil.test/x",
        "registry.example%2f..%2fevil/x",
        "[::1]:5000/x",
        // Paths.
        "registry.example/../evil/x",
        "registry.example//x",
        "registry.example/./x",
        "docker.io/trusted/../evil",
        "/registry.example/x",
        "registry.example/",
        // Letters.
        "REGISTRY.example/x",
        "Registry.Example/x",
        "registry.ex\u{430}mple/x",
        "regi\u{455}try.example/x",
        "registry\u{3002}example/x",
        "registry.example\u{2215}evil/x",
        "registry.example\u{200b}/x",
        "\u{202e}registry.example/x",
        "registry.example./x",
        " registry.example/x",
        "registry.example/x ",
        "registry.example/x\n",
        "registry.example/x\0",
        // Tags and digests.
        "registry.example/x:",
        "registry.example/x:a:b",
        "registry.example/x:tag/y",
        "registry.example/x@",
        "registry.example/x@sha256:00",
        "registry.example/x@md5:00",
        // Identifiers of images that are there.
        &digits,
        &format!("sha256:{digits}"),
        "0123456789ab",
        // Other engines.
        "embedded:sample",
        "registry.example/x.wasm",
        "registry.example/x:1.wasm",
        "registry.example/x.WASM",
        "/tmp/x.wasm",
        "",
        " ",
        "-registry.example/x",
        "--privileged",
    ];
    let mut wrong = Vec::new();
    for text in others {
        wrong.extend(Attempt::new("image", text).granted(&grants).under(Some(PERMISSIVE)).made().await.refused().err());
    }
    for text in ["large image 300", "large image 100000"] {
        let (attempt, text) = text.split_once(' ').unwrap();
        wrong.extend(Attempt::new(attempt, text).granted(&grants).made().await.refused().err());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for text in [
        "registry.example/x".to_owned(),
        "registry.example:443/x:1".to_owned(),
        format!("registry.example/a/b:1@sha256:{digits}"),
        "trusted/x".to_owned(),
        "index.docker.io/trusted/x".to_owned(),
        "localhost:5000/x".to_owned(),
    ] {
        let seen = Attempt::new("image", &text).granted(&grants).made().await;
        assert!(!matches!(seen.result, Err(ProvisionError::Denied(_))), "{}: {:?}", seen.what, seen.result);
    }
}

#[tokio::test]
async fn no_pattern_of_variables_covers_those_that_decide_where_traffic_goes_or_what_code_runs() {
    let wide = ["add-env=*"];
    let mut wrong = Vec::new();
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "All_Proxy",
        "ftp_proxy",
        "NO_PROXY",
        "GOPROXY",
        "PROXY",
        "RSYNC_PROXY",
        "OPENAI_API_BASE",
        "DD_SITE",
        "ELASTICSEARCH_NODES",
        "AZURE_STORAGE_CONNECTION_STRING",
        "SMTP_RELAY",
        "SPRING_APPLICATION_JSON",
        "FLASK_APP",
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "NODE_OPTIONS",
        "NODE_EXTRA_CA_CERTS",
        "NODE_PATH",
        "npm_config_registry",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PIP_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "PERL5OPT",
        "RUBYOPT",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "DOTNET_STARTUP_HOOKS",
        "CORECLR_PROFILER",
        "LUA_INIT",
        "PHPRC",
        "GOFLAGS",
        "RUSTC_WRAPPER",
        "CARGO_HOME",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
        "BASH_ENV",
        "ENV",
        "PROMPT_COMMAND",
        "IFS",
        "SHELL",
        "HOME",
        "EDITOR",
        "PAGER",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "SSLKEYLOGFILE",
        "OPENSSL_CONF",
        "GITHUB_API_URL",
        "OPENAI_BASE_URL",
        "AWS_ENDPOINT_URL",
        "DATABASE_URL",
        "SENTRY_DSN",
        "REDIS_HOST",
        "PGHOST",
        "PGHOSTADDR",
        "KUBERNETES_SERVICE_HOST",
        "DOCKER_HOST",
        "KUBECONFIG",
        "LOCALDOMAIN",
        "RES_OPTIONS",
        "HOSTALIASES",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "GRPC_PROXY_EXP",
        "AWS_CONFIG_FILE",
        "WEBHOOK",
        "CALLBACK_URI",
    ] {
        match Attempt::new("variable", name).granted(&wide).under(Some(PERMISSIVE)).made().await.refused() {
            Ok(error) => assert!(error.contains(&format!("grant `add-env={name}`")), "{error}"),
            Err(other) => wrong.push(other),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Attempt::new("variable", "TEAM").granted(&wide).made().await.allowed("start");
    // Written out, it is what the operator saw and agreed to. The value is text of the component's own.
    let seen = Attempt::new("variable", "HTTP_PROXY").granted(&["add-env=HTTP_PROXY"]).made().await;
    let (_, request) = seen.allowed("start");
    assert!(request.spec.environment.iter().any(|(name, _)| name == "HTTP_PROXY"));
}

#[tokio::test]
async fn names_that_look_like_others_are_other_names_or_none() {
    let grants =
        ["add-env=TOKEN*", "add-env=*", "add-label=team.", "add-label=docker-mcp", "add-host=evil:198.51.100.6"];
    for variable in [
        "T\u{41e}KEN",
        "TOKEN\u{200b}",
        "TOKEN ",
        " TOKEN",
        "TOKEN=x",
        "TOKEN\0",
        "TOKEN\n",
        "\u{ff34}OKEN",
        "1TOKEN",
        "=",
        "-x",
        "TOKE\u{301}N",
        "TOKEN\u{202e}",
        "A B",
        "${TOKEN}",
        "$(TOKEN)",
    ] {
        let error = Attempt::new("variable", variable).granted(&grants).made().await.refusal();
        assert!(error.contains("no grant allows it"), "{error}");
    }
    // The entry's own are set once, with the entry's value.
    for variable in ["TOKEN", "URL", "FIRST"] {
        let error = Attempt::new("variable", variable).granted(&grants).made().await.refusal();
        assert!(error.contains("set it once") || error.contains("no grant changes"), "{error}");
    }
    let error = Attempt::new("entry-variable-text", "x").granted(&grants).made().await.refusal();
    assert!(error.contains("no grant changes a variable of the entry"), "{error}");
    for label in [
        "docker-mcp",
        "docker-mcp-session",
        "Docker-MCP-name",
        "DOCKER-MCP",
        "docker-mcp-sessions-at",
        "com.docker.compose.project",
        "io.kubernetes.pod.name",
        "app.kubernetes.io/managed-by",
        "team.\u{430}",
        "team.a b",
        "team.a=b",
        "team.a\n",
        "team.\0",
        "team.\u{200b}",
        "t\u{435}am.a",
        "Team.a",
        " team.a",
    ] {
        Attempt::new("label", label).granted(&grants).under(Some(PERMISSIVE)).made().await.refusal();
    }
    for text in ["a\nb", "a\u{1b}[31m", "a\0"] {
        Attempt::new("label-text", text).granted(&grants).made().await.refusal();
    }
    let seen = Attempt::new("label-twice", "").granted(&grants).made().await;
    assert!(seen.result.is_err() && seen.requests.is_empty(), "{seen:?}");
    for host in [
        "db=198.51.100.6",
        "DB=198.51.100.6",
        "evil=198.51.100.7",
        "Evil=198.51.100.6",
        "evil.=198.51.100.6",
        "ev\u{456}l=198.51.100.6",
        "evil=host-gateway",
        "evil:198.51.100.6=198.51.100.6",
        "evil 127.0.0.1=198.51.100.6",
        "evil\n127.0.0.1 db=198.51.100.6",
        "=",
    ] {
        Attempt::new("host", host).granted(&grants).under(Some(PERMISSIVE)).made().await.refusal();
    }
}

#[tokio::test]
async fn a_component_mounts_nothing_but_the_named_volumes_that_it_is_granted() {
    let granted = ["add-mount=cache"];
    let mut wrong = Vec::new();
    for text in [
        "/:/host",
        "/etc:/x",
        "/var/run/docker.sock:/var/run/docker.sock",
        "/var/run/docker.sock:/s:ro",
        "//var/run/docker.sock:/s",
        "/var/run/../run/docker.sock:/s",
        "/tmp:/x",
        "/tmp/../etc:/x",
        ".:/x",
        "..:/x",
        "./cache:/x",
        "cache/..:/x",
        "cache/../../etc:/x",
        "~:/x",
        "~/x:/x",
        "$HOME:/x",
        "${HOME}/x:/x",
        "C:\\:/x",
        "C:/x:/y",
        "\\\\server\\share:/x",
        "\\\\.\\pipe\\docker_engine:/x",
        "//server/share:/x",
        "file:///etc:/x",
        "/etc",
        "/anonymous",
        "",
        " ",
        ":",
        "::",
        ":/x",
        "cache:",
        "cache:x",
        "cache:.",
        "cache:..",
        "cache:/x/../../etc",
        "cache:/..",
        "c\u{430}che:/x",
        "cache\u{200b}:/x",
        "Cache:/x",
        " cache:/x",
        "cache :/x",
        "cache: /x",
        "cache:/x ",
        "cache:/x:rw,shared",
        "cache:/x:rshared",
        "cache:/x:ro,rslave",
        "cache:/x:private",
        "cache:/x:Z",
        "cache:/x:nocopy",
        "cache:/x:volume-driver=evil",
        "cache:/x:ro:ro",
        "cache:/x:",
        "cache:/x\0",
        "cache\0:/x",
        "cache\n/etc:/x",
        "volume:cache:/x",
        "other:/x",
        "cachex:/x",
        "-v:/x",
        "type=bind,src=/,dst=/x",
        "\u{ff0f}etc:/x",
        "\u{2215}etc:/x",
        "cache:\u{ff0f}x",
    ] {
        wrong.extend(
            Attempt::new("volume", text).granted(&granted).under(Some(PERMISSIVE)).made().await.refused().err(),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for text in ["cache:/x", "cache:/x:ro"] {
        Attempt::new("volume", text).granted(&granted).made().await.allowed("start");
    }
}

/// What the catalog and the configuration may mount is not the component's to change, and judged for every component.
#[cfg(unix)]
#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_the_directories_that_may_be_mounted() {
    use std::os::unix::fs::symlink;
    // Not in a temporary directory, all of which may be mounted.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = place.path().canonicalize().unwrap();
    assert!(!root.starts_with("/tmp") && !root.starts_with("/var/tmp"), "{}", root.display());
    for directory in ["allowed/inside", "secret"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    symlink(root.join("secret"), root.join("allowed/link")).unwrap();
    symlink("../../../etc", root.join("allowed/relative")).unwrap();
    symlink("/", root.join("allowed/top")).unwrap();
    symlink("loop", root.join("allowed/loop")).unwrap();
    symlink("/var/run/docker.sock", root.join("allowed/socket")).unwrap();
    let _engine = std::os::unix::net::UnixListener::bind(root.join("allowed/engine.sock")).unwrap();
    let shown = root.display().to_string();
    let binds = BindPolicy::from_environment(|name| (name == ALLOWED_PATHS).then(|| format!("{shown}/allowed")));
    let enforcement = Enforcement { binds: Some(Arc::new(binds)), ..Enforcement::default() };
    let entry = |volume: &str| {
        let volume = serde_json::to_string(volume).unwrap();
        format!(
            "registry:\n  NAME:\n    image: img\n    volumes: [{volume}]\n    secrets: [{{name: NAME.token, env: TOKEN}}]\n"
        )
    };
    let mut wrong = Vec::new();
    for path in [
        "ROOT/secret",
        "ROOT/allowed/../secret",
        "ROOT/allowed/inside/../../secret",
        "ROOT/allowed/link",
        "ROOT/allowed/link/x",
        "ROOT/allowed/relative/passwd",
        "ROOT/allowed/top/etc/shadow",
        "ROOT/allowed/loop",
        "ROOT/allowed/socket",
        "ROOT/allowed/engine.sock",
        "ROOT/allowedx",
        "ROOT/allowed\u{200b}",
        "ROOT/ALLOWED",
        "//ROOT/allowed",
        "/",
        "/.",
        "//",
        "/..",
        "/etc",
        "/etc/",
        "//etc",
        "/./etc",
        "/var/run/docker.sock",
        "/run/docker.sock",
        "//var/run/docker.sock",
        "/var/run/./docker.sock",
        "/var//run//docker.sock",
        "/var/lib/docker",
        "/proc/1/root",
        "/proc/self/environ",
        "/sys",
        "/dev/mem",
        "/root",
        "/var",
        "/home",
        "./relative",
        "a/relative",
        "..",
        "~/x",
        "C:\\Users",
        "c:\\",
        "\\\\host\\share",
        "\\\\.\\pipe\\docker_engine",
        "\u{ff0f}etc",
        "ROOT/allowed/.ssh",
        "ROOT/allowed/.AWS/credentials",
        "ROOT/allowed/inside:/x:rshared",
        "ROOT/allowed/inside:/x:ro,shared",
        "ROOT/allowed/inside:/x:rw",
        "ROOT/allowed/inside:/x:ro,rw",
        "ROOT/allowed/inside:/x:Z",
        "ROOT/allowed\0/etc",
    ] {
        let path = path.replace("//ROOT", &format!("/{shown}")).replace("ROOT", &shown);
        let volume = if path.matches(':').count() > 1 { path } else { format!("{path}:/x") };
        let catalog = entry(&volume);
        let mut attempt = Attempt::new("plain", "").of(&catalog);
        attempt.enforcement = enforcement.clone();
        let seen = attempt.made().await;
        match seen.refused() {
            Ok(_) => assert_eq!(seen.denied().rule.as_ref().unwrap().text, "host", "{volume}"),
            Err(other) => wrong.push(format!("{volume}: {other}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for volume in
        ["ROOT/allowed/inside:/x", "ROOT/allowed//inside/.:/x:ro", "ROOT/allowed/inside/../new:/x", "named:/x"]
    {
        let catalog = entry(&volume.replace("ROOT", &shown));
        let mut attempt = Attempt::new("plain", "").of(&catalog);
        attempt.enforcement = enforcement.clone();
        attempt.made().await.allowed("start");
    }
}

#[tokio::test]
async fn the_user_cannot_be_changed_taken_away_or_disguised() {
    let grants = ["rewrite-user=65532"];
    for user in [
        "0",
        "root",
        "0:0",
        "65532:0",
        "065532",
        "+65532",
        " 65532",
        "65532 ",
        "\u{ff10}",
        "65532\0",
        "-1",
        "65532:docker",
    ] {
        Attempt::new("user", user).granted(&grants).under(Some(PERMISSIVE)).made().await.refusal();
    }
    let error = Attempt::new("no-user", "").granted(&grants).made().await.refusal();
    assert!(error.contains("no grant takes the user of the entry away"), "{error}");
}

#[tokio::test]
async fn nothing_is_too_large_for_an_orderly_refusal() {
    for field in
        ["image", "argument", "variable", "variable-text", "label", "label-text", "volume", "user", "host", "log"]
    {
        for (attempt, number) in [("large", 100_000), ("many", 5_000), ("large", 6 << 20), ("many", 100_000)] {
            // There is one image and one user, and saying it often is saying it once.
            if attempt == "many" && ["image", "user"].contains(&field) {
                continue;
            }
            let text = format!("{field} {number}");
            let seen = Attempt::new(attempt, &text).granted(&GRANTS).made().await;
            match &seen.result {
                // Text that fits and is granted is allowed; log lines are cut or dropped.
                Ok(_) => assert!(["argument", "variable-text", "label", "log"].contains(&field), "{}", seen.what),
                Err(error) => {
                    assert!(error.to_string().chars().count() < 2_500, "{}: {error}", seen.what);
                    assert!(seen.requests.is_empty(), "{}", seen.what);
                    let outcome = seen.ended().outcome.clone().unwrap();
                    assert!(
                        ["access-denied", "invalid", "stopped", "trapped"].contains(&&*outcome),
                        "{}: {outcome}",
                        seen.what
                    );
                }
            }
            let bytes = serde_json::to_string(&seen.records).unwrap().len();
            assert!(bytes < 300_000, "{}: {bytes} bytes of records", seen.what);
            // Nothing hides behind the end of a record: it has length and hash of the whole.
            if (attempt, number) == ("large", 100_000) {
                let mut cuts = seen.records.iter().filter_map(|record| record.arguments.get("cut"));
                let cut = cuts.next().unwrap_or_else(|| panic!("{}: {:#?}", seen.what, seen.records));
                assert!(cut["bytes"].as_u64().unwrap() > 100_000, "{}: {cut}", seen.what);
                if field == "log" {
                    let whole = "x".repeat(number) + "\n";
                    assert_eq!(cut["sha256"], digest(whole.as_bytes()));
                }
            }
        }
    }
}

/// Where a refusal of the plan's reader would be fooled: lines, escape sequences and directions of text.
#[test]
fn a_plan_shows_what_a_component_wrote_on_one_line_and_without_tricks() {
    let place = tempfile::tempdir().unwrap();
    let name = attempt::name("argument", "x\n  network   none\u{1b}[2K\u{202e}");
    let catalog = place.path().join("catalog.yaml");
    std::fs::write(&catalog, format!("registry:\n  {name}: {{image: img}}\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_docker-mcp"))
        .args(["provisioner", "plan", "--catalog"])
        .arg(&catalog)
        .args(["--servers", &name, "--grant", &attempt::with(&["rewrite-command"]), "--provisioner"])
        .arg(world::fixture("red-team"))
        .env_clear()
        .env("HOME", place.path())
        .env("DOCKER_MCP_CACHE", world::cache())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("  command   "), "{shown}");
    assert_eq!(shown.matches("\n  network   ").count(), 1, "{shown}");
    assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
}
