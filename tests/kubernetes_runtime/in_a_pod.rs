//! The built gateway in a pod of the cluster: with the service account of the pod, the Role that is printed, and no
//! kubeconfig.

use std::path::{Path, PathBuf};
use std::process::Command;

use bollard::Docker;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{AttachParams, ListParams, PostParams};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, Lines};

use super::cluster::{self, Cluster};
use super::contract::within;
use super::engine;
use docker_mcp::capability::container_runtime::kubernetes::permissions::{Wanted, role};

const CATALOG: &str = "registry:\n  time: {image: mcp-test/time:1}\n";
/// What a gateway in a pod needs of its home.
const FEATURES: &str = r#"{"features": {"kubernetes-provisioning": "enabled"}}"#;

/// An image of the gateway: the program, what it is linked to, and a home with a catalog.
async fn image(docker: &Docker) -> String {
    let root = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_docker-mcp"));
    let put = |from: &Path, to: &str| {
        let target = root.path().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from, target).unwrap();
    };
    let write = |to: &str, text: &str| {
        let target = root.path().join(to);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, text).unwrap();
    };
    put(program, "docker-mcp");
    // Without its debugging information it is a tenth as large.
    let copy = root.path().join("docker-mcp");
    assert!(Command::new("strip").arg(&copy).status().unwrap().success());
    for library in libraries(program) {
        put(&library, library.to_str().unwrap());
    }
    write("root/.docker/config.json", FEATURES);
    write("root/catalog.yaml", CATALOG);
    std::fs::create_dir_all(root.path().join("tmp")).unwrap();
    let archive = Command::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "."]).output().unwrap();
    assert!(archive.status.success());
    let tag: String = Sha256::digest(&archive.stdout).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let options = bollard::query_parameters::CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo("docker-mcp-test/gateway")
        .tag(&tag)
        .changes(vec![r#"ENTRYPOINT ["/docker-mcp"]"#.to_owned(), "ENV HOME=/root".to_owned()])
        .build();
    let mut reports = docker.create_image(Some(options), Some(bollard::body_full(archive.stdout.into())), None);
    while let Some(report) = reports.next().await {
        report.unwrap();
    }
    format!("docker-mcp-test/gateway:{tag}")
}

/// The files that a program is linked to.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(Into::into)
        .collect()
}

/// Lets a service account do what a gateway needs.
async fn account(cluster: &Cluster, name: &str) {
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    cluster.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
    let wanted = Wanted { tools: true, ..Wanted::default() };
    let role: Role = serde_saphyr::from_str(&role(&cluster.namespace, &wanted.rights())).unwrap();
    cluster.api::<Role>().create(&PostParams::default(), &role).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mcp-gateway"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}]
    }))
    .unwrap();
    cluster.api::<RoleBinding>().create(&PostParams::default(), &binding).await.unwrap();
}

/// Begins a pod of the gateway with more arguments and variables.
async fn begin(cluster: &Cluster, name: &str, image: &str, more: &[&str], variables: Json) {
    let flags = "gateway run --catalog /root/catalog.yaml --servers time --provisioner kubernetes \
                 --cluster-secret-provider docker-engine --cluster-config-provider docker-engine \
                 --pod-pull-policy never --max-server-startup-timeout 90";
    let arguments: Vec<&str> = flags.split_whitespace().chain(more.iter().copied()).collect();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "gateway",
            "imagePullSecrets": [{"name": cluster::PULL_SECRET}],
            "containers": [{
                "name": "gateway", "image": image, "args": arguments, "env": variables, "stdin": true, "stdinOnce": true
            }]
        }
    }))
    .unwrap();
    cluster.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
}

/// Waits until a pod is in a phase.
async fn phase(cluster: &Cluster, name: &str, wanted: &str) {
    let mut last = None;
    let waiting = async {
        loop {
            last = cluster.api::<Pod>().get(name).await.unwrap().status;
            if last.as_ref().and_then(|status| status.phase.as_deref()) == Some(wanted) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(super::contract::PATIENCE * 3, waiting).await;
    assert!(in_time.is_ok(), "it should be {wanted}: {last:?}");
}

async fn ask(
    stdin: &mut (impl AsyncWrite + Unpin),
    lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>,
    ask: Json,
) -> Json {
    stdin.write_all(format!("{ask}\n").as_bytes()).await.unwrap();
    stdin.flush().await.unwrap();
    let answer = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the gateway should answer");
            let message: Json = serde_json::from_str(&line).unwrap();
            if message["id"] == ask["id"] {
                return message;
            }
        }
    };
    tokio::time::timeout(super::contract::PATIENCE * 3, answer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_in_a_pod_works_with_its_service_account_and_explicit_flags_win() {
    let Some(cluster) = Cluster::begin().await else { return };
    let Some(docker) = engine::engine().await else { return };
    let Some(registry) = cluster::registry().await else { return };
    cluster.allow_pulls(registry).await;
    account(&cluster, "gateway").await;
    let built = image(&docker).await;
    let image = registry.push(&docker, &built, "docker-mcp-test/gateway").await;
    // It is large, and every build of the gateway makes another.
    docker.remove_image(&built, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
    begin(&cluster, "gateway", &image, &[], json!([])).await;
    // A file that is named wins, and is not there.
    begin(&cluster, "explicit", &image, &["--kubeconfig", "/no/such/file"], json!([])).await;

    phase(&cluster, "gateway", "Running").await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut attached = within(cluster.api::<Pod>().attach("gateway", &params)).await.unwrap();
    let (mut stdin, stdout) = (attached.stdin().unwrap(), attached.stdout().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    let greeting = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}
    }});
    assert_eq!(ask(&mut stdin, &mut lines, greeting).await["result"]["serverInfo"]["name"], "docker-mcp");
    stdin.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "get_current_time", "arguments": {"timezone": "UTC"}
    }});
    let answer = ask(&mut stdin, &mut lines, call).await;
    assert!(answer.to_string().contains("UTC") && answer["result"]["isError"] != json!(true), "{answer}");
    // The namespace is that of the pod.
    assert_eq!(cluster.api::<Lease>().list(&ListParams::default()).await.unwrap().items.len(), 1);
    // Its client goes, which with `stdinOnce` closes its standard input, and everything goes with it.
    drop((stdin, lines));
    attached.abort();
    phase(&cluster, "gateway", "Succeeded").await;
    assert!(cluster.api::<Lease>().list(&ListParams::default()).await.unwrap().items.is_empty());

    // It goes on without the server, and does not fall back to the service account.
    phase(&cluster, "explicit", "Running").await;
    within(async {
        let said = async || cluster.api::<Pod>().logs("explicit", &kube::api::LogParams::default()).await.unwrap();
        let left_out = "server `time` could not be provisioned: kubeconfig `/no/such/file` does not exist";
        while !said().await.contains(left_out) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(cluster.api::<Lease>().list(&ListParams::default()).await.unwrap().items.is_empty());
}
