//! The same tools and servers on Docker and on Kubernetes: standard output, standard error and exit code are the same,
//! byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/contract.rs"]
mod contract;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/engine.rs"]
mod engine;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/registry.rs"]
mod registry;

use std::process::Command;
use std::time::{Duration, Instant};

use docker_mcp::capability::container_runtime::docker::DockerRuntime;
use docker_mcp::capability::container_runtime::kubernetes::KubernetesRuntime;
use docker_mcp::capability::container_runtime::{Completed, ContainerRuntime, Request, RunLimits, RuntimeError};
use docker_mcp::lease::Reaper;
use futures::StreamExt as _;
use provisioning_core::Network;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use cluster::Cluster;
use contract::{Image, PATIENCE, within};

/// Both runtimes, and where images are.
struct Both {
    docker: DockerRuntime,
    kubernetes: KubernetesRuntime,
    cluster: Cluster,
    registry: &'static registry::Registry,
    reaper: Reaper,
}

/// An image under its two names.
struct Twins {
    docker: String,
    kubernetes: String,
}

impl Both {
    async fn begin() -> Option<Self> {
        let cluster = Cluster::begin().await?;
        let registry = cluster::registry().await?;
        engine::engine().await?;
        cluster.allow_pulls(registry).await;
        let reaper = Reaper::new();
        let docker = engine::runtime(engine::surroundings(), &reaper);
        let kubernetes =
            cluster.runtime("kube", &reaper, |settings| settings.pull_secrets = vec![cluster::PULL_SECRET.to_owned()]);
        Some(Self { docker, kubernetes, cluster, registry, reaper })
    }

    /// An image of a shell with this Dockerfile instruction.
    async fn image(&self, name: &str, instruction: &str) -> Twins {
        let engine = engine::engine().await.unwrap();
        let docker = engine::image(&engine, name, instruction).await;
        Twins { docker, kubernetes: cluster::image(self.registry, name, instruction).await }
    }

    async fn run(&self, image: &Twins, arguments: &[&str], input: &[u8]) -> [Completed; 2] {
        // Both at once.
        let docker = run(&self.docker, &image.docker, arguments, input);
        let kubernetes = run(&self.kubernetes, &image.kubernetes, arguments, input);
        tokio::join!(docker, kubernetes).into()
    }

    async fn end(self) {
        assert!(self.reaper.drain(PATIENCE).await);
        assert_eq!(self.cluster.left("kube").await, Vec::<String>::new());
        self.kubernetes.end().await;
    }
}

async fn run(runtime: &dyn ContainerRuntime, image: &str, arguments: &[&str], input: &[u8]) -> Completed {
    let limits = RunLimits { output_bytes: 32 << 20, ..RunLimits::default() };
    within(runtime.run_with_input(request(image, arguments), input.to_vec(), limits)).await.unwrap()
}

