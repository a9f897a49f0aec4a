//! The Kubernetes backend on a real cluster: the contract of all runtimes, and what is Kubernetes' own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/contract.rs"]
mod contract;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/engine.rs"]
mod engine;
#[path = "kubernetes_runtime/in_a_pod.rs"]
mod in_a_pod;
#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/registry.rs"]
mod registry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_mcp::capability::container_runtime::kubernetes::client::{Connection, Surroundings};
use docker_mcp::capability::container_runtime::kubernetes::permissions::Wanted;
use docker_mcp::capability::container_runtime::kubernetes::{KubernetesRuntime, Place, PodSettings};
use docker_mcp::capability::container_runtime::{Completed, ContainerRuntime, Request, RunLimits, RuntimeError};
use docker_mcp::lease::Reaper;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use provisioning_core::value::{ObjectKind, Origin};
use provisioning_core::{HostAlias, Network, SecurityProfile, Segment, Value, VolumeMount};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use cluster::{Cluster, SESSION};
use contract::{Image, OneSecret, PATIENCE, exchange, within};

/// An image that is on every node of the test cluster, and in no registry.
const BUSYBOX: &str = "mcp-test/busybox:1";

/// One test for each rule of the contract.
macro_rules! held_to {
    ($($rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some((subject, _cluster)) = cluster::subject().await {
                    contract::$rule(&subject).await;
                }
            }
        )*
    };
}

held_to!(
    lines_are_exchanged_until_stdin_closes,
    dropping_stdin_closes_it,
    a_servers_streams_are_kept_apart,
    a_run_gives_streams_and_exit_code,
    arguments_arrive_exactly,
    secrets_arrive_in_the_environment,
    output_is_bounded,
    a_run_is_stopped_at_its_time_limit,
    a_missing_image_is_named,
    five_of_one_name_start_at_once,
    a_stubborn_server_is_removed_soon,
    output_ends_with_the_lease,
    a_caller_who_goes_away_leaves_nothing,
);

