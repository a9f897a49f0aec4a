use super::*;

fn home(files: &[&str]) -> (tempfile::TempDir, OwnFiles) {
    let home = tempfile::tempdir().unwrap();
    for file in files {
        let path = home.path().join(".docker/mcp").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let own = OwnFiles::of_home(Some(home.path()));
    (home, own)
}

/// Paths below the user's directory are shown as `~/…`.
fn shown(own: &OwnFiles, files: &[CatalogFile]) -> Vec<String> {
    let root = own.root().unwrap();
    let show = |file: &CatalogFile| match file.path.strip_prefix(root) {
        Ok(rest) => format!("~/{}{}", rest.display(), if file.is_named { "!" } else { "" }),
        Err(_) => format!("{}{}", file.path.display(), if file.is_named { "!" } else { "" }),
    };
    files.iter().map(show).collect()
}

fn paths(texts: &[&str]) -> Vec<PathBuf> {
    texts.iter().map(PathBuf::from).collect()
}

const OWN: [&str; 5] =
    ["catalogs/b.yaml", "catalogs/docker-mcp.yaml", "catalogs/a.json", "catalogs/.hidden.yaml", "catalogs/notes.txt"];

#[test]
fn without_flags_every_catalog_of_the_user_is_read_and_dockers_first() {
    let (_home, own) = home(&OWN);
    let files = own.catalogs(&CatalogFlags::default()).unwrap();
    assert_eq!(shown(&own, &files), ["~/catalogs/docker-mcp.yaml", "~/catalogs/a.json", "~/catalogs/b.yaml"]);
    assert!(OwnFiles::of_home(None).catalogs(&CatalogFlags::default()).unwrap().is_empty());
}

#[test]
fn catalogs_of_flags_come_before_the_users_and_additional_ones_after() {
    let (_home, own) = home(&OWN);
    let (catalogs, additional) = (paths(&["./x.yaml"]), paths(&["/y.json", "./x.yaml"]));
    let mut flags = CatalogFlags { catalogs: &catalogs, additional: &additional, use_configured: false };
    assert_eq!(shown(&own, &own.catalogs(&flags).unwrap()), ["./x.yaml!", "/y.json!"]);
    flags.use_configured = true;
    let all = ["./x.yaml!", "~/catalogs/docker-mcp.yaml", "~/catalogs/a.json", "~/catalogs/b.yaml", "/y.json!"];
    assert_eq!(shown(&own, &own.catalogs(&flags).unwrap()), all);
}

#[test]
fn a_bare_name_means_the_users_file_if_there_is_one() {
    let (_home, own) = home(&["catalogs/mine.yaml", "other.yaml"]);
    let named = |text: &str| {
        let catalogs = paths(&[text]);
        let flags = CatalogFlags { catalogs: &catalogs, ..CatalogFlags::default() };
        own.catalogs(&flags).map(|files| shown(&own, &files).remove(0))
    };
    assert_eq!(named("mine.yaml").unwrap(), "~/catalogs/mine.yaml!");
    assert_eq!(named("mine").unwrap(), "~/catalogs/mine.yaml!");
    assert_eq!(named("./mine.yaml").unwrap(), "./mine.yaml!");
    assert_eq!(named("other.yaml").unwrap(), "other.yaml!");
    assert_eq!(named("file:///etc/x.yaml").unwrap(), "/etc/x.yaml!");
    assert!(
        named("https://example.com/c.yaml").unwrap_err().to_string().contains("catalog import https://example.com")
    );
    assert!(named("docker://x").unwrap_err().to_string().contains("write `file://PATH`"));
    assert_eq!(named(" ").unwrap_err(), NotAFile::Empty);
    let files = own.of_kind("config.yaml", &[], &paths(&["other.yaml"])).unwrap();
    assert_eq!(files, [own.root().unwrap().join("other.yaml")]);
}

#[test]
fn the_users_own_file_counts_unless_the_flag_names_others() {
    let (_home, own) = home(&["config.yaml"]);
    let default = own.root().unwrap().join("config.yaml");
    assert_eq!(own.of_kind("config.yaml", &[], &paths(&["/b"])).unwrap(), [default, PathBuf::from("/b")]);
    assert_eq!(own.of_kind("config.yaml", &paths(&["/a"]), &paths(&["/b"])).unwrap(), paths(&["/a", "/b"]));
    assert!(own.of_kind("tools.yaml", &[], &[]).unwrap().is_empty());
}
