//! ConfigMaps and Secrets in a real cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use docker_mcp::capability::container_runtime::kubernetes::client::Connection;
use docker_mcp::capability::container_runtime::kubernetes::permissions::Wanted;
use docker_mcp::capability::container_runtime::kubernetes::{KubernetesRuntime, PodSettings};
use docker_mcp::capability::container_runtime::{ContainerRuntime as _, Identity, Request};
use docker_mcp::lease::Reaper;
use docker_mcp::resolve::cluster::NoSecrets;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use provisioning_core::value::ObjectKind;
use provisioning_core::{ContainerSpec, Network, Resources, SecurityProfile, Segment, Value};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::golden::populated;
use crate::namespace::Namespace;

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_words_are_as_measured() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    let mut compared = 0;
    for (index, row) in populated().iter().enumerate() {
        let id = row["id"].as_str().unwrap();
        tools.file("x.env", row["env_file"].as_str().unwrap());
        for (command, measured, name) in
            [("populate-configmap", "populate_configmap", "config"), ("populate-secret", "populate_secret", "secret")]
        {
            let measured = &row[measured];
            let own = format!("my-{name}-{index}");
            let stdout = tools.run(&[command, "x.env", &own, &namespace.name]).ok();
            let expected = measured["stdout"].as_str().unwrap().replace(&format!("my-{name}"), &own);
            assert_eq!(stdout, expected.replace("'mcp'", &format!("'{}'", namespace.name)), "{id}");
            let object = &measured["object"];
            let data = |field: &str| -> BTreeMap<String, String> {
                serde_json::from_value(object.get(field).cloned().unwrap_or_else(|| json!({}))).unwrap()
            };
            let labels = if name == "secret" {
                assert_eq!(namespace.secret(&own).await, data("stringData"), "{id}");
                let secret: Secret = namespace.api().get(&own).await.unwrap();
                assert_eq!(secret.type_.as_deref(), object["type"].as_str());
                secret.metadata.labels
            } else {
                let made = namespace.config_map(&own).await.unwrap();
                assert_eq!(made.data.unwrap_or_default(), data("data"), "{id}");
                made.metadata.labels
            };
            assert_eq!(json!(labels), object["metadata"]["labels"], "{id}");
            compared += 1;
        }
    }
    assert_eq!(compared, 16);
}