fn request(image: &str, arguments: &[&str]) -> Request {
    let mut request = contract::request("kube", Image::new(image, arguments));
    request.identity.tool = Some("tool".to_owned());
    request.spec.network = Network::Declared;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_give_the_same_bytes_and_exit_codes() {
    let Some(both) = Both::begin().await else { return };
    let shell = both.image("shell", r#"ENTRYPOINT ["/bin/sh","-c"]"#).await;
    let scripts = [
        "echo out; echo err >&2; exit 7",
        "exit 0",
        "exit 1",
        "exit 255",
        "exit 126",
        "exit 127",
        "exit 137",
        "true",
        "echo 1; echo 2 >&2; echo 3; echo 4 >&2; printf 5; printf 6 >&2",
        // Binary, without a line end, with bytes that are no text.
        r"printf '\000\001\377\n\r\t'; printf '\377\000' >&2",
        "printf 'no end of line'",
        // Ended by a signal, by itself.
        "echo before; kill -9 $$",
        "kill -TERM $$",
        "kill -INT $$",
        "kill -SEGV $$",
        // What is left running does not hold up the end, and does not write after it.
        "(sleep 30; echo late) & (sleep 30 >&2) & echo done",
        // A signal that is passed on to nobody.
        "trap '' TERM; kill -TERM $$; echo alive",
        "cat; echo \"rest: $?\"",
        "echo $0 $#",
        "pwd; id -u; id -g; umask",
        "[ -d /proc/1 ] && echo 'there is an init'; [ $$ -ne 1 ] && echo 'and it is not me'",
        // What a tool left behind, and nobody waits for, is gone when it has ended: the init waits for it.
        "mkdir -p /tmp; (sh -c 'sleep 0.2 & echo $! >/tmp/left' &); n=0; until [ -s /tmp/left ]; do sleep 0.1; done; \
         while [ -d /proc/$(cat /tmp/left) ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done; \
         [ -d /proc/$(cat /tmp/left) ] || echo gone",
        "printf %s \"$PATH\"",
    ];
    for script in scripts {
        let [docker, kubernetes] = both.run(&shell, &[script, "a b", "it's"], b"one\ntwo").await;
        same(script, &docker, &kubernetes);
    }
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_never_read_by_a_shell() {
    let Some(both) = Both::begin().await else { return };
    let image = both.image("each-argument", r#"ENTRYPOINT ["/bin/busybox","printf","<%s>"]"#).await;
    let odd = [
        "",
        " ",
        "a b",
        "it's",
        "\"q\"",
        "$(id)",
        "`id`",
        "$HOME",
        "${HOME}",
        "$(HOME)",
        "$$",
        "$$(X)",
        "; id",
        "&& id",
        "|",
        ">x",
        "*",
        "~",
        "\\",
        "\\n",
        "line\nbreak",
        "tab\t",
        "ünï✓",
        "--",
        "-n",
        "-",
        "\u{1b}[31m\u{7f}\u{1}",
        "\r\n",
        "=",
        "a=b",
        "?[x]",
        "\u{feff}\u{202e}",
        "#c",
        "!",
        "{a,b}",
        "%s",
    ];
    let [docker, kubernetes] = both.run(&image, &odd, b"").await;
    same("all odd arguments", &docker, &kubernetes);
    let expected: String = odd.iter().map(|argument| format!("<{argument}>")).collect();
    assert_eq!(String::from_utf8(kubernetes.stdout.bytes).unwrap(), expected);
    both.end().await;
}

/// Whatever an image or an entry sets is for the tool, not for what starts it.
#[tokio::test(flavor = "multi_thread")]
async fn variables_and_first_words_mean_nothing_to_what_starts_a_tool() {
    let Some(both) = Both::begin().await else { return };
    let show = r#"ENTRYPOINT ["/bin/busybox","env"]"#;
    for (name, instructions) in [
        ("env-of-shells", "ENV ENV=/bin/busybox\nENV BASH_ENV=/bin/busybox\nENV PS4=x"),
        ("env-ifs", "ENV IFS=0123456789\nENV OPTIND=7"),
        ("env-preload", "ENV LD_PRELOAD=/no/such.so"),
        ("env-path", "ENV PATH=/nowhere"),
        ("env-options", "ENV SHELLOPTS=xtrace\nENV POSIXLY_CORRECT=1"),
    ] {
        let image = both.image(name, &format!("{instructions}\n{show}")).await;
        let [mut docker, mut kubernetes] = both.run(&image, &[], b"").await;
        for done in [&mut docker, &mut kubernetes] {
            let text = String::from_utf8(std::mem::take(&mut done.stdout.bytes)).unwrap();
            // The name of the machine, and what clusters tell every container of themselves.
            let is_ours = |line: &&str| !line.starts_with("HOSTNAME=") && !line.starts_with("KUBERNETES_");
            let mut lines: Vec<&str> = text.lines().filter(is_ours).collect();
            lines.sort_unstable();
            done.stdout.bytes = lines.join("\n").into_bytes();
        }
        same(instructions, &docker, &kubernetes);
    }
    // Without an entry point the first word is the caller's, and a program of that name is looked for.
    let bare = both.image("bare", "CMD [\"true\"]").await;
    for (first, expected) in [("-c", 127), ("--", 127), ("-x", 127), ("-", 127)] {
        let mut done =
            within(both.kubernetes.run(request(&bare.kubernetes, &[first, "echo no"]), RunLimits::default()))
                .await
                .unwrap();
        assert_eq!((done.exit_code, std::mem::take(&mut done.stdout.bytes)), (expected, Vec::new()), "{first}");
    }
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_own_settings_hold_and_its_arguments_are_replaced() {
    let Some(both) = Both::begin().await else { return };
    let settings = "WORKDIR /work dir\nENV GREETING=\"hello $world\"\nUSER 1000:100";
    let cases = [
        (
            format!(
                "{settings}\nENTRYPOINT [\"/bin/sh\",\"-c\",\"pwd; id -u; id -g; echo \\\"$GREETING $*\\\"\",\"sh\"]\nCMD [\"own\",\"$$\"]"
            ),
            vec![],
        ),
        (
            format!("{settings}\nENTRYPOINT [\"/bin/sh\",\"-c\",\"echo \\\"$*\\\"\",\"sh\"]\nCMD [\"own\"]"),
            vec!["given"],
        ),
        // Without an entry point, the command is the program, and is looked for.
        ("CMD [\"sh\",\"-c\",\"echo by command\"]".to_owned(), vec![]),
        ("CMD [\"sh\",\"-c\",\"echo by command\"]".to_owned(), vec!["busybox", "echo", "given instead"]),
    ];
    for (number, (instructions, arguments)) in cases.into_iter().enumerate() {
        let image = both.image(&format!("own-settings-{number}"), &instructions).await;
        let [docker, kubernetes] = both.run(&image, &arguments, b"").await;
        same(&instructions, &docker, &kubernetes);
        assert!(!kubernetes.stdout.bytes.is_empty());
    }
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_on_both_streams_arrive_whole() {
    let Some(both) = Both::begin().await else { return };
    let script = r#"head -c "$1" /dev/zero | tr '\000' a & head -c "$1" /dev/zero | tr '\000' b >&2 & wait; echo end; echo end >&2"#;
    let image = both
        .image(
            "megabytes",
            &format!("ENTRYPOINT [\"/bin/sh\",\"-c\",{},\"sh\"]", serde_json::to_string(script).unwrap()),
        )
        .await;
    for bytes in ["65536", "1000000", "7000001"] {
        let [docker, kubernetes] = both.run(&image, &[bytes], b"").await;
        assert_eq!(kubernetes.stdout.bytes.len(), bytes.parse::<usize>().unwrap() + 4);
        assert_eq!(kubernetes.stderr.bytes.len(), bytes.parse::<usize>().unwrap() + 4);
        same(bytes, &docker, &kubernetes);
    }
    // As much in as out, at the same time.
    let cat = both.image("cat", r#"ENTRYPOINT ["/bin/busybox","cat"]"#).await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let [docker, kubernetes] = both.run(&cat, &[], &input).await;
    assert!(kubernetes.stdout.bytes == input, "{} of {} bytes", kubernetes.stdout.bytes.len(), input.len());
    same("cat", &docker, &kubernetes);
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_single_program_without_a_shell_runs() {
    let Some(both) = Both::begin().await else { return };
    let engine = engine::engine().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/busybox", root.path().join("busybox")).unwrap();
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "busybox"]).output().unwrap();
    let instruction = r#"ENTRYPOINT ["/busybox","sha256sum"]"#;
    let tag: String = Sha256::digest(&tar.stdout).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let options = bollard::query_parameters::CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo("docker-mcp-test/no-shell")
        .tag(&tag)
        .changes(vec![instruction.to_owned()])
        .build();
    let mut reports = engine.create_image(Some(options), Some(bollard::body_full(tar.stdout.into())), None);
    while let Some(report) = reports.next().await {
        report.unwrap();
    }
    let docker = format!("docker-mcp-test/no-shell:{tag}");
    let kubernetes = both.registry.push(&engine, &docker, "docker-mcp-test/no-shell").await;
    let image = Twins { docker, kubernetes };
    let [docker, kubernetes] = both.run(&image, &["-", "/no/such/file"], b"some input").await;
    same("without a shell", &docker, &kubernetes);
    assert_eq!(kubernetes.exit_code, 1);
    assert!(!kubernetes.stdout.bytes.is_empty() && !kubernetes.stderr.bytes.is_empty());
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_has_the_same_exit_code() {
    let Some(both) = Both::begin().await else { return };
    for (name, program, code) in
        [("absent", "/no/such", 127), ("not-found", "nosuch", 127), ("no-program", "/bin", 126)]
    {
        let image = both.image(name, &format!(r#"ENTRYPOINT ["{program}"]"#)).await;
        let done = within(both.kubernetes.run(request(&image.kubernetes, &[]), RunLimits::default())).await.unwrap();
        assert_eq!((done.exit_code, done.stdout.bytes), (code, Vec::new()), "{program}");
        let said = String::from_utf8(done.stderr.bytes).unwrap();
        assert!(said.contains(program), "{said}");
        // The engine's init says the same in other words, or the engine refuses to start.
        if let Ok(docker) = within(both.docker.run(request(&image.docker, &[]), RunLimits::default())).await {
            assert_eq!(docker.exit_code, code, "{program}");
        }
    }
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_the_same_second_do_not_get_in_each_others_way_and_a_cancelled_one_leaves_nothing() {
    let Some(both) = Both::begin().await else { return };
    let shell = both.image("shell", r#"ENTRYPOINT ["/bin/sh","-c"]"#).await;
    let scripts: Vec<_> = (0..6).map(|number| format!("echo {number}; exit {number}")).collect();
    let calls =
        scripts.iter().map(|script| both.kubernetes.run(request(&shell.kubernetes, &[script]), RunLimits::default()));
    for (number, done) in within(futures::future::join_all(calls)).await.into_iter().enumerate() {
        let done = done.unwrap();
        assert_eq!((done.exit_code, done.stdout.bytes), (number as i64, format!("{number}\n").into_bytes()));
    }
    for milliseconds in [0, 5, 20, 100, 300, 600, 1000] {
        let call = both.kubernetes.run(request(&shell.kubernetes, &["sleep 600"]), RunLimits::default());
        assert!(tokio::time::timeout(Duration::from_millis(milliseconds), call).await.is_err());
    }
    let limits = RunLimits { time: Duration::from_secs(1), ..RunLimits::default() };
    let began = Instant::now();
    let error = within(both.kubernetes.run(request(&shell.kubernetes, &["sleep 600"]), limits)).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::TimedOut { what, seconds: 1, .. } if what.contains("`tool`")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    both.end().await;
}

/// The one known difference: the init of a container is its tool's own user's, that of a pod is the cluster's.
#[tokio::test(flavor = "multi_thread")]
async fn the_init_of_a_pod_takes_no_signals_from_a_tool() {
    let Some(both) = Both::begin().await else { return };
    let shell = both.image("shell-signals", r#"ENTRYPOINT ["/bin/sh","-c"]"#).await;
    let [docker, kubernetes] = both.run(&shell, &["kill -0 1 2>&1; echo \"$?\""], b"").await;
    assert_eq!(docker.stdout.bytes, b"0\n");
    assert_eq!(String::from_utf8_lossy(&kubernetes.stdout.bytes), "sh: can't kill pid 1: Operation not permitted\n1\n");
    both.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_the_same() {
    let Some(both) = Both::begin().await else { return };
    let mut request = contract::request("kube", Image::new("mcp-test/everything:1", &[]));
    request.spec.network = Network::Declared;
    let lines_sent = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}",
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo","arguments":{"message":"$(id) ünï"}}}"#,
    ];
    let mut answers: Vec<Vec<String>> = Vec::new();
    for runtime in [&both.docker as &dyn ContainerRuntime, &both.kubernetes] {
        let running = within(runtime.start(request.clone())).await.unwrap();
        let (mut stdin, mut lines) = (running.streams.stdin, BufReader::new(running.streams.stdout).lines());
        let mut given = Vec::new();
        for (number, line) in lines_sent.iter().enumerate() {
            stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            stdin.flush().await.unwrap();
            // Notifications may come at any time.
            let id = format!("\"id\":{}", number + 1);
            let answer = async {
                loop {
                    let line = lines.next_line().await.unwrap().unwrap();
                    if line.contains(&id) {
                        return line;
                    }
                }
            };
            given.push(within(answer).await);
        }
        answers.push(given);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0][2].contains("$(id) ünï"), "{answers:?}");
    both.end().await;
}

/// Compares what two runs gave.
fn same(what: &str, docker: &Completed, kubernetes: &Completed) {
    let shown = |done: &Completed| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        (done.exit_code, text(&done.stdout.bytes), text(&done.stderr.bytes))
    };
    let equal = docker.exit_code == kubernetes.exit_code
        && docker.stdout == kubernetes.stdout
        && docker.stderr == kubernetes.stderr;
    assert!(equal, "{what}:\n  docker     {:?}\n  kubernetes {:?}", shown(docker), shown(kubernetes));
}
