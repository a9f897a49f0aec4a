use std::path::Path;
use std::sync::Mutex;

use provisioning_core::{Resources, Value};
use serde_json::{Map, json};

use super::*;
use crate::catalog::Catalog;
use crate::resolve::{ServerScope, ServerSettings, ToolCall};

/// A cluster whose objects hold this, and that counts what is read of it.
#[derive(Default)]
struct Held {
    config: BTreeMap<String, String>,
    keys: Option<BTreeSet<String>>,
    reads: Mutex<Vec<String>>,
}

impl Held {
    fn new(config: &[(&str, &str)], keys: Option<&[&str]>) -> Self {
        let config = config.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let keys = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
        Self { config, keys, reads: Mutex::default() }
    }

    fn note(&self, what: &str) {
        self.reads.lock().unwrap().push(what.to_owned());
    }
}

#[async_trait]
impl ClusterValues for Held {
    fn config_name(&self) -> &str {
        "cm"
    }

    fn secret_name(&self) -> &str {
        "sec"
    }

    async fn configuration(&self) -> Result<Option<Arc<BTreeMap<String, String>>>, ResolveError> {
        self.note("configuration");
        Ok((!self.config.is_empty()).then(|| Arc::new(self.config.clone())))
    }

    async fn secret_keys(&self) -> Result<Option<Arc<BTreeSet<String>>>, ResolveError> {
        self.note("names");
        Ok(self.keys.clone().map(Arc::new))
    }

    async fn secret(&self, key: &str) -> Result<SecretText, ResolveError> {
        self.note(&format!("secret {key}"));
        Ok(SecretText::new(format!("text of {key}")))
    }
}

/// Answers what a function makes of the names.
struct Answers<F>(F);

#[async_trait]
impl<F: Fn(&[Use]) -> Vec<Use> + Send + Sync> KeyMapping for Answers<F> {
    async fn map_keys(&self, uses: &[Use]) -> Result<Vec<Use>, ResolveError> {
        Ok((self.0)(uses))
    }
}

/// A store on this machine that has every secret.
struct Here;

#[async_trait]
impl SecretStore for Here {
    async fn get(&self, _name: &str) -> Result<SecretText, SecretError> {
        Ok(SecretText::new("here".to_owned()))
    }
}

fn cluster(held: Arc<Held>, secrets: bool, config: bool) -> Cluster {
    let mapping = Arc::new(Answers(<[Use]>::to_vec));
    Cluster {
        remote_secrets: Arc::new(SingleSecrets(held.clone())),
        values: held,
        mapping,
        keys: Vec::new(),
        secrets,
        config,
    }
}

fn scope(entry: &str, cluster: Cluster, tool: Option<(&str, Map<String, serde_json::Value>)>) -> ServerScope {
    let indented: String = entry.lines().map(|line| format!("    {line}\n")).collect();
    let (catalog, warnings) = Catalog::parse(&format!("registry:\n  s:\n{indented}"), Path::new("test.yaml")).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let (_, entry) = catalog.select(&["s".to_owned()]).unwrap().remove(0);
    let call = tool.map(|(name, arguments)| ToolCall {
        tool: entry.tools.iter().find(|tool| tool.name == name).unwrap().clone(),
        arguments,
    });
    let settings = ServerSettings {
        name: "s".to_owned(),
        entry: Arc::new(entry),
        config: Arc::new(json!({"s": {"user": "local"}}).as_object().unwrap().clone()),
        secrets: if cluster.secrets { Arc::new(NoSecrets) } else { Arc::new(Here) },
        cluster: Some(Arc::new(cluster)),
        resources: Resources::default(),
        long_lived: false,
        refused: None,
    };
    ServerScope::new(Arc::new(settings), call)
}