/// A server that repeats every line.
fn echo() -> Image {
    Image::new(BUSYBOX, &["sh", "-c", r#"while IFS= read -r line; do printf '%s\n' "$line"; done"#])
}

fn request(image: &Image) -> Request {
    let mut request = contract::request("kube", image);
    request.spec.network = Network::Declared;
    request
}

fn stored(kind: ObjectKind, key: &str, content: Value) -> Value {
    Value::from_segments([Segment::Stored { kind, key: key.to_owned(), content }])
}

/// A namespace and a runtime in it, which needs no registry.
async fn simple() -> Option<(Cluster, KubernetesRuntime, Reaper)> {
    let cluster = Cluster::begin().await?;
    let reaper = Reaper::new();
    let runtime = cluster.runtime("kube", &reaper, |_| {});
    Some((cluster, runtime, reaper))
}

async fn expect_nothing_left(cluster: &Cluster, reaper: &Reaper) {
    assert!(reaper.drain(PATIENCE).await);
    assert_eq!(cluster.left("kube").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_admitted_under_the_restricted_profile_and_is_what_the_specification_says() {
    let restricted = [("pod-security.kubernetes.io/enforce", "restricted")];
    let Some(cluster) = Cluster::with_labels(&restricted).await else { return };
    let reaper = Reaper::new();
    let runtime = cluster.runtime("kube", &reaper, |settings| {
        settings.pull_policy = Some("IfNotPresent".to_owned());
        settings.active_deadline = Some(Duration::from_secs(600));
    });
    let mut request = request(&echo());
    request.identity.server = "My Odd/Server Name 日本".to_owned();
    request.spec.user = Some(Value::text("1000:1000"));
    request.spec.hosts = vec![HostAlias { name: "db.local".to_owned(), address: "10.1.2.3".to_owned() }];
    request.spec.security = SecurityProfile { read_only_root: true, drop_capabilities: true, run_as_non_root: true };
    request.spec.volumes = vec![VolumeMount { value: Value::text("/scratch"), read_only: false }];
    let mut running = within(runtime.start(request)).await.unwrap();
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    assert!(running.lease.name().starts_with("mcp-my-odd-server-name-"), "{}", running.lease.name());

    let pod = cluster.api::<Pod>().get(running.lease.name()).await.unwrap();
    let annotations = pod.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["mcp-gateway.docker.com/server"], "My Odd/Server Name 日本");
    let labels = pod.metadata.labels.clone().unwrap();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-gateway");
    assert_eq!(labels["app.kubernetes.io/component"], "server");
    assert_eq!(labels[SESSION], "kube");
    let owners = pod.metadata.owner_references.clone().unwrap();
    let lease = cluster.api::<Lease>().get(&owners[0].name).await.unwrap();
    assert_eq!((owners[0].kind.as_str(), Some(owners[0].uid.as_str())), ("Lease", lease.metadata.uid.as_deref()));
    let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["activeDeadlineSeconds"], 600);
    let container = &spec["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"cpu": "1", "memory": "2147483648"}));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert_eq!((mounts.len(), &mounts[0]["mountPath"]), (1, &json!("/scratch")), "there is no token");
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
    runtime.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_pod_from_running_is_explained_at_once() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let registry = cluster::registry().await.unwrap();
    let private = cluster::script(registry, "private", "exit 0").await;
    let secretless =
        cluster.runtime("secretless", &reaper, |settings| settings.pull_secrets = vec!["never-made".to_owned()]);
    let key = |kind, object: &str, key: &str| {
        Value::from_segments([Segment::ClusterKey { kind, object: object.to_owned(), key: key.to_owned() }])
    };
    let config = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("there".to_owned()), ..Default::default() },
        data: Some([("a".to_owned(), "1".to_owned())].into()),
        ..ConfigMap::default()
    };
    cluster.api::<ConfigMap>().create(&PostParams::default(), &config).await.unwrap();
    let with = |name: &str, value: Value| {
        let mut request = request(&echo());
        request.spec.environment = vec![(name.to_owned(), value)];
        request
    };
    let never = cluster.runtime("never", &reaper, |settings| settings.pull_policy = Some("Never".to_owned()));
    let nowhere = cluster.runtime("nowhere", &reaper, |settings| {
        settings.node_selector = [("no-such-label".to_owned(), "x".to_owned())].into();
        settings.start_timeout = Duration::from_secs(30);
    });
    let mut root = request(&echo());
    root.spec.security.run_as_non_root = true;
    let of_session = |session: &str, image: &Image| {
        let mut request = request(image);
        request.identity.session = session.to_owned();
        request
    };
    let cases: Vec<(&KubernetesRuntime, Request, Vec<&str>)> = vec![
        (
            &runtime,
            request(&Image::new("127.0.0.1:1/no/such:1", &[])),
            vec!["`127.0.0.1:1/no/such:1`", "cannot pull it"],
        ),
        (&runtime, request(&private), vec!["cannot pull it", "401"]),
        (&secretless, of_session("secretless", &private), vec!["cannot pull it", "401", "has no secret `never-made`"]),
        (&runtime, request(&Image::new("mcp-test/UPPER:1", &[])), vec!["UPPER"]),
        (
            &never,
            of_session("never", &Image::new("mcp-test/absent:1", &[])),
            vec!["`mcp-test/absent:1`", "must not be pulled"],
        ),
        (
            &runtime,
            with("K", key(ObjectKind::ConfigMap, "there", "b")),
            vec!["ConfigMap `there`", "has no key `b`", "cluster-tools populate-configmap"],
        ),
        (
            &runtime,
            with("K", key(ObjectKind::Secret, "mcp-gateway-secrets", "github.token")),
            vec!["Secret `mcp-gateway-secrets` does not exist", "cluster-tools populate-secret"],
        ),
        (&nowhere, of_session("nowhere", &echo()), vec!["no node has room", "node(s) didn't match"]),
        (&runtime, root, vec!["would or could run as root", "numeric `user`"]),
        (
            &runtime,
            request(&Image::new(BUSYBOX, &["/no/such/program"])),
            vec!["could not be started", "/no/such/program"],
        ),
    ];
    for (runtime, request, words) in cases {
        let began = Instant::now();
        let error = within(runtime.start(request)).await.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}: {words:?}");
        assert!(began.elapsed() < Duration::from_secs(55), "it took {:?}: {error}", began.elapsed());
    }
    expect_nothing_left(&cluster, &reaper).await;

    let quota = serde_json::from_value(json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}})).unwrap();
    cluster.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.unwrap();
    let refused = async {
        loop {
            // The quota holds a moment after it is made.
            match runtime.start(request(&echo())).await {
                Err(error) => return error,
                Ok(running) => running.lease.release().await,
            }
        }
    };
    let error = within(refused).await;
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("exceeded quota: few")), "{error}");
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_pod_security_refuses_says_which_rule_and_what_to_set() {
    let Some(cluster) = Cluster::with_labels(&[("pod-security.kubernetes.io/enforce", "restricted")]).await else {
        return;
    };
    let reaper = Reaper::new();
    let runtime = cluster.runtime("kube", &reaper, |_| {});
    let error = within(runtime.start(request(&echo()))).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("runAsNonRoot")), "{error}");
    assert!(error.to_string().contains("numeric `user`"), "{error}");
    let Some(registry) = cluster::registry().await else { return };
    cluster.allow_pulls(registry).await;
    runtime.end().await;
    let runtime =
        cluster.runtime("kube", &reaper, |settings| settings.pull_secrets = vec![cluster::PULL_SECRET.to_owned()]);
    // What an image says of itself by number is enough, and a name is not.
    let script = r#"ENTRYPOINT ["/bin/sh","-c","read -r line; id -u"]"#;
    let named = cluster::image(registry, "named-user", &format!("USER nobody\n{script}")).await;
    let error = within(runtime.start(request(&Image::new(&named, &[])))).await.unwrap_err().to_string();
    assert!(error.contains("numeric `user`") && error.contains("own user is `nobody`"), "{error}");
    let numbered = cluster::image(registry, "numbered-user", &format!("USER 1234\n{script}")).await;
    let mut running = within(runtime.start(request(&Image::new(&numbered, &[])))).await.unwrap();
    assert_eq!(exchange(&mut running.streams, "who").await, "1234\n");
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
    runtime.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_needs_too_much_memory_has_its_exit_code_and_a_note() {
    let Some((subject, cluster)) = cluster::subject().await else { return };
    let registry = cluster::registry().await.unwrap();
    let image = cluster::script(registry, "eats-memory", "echo before; tail /dev/zero").await;
    let mut request = subject.request(&image);
    request.spec.resources.memory_bytes = 16 << 20;
    let done = within(subject.runtime.run(request, RunLimits::default())).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.bytes.as_slice()), (137, b"before\n".as_slice()));
    assert_eq!(done.note.as_deref(), Some(Completed::OUT_OF_MEMORY));
    // One that ends itself in the same way has none.
    let image = cluster::script(registry, "kills-itself", "kill -9 $$").await;
    let done = within(subject.runtime.run(subject.request(&image), RunLimits::default())).await.unwrap();
    assert_eq!((done.exit_code, done.note), (137, None));
    subject.expect_nothing_left().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_node_will_have_yet_is_waited_for() {
    let Some((cluster, _, reaper)) = simple().await else { return };
    let label = format!("docker-mcp-test/{}", cluster.namespace);
    let runtime = cluster.runtime("kube", &reaper, |settings| {
        settings.node_selector = [(label.clone(), "yes".to_owned())].into();
        settings.start_timeout = Duration::from_secs(120);
    });
    let nodes: kube::Api<Node> = kube::Api::all(cluster.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let set = async |value: serde_json::Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {label.as_str(): value}}}));
        nodes.patch(&node, &PatchParams::default(), &patch).await.unwrap();
    };
    let late = async {
        // Longer than what is not worth waiting for is waited for.
        tokio::time::sleep(Duration::from_secs(5)).await;
        set(json!("yes")).await;
    };
    let (started, ()) = tokio::join!(runtime.start(request(&echo())), late);
    set(json!(null)).await;
    let mut running = started.unwrap();
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
    runtime.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_at_once_leaves_its_last_words_and_how_it_ended() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let script = "echo 'no database' >&2; echo 'giving up' >&2; exit 3";
    let mut running = within(runtime.start(request(&Image::new(BUSYBOX, &["sh", "-c", script])))).await.unwrap();
    let mut output = String::new();
    within(running.streams.stdout.read_to_string(&mut output)).await.unwrap();
    assert_eq!(output, "");
    let lines = running.streams.stderr.lines();
    assert_eq!(lines, ["no database", "giving up", "the container ended with exit code 3"]);
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_needs_too_much_memory_is_told_so() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    // Reads a line, and then all of memory.
    let mut request = request(&Image::new(BUSYBOX, &["sh", "-c", "read -r line; exec tail /dev/zero"]));
    request.spec.resources.memory_bytes = 16 << 20;
    let mut running = within(runtime.start(request)).await.unwrap();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut running.streams.stdin, b"go\n").await;
    let mut output = Vec::new();
    within(running.streams.stdout.read_to_end(&mut output)).await.unwrap();
    let lines = running.streams.stderr.lines().join("\n");
    assert!(lines.contains("OOMKilled") && lines.contains("--memory"), "{lines}");
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_else_deletes_ends_its_server() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let mut running = within(runtime.start(request(&echo()))).await.unwrap();
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.api::<Pod>().delete(running.lease.name(), &params).await.unwrap();
    let mut rest = Vec::new();
    within(running.streams.stdout.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(running.streams.stderr.lines(), ["the pod was deleted"]);
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_reach_the_server_by_reference_and_text_stays_text() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let theirs = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("theirs".to_owned()), ..Default::default() },
        data: Some([("db.host".to_owned(), "h:1 $(TOKEN)".to_owned()), ("other".to_owned(), "no".to_owned())].into()),
        ..ConfigMap::default()
    };
    cluster.api::<ConfigMap>().create(&PostParams::default(), &theirs).await.unwrap();
    let host =
        Segment::ClusterKey { kind: ObjectKind::ConfigMap, object: "theirs".to_owned(), key: "db.host".to_owned() };
    let token = stored(ObjectKind::Secret, "x.key", Value::secret("x.key"));
    let user = stored(ObjectKind::ConfigMap, "db.user", Value::private(Origin::Config, "db.user", "me $(TOKEN) $$"));
    let url = Value::concat([
        &Value::text("p://"),
        &user,
        &Value::text(":$(TOKEN)$$@"),
        &Value::from_segments([host.clone()]),
    ]);
    let script = r#"read -r line; printf '%s|%s|%s|%s\n' "$TOKEN" "$URL" "$1" "$(env | grep -c other)""#;
    let mut request = request(&Image::new(BUSYBOX, &["sh", "-c", script, "sh"]));
    request.spec.command.push(Value::concat([&Value::text("--at=$HOME $(TOKEN) "), &Value::from_segments([host])]));
    request.spec.environment = vec![("URL".to_owned(), url), ("TOKEN".to_owned(), token)];
    let mut running = within(runtime.start(request)).await.unwrap();
    let line = exchange(&mut running.streams, "go").await;
    let expected = "s3cret value|p://me $(TOKEN) $$:$(TOKEN)$$@h:1 $(TOKEN)|--at=$HOME $(TOKEN) h:1 $(TOKEN)|0\n";
    assert_eq!(line, expected);

    let pod = cluster.api::<Pod>().get(running.lease.name()).await.unwrap();
    let text = serde_json::to_string(&pod).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("me $("), "{text}");
    let secret = cluster.api::<Secret>().get(running.lease.name()).await.unwrap();
    assert_eq!(secret.data.unwrap().into_keys().collect::<Vec<_>>(), ["x.key"]);
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_in_one_namespace_have_their_own_values_and_leave_each_other_alone() {
    let Some(cluster) = Cluster::begin().await else { return };
    let reaper = Reaper::new();
    let script = r#"while read -r line; do echo "$KEY"; done"#;
    let start = async |runtime: &KubernetesRuntime, session: &str, text: &str| {
        let mut request = request(&Image::new(BUSYBOX, &["sh", "-c", script]));
        request.identity.session = session.to_owned();
        let content = Value::private(Origin::Config, "k", text);
        request.spec.environment = vec![("KEY".to_owned(), stored(ObjectKind::Secret, "k", content))];
        within(runtime.start(request)).await.unwrap()
    };
    let (one, two) = (cluster.runtime("one", &reaper, |_| {}), cluster.runtime("two", &reaper, |_| {}));
    let (mut first, mut second) = tokio::join!(start(&one, "one", "a"), start(&two, "two", "b"));
    assert_eq!(exchange(&mut first.streams, "?").await, "a\n");
    assert_eq!(exchange(&mut second.streams, "?").await, "b\n");
    first.lease.release().await;
    one.end().await;
    assert_eq!(exchange(&mut second.streams, "?").await, "b\n");
    assert_eq!(two.reap(false).await.unwrap().alive, ["two"]);
    assert_eq!(exchange(&mut second.streams, "?").await, "b\n");
    assert!(!cluster.left("two").await.is_empty());
    second.lease.release().await;
    two.end().await;
    let leases = cluster.api::<Lease>().list(&ListParams::default()).await.unwrap();
    assert_eq!(leases.items.len(), 0, "a session that ends leaves no lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_left_goes_when_its_lease_has_run_out_and_not_before() {
    let Some(cluster) = Cluster::begin().await else { return };
    let place = cluster.place();
    // A gateway that ends in the middle: nothing of its own runs any more.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let settings = PodSettings { start_timeout: PATIENCE, ..PodSettings::default() };
            let gateway =
                KubernetesRuntime::new(place, settings, Arc::new(OneSecret), Reaper::new(), "dead".to_owned());
            let mut request = request(&echo());
            request.identity.session = "dead".to_owned();
            request.spec.network = Network::None;
            let token = stored(ObjectKind::Secret, "x.key", Value::secret("x.key"));
            request.spec.environment = vec![("TOKEN".to_owned(), token)];
            std::mem::forget(gateway.start(request).await.unwrap());
            std::mem::forget(gateway);
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    // Docker's own gateway labels its pods in the same way, and has no lease.
    let foreign: Pod = serde_json::from_value(json!({
        "metadata": {"name": "foreign", "labels": {"app.kubernetes.io/managed-by": "mcp-gateway", SESSION: "foreign"}},
        "spec": {"containers": [{"name": "c", "image": "localhost:1/none"}], "nodeSelector": {"no": "such"}}
    }))
    .unwrap();
    cluster.api::<Pod>().create(&PostParams::default(), &foreign).await.unwrap();
    let reaper = Reaper::new();
    let other = cluster.runtime("kube", &reaper, |_| {});
    let mut mine = within(other.start(request(&echo()))).await.unwrap();
    let report = other.reap(false).await.unwrap();
    assert_eq!((report.dead.len(), report.alive), (0, vec!["dead".to_owned(), "kube".to_owned()]));
    assert_eq!(cluster.left("dead").await.len(), 2);

    let leases = cluster.api::<Lease>();
    let found = leases.list(&ListParams::default().labels(&format!("{SESSION}=dead"))).await.unwrap();
    let name = found.items[0].metadata.name.clone().unwrap();
    let long_ago = json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}});
    leases.patch(&name, &PatchParams::default(), &Patch::Merge(long_ago)).await.unwrap();
    let planned = other.reap(true).await.unwrap();
    assert_eq!(
        (planned.dead[0].session.as_str(), planned.dead[0].pods[0].server.as_str()),
        ("dead", "Contract Server")
    );
    assert_eq!(cluster.left("dead").await.len(), 2, "a dry run removes nothing");
    let report = other.reap(false).await.unwrap();
    assert!(report.dead[0].failures.is_empty(), "{report:?}");
    let gone = async {
        let policies = ListParams::default().labels(&format!("{SESSION}=dead"));
        while !cluster.left("dead").await.is_empty()
            || !cluster.api::<NetworkPolicy>().list(&policies).await.unwrap().items.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within(gone).await;
    assert_eq!(exchange(&mut mine.streams, "still here").await, "still here\n");
    drop(mine);
    assert!(cluster.api::<Pod>().get_opt("foreign").await.unwrap().is_some());
    cluster.api::<Pod>().delete("foreign", &DeleteParams::default().grace_period(0)).await.unwrap();
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_and_comes_back_when_its_lease_was_taken_away() {
    let Some(cluster) = Cluster::begin().await else { return };
    let reaper = Reaper::new();
    let runtime = cluster.runtime("kube", &reaper, |_| {}).with_session_duration(Duration::from_secs(4));
    drop(within(runtime.start(request(&echo()))).await.unwrap());
    let leases = cluster.api::<Lease>();
    let look = async || leases.list(&ListParams::default()).await.unwrap().items;
    let first = look().await.remove(0);
    let newer = async {
        while look().await[0].spec.as_ref().unwrap().renew_time == first.spec.as_ref().unwrap().renew_time {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(newer).await;
    leases.delete(first.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    let again = async {
        while look().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(again).await;
    // What is started now has an owner that is there, so the cluster leaves it alone. The session hears of its new Lease a
    // moment after the cluster has it.
    let began = Instant::now();
    let mut running = loop {
        let running = within(runtime.start(request(&echo()))).await.unwrap();
        let pod = cluster.api::<Pod>().get_opt(running.lease.name()).await.unwrap();
        let owner = pod.and_then(|pod| Some(pod.metadata.owner_references?.remove(0).uid));
        if owner.is_some() && owner == look().await[0].metadata.uid {
            break running;
        }
        assert!(began.elapsed() < PATIENCE, "what is started is owned by {owner:?}");
    };
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    drop(running);
    expect_nothing_left(&cluster, &reaper).await;
    runtime.end().await;
    assert!(look().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_network_reaches_nothing() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let address = "10.218.0.1";
    let script =
        format!("read -r line; nc -w 2 {address} 443 </dev/null >/dev/null 2>&1 && echo reached || echo nothing");
    let mut answers = Vec::new();
    for network in [Network::Declared, Network::None] {
        let mut request = request(&Image::new(BUSYBOX, &["sh", "-c", &script]));
        request.spec.network = network;
        let mut running = within(runtime.start(request)).await.unwrap();
        answers.push(exchange(&mut running.streams, "go").await);
    }
    assert_eq!(answers, ["reached\n", "nothing\n"]);
    expect_nothing_left(&cluster, &reaper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_volume_is_made_once_and_kept() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let with_volume = |script: &str| {
        let mut request = request(&Image::new(BUSYBOX, &["sh", "-c", script]));
        request.spec.volumes = vec![VolumeMount { value: Value::text("notes_a:/data"), read_only: false }];
        request
    };
    let mut first =
        within(runtime.start(with_volume("read -r line; echo \"$line\" > /data/x; echo done"))).await.unwrap();
    assert_eq!(exchange(&mut first.streams, "kept").await, "done\n");
    first.lease.release().await;
    let mut second = within(runtime.start(with_volume("read -r line; cat /data/x"))).await.unwrap();
    assert_eq!(exchange(&mut second.streams, "go").await, "kept\n");
    drop(second);
    expect_nothing_left(&cluster, &reaper).await;
    runtime.end().await;
    let claims = cluster.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].metadata.annotations.as_ref().unwrap()["mcp-gateway.docker.com/volume"], "notes_a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_whose_image_no_registry_has_still_runs_with_its_exit_code() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let run = |arguments: &[&str]| {
        let mut request = request(&Image::new(BUSYBOX, arguments));
        request.identity.tool = Some("t".to_owned());
        request
    };
    let odd = run(&["printf", "%s|", "a b", "$(id)", "$HOME", "it's"]);
    let done = within(runtime.run(odd, RunLimits::default())).await.unwrap();
    assert_eq!((done.exit_code, String::from_utf8(done.stdout.bytes).unwrap().as_str()), (0, "a b|$(id)|$HOME|it's|"));
    let done = within(runtime.run(run(&["sh", "-c", "exit 9"]), RunLimits::default())).await.unwrap();
    assert_eq!(done.exit_code, 9);
    let input = b"one\ntwo\n".to_vec();
    let done = within(runtime.run_with_input(run(&["cat"]), input.clone(), RunLimits::default())).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.bytes), (0, input));
    expect_nothing_left(&cluster, &reaper).await;
}

/// A first process of a process namespace would ignore it: the pod of a cancelled tool would live on for seconds.
#[tokio::test(flavor = "multi_thread")]
async fn what_starts_a_tool_ends_when_it_is_told_to() {
    let Some((subject, cluster)) = cluster::subject().await else { return };
    let registry = cluster::registry().await.unwrap();
    let image = cluster::script(registry, "told-to-end", "kill -TERM $PPID; exec sleep 600").await;
    let mut request = subject.request(&image);
    // By the image's shell, and by the program, which is used where a shell would not pass a variable on.
    for odd in [None, Some("IFS")] {
        request.spec.environment = odd.into_iter().map(|name| (name.to_owned(), Value::text("x"))).collect();
        let done = within(subject.runtime.run(request.clone(), RunLimits::default())).await.unwrap();
        assert_eq!(done.exit_code, 128 + 15, "{odd:?}");
    }
    subject.expect_nothing_left().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioning_costs_three_requests_and_nothing_is_polled() {
    let Some((cluster, runtime, reaper)) = simple().await else { return };
    let go = async || {
        let mut running = within(runtime.start(request(&echo()))).await.unwrap();
        assert_eq!(exchange(&mut running.streams, "x").await, "x\n");
        running.lease.release().await;
    };
    go().await;
    // Create, attach and delete. What comes in between now and then, such as the renewal of the Lease, or a closer look at a
    // pod that takes long, is none of a provisioning's.
    let mut fewest = u64::MAX;
    for _ in 0..10 {
        let before = runtime.requests();
        go().await;
        fewest = fewest.min(runtime.requests() - before);
        if fewest <= 3 {
            break;
        }
    }
    assert_eq!(fewest, 3, "requests for a server");
    expect_nothing_left(&cluster, &reaper).await;
}

/// A kubeconfig that makes one a service account of a namespace.
fn acting_as(cluster: &Cluster, account: &str, directory: &std::path::Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{}:{account}", cluster.namespace));
    let path = directory.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_before_and_when_it_is_needed_and_the_role_is_enough() {
    let Some(cluster) = Cluster::begin().await else { return };
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "gateway"}})).unwrap();
    cluster.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = Place { kubeconfig: Some(acting_as(&cluster, "gateway", directory.path())), ..cluster.place() };
    let reaper = Reaper::new();
    let runtime = || {
        let settings = PodSettings { start_timeout: PATIENCE, ..PodSettings::default() };
        let connection = Connection::new(place.clone(), Surroundings::default());
        KubernetesRuntime::on(connection, settings, Arc::new(OneSecret), reaper.clone(), "kube".to_owned())
    };
    let error = within(runtime().start(request(&echo()))).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Denied(_)));
    for words in ["may not `create` `leases`", &cluster.namespace, "kubectl create role", "leases.coordination.k8s.io"]
    {
        assert!(error.to_string().contains(words), "{error}");
    }
    let wanted = Wanted::everything();
    let report = within(runtime().check_permissions(&wanted)).await.unwrap();
    assert_eq!(report.missing, wanted.rights());

    let role: Role = serde_saphyr::from_str(&report.role).unwrap();
    cluster.api::<Role>().create(&PostParams::default(), &role).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "gateway"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mcp-gateway"},
        "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": cluster.namespace}]
    }))
    .unwrap();
    cluster.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
    let granted = async {
        while !runtime().check_permissions(&wanted).await.unwrap().missing.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(granted).await;

    let gateway = runtime();
    let mut request = request(&echo());
    request.spec.network = Network::None;
    request.spec.environment = vec![("TOKEN".to_owned(), stored(ObjectKind::Secret, "x.key", Value::secret("x.key")))];
    request.spec.volumes = vec![VolumeMount { value: Value::text("data:/data"), read_only: false }];
    let mut running = within(gateway.start(request.clone())).await.unwrap();
    assert_eq!(exchange(&mut running.streams, "hello").await, "hello\n");
    drop(running);
    request.spec.command = ["sh", "-c", "exit 4"].map(Value::text).to_vec();
    assert_eq!(within(gateway.run(request, RunLimits::default())).await.unwrap().exit_code, 4);
    within(gateway.reap(false)).await.unwrap();
    expect_nothing_left(&cluster, &reaper).await;
    gateway.end().await;
    assert!(cluster.api::<Lease>().list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_configuration_is_read_and_what_is_missing_is_said_with_the_command() {
    let Some((cluster, runtime, _)) = simple().await else { return };
    let values = runtime.cluster_values("mcp-gateway-config", "mcp-gateway-secrets");
    assert_eq!(values.configuration().await.unwrap(), None);
    assert_eq!(values.secret_keys().await.unwrap(), None);
    let error = values.secret("a.b").await.unwrap_err().to_string();
    assert!(error.contains("secret `a.b` is not set") && error.contains("populate-secret"), "{error}");
    let objects = [
        json!({"metadata": {"name": "mcp-gateway-config"}, "data": {"s.k": "v"}}),
        json!({"metadata": {"name": "mcp-gateway-secrets-keys", "annotations": {"mcp-gateway.docker.com/keys": "[\"a.b\"]"}}}),
    ];
    for object in objects {
        let map: ConfigMap = serde_json::from_value(object).unwrap();
        cluster.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
    }
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "mcp-gateway-secrets"}, "stringData": {"a.b": "hunter2"}}))
            .unwrap();
    cluster.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(values.configuration().await.unwrap().unwrap()["s.k"], "v");
    assert_eq!(values.secret_keys().await.unwrap().unwrap().iter().collect::<Vec<_>>(), ["a.b"]);
    assert_eq!(values.secret("a.b").await.unwrap().expose(), "hunter2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_an_error_at_use_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let config = json!({
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "hunter2"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let place = Place { kubeconfig: Some(path), ..Place::default() };
    let connection = Connection::new(place, Surroundings::default());
    let runtime = KubernetesRuntime::on(
        connection,
        PodSettings::default(),
        Arc::new(OneSecret),
        Reaper::new(),
        "kube".to_owned(),
    );
    let error = within(runtime.start(request(&echo()))).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable(_)), "{error}");
    for words in ["cannot reach the Kubernetes API server at `https://127.0.0.1:1/`", "check that the cluster runs"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(!error.to_string().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_a_private_registry_is_pulled_and_looked_at_with_the_pull_secret() {
    let Some((subject, cluster)) = cluster::subject().await else { return };
    let done =
        within(subject.runtime.run(subject.request(&subject.images.both_streams), RunLimits::default())).await.unwrap();
    assert_eq!(done.stderr.bytes, b"to stderr\n", "the streams are apart, so the runner started it");
    subject.expect_nothing_left().await;
    drop(cluster);
}
