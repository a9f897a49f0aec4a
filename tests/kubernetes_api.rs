//! The Kubernetes backend against an API server that follows a script: what a healthy cluster does not show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "support/contract.rs"]
mod contract;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use docker_mcp::capability::container_runtime::kubernetes::client::{Connection, Surroundings};
use docker_mcp::capability::container_runtime::kubernetes::{KubernetesRuntime, Place, PodSettings};
use docker_mcp::capability::container_runtime::{ContainerRuntime, Request, RuntimeError};
use docker_mcp::lease::Reaper;
use http::{Method, Response};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use provisioning_core::value::ObjectKind;
use provisioning_core::{Network, Segment, Value};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use contract::{Image, OneSecret};

/// What the API server is asked.
struct Asked {
    method: Method,
    path: String,
    query: String,
    body: Json,
}

impl Asked {
    fn is(&self, method: Method, end: &str) -> bool {
        self.method == method && self.path.ends_with(end) && !self.is_watch()
    }

    fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    fn is_deletion_of_a(&self, resource: &str) -> bool {
        self.method == Method::DELETE && self.path.contains(&format!("/{resource}/"))
    }

    /// A request that everything needs and that is not what a test is about, answered as a healthy cluster would.
    fn usual(&self) -> Reply {
        match (self.method.clone(), self.path.rsplit('/').next().unwrap()) {
            (Method::POST, _) => {
                let mut object = self.body.clone();
                object["metadata"]["uid"] = json!("u1");
                Reply::Json(201, object)
            }
            (Method::GET, "pods") if self.is_watch() => Reply::Silence,
            (Method::GET, "pods") => Reply::Json(200, list("PodList", &[])),
            (Method::DELETE, _) => Reply::Json(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
            _ => status(404, "NotFound", "not there"),
        }
    }
}

/// What it answers.
enum Reply {
    Json(u16, Json),
    /// Lines of a watch, after which it ends.
    Lines(Vec<Json>),
    /// Nothing, for ever.
    Silence,
    /// The connection breaks.
    Broken,
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message
    });
    Reply::Json(code, status)
}

fn list(kind: &str, items: &[Json]) -> Json {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items})
}

/// A pod in this state.
fn pod(name: &str, state: &Json) -> Json {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "ns", "resourceVersion": "11",
            "ownerReferences": [{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "l", "uid": "u"}]
        },
        "spec": {"containers": [{"name": "server", "image": "x"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state}
        ]}
    })
}

