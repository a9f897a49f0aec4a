use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn home() -> (TempDir, UserFiles) {
    let home = tempfile::tempdir().unwrap();
    let files = UserFiles::new(Some(home.path()), None).unwrap();
    (home, files)
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn servers_are_enabled_and_disabled_and_what_else_is_there_stays() {
    let (_home, files) = home();
    let text = "# mine\nregistry:\n  time:\n    ref: \"\"\n    config: {zone: UTC} # old form\nlater: [1]\n";
    put(&files.registry(), text);
    assert_eq!(registry::enable(&files, &names(&["git", "time"])).unwrap(), ["git"]);
    assert_eq!(registry::enabled(&files).unwrap(), ["time", "git"]);
    assert_eq!(registry::disable(&files, &names(&["git", "other"])).unwrap(), ["git"]);
    assert_eq!(fs::read_to_string(files.registry()).unwrap(), text);
    assert_eq!(registry::reset(&files).unwrap(), ["time"]);
    assert_eq!(registry::enabled(&files).unwrap(), Vec::<String>::new());
    assert!(fs::read_to_string(files.registry()).unwrap().contains("# mine"));
}

#[test]
fn a_broken_file_stops_every_change_and_stays_as_it_is() {
    let (_home, files) = home();
    for path in [files.registry(), files.tools(), files.catalog_index(), files.docker_config()] {
        put(&path, "{\"a\": \n ]");
    }
    let changes: [(PathBuf, Result<(), UserFileError>); 6] = [
        (files.registry(), registry::enable(&files, &names(&["a"])).map(drop)),
        (files.registry(), registry::reset(&files).map(drop)),
        (files.tools(), tools::update(&files, "a", |_| Some(Vec::new())).map(drop)),
        (files.catalog_index(), catalogs::create(&files, "mine")),
        (files.catalog_index(), catalogs::reset(&files).map(drop)),
        (files.docker_config(), features::switch(&files, features::KUBERNETES, true).map(drop)),
    ];
    for (path, result) in changes {
        let message = result.unwrap_err().to_string();
        // At the bracket that is never closed, or at the one that closes another.
        let places = [1, 2].map(|line| format!("{}:{line}:", path.display()));
        assert!(places.iter().any(|place| message.starts_with(place)), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": \n ]");
    }
    assert!(!files.catalog("mine").exists(), "a catalog was written that is not listed");
}

#[cfg(unix)]
#[test]
fn permissions_and_links_stay_and_new_files_are_private() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (home, files) = home();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    registry::enable(&files, &names(&["a"])).unwrap();
    assert_eq!(mode(&files.registry()), 0o600);
    let real = home.path().join("dotfiles/tools.yaml");
    put(&real, "a: [x]\n");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o664)).unwrap();
    symlink("../../dotfiles/tools.yaml", files.tools()).unwrap();
    tools::update(&files, "a", |now| Some([now.unwrap(), names(&["z"])].concat())).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "a: [x, z]\n");
    assert_eq!(mode(&real), 0o664);
    assert!(fs::symlink_metadata(files.tools()).unwrap().is_symlink());
    assert_eq!(fs::read_dir(real.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
    // A file that nobody may write to is not got around, although its directory would allow it.
    fs::set_permissions(&real, fs::Permissions::from_mode(0o444)).unwrap();
    let refused = tools::update(&files, "a", |_| Some(Vec::new())).unwrap_err().to_string();
    assert!(refused.contains("it is as it was"), "{refused}");
    assert_eq!(fs::read_to_string(&real).unwrap(), "a: [x, z]\n");
}

#[test]
fn docker_configuration_keeps_its_form_and_features_have_the_words_of_the_existing_gateway() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = home.path().join("elsewhere");
    let files = UserFiles::new(Some(home.path()), Some(elsewhere.clone().into())).unwrap();
    put(&elsewhere.join("config.json"), "{\n\t\"auths\": {},\n\t\"features\": {\"old\": \"true\", \"bad\": \"x\"}\n}");
    assert!(!features::is_enabled(&files, features::KUBERNETES).unwrap());
    assert!(features::switch(&files, features::KUBERNETES, true).unwrap());
    assert!(!features::switch(&files, features::KUBERNETES, true).unwrap(), "nothing changes the second time");
    let switched = features::switched(&files).unwrap();
    assert_eq!((switched["old"], switched["bad"], switched[features::KUBERNETES]), (true, false, true));
    let text = fs::read_to_string(files.docker_config()).unwrap();
    assert!(text.starts_with("{\n\t\"auths\": {},\n\t\"features\": {"), "{text}");
    assert!(features::switch(&files, "dynamic-tools", true).is_err());
    assert!(features::switch(&files, "dynamic-tools", false).unwrap());
    assert!(features::switch(&files, "nonsense", false).is_err());
}

