use std::path::Path;

use super::*;

type Pairs = &'static [(&'static str, &'static str)];

/// Rows of which the measured object is not to be copied, and what is done instead.
const DIFFERENT: &[(&str, Option<Pairs>, &str)] = &[
    ("envfile/quotes", Some(&[("A", "x y"), ("B", "z")]), "quotes are taken off"),
    ("envfile/export", None, "`export A` is refused: no cluster accepts such a key"),
    ("envfile/spaces", Some(&[("A", "1"), ("B", "2")]), "blanks around `=` are no part of the name and value"),
    ("envfile/bom", Some(&[("A", "1")]), "a byte order mark is no part of the name"),
    ("envfile/multiline", Some(&[("A", "one\ntwo")]), "a value in quotes may have several lines"),
    ("envfile/multiline-eq", Some(&[("A", "one\nk=v")]), "a value in quotes may have several lines"),
];

fn of(text: &str, kind: ObjectKind) -> anyhow::Result<Data> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.env");
    std::fs::write(&file, text).unwrap();
    Data::from_env_file(&file, kind)
}

/// The values that a body for the API has.
fn values(kind: ObjectKind, data: &Data) -> BTreeMap<String, String> {
    use base64::Engine as _;
    let Json::Object(content) = content(kind, data) else { panic!() };
    let text = |value: Json| match kind {
        ObjectKind::Secret => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        }
        ObjectKind::ConfigMap => value.as_str().unwrap().to_owned(),
    };
    content.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn measured(row: &Json, kind: ObjectKind, command: &str) -> BTreeMap<String, String> {
    let field = if kind == ObjectKind::Secret { "stringData" } else { "data" };
    let data = row[command]["object"][field].as_object().cloned().unwrap_or_default();
    data.into_iter().map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect()
}

#[test]
fn objects_are_made_of_files_as_measured() {
    let mut seen = 0;
    for row in include_str!("../../../../components/core/tests/golden/cluster_tools.jsonl").lines() {
        let row: Json = serde_json::from_str(row).unwrap();
        let id = row["id"].as_str().unwrap();
        for (kind, command, file) in [
            (ObjectKind::ConfigMap, "populate_configmap", "config_env_file_filled"),
            (ObjectKind::Secret, "populate_secret", "secret_env_file_filled"),
        ] {
            if row[command]["object"].is_null() && row["kind"] != "populate" {
                continue;
            }
            let text = row["env_file"].as_str().or_else(|| row[file]["text_sorted"].as_str()).unwrap();
            let long = format!("A=1\nB={}\nC=2\n", "x".repeat(70_000));
            let is_long = id == "envfile/long-line";
            let read = of(if is_long { &long } else { text }, kind);
            seen += 1;
            if let Some((_, expected, why)) = DIFFERENT.iter().find(|(known, ..)| *known == id) {
                assert_eq!(row["quirk"], true, "{id}");
                match (expected, read) {
                    (Some(expected), Ok(data)) => {
                        let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                        assert_eq!(values(kind, &data), expected.collect(), "{id}: {why}");
                    }
                    (None, Err(_)) => {}
                    (_, read) => panic!("{id}: {why}: {:?}", read.map(|data| data.keys().join(" "))),
                }
            } else if is_long {
                // Nothing is lost behind a long line.
                assert_eq!(read.unwrap().keys(), ["A", "B", "C"]);
            } else if id == "okta-mcp-server" && kind == ObjectKind::ConfigMap {
                // Its measured file has a template with text around it as a name, which is refused.
                assert!(read.is_err());
            } else {
                let data = read.unwrap_or_else(|error| panic!("{id}: {error:#}"));
                assert_eq!(values(kind, &data), measured(&row, kind, command), "{id}");
                let object = &row[command]["object"];
                let own = manifest(kind, object["metadata"]["name"].as_str().unwrap(), "data", Json::Null);
                for field in ["/apiVersion", "/kind", "/type", "/metadata/name", "/metadata/labels"] {
                    assert_eq!(own.pointer(field), object.pointer(field), "{id}: {field}");
                }
            }
        }
    }
    assert_eq!(seen, 72);
}

#[test]
fn what_is_still_to_be_filled_in_is_skipped() {
    let text = "A=<REPLACE_WITH_YOUR_VALUE>\nB=<REPLACE_WITH_YOUR_SECRET>\nC=<REPLACE_WITH_ACTUAL_VALUE>\n\
                D=<REPLACE_WITH_ACTUAL_SECRET>\nE=ok\nF=\nG=\"\"\n";
    let secret = of(text, ObjectKind::Secret).unwrap();
    assert_eq!((secret.keys(), secret.skipped.join(" ")), (vec!["E"], "A B C D F G".to_owned()));
    // A setting may be empty on purpose.
    let config = of(text, ObjectKind::ConfigMap).unwrap();
    assert_eq!((config.keys(), config.skipped.len()), (vec!["E", "F", "G"], 4));
}

#[test]
fn the_last_of_several_counts() {
    let data = of("A=1\nA=2\nB=<REPLACE_WITH_YOUR_VALUE>\nB=3\n", ObjectKind::Secret).unwrap();
    assert_eq!(values(ObjectKind::Secret, &data), [("A", "2"), ("B", "3")].map(|(k, v)| (k.into(), v.into())).into());
    assert!(data.skipped.is_empty());
}

#[test]
fn errors_name_file_line_and_key_and_show_no_value() {
    let kind = ObjectKind::Secret;
    let long = format!("A={}\nB=hunter2\n", "x".repeat(1 << 20));
    for (text, part) in [
        ("A=1\nhunter2\n", "line 2 is not `NAME=value`"),
        ("A=1\nexport B=hunter2\n", "line 2: leave out `export`: `export B` cannot be a key"),
        ("a/b=hunter2\n", "line 1: `a/b` cannot be a key of a Secret or ConfigMap: it holds `/`"),
        (&long, "the largest is that of `A` with 1048576: shorten it"),
    ] {
        let error = format!("{:#}", of(text, kind).err().unwrap());
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
    for (json, part) in [
        ("[\"hunter2\"]", "a JSON map is expected"),
        ("{\"A\": [\"hunter2\"]}", "`A` is no text"),
        ("{\"A\": 2}", "put its value in quotes"),
        ("{\"A\": \"hunter2", "line 1, column 14: this is not JSON"),
        ("{\"a b\": \"hunter2\"}", "it holds a blank"),
        ("\"hunter2\"", "a JSON map is expected"),
    ] {
        let error = format!("{:#}", Data::from_json(json, kind).err().unwrap());
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
    assert!(Data::from_env_file(Path::new("/nowhere/x.env"), kind).is_err());
}
