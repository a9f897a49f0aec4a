use std::path::PathBuf;

use super::*;

fn installed(bytes: &[u8], grants: &str) -> Installed {
    Installed {
        digest: digest(bytes),
        bytes: bytes.len() as u64,
        origin: "/somewhere/x.wasm".to_owned(),
        imports: vec!["mcp-gateway:provisioning/log@0.1.0".to_owned()],
        grants: grants.parse().unwrap(),
        consent: Consent { by: "ada".to_owned(), uid: None, at: "2026-11-22T10:00:00Z".to_owned() },
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path().join("a/provisioners")).unwrap();
    (place, store)
}

fn contents(store: &Store) -> usize {
    std::fs::read_dir(store.directory.join("sha256")).unwrap().count()
}

#[test]
fn what_was_installed_is_found_with_what_was_agreed_to() {
    let (_place, store) = store();
    assert!(store.lock().unwrap().provisioners.is_empty());
    store.install("mine", b"one", installed(b"one", "log,rewrite-image=registry.example")).unwrap();
    let found = store.get("mine").unwrap();
    assert_eq!(found.grants.names(), ["log", "rewrite-image=registry.example"]);
    assert_eq!(found.consent.uid.is_some(), cfg!(unix));
    assert_eq!(store.bytes("mine", &found).unwrap(), b"one");
    // Read by another process.
    assert_eq!(Store::open(store.directory.clone()).unwrap().get("mine").unwrap(), found);
}

#[cfg(unix)]
#[test]
fn a_lock_file_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_place, store) = store();
    store.install("mine", b"one", installed(b"one", "log")).unwrap();
    // Whatever the mask of whoever installs.
    let written = std::fs::metadata(store.lock_file()).unwrap().permissions().mode();
    assert_eq!(written & 0o777, 0o600, "{written:o}");
    for (mode, is_refused) in [(0o644, false), (0o664, true), (0o602, true), (0o600, false)] {
        std::fs::set_permissions(store.lock_file(), std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = store.get("mine").err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(refused.contains("others may write to it"), is_refused, "{mode:o}: {refused}");
    }
}

#[test]
fn content_that_nothing_is_named_after_is_deleted() {
    let (_place, store) = store();
    store.install("one", b"same", installed(b"same", "")).unwrap();
    store.install("two", b"same", installed(b"same", "log")).unwrap();
    assert_eq!(contents(&store), 1);
    store.remove("one").unwrap();
    assert_eq!(contents(&store), 1);
    store.install("two", b"new", installed(b"new", "log")).unwrap();
    assert_eq!(contents(&store), 1);
    store.remove("two").unwrap();
    assert_eq!(contents(&store), 0);
    assert!(matches!(store.remove("two"), Err(StoreError::Unknown(_))));
}

#[test]
fn a_file_that_was_swapped_is_not_what_was_agreed_to() {
    let (_place, store) = store();
    store.install("mine", b"good", installed(b"good", "log")).unwrap();
    let found = store.get("mine").unwrap();
    std::fs::write(store.content(&found.digest), b"evil").unwrap();
    let error = store.bytes("mine", &found).unwrap_err().to_string();
    assert!(error.contains("was changed after it was installed") && error.contains("install it again"), "{error}");
    // Installing the same content mends it.
    store.install("mine", b"good", installed(b"good", "log")).unwrap();
    assert_eq!(store.bytes("mine", &found).unwrap(), b"good");
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let (_place, store) = store();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    let bytes = format!("{writer}-{round}");
                    store
                        .install(&format!("w{writer}-{round}"), bytes.as_bytes(), installed(bytes.as_bytes(), ""))
                        .unwrap();
                }
                store.remove(&format!("w{writer}-0")).unwrap();
            });
        }
    });
    assert_eq!(store.lock().unwrap().provisioners.len(), 8 * 4);
    assert_eq!(contents(&store), 8 * 4);
    let left: Vec<PathBuf> = std::fs::read_dir(&store.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_lock_file_that_makes_no_sense_is_refused_with_the_reason() {
    let (_place, store) = store();
    store.install("mine", b"one", installed(b"one", "log")).unwrap();
    let text = std::fs::read_to_string(store.lock_file()).unwrap();
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"log\"", "\"everything\"", "there is no grant `everything`"),
        ("\"mine\"", "\"../mine\"", "is no name"),
        ("\"mine\"", "\"docker\"", "built-in"),
        (&digest(b"one"), "../../etc/passwd", "64 hexadecimal digits"),
        ("\"origin\"", "\"origins\"", "unknown field"),
        ("}", "", "EOF"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(store.lock_file(), text.replace(from, to)).unwrap();
        let error = store.get("mine").unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("mend it"), "{error}");
        assert!(store.install("other", b"x", installed(b"x", "")).is_err(), "what cannot be read is not overwritten");
    }
}

#[test]
fn names_are_plain_and_not_those_of_built_in_ones() {
    for name in ["a", "my-provisioner_2", &"x".repeat(64)] {
        check_name(name).unwrap();
    }
    for name in ["", "-a", "A", "a/b", "a.wasm", "..", "ä", "docker", "k8s", &"x".repeat(65)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
