//! What is kept, what is refused, and what the files look like to others.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::Question;
use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self, variables: &[(&'static str, &Path)], ask: super::super::Ask) -> EncryptedFile {
        let variables: Vec<(&str, PathBuf)> =
            variables.iter().map(|(name, path)| (*name, (*path).to_owned())).collect();
        let mut place = Place::of_process(Some(self.0.path().to_owned()));
        place.variable = Arc::new(move |asked| {
            variables.iter().find(|(name, _)| *name == asked).map(|(_, path)| path.clone().into_os_string())
        });
        place.ask = ask;
        EncryptedFile::in_place(&place.own_directory().unwrap(), &place)
    }

    /// With a key file in the home directory.
    fn with_key(&self) -> EncryptedFile {
        self.store(&[(key::KEY_FILE, &self.0.path().join("key.txt"))], nobody())
    }

    fn own(&self, name: &str) -> PathBuf {
        self.0.path().join(".docker/mcp/secrets").join(name)
    }
}

fn nobody() -> super::super::Ask {
    Arc::new(|_| Ok(None))
}

async fn text(store: &EncryptedFile, name: &str) -> Option<String> {
    match store.look_up(name).await.unwrap() {
        Answer::Found(text) => Some(text.expose().to_owned()),
        _ => None,
    }
}

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

#[tokio::test]
async fn what_is_set_is_read_by_another_process_and_nothing_of_it_is_in_the_files() {
    let home = Home::new();
    let store = home.with_key();
    assert!(text(&store, "a.token").await.is_none() && !store.remove("a.token").await.unwrap());
    assert!(!home.own("").exists(), "nothing is made before something is set");
    store.set("a.token", &secret("hunter2")).await.unwrap();
    store.set("b", &secret("line\n\"two\" ")).await.unwrap();
    store.set("a.token", &secret("hunter3")).await.unwrap();
    let other = home.with_key();
    assert_eq!(text(&other, "a.token").await.as_deref(), Some("hunter3"));
    assert_eq!(text(&other, "b").await.as_deref(), Some("line\n\"two\" "));
    let mut names = other.names().await.unwrap();
    names.sort();
    assert_eq!(names, ["a.token", "b"]);
    assert!(other.remove("b").await.unwrap() && !other.remove("b").await.unwrap());
    assert_eq!(text(&store, "b").await, None);
    for path in [home.own(SECRETS), home.0.path().join("key.txt")] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path:?}");
        let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!content.contains("hunter") && !content.contains("a.token"), "{content}");
    }
    assert_eq!(std::fs::metadata(home.own("")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(store.set("a=b", &secret("x")).await.is_err());
}

#[tokio::test]
async fn writers_take_turns_and_none_is_lost() {
    let home = Arc::new(Home::new());
    home.with_key().set("first", &secret("x")).await.unwrap();
    let writers = (0..12).map(|number| {
        let home = Arc::clone(&home);
        tokio::spawn(async move { home.with_key().set(&format!("name{number}"), &secret("x")).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(home.with_key().names().await.unwrap().len(), 13);
    let mut left: Vec<_> = std::fs::read_dir(home.own("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", SECRETS]);
}

#[tokio::test]
async fn a_passphrase_is_asked_for_once_and_a_wrong_one_opens_nothing() {
    let home = Home::new();
    let asked = Arc::new(AtomicU32::new(0));
    let ask = |passphrase: &'static str| -> super::super::Ask {
        let asked = Arc::clone(&asked);
        Arc::new(move |question| {
            asked.fetch_add(1 + 100 * u32::from(question == Question::NewPassphrase), Ordering::Relaxed);
            Ok(Some(Zeroizing::new(passphrase.to_owned())))
        })
    };
    let store = home.store(&[], ask("correct horse"));
    store.set("a", &secret("1")).await.unwrap();
    store.set("b", &secret("2")).await.unwrap();
    assert_eq!(text(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(asked.load(Ordering::Relaxed), 101, "once, for a new one");
    let file = home.0.path().join("passphrase");
    std::fs::write(&file, "correct horse\n").unwrap();
    let other = home.store(&[(key::PASSPHRASE_FILE, &file)], nobody());
    assert_eq!(text(&other, "b").await.as_deref(), Some("2"));

    let error = home.store(&[], ask("hunter2")).look_up("a").await.unwrap_err().to_string();
    assert!(error.contains("the passphrase does not open") && !error.contains("hunter2"), "{error}");
    let error = home.store(&[], nobody()).look_up("a").await.unwrap_err().to_string();
    assert!(error.contains("it is locked; set `DOCKER_MCP_SECRET_PASSPHRASE_FILE`"), "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_left_alone() {
    let home = Home::new();
    let error = home.store(&[], nobody()).set("a", &secret("hunter2")).await.unwrap_err().to_string();
    assert!(error.contains("PASSPHRASE_FILE`") && error.contains("KEY_FILE`") && !error.contains("hunter2"), "{error}");
    assert!(!home.own(SECRETS).exists() && !home.own("key.age").exists());
    home.with_key().set("a", &secret("1")).await.unwrap();
    let before = std::fs::read(home.own(SECRETS)).unwrap();
    // Another key, none, a damaged file and one that others may read.
    let missing = home.0.path().join("missing.txt");
    let other = home.0.path().join("other.txt");
    home.store(&[(key::KEY_FILE, &other)], nobody()).0.key.open_or_make().unwrap();
    for (variables, expected) in [
        (vec![(key::KEY_FILE, other.as_path())], "name the key that it was made with"),
        (vec![(key::KEY_FILE, missing.as_path())], "cannot read"),
        (vec![], "its key is not there"),
    ] {
        let store = home.store(&variables, nobody());
        for error in [store.look_up("a").await.map(drop), store.set("b", &secret("2")).await] {
            assert!(error.clone().unwrap_err().to_string().contains(expected), "{error:?}");
        }
    }
    assert!(!missing.exists(), "no key is made for a file that has one");
    assert_eq!(std::fs::read(home.own(SECRETS)).unwrap(), before);
    let mut damaged = before.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(home.own(SECRETS), damaged).unwrap();
    let error = home.with_key().look_up("a").await.unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    std::fs::write(home.own(SECRETS), before).unwrap();
    std::fs::set_permissions(home.own(SECRETS), PermissionsExt::from_mode(0o640)).unwrap();
    let error = home.with_key().look_up("a").await.unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
