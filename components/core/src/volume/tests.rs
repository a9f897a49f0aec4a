use proptest::prelude::*;

use super::*;

fn rules(roots: &[&str], writable: &[&str]) -> BindRules {
    BindRules {
        roots: TEMPORARY.iter().chain(roots).map(PathBuf::from).collect(),
        writable: writable.iter().map(PathBuf::from).collect(),
    }
}

fn check(rules: &BindRules, text: &str) -> Result<String, BindError> {
    rules.check(text, &|path| Ok(path.to_owned())).map(|volume| volume.to_string())
}

#[test]
fn a_directory_that_contains_a_system_path_is_refused_whatever_the_roots() {
    let rules = rules(&["/"], &["/var"]);
    for source in ["/", "/var", "/var/", "/tmp/../var", "/var/lib", "/tmp/../etc/x", "/private/var"] {
        assert!(matches!(check(&rules, &format!("{source}:/d")), Err(BindError::System(_))), "{source}");
    }
    assert_eq!(check(&rules, "/srv:/d").unwrap(), "/srv:/d:ro");
}

#[test]
fn a_link_is_judged_by_where_it_leads() {
    let rules = rules(&[], &["/tmp/w"]);
    let leads_to = |target: &'static str| rules.check("/tmp/link:/d", &move |_| Ok(PathBuf::from(target)));
    assert_eq!(leads_to("/etc/passwd"), Err(BindError::System("/etc")));
    assert!(matches!(leads_to("/home/me"), Err(BindError::Outside(_))));
    assert_eq!(leads_to("/tmp/.ssh"), Err(BindError::Credentials(".ssh")));
    assert_eq!(leads_to("/tmp/real").unwrap().to_string(), "/tmp/real:/d:ro");
    assert_eq!(leads_to("/tmp/w").unwrap().to_string(), "/tmp/w:/d:rw");
    let written = rules.check("/tmp/w:/d:rw", &|_| Ok(PathBuf::from("/tmp/other")));
    assert_eq!(written, Err(BindError::Writable));
}

#[test]
fn credentials_need_their_own_directory_as_a_root() {
    assert_eq!(check(&rules(&["/home/me"], &[]), "/home/me/.AZURE:/d"), Err(BindError::Credentials(".azure")));
    assert_eq!(check(&rules(&["/home/me/.azure"], &[]), "/home/me/.azure/x:/d").unwrap(), "/home/me/.azure/x:/d:ro");
    assert_eq!(check(&rules(&["/home/me/.azure"], &[]), "/home/me/.kube:/d"), Err(BindError::Credentials(".kube")));
}

#[test]
fn options_that_reach_beyond_reading_are_refused() {
    let rules = rules(&[], &["/tmp/w"]);
    for mode in ["z", "Z", "rw", "ro,rw", "ro,Z", "shared"] {
        assert_eq!(check(&rules, &format!("/tmp/g:/d:{mode}")), Err(BindError::Writable), "{mode}");
    }
    assert_eq!(check(&rules, "/tmp/g:/d:ro,rshared"), Err(BindError::Mode("rshared".to_owned())));
    assert_eq!(check(&rules, "/tmp/g:/d:cached,ro").unwrap(), "/tmp/g:/d:ro,cached");
    assert_eq!(check(&rules, "/tmp/w:/d:z").unwrap(), "/tmp/w:/d:rw,z");
}

#[test]
fn what_would_read_otherwise_without_its_blanks_is_refused() {
    for text in ["B :\\x", "B\u{b}:\\", "x:B :\\y"] {
        assert!(matches!(Volume::parse(text), Err(BindError::Syntax(_))), "{text:?}");
    }
    assert_eq!(Volume::parse(" v : /d : ro ").unwrap().to_string(), "v:/d:ro");
    assert_eq!(Volume::parse(r"C:\a b:/d").unwrap().source.as_deref(), Some(r"C:\a b"));
}

#[test]
fn writing_can_be_taken_away() {
    for (text, read_only) in [("v:/d", "v:/d:ro"), ("v:/d:rw,nocopy", "v:/d:ro,nocopy"), ("v:/d:ro", "v:/d:ro")] {
        assert_eq!(Volume::parse(text).unwrap().read_only().to_string(), read_only);
    }
}

#[test]
fn no_message_shows_the_path() {
    let rules = rules(&[], &[]);
    for text in ["/home/hunter2:/d", "/tmp/.ssh/hunter2:/d", "/etc/hunter2:/d", "hunter2/x:/d", "/tmp/hunter2:/d:rw"] {
        assert!(!check(&rules, text).unwrap_err().to_string().contains("hunter2"), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_passes_is_named_or_below_a_root_and_read_only(text in "[/a-z.:~\\\\ ,]{0,24}|(/tmp|/etc|/var|v)[/a-z.]{0,12}:/d(:[a-z,]{0,6})?") {
        let rules = rules(&["/srv"], &[]);
        if let Ok(volume) = rules.check(&text, &|path| Ok(path.to_owned()))
            && !volume.is_named()
        {
            let source = PathBuf::from(volume.source.clone().unwrap());
            prop_assert!(rules.roots.iter().any(|root| source.starts_with(root)));
            prop_assert!(volume.mode.unwrap().split(',').any(|option| option == "ro"));
        }
    }

    #[test]
    fn a_normal_path_is_absolute_and_plain(path in "/?[a-z./]{0,20}") {
        if let Some(normal) = normalised(&path) {
            prop_assert!(normal.is_absolute());
            let mut components = normal.components().skip(1);
            prop_assert!(components.all(|part| matches!(part, Component::Normal(_))));
        }
    }
}
