//! Private values: where a component may put them, and all the ways out that it tries.

use std::time::Duration;

use async_trait::async_trait;
use docker_mcp::capability::remote_endpoint::RemoteHandle;
use docker_mcp::secrets::{SecretError, SecretStore, SecretText};
use std::collections::BTreeSet;
use std::sync::Arc;
use wit_parser::{Resolve, Type, TypeDefKind};

use crate::attempt::{Attempt, CANARY, Got, PERMISSIVE, log, log_length, red_team};
use crate::raw_guest::{File, declaring};
use crate::world::{ALL, Around, World};

/// Everything that could help, and a policy that allows all.
const WIDEST: [&str; 10] = [
    "rewrite-image=registry.example",
    "rewrite-command",
    "rewrite-user=65532",
    "add-argument=*",
    "add-env=*",
    "add-env=PUBLIC",
    "add-env=HTTP_PROXY",
    "add-mount=cache",
    "add-label=team.",
    "add-host=evil:198.51.100.6",
];

#[tokio::test]
async fn no_grant_and_no_policy_puts_a_private_value_where_the_entry_does_not() {
    for attempt in [
        "secret-in-added-variable",
        "secret-in-proxy",
        "secret-in-other-variable",
        "secret-twice",
        "secret-before-text",
        "secret-after-text",
        "secret-doubled",
        "secret-in-command",
        "secret-in-argument",
        "secret-as-command",
        "secret-as-volume",
        "secret-as-volume-name",
        "secret-as-target",
        "secret-as-user",
        "config-in-added-variable",
        "config-in-other-variable",
        "config-in-command",
        "config-as-volume",
        "volume-in-variable",
        "swap",
    ] {
        Attempt::new(attempt, "").made().await.refusal();
        for policy in [None, Some(PERMISSIVE)] {
            let seen = Attempt::new(attempt, "").granted(&WIDEST).under(policy).made().await;
            let error = seen.refusal();
            assert!(error.contains("no grant") || error.contains("set it once"), "{attempt}: {error}");
            // The log says what was tried, by name.
            let asked = serde_json::to_string(&seen.denied().arguments).unwrap();
            assert!(asked.contains("<secret:") || asked.contains("<config:"), "{attempt}: {asked}");
        }
        Attempt::new(attempt, "").granted(&WIDEST).for_tool().await.refusal();
    }
}

/// What the catalog's author writes as `$TOKEN` or `{{…}}` is not a language that a component can speak.
#[tokio::test]
async fn text_of_a_component_that_looks_like_a_reference_stays_text() {
    for text in [
        "$TOKEN",
        "${TOKEN}",
        "$(TOKEN)",
        "$$TOKEN",
        "%TOKEN%",
        "{{argument.token}}",
        "<secret:s.token>",
        "`printenv TOKEN`",
        "$(printenv TOKEN)",
        "; printenv",
        "\" \"",
        "'",
        "a b",
        "\n",
        "--",
        "\\",
    ] {
        let seen = Attempt::new("argument", text).granted(&WIDEST).made().await;
        let (_, request) = seen.allowed("start");
        let last = request.spec.command.last().unwrap();
        assert_eq!(last.as_plain_text(), Some(text), "{last:?}");
        assert_eq!(request.spec.command.len(), 3, "{request:?}");
        let seen = Attempt::new("variable-text", text).granted(&WIDEST).made().await;
        let (_, request) = seen.allowed("start");
        let (name, added) = request.spec.environment.last().unwrap();
        assert_eq!((name.as_str(), added.as_plain_text()), ("ADDED", Some(text)));
    }
}

