//! Templates, `.env` files and volumes: total on every input, and true to what they promise.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use provisioning_core::env_file;
use provisioning_core::template::{self, Scope};
use provisioning_core::value::{Origin, Value};
use provisioning_core::volume::{BindRules, Volume};
use serde_json::{Map, Value as Json, json};

/// What private text begins with, so that it is found where it must not be.
const PRIVATE: &str = "PRIVATE";

/// An expression, and after a null character a configuration as JSON.
pub fn template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (expression, config) = text.split_once('\0').unwrap_or((&text, ""));
    let config = match serde_json::from_str::<Json>(config) {
        Ok(Json::Object(config)) => private(Json::Object(config)),
        _ => json!({"s": {"a": "PRIVATE1", "l": ["PRIVATE2", 3], "d": "PRIVATE4", "n": null}}),
    };
    let Json::Object(config) = config else { return };
    let secrets = BTreeSet::from(["s.secret".to_owned()]);
    let arguments = Map::from_iter([("q".to_owned(), json!("PRIVATE5"))]);
    let scope = Scope { config: &config, secrets: &secrets, arguments: Some(&arguments), references: None };
    let expressions = [expression.to_owned()];
    let values = [
        template::evaluate(expression, &scope).map(|value| vec![value]),
        template::evaluate_list(&expressions, &scope),
        template::evaluate_each(&expressions, &scope)
            .map(|each| each.into_iter().flat_map(|(_, values)| values).collect()),
    ];
    let well_formed = template::paths(expression).is_ok();
    let shows = |text: &str| text.contains(PRIVATE) && !expression.contains(PRIVATE);
    for result in values {
        match result {
            Ok(values) => {
                for value in values {
                    // Keys are shown and values are not.
                    assert!(!shows(&value.to_string()) || keys(&config).contains(PRIVATE), "{value}");
                    expand(&value);
                }
            }
            Err(error) => assert!(!shows(&error.to_string()), "{error}"),
        }
    }
    if !well_formed {
        assert!(template::evaluate(expression, &scope).is_err(), "evaluated what cannot be parsed: {expression:?}");
    }
    expand(&Value::text(expression));
}

/// What stands for a variable is not looked at again, whatever it holds.
fn expand(value: &Value) {
    let known = Value::private(Origin::Config, "k", "$A ${A}");
    let once = template::expand_variables(value, &|name| (name == "A").then(|| known.clone()));
    let twice = template::expand_variables(&once, &|_| Some(Value::text("again")));
    let count = |value: &Value| value.segments().iter().filter(|segment| known.segments().contains(segment)).count();
    assert_eq!(count(&once), count(&twice));
}

/// The same with every text marked as private.
fn private(json: Json) -> Json {
    match json {
        Json::String(text) => Json::String(format!("{PRIVATE}{text}")),
        Json::Array(items) => Json::Array(items.into_iter().map(private).collect()),
        Json::Object(map) => Json::Object(map.into_iter().map(|(key, value)| (key, private(value))).collect()),
        other => other,
    }
}

fn keys(map: &Map<String, Json>) -> String {
    let below = |value: &Json| value.as_object().map(keys).unwrap_or_default();
    map.iter().map(|(key, value)| format!("{key} {}", below(value))).collect()
}

/// A `.env` file.
pub fn env_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(pairs) = env_file::parse(&text) else { return };
    let lines = text.split('\n').count();
    for pair in &pairs {
        assert!(!pair.name.is_empty() && (1..=lines).contains(&pair.line), "{pair:?}");
        assert!(env_file::get(&pairs, &pair.name).is_some());
    }
}

/// A volume in Docker's short syntax.
pub fn volume(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(volume) = Volume::parse(&text) {
        assert_eq!(Volume::parse(&volume.to_string()).as_ref(), Ok(&volume), "{text:?}");
        let read_only = volume.read_only();
        assert!(read_only.mode.is_some_and(|mode| mode.split(',').any(|option| option == "ro")));
    }
    let roots = vec![PathBuf::from("/tmp"), PathBuf::from("/srv/data")];
    let rules = BindRules { roots: roots.clone(), writable: vec![PathBuf::from("/tmp/w")] };
    let Ok(volume) = rules.check(&text, &|path| Ok(path.to_owned())) else { return };
    if volume.is_named() {
        return;
    }
    let source = PathBuf::from(volume.source.unwrap_or_default());
    assert!(roots.iter().any(|root| source.starts_with(root)), "{text:?} became {source:?}");
    let writable = volume.mode.is_none_or(|mode| !mode.split(',').any(|option| option == "ro"));
    assert!(!writable || source == Path::new("/tmp/w"), "{text:?} can be written");
}
