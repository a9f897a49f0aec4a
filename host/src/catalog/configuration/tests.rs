use std::collections::BTreeSet;

use provisioning_core::template::{Scope, evaluate};
use provisioning_core::value::Segment;
use serde_json::json;

use super::*;

fn read(text: &str) -> Map<String, Json> {
    parse(text, Path::new("config.yaml")).unwrap()
}

#[test]
fn later_files_are_laid_over_earlier_ones() {
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
    assert_eq!(Json::Object(load(&paths).unwrap()), json!({"s": {"a": 2, "l": [3], "n": {"x": 1, "y": 2}}, "t": {}}));
    let error = load(&[directory.path().join("none.yaml")]).unwrap_err();
    assert!(error.to_string().contains("check the path"), "{error}");
}

#[test]
fn a_server_sees_its_own_section_only() {
    let config = read("a.b: {k: 1}\na_b: {k: 2, l: 3}\na: {k: 4}\nother: {k: 5}\na.flat: 6\n");
    assert_eq!(Json::Object(scope(&config, "a.b")), json!({"a_b": {"k": 2, "l": 3}}));
    assert_eq!(Json::Object(scope(&config, "a")), json!({"a": {"k": 4}, "a.flat": 6}));
    assert!(scope(&config, "none").is_empty());
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
        let scope = Scope { config, secrets: &secrets, arguments: None };
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
