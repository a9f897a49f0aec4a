use serde_json::json;

use super::*;

fn map(value: Json) -> Map<String, Json> {
    value.as_object().unwrap().clone()
}

fn complaints(schema: Json, section: Json) -> Vec<String> {
    let findings = check(&[schema], &map(section), "s");
    assert_eq!(findings.unusable, Vec::<String>::new());
    findings.complaints
}

fn filled(schema: Json, section: Json) -> Json {
    let mut section = map(section);
    fill(&[schema], &mut section);
    Json::Object(section)
}

#[test]
fn defaults_stand_where_nothing_does_at_any_depth() {
    let schema = json!({"properties": {
        "region": {"type": "string", "default": "us-east-1"},
        "port": {"type": "integer", "default": 80},
        "null": {"default": null},
        "nested": {"type": "object", "properties": {"level": {"default": "INFO"}, "other": {"type": "string"}}},
    }});
    let all = json!({"region": "us-east-1", "port": 80, "nested": {"level": "INFO"}});
    assert_eq!(filled(schema.clone(), json!({})), all);
    let own = json!({"region": "", "port": 0, "nested": {"level": "x", "other": "y"}, "more": 1});
    assert_eq!(filled(schema, own.clone()), own, "what is set stays, empty or not");
}

#[test]
fn every_rule_is_explained_with_its_key_and_without_the_value() {
    let schema = json!({"type": "object", "required": ["host", "nested"], "additionalProperties": false, "properties": {
        "host": {"type": "string"},
        "level": {"enum": ["DEBUG", "INFO"]},
        "id": {"type": "string", "pattern": "^[a-z]+$"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "step": {"type": "integer", "multipleOf": 5},
        "name": {"type": "string", "minLength": 20, "maxLength": 30},
        "list": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 1, "uniqueItems": true},
        "kind": {"const": "fixed"},
        "nested": {"type": "object", "required": ["deep"], "properties": {"deep": {"type": "string"}}},
        "no": {"not": {"type": "string"}},
    }});
    let set = json!({"host": "h", "nested": {"deep": "d"}});
    assert!(complaints(schema.clone(), set.clone()).is_empty());
    for (key, value, expected) in [
        ("host", json!(""), "`s.host` is not set, and the server needs it"),
        ("nested", json!({"x": 1}), "`s.nested.deep` is not set, and the server needs it"),
        ("level", json!("hunter2"), "`s.level` must be one of `DEBUG`, `INFO`"),
        ("id", json!("hunter2"), "`s.id` must match the pattern `^[a-z]+$`"),
        ("port", json!("hunter2"), "`s.port` must be a whole number"),
        ("port", json!(0), "`s.port` must be at least 1"),
        ("port", json!(70000), "`s.port` must be at most 65535"),
        ("share", json!(0), "`s.share` must be more than 0"),
        ("share", json!(1), "`s.share` must be less than 1"),
        ("step", json!(7), "`s.step` must be a multiple of 5"),
        ("name", json!("hunter2"), "`s.name` must have at least 20 characters"),
        ("name", json!("hunter2".repeat(9)), "`s.name` must have at most 30 characters"),
        ("list", json!(["hunter2", 1, 2]), "`s.list[0]` must be a whole number"),
        ("list", json!([1, 1, 2]), "`s.list` must not have an item twice"),
        ("list", json!([1, 2]), "`s.list` must have at least 3 items"),
        ("list", json!([1, 2, 3]), "`s.list` must have at most 1 items"),
        ("kind", json!("hunter2"), "`s.kind` must be `fixed`"),
        ("no", json!("hunter2"), "`s.no` does not fit `not` of its schema"),
        ("a.b", json!("hunter2"), "`s.\"a.b\"` is not a setting of the server"),
    ] {
        let mut section = set.clone();
        section[key] = value;
        let found = complaints(schema.clone(), section);
        assert!(found.iter().any(|found| found == expected), "{key}: {found:?}");
        assert!(!found.iter().any(|found| found.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn alternatives_are_named_by_the_keys_that_they_need() {
    let any = json!({"anyOf": [{"required": ["url"]}, {"required": ["host", "port"]}]});
    assert_eq!(complaints(any.clone(), json!({})), ["at least one of `s.url`, `s.host` with `s.port` must be set"]);
    assert!(complaints(any, json!({"url": "u"})).is_empty());
    let one = json!({"oneOf": [{"required": ["url"]}, {"required": ["host"]}]});
    assert_eq!(complaints(one.clone(), json!({"url": null})), ["exactly one of `s.url`, `s.host` must be set"]);
    assert!(complaints(one, json!({"url": "u", "host": "h"}))[0].contains("more than one of the alternatives"));
    let typed = json!({"properties": {"x": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}}});
    assert_eq!(
        complaints(typed, json!({"x": "hunter2"})),
        ["`s.x` fits none of the 2 alternatives that its schema has"]
    );
}

#[test]
fn a_default_stands_in_for_what_is_required_but_makes_no_alternative_too_many() {
    let schema = json!({"required": ["level"], "properties": {"level": {"type": "string", "default": "INFO"}}});
    assert!(complaints(schema, json!({})).is_empty());
    let alternatives = json!({
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "properties": {"a": {"properties": {"x": {"default": 1}}}, "b": {"properties": {"y": {"type": "string"}}}},
    });
    assert!(complaints(alternatives, json!({"b": {"y": "set"}})).is_empty());
}

#[test]
fn what_reads_the_same_as_text_is_of_the_right_type() {
    let schema = json!({"properties": {
        "text": {"type": "string"}, "number": {"type": "integer"}, "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}},
    }});
    for section in [
        json!({"text": 8080, "number": "8080", "flag": "true", "list": "one"}),
        json!({"text": true, "number": 1, "flag": false, "list": [1, "two"]}),
        json!({"text": "", "number": null, "flag": "", "list": 5}),
    ] {
        assert_eq!(complaints(schema.clone(), section), Vec::<String>::new());
    }
    assert_eq!(complaints(schema, json!({"text": ["a"]})), ["`s.text` must be text"]);
}

#[test]
fn a_schema_that_cannot_be_used_checks_nothing_and_is_told() {
    let section = map(json!({"x": "y"}));
    for (schema, reason) in [
        (json!({"$defs": {"a": {"$ref": "#/$defs/a"}}}), "references"),
        (json!({"properties": {"x": {"$ref": "https://example.com/x.json"}}}), "references"),
        (json!({"properties": {"x": {"pattern": "(?=a)b"}}}), ""),
        (json!({"properties": {"x": {"pattern": "(a{1000}){1000}"}}}), ""),
        (json!({"properties": {"x": {"type": "string (TODO)"}}}), ""),
        (json!({"required": "x"}), ""),
    ] {
        let findings = check(std::slice::from_ref(&schema), &section, "s");
        assert_eq!(findings.complaints, Vec::<String>::new(), "{schema}");
        assert!(findings.unusable.len() == 1 && findings.unusable[0].contains(reason), "{schema}: {findings:?}");
        assert!(findings.unusable[0].len() < 300, "{findings:?}");
    }
    let named = json!({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://x", "name": "s"});
    assert!(check(&[named], &section, "s").unusable.is_empty());
}

#[test]
fn a_hostile_pattern_takes_no_time() {
    let schema = json!({"properties": {"x": {"pattern": "^(a+)+$"}}});
    let began = std::time::Instant::now();
    let found = complaints(schema, json!({"x": format!("{}!", "a".repeat(100_000))}));
    assert_eq!(found, ["`s.x` must match the pattern `^(a+)+$`"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn a_required_key_that_is_no_property_is_a_mistake_of_the_schema() {
    let nested = json!({"properties": {"x": {}}, "required": ["y"]});
    let schema = json!({"properties": {"user": {"type": "string"}, "n": nested}, "required": ["User", "user", "n"]});
    assert_eq!(complaints(schema, json!({"n": {"x": 1}})), ["`s.user` is not set, and the server needs it"]);
}

#[test]
fn only_the_first_complaints_are_told() {
    let required: Vec<String> = (0..50).map(|index| format!("k{index}")).collect();
    assert_eq!(complaints(json!({"required": required}), json!({})).len(), MAX_COMPLAINTS);
}

#[test]
fn a_setting_that_nobody_made_has_a_default_is_optional_or_is_needed() {
    let schemas = [
        json!({"name": "first", "description": "says nothing"}),
        json!({"required": ["host", "nested"], "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer", "default": 80},
            "flat.key": {"default": true},
            "nested": {"required": ["id"], "default": {"level": 3}, "properties": {"id": {}, "level": {}, "other": {}}},
            "loose": {"properties": {"a": {}}},
        }}),
    ];
    let of = |path: &str| unset(&schemas, &path.split('.').collect::<Vec<_>>());
    assert_eq!(of("host"), Unset::Needed);
    assert_eq!(of("port"), Unset::Default(json!(80)));
    assert_eq!(of("flat.key"), Unset::Default(json!(true)));
    assert_eq!(of("nested.id"), Unset::Needed);
    assert_eq!(of("nested.level"), Unset::Default(json!(3)));
    assert_eq!(of("nested.other"), Unset::Optional);
    assert_eq!(of("loose.a"), Unset::Optional);
    assert_eq!(of("unknown"), Unset::Optional);
    assert_eq!(unset(&schemas[..1], &["host"]), Unset::Needed, "no schema says what is required");
}