/// Defect 23 of the existing tools: populating failed where the object was there already.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_there_is_changed_and_keeps_what_others_put_into_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    namespace
        .create::<ConfigMap>(json!({
            "metadata": {
                "name": "c", "annotations": { "team": "blue" },
                "labels": { "app.kubernetes.io/managed-by": "Helm", "team": "blue" },
            },
            "data": { "foreign": "stays", "own": "old" }, "binaryData": { "bytes": "AAEC" },
        }))
        .await;
    namespace.create::<Secret>(json!({ "metadata": { "name": "s" }, "stringData": { "foreign": "stays" } })).await;
    tools.file("x.env", "own=new\nlater=\"two\nlines\"\nempty=<REPLACE_WITH_YOUR_VALUE>\n");
    let stdout = tools.run(&["populate-configmap", "x.env", "c", &namespace.name]).ok();
    assert!(stdout.contains("Warning: Skipping empty (empty or placeholder value)\n"), "{stdout}");
    assert!(stdout.contains("✅ ConfigMap 'c' updated successfully\n   Data keys: [later own]\n"), "{stdout}");
    let map = namespace.config_map("c").await.unwrap();
    let expected = [("foreign", "stays"), ("later", "two\nlines"), ("own", "new")];
    assert_eq!(map.data.unwrap(), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(map.binary_data.unwrap()["bytes"].0, [0, 1, 2]);
    let labels = map.metadata.labels.unwrap();
    // Helm would not know its own object any more.
    assert_eq!((labels["app.kubernetes.io/managed-by"].as_str(), labels["team"].as_str()), ("Helm", "blue"));
    assert_eq!(labels["mcp-gateway.docker.com/purpose"], "cluster-provider");

    // The same file again, and another one for the same object: nothing that was set goes away.
    tools.run(&["populate-secret", "x.env", "s", &namespace.name]).ok();
    tools.run(&["populate-secret", "x.env", "s", &namespace.name]).ok();
    tools.run_with(&["create-secret", "s", "-", &namespace.name], r#"{"more": "canary"}"#).ok();
    let expected = [("foreign", "stays"), ("later", "two\nlines"), ("more", "canary"), ("own", "new")];
    assert_eq!(namespace.secret("s").await, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    // The names of all keys are noted, whoever set them, and go with the Secret.
    assert_eq!(namespace.noted("s").await, ["foreign", "later", "more", "own"]);
    let note = namespace.config_map("s-keys").await.unwrap();
    assert_eq!(note.metadata.owner_references.unwrap()[0].name, "s");
    assert!(!serde_json::to_string(&note.metadata.annotations).unwrap().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_change_a_secret_at_once_note_each_others_keys() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    let name = namespace.name.as_str();
    std::thread::scope(|scope| {
        for index in 0..6 {
            let tools = &tools;
            scope.spawn(move || {
                tools.run(&["create-secret", "s", &format!(r#"{{"k{index}": "canary"}}"#), name]).ok();
            });
        }
    });
    let keys: Vec<String> = (0..6).map(|index| format!("k{index}")).collect();
    assert_eq!(namespace.secret("s").await.into_keys().collect::<Vec<_>>(), keys);
    assert_eq!(namespace.noted("s").await, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_has_a_value_in_it() {
    let Some(namespace) = Namespace::new().await else { return };
    let tools = namespace.tools();
    let name = namespace.name.as_str();
    tools.file("x.env", "github.token=canary\ngithub.host=canary.example\n");
    namespace.create::<Secret>(json!({ "metadata": { "name": "fixed" }, "immutable": true })).await;
    let map = r#"{"github.token": "canary"}"#;
    for words in [
        &["populate-secret", "x.env", "s", name][..],
        &["populate-secret", "x.env", "s", name, "--format", "json"],
        &["populate-secret", "x.env", "s", name, "--dry-run"],
        &["populate-configmap", "x.env", "c", name, "--format", "json", "--verbose"],
        &["populate-secret", "x.env", "s", "test-nowhere"],
        &["populate-secret", "x.env", "fixed", name],
        &["create-secret", "s", map, name, "--format", "json"],
        &["create-secret", "s", map, name, "--verbose"],
    ] {
        let ran = tools.run(words);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canary"), "{words:?}: {}{}", ran.stdout, ran.stderr);
    }
    let error = tools.run(&["populate-secret", "x.env", "fixed", name]).failed();
    assert!(error.contains("Secret `fixed` in namespace") && error.contains("is immutable; delete it"), "{error}");
    let error = tools.run(&["populate-secret", "x.env", "s", "test-nowhere"]).failed();
    assert!(error.contains("kubectl create namespace test-nowhere"), "{error}");
    // A namespace that the flag names is the same.
    tools.run(&["create-configmap", "f", map, "--namespace", name]).ok();
    assert!(namespace.config_map("f").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_found() {
    let Some(namespace) = Namespace::new().await else { return };
    let mut tools = namespace.tools();
    tools.file(
        "catalog.yaml",
        "registry:\n  a:\n    image: i\n    env: [{name: A, value: '{{a.host}}{{a.port}}{{a.path}}'}]\n    config: [{name: a, \
         type: object, required: [host], properties: {host: {type: string}, port: {type: integer, default: 1}, path: \
         {type: string}}}]\n    secrets: [{name: a.token, env: T}, {name: a.extra, env: E, required: false}]\n  b:\n    \
         image: i\n    secrets: [{name: b/token, env: T}]\n",
    );
    let line = format!("check a {} --catalog ./catalog.yaml", namespace.name);
    tools.step(&line);
    tools.file("c.env", "a.host=<REPLACE_WITH_YOUR_VALUE>\n");
    tools.file("s.env", "a.token=canary\n");
    namespace
        .create::<ConfigMap>(json!({
            "metadata": { "name": "mcp-gateway-config" }, "data": { "a.host": "<REPLACE_WITH_YOUR_VALUE>" },
        }))
        .await;
    tools.run(&["populate-secret", "s.env", "mcp-gateway-secrets", &namespace.name]).ok();
    tools.step(&line);
    tools.run(&["create-configmap", "mcp-gateway-config", r#"{"a.host": "canary"}"#, &namespace.name]).ok();
    tools.step(&line).step(&format!("{line} --format json"));
    // Somebody adds a key by other means: the gateway would not know.
    let patch = kube::api::Patch::Merge(json!({ "stringData": { "a.extra": "canary" } }));
    namespace.api::<Secret>().patch("mcp-gateway-secrets", &Default::default(), &patch).await.unwrap();
    tools.step(&line);
    tools.words(&["create-secret", "mcp-gateway-secrets", "{}", &namespace.name]);
    tools.step(&line).step(&format!("check b {} --catalog ./catalog.yaml", namespace.name));
    assert!(!tools.told.contains("canary"));
    tools.end("cluster_tools_check");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_done_is_said_with_verb_resource_and_namespace() {
    let Some(namespace) = Namespace::new().await else { return };
    namespace.create::<ServiceAccount>(json!({ "metadata": { "name": "nobody" } })).await;
    let tools = namespace.tools_of("nobody").await;
    tools.file("x.env", "A=canary\n");
    let name = namespace.name.as_str();
    for (words, part) in [
        (&["list", name][..], "`list` `pods`"),
        (&["stale", "0s", name], "`list` `leases`"),
        (&["session", "s", name], "`list` `leases`"),
        (&["populate-secret", "x.env", "s", name], "`create` `secrets`"),
        (&["populate-configmap", "x.env", "c", name], "`create` `configmaps`"),
    ] {
        let error = tools.run(words).failed();
        assert!(error.contains(part) && error.contains(&format!("namespace `{name}`")), "{error}");
        assert!(!error.contains("canary"));
    }
}

/// The Role that `rbac` prints, applied, and asked for by its service account.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_role_lets_the_gateway_work_and_not_read_secrets() {
    let Some(namespace) = Namespace::new().await else { return };
    let admin = namespace.tools();
    let name = namespace.name.as_str();
    let printed = admin.run(&["rbac", name, "--format", "json"]).ok();
    apply(&namespace, &serde_json::from_str(&printed).unwrap()).await;
    admin.run(&["create-secret", "mcp-gateway-secrets", r#"{"k": "canary"}"#, name]).ok();
    admin.run(&["create-configmap", "mcp-gateway-config", r#"{"k": "v"}"#, name]).ok();
    admin.run(&["create-configmap", "other", r#"{"k": "v"}"#, name]).ok();

    let client = client_of(&namespace, "mcp-gateway").await;
    let settings = PodSettings { start_timeout: Duration::from_secs(60), ..PodSettings::default() };
    let (connection, reaper) = (Connection::over(client.clone(), name), Reaper::new());
    let store = Arc::new(NoSecrets);
    let gateway = KubernetesRuntime::on(connection, settings, store, reaper.clone(), "role".to_owned());
    let read = ["mcp-gateway-config", "mcp-gateway-secrets-keys"].map(str::to_owned).to_vec();
    let wanted = Wanted { configurations: read, ..Wanted::everything() };
    // The API server hears of the binding a little later.
    let began = std::time::Instant::now();
    loop {
        let missing = gateway.check_permissions(&wanted).await.unwrap().missing;
        if missing.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{missing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The pod gets what its gateway may not read.
    let key =
        Segment::ClusterKey { kind: ObjectKind::Secret, object: "mcp-gateway-secrets".to_owned(), key: "k".to_owned() };
    let request = Request {
        identity: Identity { session: "role".to_owned(), server: "time".to_owned(), tool: None },
        spec: ContainerSpec {
            image: "mcp-test/busybox:1".to_owned(),
            command: ["sh", "-c", "read -r line; echo \"$line $TOKEN\""].map(Value::text).to_vec(),
            environment: vec![("TOKEN".to_owned(), Value::from_segments([key]))],
            volumes: Vec::new(),
            user: None,
            network: Network::None,
            hosts: Vec::new(),
            labels: Vec::new(),
            resources: Resources::default(),
            security: SecurityProfile::default(),
        },
    };
    let mut running = gateway.start(request).await.unwrap();
    let answer = async {
        running.streams.stdin.write_all(b"hello\n").await.unwrap();
        running.streams.stdin.flush().await.unwrap();
        let mut answer = String::new();
        BufReader::new(&mut running.streams.stdout).read_line(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap(), "hello canary\n");
    let rows: Json = serde_json::from_str(&admin.run(&["list", name, "--format", "json"]).ok()).unwrap();
    assert_eq!((&rows[0]["session"], &rows[0]["server"]), (&json!("role"), &json!("time")));
    // A living gateway is left alone.
    admin.run(&["stale", "0s", name]).ok();
    assert_eq!(namespace.pods().await.len(), 1);
    drop(running);
    assert!(reaper.drain(Duration::from_secs(60)).await);
    gateway.end().await;

    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client.clone(), name);
    for readable in ["mcp-gateway-config", "mcp-gateway-secrets-keys"] {
        maps.get(readable).await.unwrap();
    }
    let secrets: kube::Api<Secret> = kube::Api::namespaced(client.clone(), name);
    let refused = [
        maps.get("other").await.map(drop),
        maps.list(&Default::default()).await.map(drop),
        secrets.get("mcp-gateway-secrets").await.map(drop),
        secrets.list(&Default::default()).await.map(drop),
        secrets.list_metadata(&Default::default()).await.map(drop),
    ];
    for answer in refused {
        assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 403));
    }
}

pub(crate) async fn client_of(namespace: &Namespace, account: &str) -> kube::Client {
    let kubeconfig = namespace.kubeconfig_of(account).await;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// Makes the objects of a list, as `kubectl apply` would.
pub(crate) async fn apply(namespace: &Namespace, list: &Json) {
    for object in list["items"].as_array().unwrap() {
        match object["kind"].as_str().unwrap() {
            "ServiceAccount" => drop(namespace.create::<ServiceAccount>(object.clone()).await),
            "Role" => drop(namespace.create::<Role>(object.clone()).await),
            "RoleBinding" => drop(namespace.create::<RoleBinding>(object.clone()).await),
            other => panic!("{other}"),
        }
    }
}
