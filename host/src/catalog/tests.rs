use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/catalogs").join(name)
}

fn read(text: &str) -> (Catalog, Vec<Warning>) {
    Catalog::parse(text, Path::new("catalog.yaml")).unwrap()
}

fn wrong(text: &str) -> String {
    Catalog::parse(text, Path::new("catalog.yaml")).unwrap_err().to_string()
}

fn select(catalog: &Catalog, name: &str) -> Result<Entry, CatalogError> {
    catalog.select(&[name.to_owned()]).map(|mut entries| entries.remove(0).1)
}

#[test]
fn catalogs_as_users_have_them_load() {
    for (file, server) in [
        ("extra-hosts.yaml", "playwright"),
        ("personal-catalog.yaml", "io.github.dockersamples/mcp-docker-release-information"),
        ("poci-and-server.yaml", "docker"),
        ("poci-and-server.yaml", "dockerhub"),
        ("powertoys.yaml", "powertoys"),
        ("remote.yaml", "gitmcpmoby"),
        ("unknown-key.yaml", "remote-serverless"),
    ] {
        let (catalog, warnings) = Catalog::load(&fixture(file)).unwrap();
        assert!(select(&catalog, server).is_ok(), "{file}");
        assert_eq!(warnings.len(), usize::from(file == "unknown-key.yaml"), "{file}: {warnings:?}");
    }
}

#[test]
fn an_entry_is_read_whole() {
    let (catalog, _) = Catalog::load(&fixture("extra-hosts.yaml")).unwrap();
    let entry = select(&catalog, "playwright").unwrap();
    assert!(entry.long_lived && entry.image.as_deref().unwrap().starts_with("mcp/playwright@sha256:"));
    let hosts = entry.host_aliases().unwrap();
    assert_eq!((hosts[0].name.as_str(), hosts[0].address.as_str()), ("myapp.local", "192.168.1.100"));
    let (catalog, _) = Catalog::load(&fixture("poci-and-server.yaml")).unwrap();
    let tool = select(&catalog, "docker").unwrap().tools.remove(0);
    assert_eq!(tool.container.unwrap().command, ["{{args|into}}"]);
    assert_eq!(tool.parameters["required"], serde_json::json!(["args"]));
    assert_eq!(select(&catalog, "dockerhub").unwrap().secret_names().len(), 1);
}

#[test]
fn an_unknown_key_is_a_warning_with_its_place() {
    let (_, warnings) =
        read("registry:\n  s:\n    image: i\n    longlived: true\n    env:\n      - {name: A, valeu: b}\n");
    let shown: Vec<String> = warnings.iter().map(Warning::to_string).collect();
    assert_eq!(
        shown,
        [
            "catalog.yaml:6:19: `registry.s.env[0].valeu`: unknown key, ignored; check its spelling",
            "catalog.yaml:4:5: `registry.s.longlived`: unknown key, ignored; check its spelling",
        ]
    );
}

#[test]
fn mild_shapes_are_accepted() {
    let (catalog, warnings) = read(
        "registry:\n  s:\n    image: i\n    env: [{name: A, value: 1.10}, {name: B, value: true}, {name: C}]\n    command:\n    \
         tools: [a, {name: b}]\n    config: {name: s}\n    volumes: ~\n    secrets: null\n    oauth: {providers: [{provider: x}]}\n",
    );
    assert_eq!(warnings, []);
    let entry = select(&catalog, "s").unwrap();
    let values: Vec<&str> = entry.env.iter().map(|variable| variable.value.as_str()).collect();
    assert_eq!(values, ["1.10", "true", ""]);
    assert_eq!((entry.command.len(), entry.tools.len(), entry.config.len()), (0, 2, 1));
    assert!(entry.oauth.is_some());
}

