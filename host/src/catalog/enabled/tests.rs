use super::*;

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn servers_are_enabled_in_the_order_of_the_files_and_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [
        file(
            &directory,
            "a.yaml",
            "registry:\n  time:\n    ref: \"\"\n  github: {ref: x, config: {a: 1}, colour: red}\n",
        ),
        file(&directory, "b.json", r#"{"registry": {"github": {}, "fetch": null}}"#),
        file(&directory, "empty.yaml", "registry: {}\n"),
        file(&directory, "nothing.yaml", ""),
    ];
    let (names, odd) = servers(&paths).unwrap();
    assert_eq!(names, ["time", "github", "fetch"]);
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert!(odd[0].to_string().contains("a.yaml:4:36: `registry.github.colour`: unknown key"), "{}", odd[0]);
}

#[test]
fn a_list_of_servers_that_is_none_is_an_error_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "registry.yaml", "registry:\n  - time\n");
    let error = servers(&[path]).unwrap_err().to_string();
    assert!(error.contains("registry.yaml:2:3: `registry`: a map is expected, found a list"), "{error}");
    assert!(servers(&[directory.path().join("none.yaml")]).unwrap_err().to_string().contains("check the path"));
}

#[test]
fn tools_of_a_later_file_replace_those_of_an_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [
        file(&directory, "a.yaml", "time: [now, convert]\ngithub:\n  - search\nnone: []\n"),
        file(&directory, "b.yaml", "time: [now]\n"),
    ];
    let tools = tools(&paths).unwrap();
    let listed: Vec<(&str, Vec<&str>)> =
        tools.iter().map(|(name, tools)| (name.as_str(), tools.iter().map(String::as_str).collect())).collect();
    assert_eq!(listed, [("github", vec!["search"]), ("none", vec![]), ("time", vec!["now"])]);
    let wrong = parse_tools("time: now\n", Path::new("tools.yaml")).unwrap_err().to_string();
    assert_eq!(wrong, "tools.yaml:1:7: `time`: a list is expected, found text");
}
