//! The provisioners of `examples/`: built as their instructions say, inspected, and used with a real Docker Engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use docker_mcp::builtin;
use docker_mcp::inspect::{Inspection, Risk, Standing, inspect};
use docker_mcp::policy::grants::Grants;
use engine::Engine;
use gateway::Setup;
use serde_json::json;

#[path = "end_to_end/engine.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod engine;
#[path = "end_to_end/gateway.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod gateway;

const ALL: &str = "secret-resolver,config-resolver,container-runtime,remote-endpoint,log";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).canonicalize().unwrap()
}

/// Runs a program to its end, and shows what it wrote if it fails.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A fresh directory that outlives the tests of this run: what is built in it is worth keeping for the next one.
fn workplace(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn interfaces(of: &Inspection) -> Vec<&str> {
    of.imports.iter().filter_map(|import| import.grant.as_deref()).collect()
}

/// The example in JavaScript, as the commands of the guide make it.
fn javascript() -> PathBuf {
    let place = workplace("javascript");
    let commands = blocks("writing-a-provisioner.md", "sh");
    let build = commands.iter().find(|block| block.contains("npm run build")).unwrap();
    run(shell(build).current_dir(&place));
    place.join("javascript-provisioner/javascript-provisioner.wasm")
}

/// Commands of the guide for `sh`, as they are written, with the built `docker-mcp` on the path.
fn shell(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let tools = Path::new(env!("CARGO_BIN_EXE_docker-mcp")).parent().unwrap();
    let others = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(tools.to_owned()).chain(std::env::split_paths(&others)));
    let mut command = Command::new("sh");
    command.args(["-euc", &script.replace("/path/to/docker-mcp", &root.display().to_string())]);
    command.env("PATH", path.unwrap());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioner_in_javascript_imports_no_wasi_and_deploys_a_server_and_a_tool() {
    let Some(engine) = Engine::find().await else { return };
    let component = javascript();
    let inspection = inspect(&std::fs::read(&component).unwrap()).unwrap();
    let mut wanted = interfaces(&inspection);
    wanted.sort_unstable();
    assert_eq!(wanted.join(","), "config-resolver,container-runtime,log,remote-endpoint,secret-resolver");
    assert!(
        inspection.worlds.iter().any(|fit| fit.world == "docker-provisioner" && fit.fits),
        "{:?}",
        inspection.worlds
    );
    assert!(inspection.warnings.is_empty(), "{:?}", inspection.warnings);

    let setup = Setup::new();
    let shown = setup.run(&["provisioner".to_owned(), "inspect".to_owned(), component.display().to_string()]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("It imports no files, no network") && !shown.contains("wasi:"), "{shown}");
    eprintln!("{shown}");

    setup.add(
        "shout",
        "type: poci\ntools:\n  - name: shout\n    description: Says it\n    parameters: {type: object, \
         properties: {text: {type: string}}}\n    container:\n      image: mcp-test/busybox:1\n      command: [busybox, \
         echo, '{{text}}!']",
    );
    let flags = ["--provisioner", &component.display().to_string(), "--grant", ALL, "--long-lived"];
    let flags = [&flags[..], &["--max-server-startup-timeout", "120"]].concat();
    let gateway = setup.gateway(&["time", "shout"], &flags).await;
    let time = gateway.text("get_current_time", json!({"timezone": "UTC"})).await;
    assert!(time.contains("UTC"), "{time}");
    assert_eq!(gateway.text("shout", json!({"text": "hello"})).await.trim(), "hello!");
    let containers = engine.wait_for(&setup.name("time"), 1).await;
    let host = engine.inspect(&containers[0]).await.host_config.unwrap();
    // What the example asks for besides what the entry has.
    assert_eq!(host.memory, Some(512 << 20));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("time"), 0).await;
    engine.wait_for(&setup.name("shout"), 0).await;
}