/// A component that may not hold secrets cannot get one by way of configuration either.
#[tokio::test]
async fn another_servers_secrets_cannot_be_named() {
    // There is no argument to name it with (see the test of the contract below), none outside of a server's scope
    // (`initialize` tries), and templates reach the entry's own section and the secrets that it declares.
    let catalog = r"
registry:
  NAME:
    image: img
    command: ['{{other.token}}', '{{other}}', '$OTHER']
    env:
      - {name: STOLEN, value: '{{other.token}}'}
      - {name: EXPANDED, value: '$OTHER ${OTHER}'}
";
    let seen = Attempt::new("plain", "").of(catalog).made().await;
    let (_, request) = seen.allowed("start");
    let shown = format!("{:?} {:?}", request.spec.command, request.spec.environment);
    assert!(!shown.contains("<secret:") && !shown.contains("<config:"), "{shown}");
    // An entry that claims it is the catalog's to answer for, and a policy can forbid it.
    let claims = "registry:\n  NAME:\n    image: img\n    secrets: [{name: other.token, env: TOKEN}]\n";
    let own = "version: 1\nrules: [{name: own, secrets: {allow: ['{server}.*']}}]\n";
    let seen = Attempt::new("plain", "").of(claims).under(Some(own)).made().await;
    assert!(seen.requests.is_empty());
    let denied = seen.denied();
    assert_eq!(
        (denied.function.as_deref(), denied.outcome.as_deref()),
        (Some("resolve-secrets"), Some("access-denied"))
    );
    assert_eq!(denied.rule.as_ref().unwrap().text, "rule `own`");
}

#[tokio::test]
async fn a_remote_address_is_the_entrys_and_its_secrets_stay_names() {
    let catalog = r"
registry:
  NAME:
    type: remote
    remote: {url: 'https://mcp.example/?key=${TOKEN}', headers: {Authorization: 'Bearer ${TOKEN}', X-User: '{{NAME.user}}'}}
    secrets: [{name: NAME.token, env: TOKEN}]
";
    let seen = Attempt::new("remote", "").of(catalog).granted(&WIDEST).made().await;
    assert!(matches!(seen.result, Ok(Got::Remote)), "{seen:?}");
    let call =
        seen.records.iter().find(|record| record.function.as_deref() == Some("connect") && record.server.is_some());
    let gave = call.unwrap().gave.join(" ");
    assert_eq!(
        gave,
        "https://mcp.example/?key=<secret:remote.token> Authorization: Bearer <secret:remote.token> X-User: <config:remote.user>"
    );
    // A container's server has none, whatever else the component does.
    for attempt in ["remote", "remote-of-container"] {
        let seen = Attempt::new(attempt, "").granted(&WIDEST).made().await;
        let error = seen.result.unwrap_err().to_string();
        assert!(error.contains("declares no remote address"), "{error}");
    }
    // Where a policy cannot tell the host because a secret is in its place, the answer is no.
    let hidden = catalog.replace("mcp.example/?key=${TOKEN}", "${TOKEN}.example/");
    let hosts = "version: 1\nrules: [{name: hosts, hosts: {allow: ['*.example']}}]\n";
    let seen = Attempt::new("remote", "").of(&hidden).under(Some(hosts)).made().await;
    assert_eq!(seen.denied().rule.as_ref().unwrap().text, "rule `hosts`", "{seen:?}");
}

#[tokio::test]
async fn what_a_component_says_is_one_bounded_line_wherever_it_is_shown() {
    let text = "ok\n2026-01-01 INFO forged\r\u{1b}[2J\u{202e}x";
    let from = log_length();
    let seen = Attempt::new("error", text).made().await;
    let error = seen.result.unwrap_err().to_string();
    assert!(
        error.starts_with("ok\\n2026") && !error.contains(char::is_control) && !error.contains('\u{202e}'),
        "{error}"
    );
    let seen = Attempt::new("log", text).made().await;
    let said = seen.records.iter().find(|record| record.function.as_deref() == Some("log")).unwrap();
    assert!(said.arguments["message"].as_str().unwrap().starts_with("ok\\n2026"), "{said:?}");
    let logged = log().since(from);
    assert!(logged.contains("ok\\n2026") && !logged.lines().any(|line| line.starts_with("2026-01-01 INFO forged")));
}

