use serde_json::json;

use super::*;

fn read(text: &str) -> Json {
    parse(text).unwrap().to_json()
}

fn wrong(text: &str) -> String {
    let complaint = parse(text).unwrap_err();
    format!("{} {} {}", complaint.place, complaint.key, complaint.reason)
}

#[test]
fn scalars_are_read_by_the_core_schema() {
    let text = "[1, -2, 0x1f, 0o17, 017, 1.5, 1e3, .nan, true, yes, ~, '5', 12:30:45, 1.2.3, -, 0.0.0.0, '', 0b1, +7]";
    let expected = json!([
        1, -2, 31, 15, 15, 1.5, 1000.0, "NaN", true, "yes", null, "5", "12:30:45", "1.2.3", "-", "0.0.0.0", "", "0b1",
        7
    ]);
    assert_eq!(read(&text.replace(" -,", " \"-\",")), expected);
    assert_eq!(read("18446744073709551616"), json!(18_446_744_073_709_551_616.0));
}

#[test]
fn tags_say_what_a_scalar_is() {
    assert_eq!(read("[!!str 5, !!int '5', !!binary aGk=, !other x]"), json!(["5", 5, "hi", "x"]));
    assert!(wrong("a: !!binary '***'").contains("base64"));
}

#[test]
fn json_is_read_by_the_same_parser() {
    let text = r#"{"a": [1, "x\u00e9\n", null, {"b": false}], "http://x": "y"}"#;
    assert_eq!(read(text), serde_json::from_str::<Json>(text).unwrap());
}

#[test]
fn anchors_aliases_and_merges_are_followed() {
    let text = "base: &b {a: 1, c: 3}\nuse:\n  <<: *b\n  a: 2\nlist: [*b]\n";
    assert_eq!(read(text), json!({"base": {"a": 1, "c": 3}, "use": {"a": 2, "c": 3}, "list": [{"a": 1, "c": 3}]}));
}

#[test]
fn an_empty_text_is_null_and_a_byte_order_mark_is_tolerated() {
    assert_eq!(read(""), Json::Null);
    assert_eq!(read("# only a comment\n"), Json::Null);
    assert_eq!(read("\u{feff}a: 1\n"), json!({"a": 1}));
}

#[test]
fn what_is_wrong_has_a_place() {
    assert!(wrong("a: 1\na: 2\n").starts_with("2:1 a already set at 1:1"));
    assert!(wrong("a:\n\t- b: [\n").contains("check indentation, quotes and colons"));
    assert!(wrong("a: 1\n---\nb: 2\n").contains("a second document"));
    assert!(wrong("? [a]\n: b\n").contains("a key must be text"));
    assert!(wrong("a: *nothing\n").starts_with("1:"));
    assert!(wrong(&format!("{}1{}", "[".repeat(80), "]".repeat(80))).contains("nested deeper than 64"));
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
    }
    assert!(wrong(&text).contains("use fewer aliases"));
}

#[test]
fn a_file_that_is_too_large_or_missing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.yaml");
    std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(read_text(&path), Err(FileError::TooLarge { .. })));
    assert!(read_text(&directory.path().join("none")).unwrap_err().to_string().contains("check the path"));
}