/// The example that wraps the built-in provisioner, as its `build.sh` makes it: `wasm-tools component new` and
/// `wac plug` are these libraries.
fn hardened() -> PathBuf {
    use wac_graph::types::Package;
    use wac_graph::{CompositionGraph, EncodeOptions, plug};
    let place = workplace("hardened");
    let target = "wasm32-unknown-unknown";
    run(Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--target", target, "--target-dir"])
        .arg(place.join("target"))
        .current_dir(example("hardened-provisioner")));
    let module = std::fs::read(place.join("target").join(target).join("release/hardened_provisioner.wasm")).unwrap();
    let wrapper = wit_component::ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap();

    let mut graph = CompositionGraph::new();
    let wrapper = Package::from_bytes("example:wrapper", None, wrapper, graph.types_mut()).unwrap();
    let wrapper = graph.register_package(wrapper).unwrap();
    let docker = Package::from_bytes("example:docker", None, builtin::DOCKER.to_vec(), graph.types_mut()).unwrap();
    let docker = graph.register_package(docker).unwrap();
    plug(&mut graph, vec![wrapper], docker).unwrap();
    let component = place.join("hardened.wasm");
    std::fs::write(&component, graph.encode(EncodeOptions::default()).unwrap()).unwrap();
    component
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_around_the_built_in_provisioner_changes_image_labels_and_root() {
    const MIRROR: &str = "registry.example.internal";
    let Some(engine) = Engine::find().await else { return };
    let component = hardened();
    let inspection = inspect(&std::fs::read(&component).unwrap()).unwrap();
    assert!(
        inspection.worlds.iter().any(|fit| fit.world == "docker-provisioner" && fit.fits),
        "{:?}",
        inspection.worlds
    );
    assert_eq!(inspection.imports.iter().filter(|import| import.risk == Risk::High).count(), 2);
    assert!(Standing::of(&inspection, &Grants::builtin_docker()).can_run, "it wants no more than what it wraps");

    // The commands of the guide after the building.
    let place = workplace("hardened-guide");
    let directory = place.join("examples/hardened-provisioner");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(&component, directory.join("hardened.wasm")).unwrap();
    std::fs::copy(example("catalog.yaml"), place.join("examples/catalog.yaml")).unwrap();
    let commands = blocks("writing-a-provisioner.md", "sh");
    let commands = commands.iter().find_map(|block| block.split_once("hardened-provisioner/build.sh\n")).unwrap().1;
    let setup = Setup::new();
    let (diff, plan) = commands.split_once('\n').unwrap();
    let diff = shell(diff).current_dir(&place).env("HOME", setup.directory.path()).output().unwrap();
    let shown = String::from_utf8(diff.stdout).unwrap();
    // The one thing that the guide names.
    let (_, more) = shown.split_once("wants more\n").unwrap();
    assert_eq!(more.trim(), "high    mcp-gateway:provisioning/container-runtime@0.1.0 stop", "{shown}");
    assert_eq!(diff.status.code(), Some(3));
    run(shell(plan).current_dir(&place).env("HOME", setup.directory.path()));

    // The mirror's copy of the image.
    run(Command::new("docker").args(["tag", "mcp-test/time:1", &format!("{MIRROR}/mcp-test/time:1")]));
    // Nobody can pull what the entry names; only the mirror's copy is needed.
    setup.add(
        "clock",
        "image: public.example.invalid/mcp-test/time:1\ncommand: [--local-timezone=UTC]\ndisableNetwork: true",
    );
    let component = component.display().to_string();
    let grants = format!("{ALL},rewrite-image={MIRROR},add-label=com.example.");
    let gateway = setup.gateway(&["clock"], &["--long-lived", "--provisioner", &component, "--grant", &grants]).await;
    assert!(gateway.text("get_current_time", json!({"timezone": "UTC"})).await.contains("UTC"));
    let containers = engine.wait_for(&setup.name("clock"), 1).await;
    let container = engine.inspect(&containers[0]).await;
    let config = container.config.unwrap();
    assert_eq!(config.image.as_deref(), Some("registry.example.internal/mcp-test/time:1"));
    assert_eq!(config.labels.unwrap().get("com.example.team").map(String::as_str), Some("platform"));
    let host = container.host_config.unwrap();
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("clock"), 0).await;

    // Without a grant of the mirror nothing is started.
    let gateway = setup.gateway(&["time"], &["--provisioner", &component, "--grant", ALL]).await;
    assert!(gateway.tools().await.is_empty());
    let log = gateway.finish().await;
    assert!(log.contains(&format!("grant `rewrite-image={MIRROR}/")), "{log}");
    engine.wait_for(&setup.name("time"), 0).await;
}

