//! The connection to a cluster: where it is, who says so, and one client for everything.
//!
//! What is explicit wins: `--kubeconfig`, then the files of `KUBECONFIG`, then `~/.kube/config`, then the service account
//! of the pod that the gateway runs in. The cluster is not contacted before something is asked of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Config, Resource};
use provisioning_core::text::one_line;
use tokio::sync::OnceCell;
use tower::{Layer, Service};

use super::Place;
use super::clock::Clock;
use super::error::{self, Step};
use crate::capability::container_runtime::RuntimeError;

/// How long making the client may take: a credential plugin may ask the person in front of the screen.
const CONNECT: Duration = Duration::from_secs(60);
/// How long one request may take that only reads or writes an object.
pub(crate) const QUICK: Duration = Duration::from_secs(20);

/// How long an answer to any request may take to begin, whoever waits for it: also one that opens a watch, and one that asks
/// others first.
const ANSWER: Duration = Duration::from_secs(90);
/// How long an answer may pause. A watch is ended by the API server in less.
const PAUSE: Duration = Duration::from_secs(330);

/// What the process's surroundings say of clusters.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The variable `KUBECONFIG`.
    pub kubeconfig: Option<OsString>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// The variable `DOCKER_CONFIG`.
    pub docker_config: Option<OsString>,
    /// Whether the variable `KUBERNETES_SERVICE_HOST` is set, as in every pod.
    pub in_cluster: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            docker_config: std::env::var_os("DOCKER_CONFIG"),
            in_cluster: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }

    /// Where the Docker configuration is, which may have credentials of registries.
    pub(super) fn docker_config(&self) -> Option<PathBuf> {
        let named = self.docker_config.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
        named.or_else(|| self.home.as_ref().map(|home| home.join(".docker")))
    }
}

/// A connection that is made when it is first needed.
#[derive(Debug)]
pub struct Connection {
    place: Place,
    surroundings: Surroundings,
    observer: Observer,
    cluster: OnceCell<Cluster>,
}

impl Connection {
    /// A connection to the cluster that the place names, or else the surroundings.
    pub fn new(place: Place, surroundings: Surroundings) -> Self {
        Self { place, surroundings, observer: Observer::default(), cluster: OnceCell::new() }
    }

    /// A connection over a client that is there already, of which nothing is known but its answers.
    pub fn over(client: kube::Client, namespace: &str) -> Self {
        let connection = Self::new(Place::default(), Surroundings::default());
        let clock = connection.observer.clock.clone();
        let cluster = Cluster {
            client,
            namespace: namespace.to_owned(),
            server: "the given client".into(),
            origin: "".into(),
            clock,
        };
        Self { cluster: OnceCell::new_with(Some(cluster)), ..connection }
    }

    /// A connection to whatever answers there.
    pub fn to<S>(service: S, namespace: &str) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Send + 'static,
        S::Error: Into<tower::BoxError>,
        S::Future: Send + 'static,
    {
        let connection = Self::new(Place::default(), Surroundings::default());
        let client = kube::Client::new(connection.observer.layer(service), namespace);
        let clock = connection.observer.clock.clone();
        let cluster = Cluster {
            client,
            namespace: namespace.to_owned(),
            server: "the given service".into(),
            origin: "".into(),
            clock,
        };
        Self { cluster: OnceCell::new_with(Some(cluster)), ..connection }
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// How many requests were sent.
    pub(super) fn requests(&self) -> u64 {
        self.observer.requests.load(Ordering::Relaxed)
    }

    /// The cluster. A failure is not remembered: what was wrong may be mended.
    pub(crate) async fn cluster(&self) -> Result<&Cluster, RuntimeError> {
        self.cluster.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Cluster, RuntimeError> {
        crate::tls::install_provider();
        let mut loaded = load(&self.place, &self.surroundings).await?;
        loaded.config.read_timeout = Some(PAUSE);
        // What is sent over an attached connection now and then keeps it; see `super::attach`.
        loaded.config.reset_reader_on_write = true;
        let server = loaded.config.cluster_url.to_string();
        let namespace = match &self.place.namespace {
            Some(namespace) => namespace.clone(),
            None => loaded.config.default_namespace.clone(),
        };
        let observer = self.observer.clone();
        // Making the client runs a credential plugin, if there is one.
        let build = tokio::task::spawn_blocking(move || {
            let builder = ClientBuilder::try_from(loaded.config)?;
            Ok::<_, kube::Error>(builder.with_layer(&observer).build())
        });
        let built = match tokio::time::timeout(CONNECT, build).await {
            Ok(Ok(built)) => built,
            Ok(Err(error)) => return Err(RuntimeError::Engine(format!("connecting to the cluster failed: {error}"))),
            Err(_) => {
                return Err(RuntimeError::TimedOut {
                    what: "getting credentials for the cluster".to_owned(),
                    seconds: CONNECT.as_secs(),
                    advice: "run the credential plugin of the kubeconfig by itself to see what it waits for",
                });
            }
        };
        match built {
            Ok(client) => {
                let clock = self.observer.clock.clone();
                Ok(Cluster { client, namespace, server: server.into(), origin: loaded.origin.into(), clock })
            }
            Err(error) => Err(error::of_credentials(&error, &loaded.files)),
        }
    }
}

/// A cluster, and the namespace in it that the gateway works in.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    namespace: String,
    server: Arc<str>,
    origin: Arc<str>,
    clock: Clock,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).field("namespace", &self.namespace).finish()
    }
}

