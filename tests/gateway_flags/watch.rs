//! `--watch`: files change while the gateway runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rmcp::ClientHandler;
use rmcp::service::{NotificationContext, RoleClient, ServiceExt as _};

use crate::PATIENTLY;
use crate::gateway::{Gateway, PATIENCE, Setup};

/// Counts how often it is told that the list of tools changed.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl ClientHandler for Told {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn catalog(servers: &[&str]) -> String {
    let entry = |name: &&str| format!("  {name}: {{image: 'embedded:sample', prefix: {name}}}\n");
    format!("registry:\n{}", servers.iter().map(entry).collect::<String>())
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn servers_follow_their_files_and_a_broken_edit_changes_nothing() {
    let setup = Setup::new();
    let path = setup.file("watched.yaml", &catalog(&["one"]));
    let mut command = setup.command();
    command.args(["gateway", "run", "--enable-all-servers", "--catalog"]).arg(&path).args(PATIENTLY);
    let gateway = Gateway::connect(command).await;
    let has = async |tool: &str| gateway.tools().await.iter().any(|own| own == tool);
    assert!(has("one__greet").await && !has("two__greet").await);

    std::fs::write(&path, catalog(&["one", "two"])).unwrap();
    until("the new server is there", || has("two__greet")).await;
    assert!(has("one__greet").await);

    std::fs::write(&path, "registry: [").unwrap();
    gateway.logged(&["a change cannot be used", "watched.yaml:1:"]).await;
    assert!(has("one__greet").await && has("two__greet").await);

    // Written beside it and moved into its place, as editors do.
    let beside = setup.file("beside.yaml", &catalog(&["two"]));
    std::fs::rename(beside, &path).unwrap();
    until("the old server is gone", async || !has("one__greet").await).await;
    assert!(has("two__greet").await);
    let error = gateway.call("one__greet", serde_json::json!({"name": "x"})).await.unwrap_err().to_string();
    assert!(error.contains("not known"), "{error}");
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn a_policy_that_changes_is_warned_about_and_holds_from_the_next_start_on() {
    let setup = Setup::new();
    let path = setup.file("watched.yaml", &catalog(&["one"]));
    let policy = setup.file("policy.yaml", "version: 1\n");
    let mut command = setup.command();
    command
        .args(["gateway", "run", "--enable-all-servers", "--catalog"])
        .arg(&path)
        .args(PATIENTLY)
        .arg("--policy")
        .arg(&policy);
    let gateway = Gateway::connect(command).await;
    let has = async |tool: &str| gateway.tools().await.iter().any(|own| own == tool);
    assert!(has("one__greet").await);
    std::fs::write(&policy, "version: 1\nservers: {allow: []}\n").unwrap();
    let told = |file: &str| {
        gateway.log().lines().any(|line| line.contains(file) && line.contains("restart it to use the change"))
    };
    until("the change is reported", async || told("policy.yaml` changed")).await;
    assert!(has("one__greet").await);
    // One that was not there is one that changes.
    std::fs::create_dir_all(setup.directory.path().join(".docker/mcp")).unwrap();
    std::fs::write(setup.directory.path().join(".docker/mcp/policy.yaml"), "version: 1\n").unwrap();
    until("the new file is reported", async || told(".docker/mcp/policy.yaml` changed")).await;
    assert!(gateway.close().await.success());
}

#[tokio::test]
async fn clients_are_told_of_changes_and_without_the_flag_there_are_none() {
    let setup = Setup::new();
    let path = setup.file("watched.yaml", &catalog(&["one"]));
    let start = |watch: &str| {
        let mut command = setup.command();
        command.args(["gateway", "run", "--enable-all-servers", watch, "--catalog"]).arg(&path).args(PATIENTLY);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let streams = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        (child, streams)
    };
    let (told, untold) = (Told::default(), Told::default());
    let (_watching, streams) = start("--watch");
    let watched = told.clone().serve(streams).await.unwrap();
    let (_ignoring, streams) = start("--watch=false");
    let unwatched = untold.clone().serve(streams).await.unwrap();
    let (old, other) = (watched.list_all_tools().await.unwrap().len(), unwatched.list_all_tools().await.unwrap().len());
    assert_eq!(old, other);

    std::fs::write(&path, catalog(&["one", "two"])).unwrap();
    until("the client is told", async || told.0.load(Ordering::SeqCst) > 0).await;
    until("it finds twice as many tools", async || watched.list_all_tools().await.unwrap().len() == 2 * old).await;
    assert_eq!(unwatched.list_all_tools().await.unwrap().len(), old);
    assert_eq!(untold.0.load(Ordering::SeqCst), 0);
}