/// The code blocks of a document in a language, in their order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let start = format!("\n```{language}\n");
    let starts = text.split(&start).skip(1);
    starts.filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block.to_owned())).collect()
}

/// `docs/writing-a-provisioner.md` from an empty directory to a running component: its commands as they are written, but
/// for those that install tools. `wasm-tools component new` is the library that it is made of.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_to_writing_a_provisioner_leads_to_a_running_one() {
    let Some(engine) = Engine::find().await else { return };
    let setup = Setup::new();
    // Not below the target directory, which may lie in the workspace: `cargo new` would add the package to that.
    let place = tempfile::tempdir().unwrap();
    let (package, target) = (place.path().join("my-provisioner"), workplace("guide").join("target"));
    let commands = blocks("writing-a-provisioner.md", "sh");
    let find = |part: &str| commands.iter().find(|block| block.contains(part)).unwrap_or_else(|| panic!("no `{part}`"));
    let shell = |script: &str, directory: &Path| {
        run(shell(script)
            .current_dir(directory)
            .env("HOME", setup.directory.path())
            .env("CARGO_HOME", cargo_home())
            .env("RUSTUP_HOME", rustup_home())
            .env("CARGO_TARGET_DIR", &target));
    };
    shell(find("cargo new --lib"), place.path());
    std::fs::write(package.join("src/lib.rs"), blocks("writing-a-provisioner.md", "rust").remove(0)).unwrap();
    let build = find("wasm-tools component new target/");
    let (first, rest) = build.split_once('\n').unwrap();
    let (component_new, rest) = rest.split_once('\n').unwrap();
    assert!(component_new.ends_with("release/my_provisioner.wasm -o my-provisioner.wasm"), "{component_new}");
    shell(first, &package);
    let module = std::fs::read(target.join("wasm32-unknown-unknown/release/my_provisioner.wasm")).unwrap();
    let component =
        wit_component::ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap();
    std::fs::write(package.join("my-provisioner.wasm"), &component).unwrap();
    shell(rest, &package);

    // The image that is here stands for the one on Docker Hub; that one knows the time zone of its machine.
    let local = "image: mcp-test/time:1\n    command: [--local-timezone=UTC]";
    shell(&find("provisioner plan --catalog catalog.yaml").replace("image: mcp/time", local), &package);
    // At a terminal it asks.
    let install = "docker-mcp provisioner install ./my-provisioner.wasm";
    let deploy = find(install);
    shell(&deploy.replace(install, &format!("{install} --yes")), &package);

    let gateway = setup.gateway(&["time"], &["--provisioner", "my-provisioner", "--long-lived"]).await;
    assert!(gateway.text("get_current_time", json!({"timezone": "UTC"})).await.contains("UTC"), "{}", gateway.log());
    let containers = engine.wait_for(&setup.name("time"), 1).await;
    let host = engine.inspect(&containers[0]).await.host_config.unwrap();
    assert_eq!((host.readonly_rootfs, host.network_mode.as_deref()), (Some(true), Some("none")));
    assert!(gateway.close().await.success());
    engine.wait_for(&setup.name("time"), 0).await;
}

/// Where cargo and rustup keep things, whatever the home of a test is.
fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(|| std::env::home_dir().unwrap().join(".cargo"), PathBuf::from)
}

fn rustup_home() -> PathBuf {
    std::env::var_os("RUSTUP_HOME").map_or_else(|| std::env::home_dir().unwrap().join(".rustup"), PathBuf::from)
}