/// A runtime whose API server answers as the function says.
fn scripted(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> (KubernetesRuntime, Reaper, Log) {
    scripted_with(PodSettings::default(), answer)
}

fn scripted_with(
    settings: PodSettings,
    answer: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> (KubernetesRuntime, Reaper, Log) {
    scripted_at(Some(Timestamp::now()), settings, answer)
}

/// As [`scripted_with`], where it is this time.
fn scripted_at(
    time: Option<Timestamp>,
    settings: PodSettings,
    mut answer: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> (KubernetesRuntime, Reaper, Log) {
    let began = tokio::time::Instant::now();
    let date = move || {
        let now = time? + SignedDuration::try_from(began.elapsed()).unwrap();
        Some(now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    };
    let dated = move |body: Vec<u8>| {
        let response = Response::builder();
        match date() {
            Some(date) => response.header("date", date),
            None => response,
        }
        .body(Body::from(body))
        .unwrap()
    };
    let (service, mut handle) = tower_test::mock::pair::<http::Request<Body>, Response<Body>>();
    let log = Log::default();
    let seen = log.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some((request, respond)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
            let asked = Asked { method: parts.method, path, query, body };
            seen.0.lock().unwrap().push(format!("{} {}?{}", asked.method, asked.path, asked.query));
            match answer(&asked) {
                Reply::Json(code, body) => {
                    let mut response = dated(body.to_string().into_bytes());
                    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
                    respond.send_response(response);
                }
                Reply::Lines(lines) => {
                    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
                    respond.send_response(dated(text.into_bytes()));
                }
                Reply::Silence => held.push(respond),
                Reply::Broken => respond.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            }
        }
    });
    let connection = Connection::to(service, "ns");
    let reaper = Reaper::new();
    let runtime = KubernetesRuntime::on(connection, settings, Arc::new(OneSecret), reaper.clone(), "s".to_owned());
    (runtime, reaper, log)
}

/// What was asked.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }
}

fn request() -> Request {
    let mut request = contract::request("s", Image::new("example/x:1", &[]));
    request.spec.network = Network::Declared;
    request
}

const DRAIN: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn pods_that_must_not_be_watched_are_not_waited_for() {
    let (runtime, reaper, log) = scripted(|asked| match asked.is(Method::GET, "/pods") {
        true => status(
            403,
            "Forbidden",
            "pods is forbidden: User \"u\" cannot list resource \"pods\" in API group \"\" in the namespace \"ns\"",
        ),
        false => asked.usual(),
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("may not `list` `pods`")), "{error}");
    assert!(reaper.drain(DRAIN).await);
    assert!(log.count("POST /api/v1/namespaces/ns/pods") <= log.count("DELETE /api/v1/namespaces/ns/pods/"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrived_although_its_answer_got_lost_counts() {
    let (mut created, mut shown) = (None, false);
    let (runtime, reaper, log) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
            return status(409, "AlreadyExists", "pods \"x\" already exists");
        }
        match &created {
            Some(name) if asked.is_watch() && !std::mem::replace(&mut shown, true) => {
                let ended = pod(name, &json!({"terminated": {"exitCode": 5, "reason": "Error"}}));
                Reply::Lines(vec![json!({"type": "ADDED", "object": ended})])
            }
            // Until it is asked again.
            None if asked.is_watch() => Reply::Broken,
            _ => asked.usual(),
        }
    });
    let mut running = runtime.start(request()).await.unwrap();
    let mut output = Vec::new();
    running.streams.stdout.read_to_end(&mut output).await.unwrap();
    assert_eq!(running.streams.stderr.lines(), ["the container ended with exit code 5"]);
    drop(running);
    assert!(reaper.drain(DRAIN).await);
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_or_is_out_of_date_begins_anew() {
    let (mut created, mut watches) = (None, 0);
    let (runtime, reaper, log) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
        }
        if asked.is_watch() && asked.path.ends_with("/pods") {
            watches += 1;
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"
            }});
            return match watches {
                1 => Reply::Broken,
                2 => Reply::Lines(vec![]),
                3 | 4 => Reply::Lines(vec![gone]),
                5 => status(500, "InternalError", "etcd is away"),
                _ => Reply::Silence,
            };
        }
        // What the watch did not show is in the list that follows.
        match &created {
            Some(name) if asked.is(Method::GET, "/pods") && watches >= 4 => {
                let state = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
                Reply::Json(200, list("PodList", &[pod(name, &state)]))
            }
            _ => asked.usual(),
        }
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Image { reason, .. } if reason.contains("no such image")), "{error}");
    assert!(reaper.drain(DRAIN).await);
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/"), 1);
}

