use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::value::{Origin, Segment};

struct Fixture {
    config: Map<String, Json>,
    secrets: BTreeSet<String>,
    arguments: Map<String, Json>,
}

impl Fixture {
    fn new(config: Json) -> Self {
        Self {
            config: config.as_object().unwrap().clone(),
            secrets: BTreeSet::from(["github.token".to_owned()]),
            arguments: json!({"query": "cats", "github": {"token": "mine", "host": "evil"}, "other": {"x": "y"}})
                .as_object()
                .unwrap()
                .clone(),
        }
    }

    fn scope(&self) -> Scope<'_> {
        Scope { config: &self.config, secrets: &self.secrets, arguments: Some(&self.arguments), references: None }
    }

    fn shown(&self, expression: &str) -> String {
        evaluate(expression, &self.scope()).unwrap().to_string()
    }

    fn read(&self, expression: &str) -> String {
        read(&evaluate(expression, &self.scope()).unwrap())
    }

    fn list(&self, expressions: &[&str]) -> Vec<String> {
        let expressions: Vec<String> = expressions.iter().map(|&text| text.to_owned()).collect();
        evaluate_list(&expressions, &self.scope()).unwrap().iter().map(read).collect()
    }

    fn error(&self, expression: &str) -> String {
        evaluate(expression, &self.scope()).unwrap_err().to_string()
    }
}

fn read(value: &Value) -> String {
    value
        .segments()
        .iter()
        .map(|segment| match segment {
            Segment::Text(text) => text.as_str(),
            Segment::Private { text, .. } => text.as_str(),
            Segment::Secret(_) | Segment::ClusterKey { .. } | Segment::Stored { .. } => "<?>",
        })
        .collect()
}

#[test]
fn a_declared_secret_is_named_and_never_read() {
    let fixture = Fixture::new(json!({"github": {"token": "from config", "host": "h"}}));
    assert_eq!(fixture.shown("Bearer {{ github.token }}"), "Bearer <secret:github.token>");
    assert_eq!(fixture.shown("{{github.token|mount_as:/t}}"), "<secret:github.token>:/t");
    assert!(fixture.error("{{github.token|volume}}").contains("a secret cannot be a path"));
}

#[test]
fn what_a_template_pulls_in_stays_private() {
    let fixture = Fixture::new(json!({"db": {"host": "h", "port": 5432}}));
    assert_eq!(
        fixture.shown("pg://{{db.host}}:{{db.port}}/{{query}}"),
        "pg://<config:db.host>:<config:db.port>/<argument:query>"
    );
    assert_eq!(fixture.shown("{{db.host|volume}}"), "<config:db.host>:<config:db.host>");
}

#[test]
fn a_caller_can_neither_replace_nor_supply_what_the_operator_configures() {
    let fixture = Fixture::new(json!({"github": {"url": "https://good"}, "query": "configured"}));
    assert_eq!(fixture.read("{{github.host}}"), "");
    assert_eq!(fixture.shown("{{query}}"), "<config:query>");
    assert_eq!(fixture.shown("{{github.token}}"), "<secret:github.token>");
    assert_eq!(fixture.read("{{other.x}}"), "y");
}

