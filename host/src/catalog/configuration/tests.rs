use std::collections::BTreeSet;

use provisioning_core::template::{Scope, evaluate};
use provisioning_core::value::Segment;
use serde_json::json;

use super::*;

fn read(text: &str) -> Map<String, Json> {
    parse(text, Path::new("config.yaml")).unwrap()
}

#[test]
fn a_section_of_a_later_file_replaces_the_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let paths = [
        file("a.yaml", "s: {a: 1, l: [1, 2], n: {x: 1}}\nt:\n"),
        file("b.json", r#"{"s": {"a": 2, "l": [3], "n": {"y": 2}}}"#),
    ];
    assert_eq!(Json::Object(load(&paths).unwrap()), json!({"s": {"a": 2, "l": [3], "n": {"y": 2}}, "t": {}}));
    let error = load(&[directory.path().join("none.yaml")]).unwrap_err();
    assert!(error.to_string().contains("check the path"), "{error}");
}

fn scope(configuration: &Map<String, Json>, server: &str, schema: Json) -> ServerConfiguration {
    for_server(configuration, server, &Entry { config: vec![schema], ..Entry::default() })
}

#[test]
fn a_server_sees_its_own_section_only() {
    let config = read("a.b: {k: 1}\na_b: {k: 2, l: 3}\na: {k: 4}\nother: {k: 5}\na.flat: 6\na.n.deep: 7\na.k: 8\n");
    let scope = |server: &str| Json::Object(scope(&config, server, Json::Null).scope);
    assert_eq!(scope("a.b"), json!({"a_b": {"k": 2, "l": 3}}));
    assert_eq!(scope("a"), json!({"a": {"k": 4, "flat": 6, "n": {"deep": 7}}}));
    assert_eq!(scope("none"), json!({}));
}

#[test]
fn templates_see_defaults_and_a_fault_names_the_key() {
    let schema = json!({"name": "io.x", "required": ["host"], "properties": {
        "host": {"type": "string"}, "region": {"type": "string", "default": "eu"}}});
    let config = read("io.x: {host: hunter2}\n");
    let own = scope(&config, "io.x", schema.clone());
    assert_eq!(Json::Object(own.scope), json!({"io_x": {"host": "hunter2", "region": "eu"}}));
    assert_eq!((own.fault, own.warnings.len()), (None, 0));
    let none = scope(&read(""), "io.x", schema.clone());
    let fault = "configuration: `io_x.host` is not set, and the server needs it; change it in `config.yaml`";
    assert_eq!(none.fault.as_deref(), Some(fault));
    let wrong = scope(&read("io_x.host: [hunter2]\n"), "io.x", schema).fault.unwrap();
    assert!(wrong.contains("`io_x.host` must be text") && !wrong.contains("hunter2"), "{wrong}");
    let unusable = scope(&config, "io.x", json!({"type": "what"}));
    assert_eq!((unusable.fault, unusable.warnings.len()), (None, 1));
}

#[test]
fn an_error_names_file_place_and_key_and_no_value() {
    let error = parse("s: {a: 1}\nt: hunter2\n", Path::new("config.yaml")).unwrap_err().to_string();
    assert_eq!(error, "config.yaml:2:4: `t`: a section, that is a map of keys to values, is expected, found text");
    let error = parse("s:\n  a: 'hunter2\n", Path::new("config.yaml")).unwrap_err().to_string();
    assert!(error.starts_with("config.yaml:") && !error.contains("hunter2"), "{error}");
}

#[test]
fn yaml_reads_as_measured() {
    let secrets = BTreeSet::new();
    let mut tested = 0;
    for line in include_str!("../../../../components/core/tests/golden/eval.jsonl").lines() {
        let row: Json = serde_json::from_str(line).unwrap();
        let (Some(text), Some(expression)) = (row["config_yaml"].as_str(), row["expr"].as_str()) else { continue };
        let config = yaml::parse(text).unwrap().to_json();
        let config = config.as_object().unwrap();
        let scope = Scope { config, secrets: &secrets, arguments: None, references: None };
        let value = evaluate(expression, &scope).unwrap();
        let read: String = value
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Text(text) => text.as_str(),
                Segment::Private { text, .. } => text.as_str(),
                _ => "",
            })
            .collect();
        // Keys that are numbers are found here, and a list inside text is JSON.
        let expected = match row["quirk_code"].as_str() {
            Some("INT-KEY") => "<one>",
            Some("GO-FORMAT") => r#"<[1,"two",{"c":3}]>"#,
            _ => row["rendered"].as_str().unwrap(),
        };
        assert_eq!(read, expected, "{row}");
        tested += 1;
    }
    assert!(tested >= 13, "only {tested} rows");
}
