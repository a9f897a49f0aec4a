//! What gateways have in a cluster: listed, judged and deleted.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::{Value as Json, json};

use crate::namespace::Namespace;

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_listed_with_their_session_and_server() {
    let Some(namespace) = Namespace::new().await else { return };
    let mut tools = namespace.tools();
    let line = format!("list {}", namespace.name);
    tools.step(&line);
    let lease = namespace.lease("s1", 0).await;
    namespace.pod("mcp-time-1", "s1", Some(&lease)).await;
    namespace.pod("mcp-time-2", "s2", None).await;
    tools.step(&line);
    tools.end("cluster_tools_list");
    let rows: Json = serde_json::from_str(&tools.run(&["list", &namespace.name, "--format", "json"]).ok()).unwrap();
    assert_eq!(rows[0]["session"], "s1");
    assert_eq!((&rows[1]["server"], &rows[1]["status"]), (&json!("Time Server"), &json!("Pending")));
}

/// Ten days and twelve hours, in seconds, so that what is told of it does not change while a test runs.
const TEN_DAYS: i64 = 10 * 86_400 + 12 * 3_600;

/// Defect 23 of the existing tools: `stale` deleted by age, and so the pods of living sessions.
#[tokio::test(flavor = "multi_thread")]
async fn stale_deletes_what_dead_sessions_left_and_nothing_of_the_living() {
    let Some(namespace) = Namespace::new().await else { return };
    let mut tools = namespace.tools();
    let (living, dead) = (namespace.lease("living", 0).await, namespace.lease("dead", TEN_DAYS).await);
    namespace.pod("mcp-living", "living", Some(&living)).await;
    namespace.pod("mcp-dead", "dead", Some(&dead)).await;
    namespace.pod("mcp-foreign", "foreign", None).await;
    namespace.secret_of("mcp-living", "living", Some(&living)).await;
    namespace.secret_of("mcp-dead", "dead", Some(&dead)).await;
    let name = namespace.name.as_str();
    let everything = ["mcp-dead", "mcp-foreign", "mcp-living"];
    tools.step(&format!("stale 0s {name} --dry-run"));
    // Nothing here is as old as that.
    tools.step(&format!("stale 24h {name}"));
    assert_eq!(namespace.pods().await, everything);
    tools.step(&format!("stale 0s {name}"));
    assert_eq!(namespace.pods().await, ["mcp-foreign", "mcp-living"]);
    let secrets = namespace.api::<Secret>();
    assert!(secrets.get_opt("mcp-dead").await.unwrap().is_none());
    assert!(secrets.get_opt("mcp-living").await.unwrap().is_some());
    let leases = namespace.api::<Lease>();
    assert!(leases.get_opt("mcp-dead").await.unwrap().is_none());
    assert!(leases.get_opt("mcp-living").await.unwrap().is_some());
    tools.step(&format!("stale 0s {name}"));
    tools.end("cluster_tools_stale");
}

/// Defect 23 of the existing tools: `stale` did not tell what went wrong.
#[tokio::test(flavor = "multi_thread")]
async fn stale_shows_what_it_could_not_delete() {
    let Some(namespace) = Namespace::new().await else { return };
    let dead = namespace.lease("dead", 3_600).await;
    namespace.pod("mcp-dead", "dead", Some(&dead)).await;
    namespace.create::<ServiceAccount>(json!({ "metadata": { "name": "reader" } })).await;
    let all = ["pods", "secrets", "configmaps", "leases", "networkpolicies"];
    namespace
        .create::<Role>(json!({
            "metadata": { "name": "reader" },
            "rules": [
                { "apiGroups": ["*"], "resources": all, "verbs": ["list"] },
                { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"] },
            ],
        }))
        .await;
    let group = "rbac.authorization.k8s.io";
    namespace
        .create::<RoleBinding>(json!({
            "metadata": { "name": "reader" },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": namespace.name }],
        }))
        .await;
    let tools = namespace.tools_of("reader").await;
    // The API server hears of the binding a little later.
    let began = std::time::Instant::now();
    while tools.run(&["list", &namespace.name]).code != 0 {
        assert!(began.elapsed().as_secs() < 60, "the role should hold");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let ran = tools.run(&["stale", "0s", &namespace.name]);
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("`delete` `leases`"), "{}", ran.stderr);
    assert_eq!(namespace.pods().await, ["mcp-dead"]);
    let ran = tools.run(&["session", "dead", &namespace.name, "--format", "json"]);
    let told: Json = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, told["failures"].as_array().unwrap().len()), (3, 2), "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_deleted_with_all_that_it_made_and_no_other() {
    let Some(namespace) = Namespace::new().await else { return };
    let mut tools = namespace.tools();
    let (one, other) = (namespace.lease("one", 0).await, namespace.lease("other", 0).await);
    namespace.pod("mcp-one", "one", Some(&one)).await;
    namespace.secret_of("mcp-one", "one", Some(&one)).await;
    namespace.pod("mcp-other", "other", Some(&other)).await;
    let name = namespace.name.as_str();
    tools.step(&format!("session one {name} --dry-run"));
    assert_eq!(namespace.pods().await, ["mcp-one", "mcp-other"]);
    tools.step(&format!("session one {name}")).step(&format!("session one {name}"));
    assert_eq!(namespace.pods().await, ["mcp-other"]);
    assert!(namespace.api::<Secret>().get_opt("mcp-one").await.unwrap().is_none());
    assert!(namespace.api::<Lease>().get_opt("mcp-one").await.unwrap().is_none());
    assert!(namespace.api::<Lease>().get_opt("mcp-other").await.unwrap().is_some());
    tools.end("cluster_tools_session");
}