#[test]
fn braces_outside_of_templates_stay() {
    let fixture = Fixture::new(json!({"a": "A", "n": 5}));
    for text in ["}", "{}", "{a}", "a}}", "func() { return 1 }", ".[] | {name: .n}", r#"[{"a":1},{"b":2}]"#] {
        assert_eq!(fixture.read(text), text);
    }
    assert_eq!(fixture.read(r#"{"k":"{{a}}"}"#), r#"{"k":"A"}"#);
    assert_eq!(fixture.read("{{a}}}"), "A}");
    assert_eq!(fixture.read("{{a\n}}"), "A");
    assert_eq!(fixture.list(&["curl", "-d", r#"{"q":{"r":"{{a}}"}}"#]), ["curl", "-d", r#"{"q":{"r":"A"}}"#]);
}

#[test]
fn lists_and_maps_inside_text_are_json() {
    let fixture = Fixture::new(json!({"l": ["x", 1, null, "q\""], "m": {"a": [true]}}));
    assert_eq!(fixture.read("l={{l}}"), r#"l=["x",1,"","q\""]"#);
    assert_eq!(fixture.read("{{m}}"), r#"{"a":[true]}"#);
    assert_eq!(fixture.shown("{{l}}"), r#"["<config:l>",<config:l>,"<config:l>","<config:l>"]"#);
}

#[test]
fn numbers_are_written_in_full() {
    let fixture = Fixture::new(json!({"i": 1_000_000, "f": 1e6, "h": 12_345_678_901_234_567_890_u64, "b": true}));
    assert_eq!(
        fixture.list(&["{{i}}", "{{f}}", "{{h}}", "{{b}}"]),
        ["1000000", "1000000", "12345678901234567890", "true"]
    );
}

#[test]
fn what_is_missing_adds_nothing_to_a_list_but_an_empty_text_does() {
    let fixture = Fixture::new(json!({"e": "", "n": null}));
    assert_eq!(fixture.list(&["a", "{{missing}}", "{{missing|into}}", "{{n|into}}", "b"]), ["a", "b"]);
    assert_eq!(fixture.list(&["{{e}}", "{{n}}", ""]), ["", "", ""]);
    assert_eq!(fixture.list(&["{{missing|or:[x, y]}}"]), ["x", "y"]);
}

#[test]
fn a_volume_with_an_unset_part_is_left_out() {
    let fixture = Fixture::new(json!({"s": {"dirs": ["/a", ""], "dir": "/d"}}));
    let volumes = ["{{s.dirs|volume|into}}", "{{s.unset}}:/data", "{{s.dir}}:/data:ro", "vol:/v"].map(str::to_owned);
    let each = evaluate_each(&volumes, &fixture.scope()).unwrap();
    let read: Vec<Vec<String>> = each.iter().map(|(_, values)| values.iter().map(read).collect()).collect();
    assert_eq!(read, [vec!["/a:/a"], vec![], vec!["/d:/data:ro"], vec!["vol:/v"]]);
    assert_eq!(each[2].0, volumes[2]);
}

#[test]
fn windows_paths_become_paths_in_the_container() {
    let fixture = Fixture::new(json!({"f": "C:/test", "u": r"\\server\share\x", "r": r"C:\"}));
    assert_eq!(fixture.read("{{f|volume}}"), "C:/test:/C/test");
    assert_eq!(fixture.read("{{u|volume-target}}"), "/server/share/x");
    assert_eq!(fixture.read("{{r|volume-target}}"), "/C/");
}

#[test]
fn a_key_that_contains_dots_is_found() {
    let fixture = Fixture::new(json!({"s": {"a.b": "x", "c": {"d.e": "y"}}}));
    assert_eq!(fixture.read("{{s.a.b}}{{s.c.d.e}}"), "xy");
}

#[test]
fn what_is_malformed_is_explained() {
    let fixture = Fixture::new(json!({}));
    assert!(
        fixture.error("{{a|upper}}").starts_with("template `{{a|upper}}`: there is no function `upper`; use one of")
    );
    assert!(fixture.error("{{a|or}}").contains("or:DEFAULT"));
    assert!(fixture.error("{{a|mount_as}}").contains("mount_as:/PATH"));
    assert!(fixture.error("{{a|first:2}}").contains("takes no value"));
    assert!(fixture.error("x {{a").contains("never closed"));
    assert!(fixture.error("{{e|or:{{v}}}}").contains("inside another"));
    assert!(fixture.error(&"{{".repeat(MAX_TEMPLATE_BYTES)).contains("longer than"));
}

#[test]
fn functions_bear_blanks_around_their_names() {
    let fixture = Fixture::new(json!({"e": "", "l": ["p", "q"]}));
    assert_eq!(fixture.read("{{e | or:default}}{{ l | or:x | last }}"), "defaultq");
}

#[test]
fn variables_are_expanded_only_in_the_catalogs_own_text() {
    let fixture = Fixture::new(json!({"s": {"v": "$A"}}));
    let value = evaluate("$A {{s.v}} ${A}", &fixture.scope()).unwrap();
    let expanded = expand_variables(&value, &|name| (name == "A").then(|| Value::secret("the.a")));
    assert_eq!(expanded.to_string(), "<secret:the.a> <config:s.v> <secret:the.a>");
    assert_eq!(read(&expanded), "<?> $A <?>");
}

#[test]
fn paths_are_named_without_functions() {
    assert_eq!(paths("x{{a.b|or:c}} {{ d }}").unwrap(), ["a.b", "d"]);
    assert_eq!(section_name("io.github.x/y"), "io_github_x/y");
    assert!(is_template("a{{b}}") && !is_template("}} {{"));
}

fn json_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[ -~]{0,8}".prop_map(|text| Json::from(format!("PRIVATE{text}"))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-c.]{0,2}", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn expression() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{"),
        Just("}}"),
        Just("|"),
        Just("a"),
        Just("b"),
        Just("."),
        Just("first"),
        Just("into"),
        Just("volume"),
        Just("or:"),
        Just("[x,y]"),
        Just("mount_as:/p"),
        Just("github.token"),
        Just(" "),
        Just("$A"),
        Just("é"),
    ];
    prop_oneof![prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn evaluation_is_total_and_never_shows_private_text(config in json_value(), expression in expression()) {
        let config = json!({"a": config.clone(), "b": [config]});
        let fixture = Fixture::new(config);
        if let Ok(value) = evaluate(&expression, &fixture.scope()) {
            prop_assert!(!value.to_string().contains("PRIVATE"));
        }
        drop(evaluate_list(std::slice::from_ref(&expression), &fixture.scope()));
        drop(evaluate_each(std::slice::from_ref(&expression), &fixture.scope()));
    }

    #[test]
    fn plain_text_is_itself(text in "[^{]*") {
        let fixture = Fixture::new(json!({}));
        prop_assert_eq!(evaluate(&text, &fixture.scope()).unwrap(), Value::text(text.clone()));
        prop_assert_eq!(fixture.list(&[&text]), [text]);
    }

    #[test]
    fn text_without_a_dollar_is_not_expanded(text in "[^$]*") {
        let value = Value::text(text);
        prop_assert_eq!(expand_variables(&value, &|_| Some(Value::text("no"))), value);
    }

    #[test]
    fn configured_text_comes_through_whatever_it_holds(text in any::<String>()) {
        let fixture = Fixture::new(json!({"s": {"v": text.clone()}}));
        let value = evaluate("{{s.v}}", &fixture.scope()).unwrap();
        prop_assert_eq!(read(&expand_variables(&value, &|_| None)), text.clone());
        prop_assert_eq!(value, Value::private(Origin::Config, "s.v", text));
    }
}

#[test]
fn a_reference_stands_for_what_names_exactly_its_path_and_calls_no_function() {
    let mut fixture = Fixture::new(json!({"server": {"user": "read", "list": ["a", "b"]}}));
    fixture.secrets.insert("server.secret".to_owned());
    let references = BTreeMap::from([("server.user".to_owned(), Value::text("<reference>"))]);
    let scope = Scope { references: Some(&references), ..fixture.scope() };
    let shown = |expression: &str| evaluate(expression, &scope).unwrap().to_string();
    assert_eq!(shown("u={{ server.user }}@{{server.secret}}"), "u=<reference>@<secret:server.secret>");
    assert_eq!(shown("{{server.user|or:x}} {{server.users}}"), "<config:server.user> ");
    let expressions = ["{{server.user}}", "{{server.list}}"].map(str::to_owned);
    let list = evaluate_list(&expressions, &scope).unwrap();
    assert_eq!(list.iter().map(read).collect::<Vec<_>>(), ["<reference>", "a", "b"]);
}

#[test]
fn the_uses_of_an_expression_say_whether_something_stands_for_what_is_missing() {
    let used = |path: &str, is_plain, has_default| Use { path: path.to_owned(), is_plain, has_default };
    assert_eq!(
        uses("a{{x.y}}{{ x . z |or:1}} {{v|volume|into}}").unwrap(),
        [used("x.y", true, false), used("x.z", false, true), used("v", false, false)]
    );
}
