use serde_json::json;

use super::*;

/// Files as people write them: each has a server `time` and, in most, a server `git`.
const AWKWARD: &[(&str, &str)] = &[
    ("plain", "registry:\n  time:\n    ref: \"\"\n  git:\n    ref: \"\"\n"),
    (
        "comments",
        "# head\nregistry: # servers\n  # the clock\n  time:\n    ref: \"\" # empty\n  # git one\n  git:\n    ref: \"\"\n# tail\n",
    ),
    ("wide", "registry:\n    time:\n        ref: \"\"\n    git:\n        ref: \"\"\n\n\n# after\nother: 1\n"),
    ("no newline", "registry:\n  time:\n    ref: \"\"\n  git: {ref: ''}"),
    ("crlf", "registry:\r\n  time:\r\n    ref: \"\" # x\r\n  git:\r\n    ref: \"\"\r\n"),
    ("markers", "---\nregistry:\n  time:\n    ref: \"\"\n  git:\n    ref: ''\n...\n"),
    ("quoted", "\"registry\":\n  'time':\n    ref: \"\"\n  \"git\":\n    ref: \"\"\n"),
    ("flow", "registry: {time: {ref: \"\"}, git: {ref: \"\"}} # keep\n"),
    ("anchors", "registry:\n  time: &t\n    ref: \"\"\n  git: *t\nx: [*t]\n"),
    ("merge", "base: &b {ref: ''}\nregistry:\n  time:\n    <<: *b\n  git: {<<: *b}\n"),
    (
        "blocks",
        "registry:\n  git:\n    ref: |\n      # text\n      time:\n        x\n  time:\n    ref: >-\n      a\n      b\n",
    ),
    ("bom", "\u{feff}registry:\n  time:\n    ref: \"\"\n  git:\n    ref: \"\"\n"),
    ("between", "name: 1.10\nregistry:\n  time:\n    ref: 010\n  git:\n    ref: ~\n\nlast: [0x1, yes] # two\n"),
    ("alone", "registry:\n  time:\n    ref: \"\"\n# done\n"),
    ("tabs", "registry:\n  time:\t# tab\n    ref: \"\"\n  git:\n    ref: \"\"\n"),
    ("json", "{\"registry\": {\"time\": {\"ref\": \"\"}, \"git\": {\"ref\": \"\"}}}\n"),
    ("docker", "{\n\t\"registry\": {\n\t\t\"time\": {},\n\t\t\"git\": {\"n\": 1.10}\n\t},\n\t\"credsStore\": \"x\"\n}"),
];