impl Cluster {
    pub(crate) fn client(&self) -> &kube::Client {
        &self.client
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The address of the API server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Who says that this is the cluster: a context of a kubeconfig, or the service account.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// What time it is for the API server.
    ///
    /// # Errors
    /// [`RuntimeError::Engine`] if no answer of it told so far.
    pub(crate) fn now(&self) -> Result<Timestamp, RuntimeError> {
        self.clock.now().ok_or_else(|| {
            RuntimeError::Engine(format!(
                "the API server at `{}` does not tell the time (`Date`) with its answers, so that nobody can say which \
                 sessions are over; check what stands between it and the gateway",
                self.server
            ))
        })
    }

    /// The objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Awaits a request for at most `limit`.
    pub(super) async fn call<T>(
        &self,
        step: Step<'_>,
        limit: Duration,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(&error, step)),
            Err(_) => Err(error::silent(self, step, limit)),
        }
    }

    /// What an error of the API server means.
    pub(crate) fn error(&self, error: &kube::Error, step: Step<'_>) -> RuntimeError {
        error::of_request(self, error, step)
    }
}

/// A configuration, and what it came from.
struct Loaded {
    config: Config,
    /// The files.
    files: String,
    /// The context in them.
    origin: String,
}

async fn load(place: &Place, surroundings: &Surroundings) -> Result<Loaded, RuntimeError> {
    let Some(files) = files(place, surroundings)? else {
        if surroundings.in_cluster && place.context.is_none() {
            let config = Config::incluster().map_err(|error| {
                RuntimeError::Invalid(format!("the service account of this pod cannot be used: {error}"))
            })?;
            let origin = "the service account of this pod".to_owned();
            return Ok(Loaded { config, files: origin.clone(), origin });
        }
        return Err(RuntimeError::Invalid(
            "there is no kubeconfig; give `--kubeconfig FILE`, set `KUBECONFIG`, or write `~/.kube/config`".to_owned(),
        ));
    };
    let named = files.iter().map(|file| format!("`{}`", file.display())).collect::<Vec<_>>().join(", ");
    let mut merged = Kubeconfig::default();
    for file in &files {
        let wrong = |error: &KubeconfigError| fault(&format!("`{}`", file.display()), error, &Kubeconfig::default());
        let read = Kubeconfig::read_from(file).map_err(|error| wrong(&error))?;
        merged = merged.merge(read).map_err(|error| wrong(&error))?;
    }
    let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(merged.clone(), &options)
        .await
        .map_err(|error| fault(&named, &error, &merged))?;
    // Plugins may only ask where there is somebody to answer; standard input is the protocol's.
    if let Some(exec) = &mut config.auth_info.exec {
        exec.interactive_mode = Some(kube::config::ExecInteractiveMode::Never);
    }
    let context = place.context.as_ref().or(merged.current_context.as_ref()).map_or("", String::as_str);
    Ok(Loaded { config, origin: format!("context `{}` of {named}", one_line(context, 200)), files: named })
}

/// The kubeconfig files to read; none if there are none. A file of `KUBECONFIG` that is not there is left out, as kubectl
/// does, unless none is.
fn files(place: &Place, surroundings: &Surroundings) -> Result<Option<Vec<PathBuf>>, RuntimeError> {
    let missing = |path: &Path, fix: &str| {
        RuntimeError::Invalid(format!("kubeconfig `{}` does not exist; {fix}", path.display()))
    };
    if let Some(file) = &place.kubeconfig {
        return match file.exists() {
            true => Ok(Some(vec![file.clone()])),
            false => Err(missing(file, "check `--kubeconfig`")),
        };
    }
    let listed = surroundings.kubeconfig.iter().flat_map(std::env::split_paths);
    let listed: Vec<_> = listed.filter(|path| !path.as_os_str().is_empty()).collect();
    if let Some(first) = listed.first() {
        let there: Vec<_> = listed.iter().filter(|path| path.exists()).cloned().collect();
        return match there.is_empty() {
            true => Err(missing(first, "check the variable `KUBECONFIG`")),
            false => Ok(Some(there)),
        };
    }
    let default = surroundings.home.as_ref().map(|home| home.join(".kube/config"));
    Ok(default.filter(|path| path.exists()).map(|path| vec![path]))
}