/// An API server whose node pulls without the pull secrets, and says so, until it tries again. `last` is how that ends.
fn late_secrets(last: Json) -> (KubernetesRuntime, Reaper, Log) {
    let refused = json!({"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}});
    let backing_off = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
    let states = [refused, backing_off, last];
    let (mut created, mut step, mut looked, mut watches) = (None, 0, 0, 0);
    let settings = PodSettings { pull_secrets: vec!["late".to_owned()], ..PodSettings::default() };
    scripted_with(settings, move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
            return asked.usual();
        }
        if asked.is(Method::GET, "/events") {
            looked += 1;
            // The event arrives after the state.
            let there = json!({
                "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e", "namespace": "ns"}, "involvedObject": {}
            });
            return Reply::Json(200, list("EventList", if looked > 1 { std::slice::from_ref(&there) } else { &[] }));
        }
        if asked.is(Method::GET, "/secrets/late") {
            let metadata = json!({"name": "late", "namespace": "ns"});
            let kind = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            return Reply::Json(200, kind);
        }
        let Some(name) = &created else { return if asked.is_watch() { Reply::Broken } else { asked.usual() } };
        let shown = |step: usize| {
            let mut pod = pod(name, &states[step]);
            pod["spec"]["imagePullSecrets"] = json!([{"name": "late"}]);
            pod
        };
        match asked.path.ends_with("/pods") && asked.method == Method::GET {
            true if asked.is_watch() => {
                watches += 1;
                // One state after the other is seen.
                let is_next = step == 0 || looked > 1 && step < 3 && watches % 2 == 0;
                if !is_next {
                    return Reply::Broken;
                }
                step += 1;
                Reply::Lines(vec![json!({"type": "MODIFIED", "object": shown(step - 1)})])
            }
            true if step > 0 => Reply::Json(200, list("PodList", &[shown(step - 1)])),
            _ => asked.usual(),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_read_its_pull_secrets_is_given_a_second_pull() {
    let (runtime, reaper, log) = late_secrets(json!({"terminated": {"exitCode": 5, "reason": "Error"}}));
    let mut running = runtime.start(request()).await.unwrap();
    let mut output = Vec::new();
    running.streams.stdout.read_to_end(&mut output).await.unwrap();
    assert_eq!(running.streams.stderr.lines(), ["the container ended with exit code 5"]);
    assert_eq!(log.count("reason%3DFailedToRetrieveImagePullSecret"), 2);
    drop(running);
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_second_pull_that_fails_is_the_last() {
    let refused = json!({"waiting": {"reason": "ErrImagePull", "message": "still 401"}});
    let (runtime, reaper, _) = late_secrets(refused);
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Image { reason, .. } if reason.contains("still 401")), "{error}");
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_pod_may_appear_after_its_request_failed_and_is_deleted_then() {
    let (mut deletions, began) = (0, tokio::time::Instant::now());
    let (runtime, reaper, log) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            return status(504, "Timeout", "request did not complete within the allotted timeout");
        }
        if asked.is_deletion_of_a("pods") {
            deletions += 1;
            // It is there only at the fourth attempt.
            return if deletions < 4 { status(404, "NotFound", "pods \"x\" not found") } else { asked.usual() };
        }
        asked.usual()
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable(_)), "{error}");
    assert!(reaper.drain(DRAIN).await);
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/"), 4);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn deleting_goes_on_while_the_api_server_is_away_and_everything_is_deleted() {
    let began = tokio::time::Instant::now();
    let (runtime, reaper, log) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            return status(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q");
        }
        match asked.method == Method::DELETE && began.elapsed() < Duration::from_secs(20) {
            true => Reply::Broken,
            false => asked.usual(),
        }
    });
    let mut request = request();
    let content = Value::secret("x.key");
    let stored = Segment::Stored { kind: ObjectKind::Secret, key: "k".to_owned(), content };
    request.spec.environment = vec![("K".to_owned(), Value::from_segments([stored]))];
    let error = runtime.start(request).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Denied(text) if text.contains("exceeded quota")), "{error}");
    assert!(reaper.drain(DRAIN).await);
    assert!(began.elapsed() >= Duration::from_secs(20) && began.elapsed() < Duration::from_secs(30));
    assert!(log.count("DELETE /api/v1/namespaces/ns/secrets/") > 3, "the secret was tried until it was gone");
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/"), 0, "a pod that was refused need not be deleted");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_silent_is_given_up_in_time() {
    let (runtime, reaper, _) = scripted(|asked| match asked.is(Method::POST, "/leases") {
        true => Reply::Silence,
        false => asked.usual(),
    });
    let began = tokio::time::Instant::now();
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Unavailable(text) if text.contains("did not create `leases`")), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_runs_is_given_up_with_what_the_events_say() {
    let (mut created, mut shown) = (None, false);
    let (runtime, reaper, _) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
        }
        if asked.is_watch() && asked.path.ends_with("/events") {
            let event = |reason: &str, message: &str| {
                json!({"type": "ADDED", "object": {
                    "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e", "namespace": "ns"},
                    "involvedObject": {"kind": "Pod"}, "type": "Warning", "reason": reason, "message": message
                }})
            };
            return Reply::Lines(vec![event("FailedMount", "claim \"mcp-data\" is not bound")]);
        }
        match &created {
            Some(name) if asked.is_watch() && asked.path.ends_with("/pods") && !std::mem::replace(&mut shown, true) => {
                let state = json!({"waiting": {"reason": "ContainerCreating"}});
                Reply::Lines(vec![json!({"type": "ADDED", "object": pod(name, &state)})])
            }
            None if asked.is_watch() => Reply::Broken,
            _ => asked.usual(),
        }
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(
        matches!(&error, RuntimeError::TimedOut { what, seconds: 10, .. } if what.contains("is not bound")),
        "{error}"
    );
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_session_of_the_same_name_is_not_taken_over() {
    let (runtime, reaper, log) = scripted(|asked| {
        if asked.is(Method::POST, "/leases") {
            return status(409, "AlreadyExists", "leases \"mcp-s-session\" already exists");
        }
        if asked.is(Method::GET, "/leases/mcp-s-session") {
            return Reply::Json(
                200,
                json!({
                    "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "mcp-s-session", "uid": "u2"},
                    "spec": {"holderIdentity": "another"}
                }),
            );
        }
        asked.usual()
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Conflict(text) if text.contains("in use by another gateway")), "{error}");
    assert!(reaper.drain(DRAIN).await);
    runtime.end().await;
    assert_eq!(log.count("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn dead_sessions_are_found_in_pages_and_one_that_wakes_up_is_spared() {
    let lease = |session: &str, renewed: &str| {
        json!({
            "metadata": {
                "name": format!("mcp-{session}-session"), "uid": session, "resourceVersion": "7",
                "labels": {"mcp-gateway.docker.com/session": session}
            },
            "spec": {"leaseDurationSeconds": 60, "renewTime": renewed}
        })
    };
    let dead = "2020-01-01T00:00:00.000000Z";
    let mut expired = false;
    let (runtime, _, log) = scripted(move |asked| {
        if asked.is(Method::GET, "/leases") {
            if asked.query.contains("continue=") {
                // The list is forgotten in the middle, once.
                if !std::mem::replace(&mut expired, true) {
                    return status(410, "Expired", "the provided continue parameter is too old");
                }
                return Reply::Json(
                    200,
                    list("LeaseList", &[lease("b-awake", dead), lease("c-alive", "2999-01-01T00:00:00.000000Z")]),
                );
            }
            let mut page = list("LeaseList", &[lease("a-dead", dead)]);
            page["metadata"]["continue"] = json!("more");
            return Reply::Json(200, page);
        }
        if asked.is(Method::GET, "/pods") {
            let mut left = pod("mcp-x", &json!({}));
            left["metadata"]["labels"] = json!({"mcp-gateway.docker.com/session": "a-dead"});
            let mut other = pod("mcp-y", &json!({}));
            other["metadata"]["labels"] = json!({"mcp-gateway.docker.com/session": "b-awake"});
            // Of a gateway that labels its pods in the same way and has no leases.
            let mut foreign = pod("mcp-z", &json!({}));
            foreign["metadata"]["labels"] = json!({"mcp-gateway.docker.com/session": "d-foreign"});
            foreign["metadata"]["ownerReferences"] = json!([]);
            return Reply::Json(200, list("PodList", &[left, other, foreign]));
        }
        if asked.is_deletion_of_a("leases") {
            assert_eq!(asked.body["preconditions"]["resourceVersion"], "7");
            if asked.path.contains("b-awake") {
                return status(409, "Conflict", "the resource version does not match");
            }
        }
        asked.usual()
    });
    let report = runtime.reap(false).await.unwrap();
    let names: Vec<_> = report.dead.iter().map(|session| session.session.as_str()).collect();
    assert_eq!((names, report.alive), (vec!["a-dead"], vec!["b-awake".to_owned(), "c-alive".to_owned()]));
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/mcp-x"), 1);
    assert_eq!(log.count("DELETE /api/v1/namespaces/ns/pods/mcp-y"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_one_session_refuses_does_not_keep_the_others_from_being_cleaned_up() {
    let lease = |session: &str| {
        json!({
            "metadata": {"name": session, "labels": {"mcp-gateway.docker.com/session": session}},
            "spec": {"leaseDurationSeconds": 60, "renewTime": "2020-01-01T00:00:00.000000Z"}
        })
    };
    let (runtime, _, _) = scripted(move |asked| {
        if asked.is(Method::GET, "/leases") {
            return Reply::Json(200, list("LeaseList", &[lease("a"), lease("b")]));
        }
        if asked.is_deletion_of_a("leases") && asked.path.ends_with("/a") {
            return status(403, "Forbidden", "leases \"a\" is forbidden: User \"u\" cannot delete resource \"leases\"");
        }
        asked.usual()
    });
    let report = runtime.reap(false).await.unwrap();
    assert!(report.dead[0].failures[0].contains("may not `delete` `leases`"), "{report:?}");
    assert!(report.dead[1].failures.is_empty(), "{report:?}");
}

/// A real connection, because trying again is the client library's.
#[tokio::test]
async fn an_api_server_that_throttles_is_asked_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut answered = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio::io::BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).await.unwrap() > 2 {
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            answered += 1;
            let (head, body) = match answered {
                1 | 2 => ("429 Too Many Requests\r\nRetry-After: 0", String::new()),
                _ => ("200 OK", list("LeaseList", &[]).to_string()),
            };
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            if answered == 4 {
                return answered;
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let config = json!({
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let place = Place { kubeconfig: Some(path), ..Place::default() };
    let connection = Connection::new(place, Surroundings::default());
    let settings = PodSettings::default();
    let runtime = KubernetesRuntime::on(connection, settings, Arc::new(OneSecret), Reaper::new(), "s".to_owned());
    let report = contract::within(runtime.reap(false)).await.unwrap();
    assert!(report.dead.is_empty() && report.alive.is_empty());
    assert_eq!(contract::within(served).await.unwrap(), 4);
}

/// An API server that shows a pod of this state, and then these events; when all that has been waited for is over, the
/// container ends with exit code 5. `ends` is after how long that is, in seconds.
fn slow(condition: Json, events: Vec<Json>, ends: u64, settings: PodSettings) -> (KubernetesRuntime, Reaper, Log) {
    let (mut created, mut told, mut is_told, began) = (None, false, false, tokio::time::Instant::now());
    scripted_with(settings, move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
            return asked.usual();
        }
        if asked.is_watch() && asked.path.ends_with("/events") {
            return match std::mem::replace(&mut told, true) {
                false => Reply::Lines(events.clone()),
                true => Reply::Silence,
            };
        }
        let Some(name) = &created else { return if asked.is_watch() { Reply::Broken } else { asked.usual() } };
        let mut shown = pod(name, &json!({"terminated": {"exitCode": 5, "reason": "Error"}}));
        if began.elapsed() < Duration::from_secs(ends) {
            shown["status"] = condition.clone();
        }
        let is_over = began.elapsed() >= Duration::from_secs(ends);
        match asked.path.ends_with("/pods") && asked.method == Method::GET {
            // It breaks again and again, so that it is asked anew.
            true if asked.is_watch() && !is_over => Reply::Broken,
            true if asked.is_watch() && std::mem::replace(&mut is_told, true) => Reply::Silence,
            true if asked.is_watch() => Reply::Lines(vec![json!({"type": "MODIFIED", "object": shown})]),
            true => Reply::Json(200, list("PodList", &[shown])),
            false => asked.usual(),
        }
    })
}

fn event(kind: &str, reason: &str, message: &str) -> Json {
    json!({"type": "ADDED", "object": {
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e", "namespace": "ns"},
        "involvedObject": {"kind": "Pod", "name": "mcp-x"}, "type": kind, "reason": reason, "message": message
    }})
}

fn creating() -> Json {
    let state = json!({"waiting": {"reason": "ContainerCreating"}});
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [
        {"name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state}
    ]})
}

fn unschedulable() -> Json {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient memory"
    }]})
}