/// The one function that gives text is the runtime's name; values go in and never come out.
#[test]
fn no_function_of_the_contract_gives_text_made_of_a_value() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).unwrap();
    let all = resolve.packages[package].worlds["all-capabilities"];
    let mut gives = BTreeSet::new();
    for item in resolve.worlds[all].imports.values() {
        let wit_parser::WorldItem::Interface { id, .. } = item else { panic!("only interfaces are imported") };
        let interface = &resolve.interfaces[*id];
        for function in interface.functions.values() {
            let name = format!("{}.{}", interface.name.as_ref().unwrap(), function.name);
            let mut texts = BTreeSet::new();
            if let Some(result) = &function.result {
                readable(&resolve, result, &mut texts);
            }
            gives.extend(texts.into_iter().map(|text| format!("{name}: {text}")));
        }
    }
    // The texts of errors are tried by the tests of this file and of `real_engine`; a binding's name is the catalog's.
    let (errors, others): (BTreeSet<String>, BTreeSet<String>) =
        gives.into_iter().partition(|gives| gives.ends_with(": error"));
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    assert_eq!(
        others,
        [
            "config-resolver.resolve-environment: binding",
            "config-resolver.resolve-volumes: binding",
            "container-runtime.name: string",
            "secret-resolver.resolve-secrets: binding",
        ]
    );
    assert!(errors.len() >= 9, "{errors:?}");
}

/// What of a type a component can read: the names of the types that have text or numbers in them.
fn readable(resolve: &Resolve, kind: &Type, texts: &mut BTreeSet<String>) {
    let Type::Id(id) = kind else {
        texts.insert(format!("{kind:?}").to_lowercase());
        return;
    };
    let definition = &resolve.types[*id];
    let mut below = BTreeSet::new();
    let mut look = |kind: &Type| readable(resolve, kind, &mut below);
    match &definition.kind {
        TypeDefKind::Record(record) => record.fields.iter().for_each(|field| look(&field.ty)),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty.as_ref()).for_each(look),
        TypeDefKind::Result(result) => {
            [result.ok, result.err].iter().flatten().for_each(|kind| readable(resolve, kind, texts));
        }
        TypeDefKind::Option(kind) | TypeDefKind::List(kind) | TypeDefKind::Type(kind) => readable(resolve, kind, texts),
        // A handle says nothing.
        TypeDefKind::Handle(_) | TypeDefKind::Resource => {}
        other => panic!("{other:?}"),
    }
    if !below.is_empty() {
        texts.insert(definition.name.clone().unwrap());
    }
}

/// Answers, after a while.
struct Slow(Duration);

#[async_trait]
impl SecretStore for Slow {
    async fn get(&self, _name: &str) -> Result<SecretText, SecretError> {
        tokio::time::sleep(self.0).await;
        Ok(SecretText::new("canary-secret".to_owned()))
    }
}

/// A guest has no clock, and nothing of it runs while it waits: its whole memory is the same however long calls take.
#[tokio::test]
async fn a_component_cannot_tell_how_long_a_host_call_took() {
    let mut digests = BTreeSet::new();
    let catalog =
        "registry:\n  NAME:\n    image: img\n    secrets: [{name: NAME.token, env: TOKEN}]\n".replace("NAME", "clock");
    for wait in [0, 1, 400] {
        let secrets: Arc<dyn SecretStore> = Arc::new(Slow(Duration::from_millis(wait)));
        let world = World::within(red_team(), ALL, "clock", &catalog, Around { secrets, ..Around::default() });
        let error = world.provision("clock").await.map(drop).unwrap_err().to_string();
        assert!(error.starts_with("memory ") && world.left().await == 0, "{error}");
        digests.insert(error);
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
    // Neither can it make a clock: there is no second thread, and so none to count in memory that is shared.
    for module in ["(memory 1 1 shared)", "(import \"env\" \"shared\" (memory 1 1 shared))"] {
        let file = File::new(&declaring(&format!("(core module {module})")));
        let world = World::new(file.source(), ALL, "s");
        let error = world.provision("s").await.map(drop).unwrap_err().to_string();
        assert!(error.contains("shared"), "{module}: {error}");
        assert_eq!(world.left().await, 0);
    }
}

/// Nothing that the host keeps for a component can be shown by accident.
#[test]
fn what_the_host_holds_for_a_component_shows_names() {
    let secret = provisioning_core::Value::secret("s.token");
    let remote = RemoteHandle {
        url: secret.clone(),
        transport: docker_mcp::provision::RemoteTransport::Sse,
        headers: vec![("Authorization".to_owned(), secret)],
    };
    let text = SecretText::new(CANARY.to_owned());
    assert!(!format!("{remote:?} {text:?}").contains(CANARY));
}