fn keys(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

fn changed(text: &str, change: Change) -> String {
    edit(text, Path::new("f.yaml"), &[change]).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn an_entry_is_added_to_any_file_and_every_line_of_it_stays() {
    for (name, text) in AWKWARD {
        let after = changed(text, Change::Set(keys("registry/new"), json!({"ref": "", "list": ["a: b", "1"]})));
        let top = yaml::parse(&after).ok().unwrap().to_json();
        assert_eq!(top["registry"]["new"], json!({"ref": "", "list": ["a: b", "1"]}), "{name}: {after}");
        // One line may get a comma or a brace at its end.
        let missing = text.lines().filter(|line| !after.lines().any(|kept| kept == *line)).count();
        assert!(missing <= 1 + 3 * usize::from(after.starts_with('{')), "{name}: {after}");
        assert_eq!(text.contains("\r\n"), after.contains("\r\n"), "{name}");
        assert!(text.starts_with('{') == serde_json::from_str::<Json>(&after).is_ok(), "{name}: {after}");
    }
}

#[test]
fn an_entry_is_removed_from_any_file_and_comments_about_others_stay() {
    for (name, text) in AWKWARD {
        let after = changed(text, Change::Remove(keys("registry/time")));
        let (before, top) = (yaml::parse(text).ok().unwrap().to_json(), yaml::parse(&after).ok().unwrap().to_json());
        assert_eq!(top["registry"].get("time"), None, "{name}: {after}");
        assert_eq!(top["registry"].get("git"), before["registry"].get("git"), "{name}: {after}");
        for comment in ["# head", "# servers", "# the clock", "# git one", "# tail", "# after", "# done", "# two"] {
            assert_eq!(text.contains(comment), after.contains(comment), "{name}: {after}");
        }
    }
}

#[test]
fn comments_inside_a_removed_entry_go_with_it_and_no_others() {
    let text = "registry:\n  time:\n    # inside\n    ref: \"\" # behind\n  # about git\n  git: {}\n";
    assert_eq!(changed(text, Change::Remove(keys("registry/time"))), "registry:\n  # about git\n  git: {}\n");
    let text = "registry: {a: {description: \"#1 of all\"}, time: {}}\n";
    assert!(!changed(text, Change::Remove(keys("registry/time"))).contains("time"));
}

#[test]
fn a_change_that_changes_nothing_leaves_every_byte() {
    for (name, text) in AWKWARD {
        assert_eq!(changed(text, Change::Remove(keys("registry/absent"))), *text, "{name}");
        let same = yaml::parse(text).ok().unwrap().to_json()["registry"]["time"].clone();
        assert_eq!(changed(text, Change::Set(keys("registry/time"), same)), *text, "{name}");
    }
}

#[test]
fn what_is_missing_on_the_way_is_made_below_the_comments() {
    let set = || Change::Set(keys("registry/time"), json!({"ref": ""}));
    for text in
        ["", "# only a note\n", "# no newline", "---\n", "registry:\n", "registry: {}\n", "registry: null # x\n"]
    {
        let after = changed(text, set());
        assert_eq!(yaml::parse(&after).ok().unwrap().to_json(), json!({"registry": {"time": {"ref": ""}}}), "{after}");
        assert!(text.find('#').is_none_or(|at| after.contains(text[at..].trim_end())), "{after}");
        assert!(!after.contains('{'), "{after}");
    }
    let json = edit("", Path::new("config.json"), &[Change::Set(keys("features/k"), json!("enabled"))]).unwrap();
    assert_eq!(json, "{\n  \"features\": {\n    \"k\": \"enabled\"\n  }\n}\n");
}

#[test]
fn items_of_a_list_go_and_come_without_touching_the_others() {
    let text = "# h\ntime: # c\n  # first\n  - a # one\n  - b\n  # last\n  - c # three\ngit: [x, y] # flow\n";
    let after = changed(text, Change::Set(keys("time"), json!(["a", "c", "d"])));
    assert_eq!(after, "# h\ntime: # c\n  # first\n  - a # one\n  # last\n  - c # three\n  - d\ngit: [x, y] # flow\n");
    let after = changed(&after, Change::Set(keys("git"), json!(["y"])));
    assert!(after.ends_with("git: [y] # flow\n"), "{after}");
    let empty = changed("time:\n  - a\n", Change::Set(keys("time"), json!([])));
    assert_eq!(yaml::parse(&empty).ok().unwrap().to_json(), json!({"time": []}));
}

#[test]
fn an_entry_of_another_document_is_copied_as_it_stands() {
    // A comment above the first key belongs to the map around it, and stays with that.
    let source = "registry:\n  x:\n    version: 1.10 # kept\n    # why\n    env: [{name: A, value: 010}]\n";
    let copy = || Change::Copy(keys("registry/x"), source.to_owned(), keys("registry/x"));
    let after = changed("name: n\nregistry:\n  y: {image: i}\n", copy());
    assert!(after.contains("# why") && after.contains("version: 1.10 # kept"), "{after}");
    let fresh = changed("name: n\nregistry: {}\n", copy());
    assert!(fresh.contains("# why") && fresh.contains("version: 1.10 # kept") && !fresh.contains("copied"), "{fresh}");
    // An alias cannot be copied without its anchor, so its content is.
    let aliased = "a: &a {image: i}\nregistry:\n  x: *a\n";
    let after =
        changed("registry:\n  y: {}\n", Change::Copy(keys("registry/x"), aliased.to_owned(), keys("registry/x")));
    assert_eq!(yaml::parse(&after).ok().unwrap().to_json()["registry"]["x"], json!({"image": "i"}));
}

#[test]
fn a_broken_file_is_reported_with_the_place_and_nothing_is_changed() {
    let fails = |name: &str, text: &str| {
        let change = Change::Set(keys("registry/time"), json!({}));
        edit(text, Path::new(name), &[change]).unwrap_err().to_string()
    };
    assert!(
        fails("f.yaml", "registry:\n  a: [\n").starts_with("f.yaml:"),
        "{}",
        fails("f.yaml", "registry:\n  a: [\n")
    );
    assert_eq!(fails("f.yaml", "registry: [a]\n"), "f.yaml:1:11: `registry`: a map is expected, found a list");
    assert_eq!(fails("c.json", "{\"a\": 1,}"), "c.json:1:9: this is not JSON; correct it");
    assert!(fails("f.yaml", "a: 1\n---\nb: 2\n").contains("second document"));
}

proptest::proptest! {
    /// Whatever is in a file: it is changed as wanted, or it is refused.
    #[test]
    fn no_text_is_damaged_and_none_panics(text in "([a-c]: ?|- |  |\\n|#x|[{}\\[\\],'\"|>&*]|registry:\\n|time: ){0,30}") {
        let value = json!({"ref": ""});
        for change in [Change::Set(keys("registry/new"), value.clone()), Change::Remove(keys("registry/time"))] {
            let set = matches!(change, Change::Set(..));
            if let Ok(after) = edit(&text, Path::new("f.yaml"), &[change]) {
                let before = yaml::parse(&text).ok().unwrap().to_json();
                let mut wanted = before.as_object().cloned().unwrap_or_default();
                let mut servers = wanted.get("registry").and_then(Json::as_object).cloned().unwrap_or_default();
                if set {
                    servers.insert("new".to_owned(), value.clone());
                    wanted.insert("registry".to_owned(), Json::Object(servers));
                } else if servers.remove("time").is_some() {
                    wanted.insert("registry".to_owned(), Json::Object(servers));
                }
                let found = yaml::parse(&after).ok().unwrap().to_json();
                let found = found.as_object().cloned().unwrap_or_default();
                proptest::prop_assert_eq!(found, wanted, "{}", after);
            }
        }
    }
}