#[tokio::test(start_paused = true)]
async fn a_pull_may_take_longer_than_a_start_and_the_one_who_waits_is_told_how_long() {
    let began = tokio::time::Instant::now();
    let events = vec![event("Normal", "Pulling", "Pulling image")];
    let (runtime, reaper, _) = slow(creating(), events, 400, PodSettings::default());
    let limit = runtime.start_limit("example/x:1", Duration::from_secs(10));
    let mut running = tokio::time::timeout(limit, runtime.start(request())).await.unwrap().unwrap();
    let mut output = Vec::new();
    running.streams.stdout.read_to_end(&mut output).await.unwrap();
    assert_eq!(running.streams.stderr.lines(), ["the container ended with exit code 5"]);
    assert!(began.elapsed() >= Duration::from_secs(400));
    drop(running);
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_never_ends_is_given_up_with_what_was_waited_for_and_what_to_do() {
    let events = vec![event("Normal", "Pulling", "Pulling image")];
    let (runtime, reaper, _) = slow(creating(), events, 86400, PodSettings::default());
    let limit = runtime.start_limit("example/x:1", Duration::from_secs(10));
    let error = tokio::time::timeout(limit, runtime.start(request())).await.unwrap().unwrap_err();
    assert!(matches!(error, RuntimeError::TimedOut { seconds: 900.., .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("pulling its image") && text.contains("how the nodes reach the registry"), "{text}");
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_cluster_makes_is_waited_for() {
    let events = vec![
        event("Warning", "FailedScheduling", "0/1 nodes: Insufficient memory"),
        event("Normal", "TriggeredScaleUp", "pod triggered scale-up: [{workers 1->2}]"),
    ];
    let (runtime, reaper, _) = slow(unschedulable(), events, 200, PodSettings::default());
    let running = runtime.start(request()).await.unwrap();
    drop(running);
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_node_has_room_for_is_given_up_at_once_unless_there_is_time_for_a_new_node() {
    let began = tokio::time::Instant::now();
    let (runtime, reaper, _) = slow(unschedulable(), Vec::new(), 86400, PodSettings::default());
    let error = runtime.start(request()).await.unwrap_err();
    let RuntimeError::Unavailable(text) = &error else { panic!("{error}") };
    assert!(text.contains("Insufficient memory") && text.contains("raise `--max-server-startup-timeout`"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(reaper.drain(DRAIN).await);
    let patient = PodSettings { start_timeout: Duration::from_secs(120), ..PodSettings::default() };
    let (runtime, reaper, _) = slow(unschedulable(), Vec::new(), 60, patient);
    drop(runtime.start(request()).await.unwrap());
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_must_not_read_events_says_so_when_it_gives_up() {
    let state = creating();
    let mut created = None;
    let (runtime, reaper, _) = scripted(move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
            return asked.usual();
        }
        if asked.path.ends_with("/events") {
            return status(403, "Forbidden", "events is forbidden: User \"u\" cannot watch resource \"events\"");
        }
        match &created {
            Some(name) if asked.is(Method::GET, "/pods") => {
                let mut shown = pod(name, &json!({}));
                shown["status"] = state.clone();
                Reply::Json(200, list("PodList", &[shown]))
            }
            None if asked.is_watch() => Reply::Broken,
            _ => asked.usual(),
        }
    });
    let error = runtime.start(request()).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::TimedOut { advice, .. } if advice.contains("`events`")), "{error}");
    assert!(error.to_string().contains("waiting for its image and its container"), "{error}");
    assert!(reaper.drain(DRAIN).await);
}

/// A lease that was renewed then, of a gateway whose machine was right about the time.
fn lease_of(session: &str, renewed: &str) -> Json {
    json!({
        "metadata": {
            "name": format!("mcp-{session}-session"), "uid": session, "resourceVersion": "7",
            "creationTimestamp": "2030-01-01T00:00:00Z", "labels": {"mcp-gateway.docker.com/session": session}
        },
        "spec": {"leaseDurationSeconds": 120, "renewTime": renewed}
    })
}

#[tokio::test(start_paused = true)]
async fn whether_a_session_lives_is_judged_by_the_clock_of_the_api_server() {
    // This machine's clock is years behind.
    let now = "2030-05-01T12:00:00Z".parse().unwrap();
    let leases = [lease_of("alive", "2030-05-01T11:59:00.000000Z"), lease_of("dead", "2030-05-01T11:57:00.000000Z")];
    let (runtime, _, log) =
        scripted_at(Some(now), PodSettings::default(), move |asked| match asked.is(Method::GET, "/leases") {
            true => Reply::Json(200, list("LeaseList", &leases)),
            false => asked.usual(),
        });
    let report = runtime.reap(false).await.unwrap();
    let dead: Vec<_> = report.dead.iter().map(|session| session.session.as_str()).collect();
    assert_eq!((dead, report.alive), (vec!["dead"], vec!["alive".to_owned()]));
    assert_eq!(log.count("DELETE"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_clock_that_both_see_nothing_is_taken_for_dead() {
    let leases = [lease_of("who-knows", "2020-01-01T00:00:00.000000Z")];
    let (runtime, _, log) =
        scripted_at(None, PodSettings::default(), move |asked| match asked.is(Method::GET, "/leases") {
            true => Reply::Json(200, list("LeaseList", &leases)),
            false => asked.usual(),
        });
    let error = runtime.reap(false).await.unwrap_err();
    assert!(error.to_string().contains("does not tell the time"), "{error}");
    assert_eq!(log.count("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_machine_is_wrong_about_the_time_says_at_once_that_it_lives() {
    let now: Timestamp = "2030-05-01T12:00:00Z".parse().unwrap();
    let (renewals, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (runtime, reaper, _) = scripted_at(Some(now), PodSettings::default(), move |asked| {
        if asked.method == Method::PATCH {
            renewals.send(asked.body["spec"]["renewTime"].as_str().unwrap().to_owned()).unwrap();
        }
        if asked.is(Method::POST, "/pods") {
            return status(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q");
        }
        asked.usual()
    });
    runtime.start(request()).await.unwrap_err();
    let first = tokio::time::timeout(Duration::from_secs(5), seen.recv()).await.unwrap().unwrap();
    assert!(first.starts_with("2030-05-01T12:00:0"), "{first}");
    assert!(reaper.drain(DRAIN).await);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let (mut created, mut lists) = (None, 0);
    let settings = PodSettings { start_timeout: Duration::from_secs(300), ..PodSettings::default() };
    let (runtime, reaper, _) = scripted_with(settings, move |asked| {
        if asked.is(Method::POST, "/pods") {
            created = asked.body["metadata"]["name"].as_str().map(str::to_owned);
            return asked.usual();
        }
        if asked.is(Method::GET, "/pods") {
            lists += 1;
            // A connection that is open and dead.
            let Some(name) = created.as_ref().filter(|_| lists > 1) else { return Reply::Silence };
            let ended = pod(name, &json!({"terminated": {"exitCode": 5, "reason": "Error"}}));
            return Reply::Json(200, list("PodList", &[ended]));
        }
        asked.usual()
    });
    let began = tokio::time::Instant::now();
    drop(runtime.start(request()).await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    assert!(reaper.drain(DRAIN).await);
}

/// What takes the network away from pods goes with the Lease, and a gateway that finds its Lease gone has another one.
#[tokio::test(start_paused = true)]
async fn what_servers_share_belongs_to_the_lease_that_there_is() {
    let (mut leases, made) = (0, Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&made);
    let (runtime, reaper, log) = scripted(move |asked| {
        if asked.is(Method::POST, "/leases") {
            leases += 1;
            let mut lease = asked.body.clone();
            lease["metadata"]["uid"] = json!(format!("uid-{leases}"));
            return Reply::Json(201, lease);
        }
        if asked.method == Method::PATCH && leases == 1 {
            return status(404, "NotFound", "leases \"mcp-s-session\" not found");
        }
        if asked.is(Method::POST, "/networkpolicies") {
            let metadata = &asked.body["metadata"];
            let owner = metadata["ownerReferences"][0]["uid"].as_str().unwrap().to_owned();
            seen.lock().unwrap().push((metadata["name"].as_str().unwrap().to_owned(), owner));
        }
        if asked.is(Method::POST, "/pods") {
            return status(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q");
        }
        asked.usual()
    });
    let mut request = request();
    request.spec.network = Network::None;
    runtime.start(request.clone()).await.unwrap_err();
    runtime.start(request.clone()).await.unwrap_err();
    assert_eq!(made.lock().unwrap().len(), 1);
    // Its renewal finds that the Lease is gone.
    tokio::time::sleep(Duration::from_secs(60)).await;
    runtime.start(request).await.unwrap_err();
    let policies = made.lock().unwrap().clone();
    assert_eq!(policies.iter().map(|(_, owner)| owner.as_str()).collect::<Vec<_>>(), ["uid-1", "uid-2"]);
    assert_ne!(policies[0].0, policies[1].0, "one that is still being deleted is not taken for the new one");
    assert!(reaper.drain(DRAIN).await);
    runtime.end().await;
    assert_eq!(log.count(&format!("/networkpolicies/{}", policies[1].0)), 1);
}
