//! Which source counts, and what is said if none does.

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self) -> Place {
        let mut place = Place::of_process(Some(self.0.path().to_owned()));
        place.variable = std::sync::Arc::new(|name| (name == "P_D").then(|| "4".into()));
        place
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn path(&self, flag: &str) -> SearchPath {
        SearchPath::from_flag(flag, &self.place()).await.unwrap()
    }
}

#[tokio::test]
async fn the_first_source_that_has_a_secret_counts_and_a_missing_one_names_all_that_were_asked() {
    let home = Home::new();
    let (first, second) = (home.file("a.env", "A=1\n"), home.file("b.env", "A=2\nB=2\n"));
    home.file("files/A", "3");
    let directory = home.file("files/C", "3\n").trim_end_matches("/C").to_owned();
    let path = home.path(&format!("{first}: {second}:{directory}:env=P_:")).await;
    for (name, expected) in [("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")] {
        assert_eq!(path.get(name).await.unwrap().expose(), expected);
    }
    let message = path.get("E").await.unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "secret `E` is not set; add `E=...` to `{first}`, or add `E=...` to `{second}`, or put it into the file \
             `{directory}/E`, or set the variable `P_E`, or set it with `docker-mcp secret set E` and add `default` to \
             `--secrets` (asked: file `{first}`, file `{second}`, directory `{directory}`, variables `P_...`)"
        )
    );
    // A source that fails is not passed over, though a later one has the secret; an earlier one still counts.
    std::fs::write(&second, "nonsense").unwrap();
    assert_eq!(path.get("A").await.unwrap().expose(), "1");
    let error = path.get("C").await.unwrap_err();
    assert!(matches!(&error, SecretError::Unavailable { .. }) && error.to_string().contains("b.env"), "{error}");
}

#[tokio::test]
async fn a_source_that_cannot_be_is_refused_with_the_word() {
    let home = Home::new();
    home.file(".docker/config.json", "{}");
    let cases = [
        ("/does/not/exist.env:docker-desktop", "cannot read secrets file `/does/not/exist.env`"),
        ("/does/not/exist/", "directory `/does/not/exist/`: it cannot be read"),
        ("dir=/does/not/exist", "directory `/does/not/exist`: it cannot be read"),
        ("dir=", "`dir=` needs the path"),
        ("encrypted-file=", "`encrypted-file=` needs the path"),
        ("helper=", "names no credential helper"),
        ("env=", "needs a prefix"),
        ("docker-config", "names no helper"),
    ];
    for (flag, expected) in cases {
        let error = SearchPath::from_flag(flag, &home.place()).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let message = home.path("").await.get("A").await.unwrap_err().to_string();
    assert!(
        message.contains("`docker-mcp secret set A` and add `default`") && message.contains("no source"),
        "{message}"
    );
}

#[tokio::test]
async fn by_default_only_the_own_stores_that_are_in_use_are_asked() {
    let home = Home::new();
    let labels = |path: &SearchPath| path.sources().iter().map(|source| source.label()).collect::<Vec<_>>();
    let path = home.path(DEFAULT).await;
    assert_eq!(labels(&path), [DOCKER_DESKTOP, ENCRYPTED_FILE]);
    let message = path.get("A").await.unwrap_err().to_string();
    assert!(message.starts_with("secret `A` is not set; set it with `docker-mcp secret set A` (asked: "), "{message}");
    assert!(message.ends_with(", encrypted-file)"), "{message}");
    home.file(".docker/mcp/secrets/keyring-names", "A\n");
    assert_eq!(labels(&home.path("default").await), [DOCKER_DESKTOP, KEYRING, ENCRYPTED_FILE]);
}

#[test]
fn a_windows_drive_is_no_separator() {
    assert_eq!(parts(r"C:\a.env:dir=D:/s:default", true), [r"C:\a.env", "dir=D:/s", "default"]);
    assert_eq!(parts("a:/b", false), ["a", "/b"]);
}