/// What is wrong with a kubeconfig, where, and what to do.
fn fault(origin: &str, error: &KubeconfigError, merged: &Kubeconfig) -> RuntimeError {
    let known = || {
        let names: Vec<_> = merged.contexts.iter().take(20).map(|context| format!("`{}`", context.name)).collect();
        if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) }
    };
    let reason = match error {
        KubeconfigError::CurrentContextNotSet => {
            format!(
                "key `current-context` is not set; give `--kube-context` ({}) or run `kubectl config use-context`",
                known()
            )
        }
        KubeconfigError::LoadContext(name) => {
            format!("there is no context `{name}` under key `contexts`; {}; check `--kube-context`", known())
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("there is no cluster `{name}` under key `clusters`, which the context names; add it")
        }
        KubeconfigError::MissingClusterUrl => "key `server` of the cluster is not set; add it".to_owned(),
        KubeconfigError::ParseClusterUrl(why) => format!("key `server` of the cluster is no URL: {why}"),
        KubeconfigError::ReadConfig(why, _) => format!("it cannot be read: {why}"),
        KubeconfigError::Parse(why) => format!("it is not a kubeconfig: {}", one_line(&why.to_string(), 300)),
        other => one_line(&other.to_string(), 300),
    };
    RuntimeError::Invalid(format!("kubeconfig {origin}: {reason}"))
}

/// What is noted of all requests: how many there are, and what time it is where they are answered. One that is not answered
/// ends.
#[derive(Clone, Debug, Default)]
struct Observer {
    requests: Arc<AtomicU64>,
    clock: Clock,
}

impl<S> Layer<S> for Observer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: self.clone() }
    }
}

/// A service whose requests are observed.
struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S, B> Service<http::Request<Body>> for Observed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<tower::BoxError>,
    S::Future: Send + 'static,
{
    type Response = http::Response<B>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<http::Response<B>, tower::BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.observer.requests.fetch_add(1, Ordering::Relaxed);
        tracing::trace!(method = %request.method(), path = request.uri().path(), "a request to the cluster");
        let (answer, clock) = (self.inner.call(request), self.observer.clock.clone());
        Box::pin(async move {
            match tokio::time::timeout(ANSWER, answer).await {
                Ok(Ok(answer)) => {
                    clock.note(answer.headers());
                    Ok(answer)
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => {
                    let text = format!("no answer within {} s", ANSWER.as_secs());
                    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
        clusters: [{name: c, cluster: {server: 'https://one.example'}}, {name: d, cluster: {}}]\n\
        users: [{name: u, user: {token: hunter2}}]\n\
        contexts:\n\
        - {name: one, context: {cluster: c, user: u, namespace: ns}}\n\
        - {name: dangling, context: {cluster: nowhere, user: u}}\n\
        - {name: incomplete, context: {cluster: d, user: u}}\n";

    fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn of(place: &Place, surroundings: &Surroundings) -> Result<(String, String), String> {
        let loaded = load(place, surroundings).await.map_err(|error| error.to_string())?;
        Ok((loaded.config.cluster_url.to_string(), loaded.config.default_namespace))
    }

    fn place(kubeconfig: Option<PathBuf>, context: Option<&str>) -> Place {
        Place { kubeconfig, context: context.map(str::to_owned), namespace: None }
    }

    #[tokio::test]
    async fn what_is_explicit_wins_and_lists_are_merged() {
        let directory = tempfile::tempdir().unwrap();
        let one = write(directory.path(), "one", CONFIG);
        let two = write(
            directory.path(),
            "two",
            &CONFIG
                .replace("one.example", "two.example")
                .replace("current-context: one\n", "")
                .replace("name: one", "name: two")
                .replace("name: c,", "name: e,")
                .replace("cluster: c,", "cluster: e,"),
        );
        let list = std::env::join_paths([&directory.path().join("absent"), &one, &two]).unwrap();
        let surroundings = Surroundings { kubeconfig: Some(list), in_cluster: true, ..Surroundings::default() };
        let expected = |host: &str| Ok((format!("https://{host}/"), "ns".to_owned()));
        assert_eq!(of(&Place::default(), &surroundings).await, expected("one.example"));
        assert_eq!(of(&place(None, Some("two")), &surroundings).await, expected("two.example"));
        let given = place(Some(two), Some("two"));
        let only_one = Surroundings { kubeconfig: Some(one.into_os_string()), ..surroundings };
        assert_eq!(of(&given, &only_one).await, expected("two.example"));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_said_with_file_key_and_fix() {
        let directory = tempfile::tempdir().unwrap();
        let good = write(directory.path(), "good", CONFIG);
        let unset = write(directory.path(), "unset", &CONFIG.replace("current-context: one\n", ""));
        let broken = write(directory.path(), "broken", "clusters: {a: [\n");
        let absent = directory.path().join("absent");
        let cases = [
            (place(Some(absent), None), vec!["absent` does not exist", "--kubeconfig"]),
            (place(Some(good.clone()), Some("nine")), vec!["no context `nine`", "`one`, `dangling`", "--kube-context"]),
            (place(Some(good.clone()), Some("dangling")), vec!["good`", "no cluster `nowhere`", "`clusters`"]),
            (place(Some(good), Some("incomplete")), vec!["`server`"]),
            (place(Some(unset), None), vec!["unset`", "`current-context`", "--kube-context"]),
            (place(Some(broken), None), vec!["broken`", "not a kubeconfig"]),
            (Place::default(), vec!["there is no kubeconfig", "--kubeconfig"]),
        ];
        for (place, words) in cases {
            let error = of(&place, &Surroundings::default()).await.unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}: {words:?}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
