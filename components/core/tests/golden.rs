//! What the existing gateway does, measured, row by row. Rows marked as its faults are left to `template.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use provisioning_core::cluster_key;
use provisioning_core::env_file;
use provisioning_core::template::{self, Scope};
use provisioning_core::value::{Segment, Value};
use provisioning_core::volume::{self, BindRules};
use serde_json::{Map, Value as Json};

fn rows(text: &'static str) -> impl Iterator<Item = Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// Reads a value whole, as a test may.
fn read(value: &Value) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Text(text) => text.clone(),
        Segment::Private { text, .. } => text.to_string(),
        Segment::Secret(_) | Segment::ClusterKey { .. } | Segment::Stored { .. } => panic!("not text"),
    };
    value.segments().iter().map(text).collect()
}

fn scalar_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn templates_evaluate_as_measured() {
    let secrets = BTreeSet::new();
    let mut tested = 0;
    for row in rows(include_str!("golden/eval.jsonl")) {
        // Rows that come with YAML text are tested where YAML is read.
        if row["quirk"] == true || row.get("config_yaml").is_some() {
            continue;
        }
        let config = row["config"].as_object().cloned().unwrap_or_default();
        let scope = Scope { config: &config, secrets: &secrets, arguments: None, references: None };
        let output = &row["output"];
        match &row["expr"] {
            Json::String(expression) if !output.is_array() => {
                let value = template::evaluate(expression, &scope).unwrap();
                // A map has no native text; the measured one is of no use to a container.
                let expected =
                    if output.is_object() { &scalar_text(output) } else { row["rendered"].as_str().unwrap() };
                assert_eq!(read(&value), expected, "{row}");
            }
            expressions => {
                let expressions: Vec<String> = match expressions {
                    Json::String(one) => vec![one.clone()],
                    many => serde_json::from_value(many.clone()).unwrap(),
                };
                let values = template::evaluate_list(&expressions, &scope).unwrap();
                let expected: Vec<String> = output.as_array().unwrap().iter().map(scalar_text).collect();
                assert_eq!(values.iter().map(read).collect::<Vec<_>>(), expected, "{row}");
            }
        }
        tested += 1;
    }
    assert!(tested > 170, "only {tested} rows");
}