#[test]
fn the_same_catalog_in_json_reads_the_same() {
    let (yaml, _) = read("registry:\n  s:\n    image: i\n    env: [{name: A, value: '1'}]\n");
    let (json, _) = read(r#"{"registry": {"s": {"image": "i", "env": [{"name": "A", "value": 1}]}}}"#);
    let debug = |catalog: &Catalog| format!("{:?}", catalog.get("s"));
    assert_eq!(debug(&yaml), debug(&json));
}

#[test]
fn an_error_names_file_line_column_key_and_what_is_expected() {
    assert_eq!(
        wrong("registry:\n  s:\n    image: i\n    env: yes please\n"),
        "catalog.yaml:4:10: `registry.s.env`: a list is expected, found text"
    );
    assert_eq!(
        wrong("registry:\n  io.x:\n    secrets:\n      - env: A\n"),
        "catalog.yaml:4:9: `registry.\"io.x\".secrets[0]`: `name` is missing; add `name: ...`"
    );
    assert!(wrong("registry:\n  s:\n    longLived: maybe\n").contains("`true` or `false` is expected"));
    assert!(wrong("servers: 5\n").starts_with("catalog.yaml:1:10: `servers`: a list is expected"));
    assert!(wrong("s:\n  image: i\n").contains("`registry:` is missing"));
    assert!(wrong("registry:\n  s: {image: [\n").starts_with("catalog.yaml:"));
    assert!(wrong("just text").contains("a map is expected, found text"));
    assert!(Catalog::load(Path::new("/does/not/exist.yaml")).unwrap_err().to_string().contains("check the path"));
}

#[test]
fn an_entry_that_cannot_work_stops_only_who_asks_for_it() {
    for (entry, reason) in [
        ("{}", "add `image`, `remote` or `sseEndpoint`"),
        ("{image: i, sseEndpoint: 'http://x'}", "`image` and `sseEndpoint` are set together"),
        ("{type: poci}", "needs `tools`"),
        ("{type: poci, tools: [{name: t}]}", "tool `t` has no `container.image`"),
        ("{image: i, command: ['{{a|upper}}']}", "`command`: template `{{a|upper}}`: there is no function `upper`"),
        ("{remote: {url: 'http://x', headers: {A: '{{b'}}}", "`remote.headers`: template `{{b`: `{{` is never closed"),
        (
            "{image: i, policy: {allowed: false, reason: too odd}}",
            "the policy of its catalog does not allow it: too odd",
        ),
        ("{type: robot, image: i}", "there is no `type: robot`"),
        ("{image: i, env: [{name: 'A=B', value: x}]}", "`A=B` cannot name an environment variable"),
        ("{image: i, secrets: [{name: s, env: '1 2'}]}", "`1 2` cannot name an environment variable"),
        ("{image: i, extraHosts: ['name']}", "`name` is not `name:address`"),
        ("{image: i, extraHosts: ['name:nowhere']}", "is not `name:address`"),
        ("{remote: {url: 'http://x', transport_type: carrier-pigeon}}", "there is no `carrier-pigeon`"),
    ] {
        let (catalog, warnings) = read(&format!("registry:\n  bad: {entry}\n  good: {{image: i}}\n"));
        assert!(warnings.iter().any(|warning| warning.text.contains(reason)), "{entry}: {warnings:?}");
        assert!(select(&catalog, "good").is_ok());
        let error = select(&catalog, "bad").unwrap_err().to_string();
        assert!(error.starts_with("catalog.yaml:2:8: server `bad`: ") && error.contains(reason), "{error}");
    }
    let (catalog, _) = read("registry:\n  s: {image: i, extraHosts: ['a.b:::1', 'h:host-gateway']}\n");
    assert_eq!(select(&catalog, "s").unwrap().host_aliases().unwrap()[0].address, "::1");
}

#[test]
fn an_unknown_server_is_met_with_near_names() {
    let (catalog, _) = read("registry: {github: {image: i}, time: {image: i}}");
    let message = |name: &str| select(&catalog, name).unwrap_err().to_string();
    assert_eq!(message("githb"), "server `githb` is in no catalog; did you mean `github`?");
    assert!(message("zzzzzz").contains("among the 2 servers"));
    assert!(select(&Catalog::default(), "x").unwrap_err().to_string().contains("the catalogs are empty"));
}

#[test]
fn a_later_catalog_replaces_an_entry_as_a_whole() {
    let (first, _) = read("registry: {s: {image: one, longLived: true}, t: {image: t}}");
    let (second, _) = read("registry: {s: {image: two}}");
    let merged = Catalog::merge(vec![first, second]);
    let entry = select(&merged, "s").unwrap();
    assert_eq!((entry.image.as_deref(), entry.long_lived), (Some("two"), false));
    let names = ["t", "s", "t"].map(str::to_owned);
    let selected: Vec<String> = merged.select(&names).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(selected, ["t", "s"]);
}

#[test]
fn a_server_may_have_a_file_of_its_own() {
    let (catalog, warnings) = read("name: one\nimage: i\nenv: [{name: A, value: b}]\n");
    assert_eq!((warnings.len(), select(&catalog, "one").unwrap().env.len()), (0, 1));
    let json = r#"{"name": "one", "type": "remote", "remote": {"url": "https://x"}}"#;
    assert!(select(&read(json).0, "one").unwrap().remote.is_some());
}

#[test]
fn an_entry_of_the_registry_project_is_taken_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.yaml");
    let text = r#"
name: s
image: mcp/s
type: server
longLived: true
dynamic: {tools: true}
requirement: other
meta: {category: c, tags: [t]}
about: {title: T, description: D, icon: https://x/i.png}
source: {project: https://x, commit: abc}
oauth: [{provider: p, secret: s.token, env: TOKEN}]
run:
  command: ['{{s.arg}}']
  volumes: ['{{s.dir}}:/d']
  env: {MODE: stdio}
  user: '{{s.uid}}'
  disableNetwork: true
  allowHosts: ['x:443']
  ports: ['1:1']
config:
  description: what it is about
  secrets: [{name: s.key, env: KEY, example: k, description: d, required: false}]
  env: [{name: A, value: '{{s.a}}', example: 1, default: 2}]
  parameters: {type: object, properties: {a: {type: string, default: x}}, required: [a]}
  volumes: [/ignored:/d]
"#;
    std::fs::write(&path, text).unwrap();
    std::fs::write(
        directory.path().join("tools.json"),
        r#"[{"name": "t", "description": "d", "arguments": [{"name": "q", "type": "array", "items": {"type": "string"}, "desc": "what"},
            {"name": "o", "type": "string", "desc": "x", "optional": true}]}]"#,
    )
    .unwrap();
    let (catalog, warnings) = Catalog::load(&path).unwrap();
    let texts: Vec<&str> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(texts, ["config.volumes", "run.ports"], "{warnings:?}");
    let entry = select(&catalog, "s").unwrap();
    let env: Vec<&str> = entry.env.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(env, ["A", "MODE"]);
    assert_eq!((entry.title.as_deref(), entry.description.as_deref()), (Some("T"), Some("D")));
    assert_eq!((entry.command[0].as_str(), entry.volumes[0].as_str()), ("{{s.arg}}", "{{s.dir}}:/d"));
    assert!(
        entry.long_lived && entry.disable_network && entry.user.is_some() && entry.secrets[0].required == Some(false)
    );
    assert_eq!(entry.allow_hosts, ["x:443"]);
    assert_eq!(entry.oauth.as_ref().unwrap()["providers"][0]["secret"], "s.token");
    assert_eq!(entry.config[0]["name"], "s");
    assert_eq!(entry.config[0]["properties"]["a"]["default"], "x");
    assert_eq!(entry.metadata.as_ref().unwrap()["category"], "c");
    assert_eq!(
        serde_json::Value::Object(entry.tools[0].parameters.clone()),
        serde_json::json!({"type": "object", "required": ["q"], "properties": {
            "q": {"type": "array", "description": "what", "items": {"type": "string"}},
            "o": {"type": "string", "description": "x"}}})
    );
    std::fs::write(directory.path().join("tools.json"), "{").unwrap();
    let (catalog, warnings) = Catalog::load(&path).unwrap();
    assert!(select(&catalog, "s").unwrap().tools.is_empty());
    assert!(warnings.iter().any(|warning| warning.to_string().contains("tools.json:1:")), "{warnings:?}");
}