fn shown(values: Vec<(String, Value)>) -> Vec<String> {
    values.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

const ENTRY: &str = "
image: i
secrets:
  - {name: s.token, env: TOKEN}
  - {name: s.extra, env: EXTRA, required: false}
env:
  - {name: USER, value: '{{s.user}}'}
  - {name: URL, value: 'https://{{s.user}}:{{s.token}}@h?x=$y'}
  - {name: LEVEL, value: '{{s.level}}'}
  - {name: REGION, value: '{{s.region}}'}
  - {name: LIST, value: '{{s.list}}'}
  - {name: FIXED, value: plain}
command: ['--user={{s.user}}', '{{s.list|into}}', '{{s.list}}', '--port={{s.port|or:80}}', '$TOKEN']
volumes: ['{{s.volume}}:/data']
user: '{{s.uid}}'
config:
  - {name: s, required: [user], properties: {user: {}, level: {default: info}, region: {}, list: {}, port: {}}}
";

#[tokio::test]
async fn what_is_in_the_cluster_becomes_keys_and_only_what_the_host_must_know_is_read() {
    let config =
        [("s.user", "ann"), ("s.list", r#"["a", "b"]"#), ("s.volume", "data"), ("s.uid", "7"), ("other.x", "no")];
    let held = Arc::new(Held::new(&config, Some(&["s.token"])));
    let scope = scope(ENTRY, cluster(held.clone(), true, true), None);
    assert_eq!(shown(scope.secrets().await.unwrap()), ["TOKEN=<secret-key:sec/s.token>"], "`s.extra` is not there");
    assert_eq!(
        shown(scope.environment().await.unwrap()),
        [
            "USER=<config-key:cm/s.user>",
            "URL=https://<config-key:cm/s.user>:<secret-key:sec/s.token>@h?x=$y",
            "LEVEL=info",
            "LIST=<config-key:cm/s.list>",
            "FIXED=plain",
        ],
        "text around stays, a default is the catalog's own text, and what is optional and missing is left out"
    );
    let command: Vec<String> = scope.command().await.unwrap().iter().map(ToString::to_string).collect();
    let list = ["<config:s.list>", "<config:s.list>"];
    let expected =
        [&["--user=<config-key:cm/s.user>"], &list[..], &list[..], &["--port=80", "<secret-key:sec/s.token>"]];
    assert_eq!(command, expected.concat(), "a list becomes several arguments, as from a file");
    let volumes = scope.volumes().await.unwrap();
    assert_eq!(provisioning_core::policy::known_text(&volumes[0].1).unwrap(), "data:/data", "read by the host");
    assert_eq!(provisioning_core::policy::known_text(&scope.user().await.unwrap().unwrap()).unwrap(), "7");
    assert_eq!(*held.reads.lock().unwrap(), ["names", "configuration"], "once each, and no secret");
}

#[tokio::test]
async fn secrets_and_configuration_come_from_where_each_of_them_is() {
    let held = || Arc::new(Held::new(&[("s.user", "ann"), ("s.uid", "7"), ("s.volume", "v"), ("s.list", "l")], None));
    let mixed = scope(ENTRY, cluster(held(), false, true), None);
    assert_eq!(shown(mixed.secrets().await.unwrap()), ["TOKEN=<secret:s.token>", "EXTRA=<secret:s.extra>"]);
    assert_eq!(
        shown(mixed.environment().await.unwrap())[1],
        "URL=https://<config-key:cm/s.user>:<secret:s.token>@h?x=$y"
    );

    let cluster_of_secrets = held();
    let mixed = scope(ENTRY, cluster(cluster_of_secrets.clone(), true, false), None);
    let secrets = shown(mixed.secrets().await.unwrap());
    assert_eq!(secrets, ["TOKEN=<secret-key:sec/s.token>", "EXTRA=<secret-key:sec/s.extra>"], "no names are known");
    assert_eq!(
        shown(mixed.environment().await.unwrap())[1],
        "URL=https://<config:s.user>:<secret-key:sec/s.token>@h?x=$y"
    );
    assert_eq!(*cluster_of_secrets.reads.lock().unwrap(), ["names"]);
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_starts_with_the_command_that_adds_it() {
    let held = Arc::new(Held::new(&[("s.list", "l")], Some(&["s.token"])));
    let entry =
        ENTRY.replace("config:\n  - {name: s,", "config:\n  - {name: s, x:").replace("x: required", "x-required");
    let error = scope(&entry, cluster(held, true, true), None).environment().await.unwrap_err().to_string();
    assert!(error.contains("ConfigMap `cm` has no `s.region`, `s.uid`, `s.user`, `s.volume`"), "{error}");
    assert!(error.contains("cluster-tools populate-configmap FILE cm"), "{error}");
    assert!(!error.contains("s.port") && !error.contains("s.level"), "these have defaults: {error}");

    let held = Arc::new(Held::new(&[], Some(&["other"])));
    let error = scope(ENTRY, cluster(held, true, true), None).secrets().await.unwrap_err().to_string();
    assert!(error.contains("secret `s.token` is not set; Secret `sec` has no key `s.token`"), "{error}");
    assert!(error.contains("cluster-tools populate-secret FILE sec"), "{error}");
}

#[tokio::test]
async fn a_config_map_that_is_not_there_matters_only_to_those_who_need_something_of_it() {
    let nothing = || cluster(Arc::new(Held::new(&[], None)), false, true);
    let optional = "
image: i
env: [{name: LEVEL, value: '{{s.level}}'}, {name: REGION, value: '{{s.region}}'}]
config: [{name: s, required: [], properties: {level: {default: info}, region: {}}}]
";
    assert_eq!(shown(scope(optional, nothing(), None).environment().await.unwrap()), ["LEVEL=info"]);
    let needed = optional.replace("required: []", "required: [region]");
    let error = scope(&needed, nothing(), None).environment().await.unwrap_err().to_string();
    assert!(error.contains("ConfigMap `cm` does not exist") && error.contains("`s.region` must be in it"), "{error}");
    assert!(error.contains("cluster-tools populate-configmap") && !error.contains("s.level"), "{error}");
}

#[tokio::test]
async fn the_caller_of_a_tool_can_neither_replace_nor_supply_what_is_in_the_cluster() {
    let entry = "
type: poci
config: [{name: s, required: [], properties: {}}]
tools:
  - name: t
    parameters: {type: object, properties: {text: {type: string}}}
    container: {image: i, command: ['{{text}}', '{{s.user}}', '{{s.unset}}']}
";
    let arguments = json!({"text": "hello", "s": {"user": "mine", "unset": "mine"}});
    let held = Arc::new(Held::new(&[("s.user", "ann")], None));
    let scope = scope(entry, cluster(held, true, true), Some(("t", arguments.as_object().unwrap().clone())));
    let command: Vec<String> = scope.command().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(command, ["<argument:text>", "<config-key:cm/s.user>"]);
}

#[tokio::test]
async fn headers_of_remote_servers_have_keys_that_are_read_one_by_one() {
    let entry = "
remote: {url: 'https://{{s.host}}/mcp', headers: {Authorization: 'Bearer $TOKEN', X-User: '{{s.user}}'}}
secrets: [{name: s.token, env: TOKEN}]
";
    let held = Arc::new(Held::new(&[("s.host", "h.example"), ("s.user", "ann")], None));
    let cluster = cluster(held.clone(), true, true);
    let store = NoSecrets;
    let scope = scope(entry, cluster.clone(), None);
    let remote = scope.remote().await.unwrap();
    assert_eq!(provisioning_core::policy::known_text(&remote.url).unwrap(), "https://h.example/mcp");
    assert_eq!(remote.headers[0].1.to_string(), "Bearer <secret-key:sec/s.token>");
    assert_eq!(
        scope.named(&remote.headers[0].1).to_string(),
        "Bearer <secret:s.token>",
        "policies know it by its name"
    );
    let refused = crate::secrets::materialise(&remote.headers[0].1, &store).await.unwrap_err().to_string();
    assert!(refused.contains("key in the cluster"), "{refused}");

    let settings = ServerSettings {
        name: "s".to_owned(),
        entry: Arc::default(),
        config: Arc::default(),
        secrets: Arc::new(NoSecrets),
        cluster: Some(Arc::new(cluster)),
        resources: Resources::default(),
        long_lived: false,
        refused: None,
    };
    assert_eq!(settings.read(&remote.headers[0].1).await.unwrap().expose(), "Bearer text of s.token");
    assert_eq!(held.reads.lock().unwrap().iter().filter(|read| *read == "secret s.token").count(), 1);
}

#[tokio::test]
async fn a_store_of_secrets_that_is_not_linked_says_why() {
    let error = NoSecrets.get("s.token").await.unwrap_err().to_string();
    assert!(error.contains("s.token") && error.contains("--cluster-secret-provider cluster"), "{error}");
}

#[test]
fn a_mapping_that_breaks_a_rule_is_refused_with_the_rule() {
    use ObjectKind::{ConfigMap, Secret};
    let used = |kind, name: &str| (kind, name.to_owned());
    let uses = [used(Secret, "a"), used(Secret, "b"), used(ConfigMap, "a")];
    let checked = |answers: &[(ObjectKind, &str)], allowed: &[&str]| {
        let keys = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let cluster = Cluster { keys, ..cluster(Arc::new(Held::default()), true, true) };
        cluster.checked("s", &uses, answers.iter().map(|(kind, key)| used(*kind, key)).collect())
    };
    let keys = checked(&[(Secret, "b"), (Secret, "a"), (ConfigMap, "a")], &[]).unwrap();
    assert_eq!(keys[&used(Secret, "a")], "b", "names of the entry, for the same kind of object");
    let keys = checked(&[(Secret, "mcp.s.a"), (Secret, "b"), (ConfigMap, "a")], &["mcp.{server}.*"]).unwrap();
    assert_eq!(keys[&used(Secret, "a")], "mcp.s.a", "allowed by the operator");
    for (answers, allowed, expected) in [
        (&[(Secret, "a")][..], &[][..], "answers 1 keys for 3 names"),
        (&[(ConfigMap, "a"), (Secret, "b"), (ConfigMap, "a")], &[], "wrong kind of object"),
        (&[(Secret, "a"), (Secret, "a"), (ConfigMap, "a")], &[], "the same key `a`"),
        (&[(Secret, "a/b"), (Secret, "b"), (ConfigMap, "a")], &["*"], "a key that is none"),
        (&[(Secret, "stolen"), (Secret, "b"), (ConfigMap, "a")], &[], "--cluster-mapping-keys stolen"),
        (&[(Secret, "mcp.t.a"), (Secret, "b"), (ConfigMap, "a")], &["mcp.{server}.*"], "no name of its catalog entry"),
        (&[(Secret, "a"), (Secret, "b"), (ConfigMap, "b")], &[], "no name of its catalog entry"),
    ] {
        let error = checked(answers, allowed).unwrap_err();
        assert!(error.contains(expected), "{answers:?}: {error}");
    }
}