#[test]
fn catalogs_come_and_go_with_their_files_and_notes_of_others_stay() {
    let (_home, files) = home();
    put(&files.catalog_index(), "{\"catalogs\": {\"team\": {\"displayName\": \"Team\", \"colour\": 1}}, \"x\": 2}");
    put(&files.catalog("team"), "registry:\n  a: {image: i}\n");
    // What the existing gateway makes.
    put(&files.catalog("empty"), "name: empty\ndisplayName: empty\n");
    assert_eq!(catalogs::names_in("name: e\ndisplayName: E\n", Path::new("e")).unwrap().1.unwrap(), "E");
    catalogs::create(&files, "mine").unwrap();
    let taken = catalogs::create(&files, "MINE").unwrap_err().to_string();
    assert!(taken.contains("there is a catalog `mine` already"), "{taken}");
    for bad in ["", "../x", "a/b", "-x", "docker-mcp"] {
        assert!(catalogs::create(&files, bad).is_err(), "{bad}");
    }
    let source = "registry:\n  s:\n    image: i # kept\n  t: {image: j}\n";
    let add = |server: &str, force| catalogs::add(&files, "mine", server, (source, Path::new("s.yaml")), force);
    add("s", false).unwrap();
    assert!(add("s", false).unwrap_err().to_string().contains("--force"));
    add("s", true).unwrap();
    assert!(add("u", false).unwrap_err().to_string().contains("`u` is in no catalog"));
    assert!(fs::read_to_string(files.catalog("mine")).unwrap().contains("image: i # kept"));
    catalogs::fork(&files, "mine", "other").unwrap();
    let (catalog, _) = catalogs::load(&files).unwrap();
    assert_eq!(catalog.names().collect::<Vec<_>>(), ["a", "s"]);
    let again = catalogs::Listed { display_name: "T".to_owned(), url: Some("u".to_owned()), last_update: None };
    assert!(catalogs::put(&files, "team", &again, "registry: {}\n").unwrap());
    let index = to_json(&fs::read_to_string(files.catalog_index()).unwrap(), &files.catalog_index()).unwrap();
    assert_eq!(index["catalogs"]["team"], json!({"displayName": "T", "colour": 1, "url": "u"}));
    assert_eq!(index["x"], 2);
    catalogs::remove(&files, "mine").unwrap();
    assert!(!files.catalog("mine").exists());
    assert!(catalogs::remove(&files, "mine").unwrap_err().to_string().contains("there are: other, team"));
    assert_eq!(catalogs::reset(&files).unwrap(), ["other", "team"]);
    assert_eq!(catalogs::list(&files).unwrap().len(), 0);
}

#[test]
fn changes_of_many_at_once_are_all_there_in_the_end() {
    let (_home, files) = home();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let files = &files;
            scope.spawn(move || {
                for step in 0..10 {
                    registry::enable(files, &[format!("s{worker}-{step}")]).unwrap();
                }
            });
        }
    });
    assert_eq!(registry::enabled(&files).unwrap().len(), 40);
}

#[test]
fn there_is_a_clear_error_without_a_home_directory() {
    let error = UserFiles::new(None, Some("/somewhere".into())).unwrap_err();
    assert_eq!(error.to_string(), "there is no home directory; set HOME");
}