#[test]
fn a_catalog_may_deny_a_tool_or_all_that_it_has() {
    let (catalog, _) = read("registry:\n  s: {image: i, tools: [{name: a, policy: {allowed: false}}, {name: b}]}\n");
    let entry = select(&catalog, "s").unwrap();
    assert!(!entry.offers_tool("a") && entry.offers_tool("b") && entry.offers_tool("unlisted"));
    let (catalog, _) = read("policy: {allowed: false, reason: closed}\nregistry: {s: {image: i}}\n");
    assert!(select(&catalog, "s").unwrap_err().to_string().contains("does not allow it: closed"));
}

#[test]
fn what_many_entries_have_in_common_is_told_once() {
    let (_, warnings) = read(
        "version: 9\nregistry:\n  a: {image: i, colour: 1}\n  b: {image: i, colour: 2}\n  c: {image: i, taste: 3}\n",
    );
    let shown: Vec<String> = warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown.iter().any(|text| text.contains(":3:") && text.ends_with("(and 1 more of this)")), "{shown:?}");
    assert!(shown.iter().any(|text| text.contains("this version of catalogs is not known")), "{shown:?}");
}

#[test]
fn one_server_that_cannot_work_leaves_the_others() {
    let (catalog, _) = read("registry: {good: {image: i}, bad: {}}");
    let names = ["bad", "good", "missing", "good"].map(str::to_owned);
    let (selected, errors) = catalog.select_usable(&names);
    assert_eq!((selected.len(), selected[0].0.as_str(), errors.len()), (1, "good", 2));
}

#[test]
fn an_empty_catalog_is_one() {
    for text in ["", "registry:\n", "version: 2\nname: x\nregistry: {}\n"] {
        assert_eq!(read(text).0.names().count(), 0, "{text}");
    }
}