#[test]
fn variables_expand_as_measured() {
    for row in rows(include_str!("golden/expand_env.jsonl")) {
        let pairs: Vec<(String, String)> = row["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| pair.as_str().unwrap().split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let lookup =
            |name: &str| pairs.iter().find(|(own, _)| own == name).map(|(_, value)| Value::text(value.clone()));
        let input = Value::text(row["input"].as_str().unwrap());
        let output = template::expand_variables(&input, &lookup);
        assert_eq!(read(&output), row["output"].as_str().unwrap(), "{row}");
    }
}

#[test]
fn every_measured_fault_gives_a_result_or_an_explained_error() {
    let secrets = BTreeSet::new();
    for row in rows(include_str!("golden/eval.jsonl")).filter(|row| row["quirk"] == true) {
        let config: Map<String, Json> = row["config"].as_object().cloned().unwrap_or_default();
        let scope = Scope { config: &config, secrets: &secrets, arguments: None, references: None };
        let Some(expression) = row["expr"].as_str() else { continue };
        match (row["quirk_code"].as_str().unwrap(), template::evaluate(expression, &scope)) {
            ("UNKNOWN-FN", result) => assert!(result.is_err(), "{row}"),
            ("BRACES", Ok(value)) if !expression.contains("{{") => assert_eq!(read(&value), expression),
            (_, Ok(value)) => assert!(!read(&value).contains("<nil>") && !read(&value).contains("map[")),
            (_, Err(error)) => assert!(!error.reason.is_empty()),
        }
    }
}

#[test]
fn keys_of_cluster_objects_are_as_measured_or_refused_but_never_changed() {
    let (mut kept, mut refused) = (0, 0);
    for row in rows(include_str!("golden/key_mapping.jsonl")).filter(|row| row["kind"] == "secret_key") {
        let input = row["input"].as_str().unwrap();
        // A template stands for what it names, without its functions.
        let name =
            if row["is_template"] == true { template::paths(input).unwrap().remove(0) } else { input.to_owned() };
        let is_measured = row["output"] == name.as_str() && row["valid_k8s_key"] == true;
        match cluster_key(&name) {
            Ok(key) => {
                // The measured key of `{{a|or:b}}` has the function in it.
                assert!(key == name && (is_measured || input == "{{a|or:b}}"), "{row}");
                kept += 1;
            }
            Err(_) => {
                assert!(!is_measured, "{row}");
                refused += 1;
            }
        }
    }
    assert_eq!((kept, refused), (9, 18));
}

#[test]
fn env_files_are_read_as_measured() {
    for row in rows(include_str!("golden/env_parse.jsonl")) {
        let pairs = env_file::parse(row["text"].as_str().unwrap());
        match row["parsed"].as_object() {
            // Differences on purpose: quotes are read, and with them values of several lines.
            _ if row["id"] == "envfile/quotes" => {
                let pairs = pairs.unwrap();
                assert_eq!(pairs.iter().map(|pair| pair.value.as_str()).collect::<Vec<_>>(), ["x y", "z"]);
            }
            _ if row["id"] == "envfile/multiline" || row["id"] == "envfile/multiline-eq" => {
                let pairs = pairs.unwrap();
                let value = env_file::get(&pairs, "A").unwrap();
                assert!(pairs.len() == 1 && (**value == "one\ntwo" || **value == "one\nk=v"), "{row}");
            }
            // A byte order mark is tolerated here.
            _ if row["id"].as_str().unwrap().starts_with("envfile/bom") => {
                assert_eq!(env_file::get(&pairs.unwrap(), "A").unwrap().as_str(), "1");
            }
            Some(expected) => {
                let pairs = pairs.unwrap();
                assert_eq!(pairs.len(), expected.len(), "{row}");
                for (name, value) in expected {
                    assert_eq!(Some(env_file::get(&pairs, name).unwrap().as_str()), value.as_str(), "{row}");
                }
            }
            None => assert!(pairs.is_err(), "{row}"),
        }
    }
}

#[test]
fn volumes_are_judged_as_measured() {
    for row in rows(include_str!("golden/volume_binds.jsonl")) {
        let listed = |name: &str| -> Vec<PathBuf> {
            let paths = row["process_env"][name].as_str().unwrap_or_default();
            paths.split(':').filter_map(volume::normalised).collect()
        };
        let mut roots: Vec<PathBuf> = volume::TEMPORARY.iter().map(PathBuf::from).collect();
        roots.extend(listed(volume::ALLOWED_PATHS));
        let rules = BindRules { roots, writable: listed(volume::WRITABLE_PATHS) };
        let checked = rules.check(row["input"].as_str().unwrap(), &|path| Ok(path.to_owned()));
        match row["output"].as_str() {
            Some(expected) => assert_eq!(checked.unwrap().to_string(), expected, "{row}"),
            None => assert!(checked.is_err(), "{row}"),
        }
    }
}

#[test]
fn real_entries_evaluate_as_measured() {
    let secrets = BTreeSet::new();
    let texts = |json: &Json| -> Vec<String> { serde_json::from_value(json.clone()).unwrap_or_default() };
    let mut tested = 0;
    for row in rows(include_str!("golden/docker_args.jsonl")) {
        if row["quirk"] == true || row["args"].is_null() || row["kind"] != "server" {
            continue;
        }
        let config = row["config"].as_object().cloned().unwrap_or_default();
        let scope = Scope { config: &config, secrets: &secrets, arguments: None, references: None };
        let entry = &row["catalog_entry"];
        let command = template::evaluate_list(&texts(&entry["command"]), &scope).unwrap();
        assert_eq!(command.iter().map(read).collect::<Vec<_>>(), texts(&row["command"]), "{row}");
        for variable in entry["env"].as_array().into_iter().flatten() {
            let expression = variable["value"].as_str().unwrap();
            if template::is_template(expression) {
                let value = read(&template::evaluate(expression, &scope).unwrap());
                let measured = row["env"][variable["name"].as_str().unwrap()].as_str().unwrap_or_default();
                // A large number with a fraction part is written in full here.
                let same_number = measured.contains("e+") && value.parse::<f64>() == measured.parse::<f64>();
                assert!(value == measured || same_number, "{value} instead of {measured}: {row}");
            }
        }
        tested += 1;
    }
    assert!(tested > 20, "only {tested} rows");
}
