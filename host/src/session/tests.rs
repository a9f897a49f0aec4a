//! Tests of sessions. That a lock ends with its process is tested with real processes, in `tests/lifetimes.rs`.

use std::path::Path;

use super::*;

fn sessions() -> (tempfile::TempDir, Sessions) {
    let directory = tempfile::tempdir().unwrap();
    let sessions = Sessions::open(directory.path().join("sessions")).unwrap();
    (directory, sessions)
}

#[test]
fn a_session_is_held_until_its_lock_is_released() {
    let (_directory, sessions) = sessions();
    let session = sessions.begin().unwrap();
    let id = session.id().to_owned();
    assert!(is_id(&id));
    assert_eq!(sessions.ids().unwrap(), std::slice::from_ref(&id));
    assert!(matches!(sessions.state(&id).unwrap(), State::Held));
    drop(session);
    let State::Dead(dead) = sessions.state(&id).unwrap() else { panic!("the lock is free") };
    assert!(dead.asked_at().is_none());
    assert!(matches!(sessions.state(&id).unwrap(), State::Held), "who cleans up holds the lock");
    dead.forget().unwrap();
    assert!(sessions.ids().unwrap().is_empty());
}

#[test]
fn a_session_without_a_lock_file_is_dead() {
    let (_directory, sessions) = sessions();
    let State::Dead(dead) = sessions.state("0123456789abcdef").unwrap() else { panic!("there is no lock") };
    dead.forget().unwrap();
}

#[test]
fn a_session_that_ended_leaves_no_file() {
    let (_directory, sessions) = sessions();
    let session = sessions.begin().unwrap();
    session.end();
    assert!(sessions.ids().unwrap().is_empty());
}

#[test]
fn what_was_asked_for_at_the_time_of_death_is_remembered() {
    let (_directory, sessions) = sessions();
    let session = Arc::new(sessions.begin().unwrap());
    let id = session.id().to_owned();
    let asked = |asking: Vec<Asking>, session: Arc<Session>| {
        // What a process that is killed leaves: the file as it is, and the lock released.
        let path = session.lock().unwrap().path.clone();
        let left = std::fs::read(&path).unwrap();
        drop((asking, session));
        std::fs::write(&path, left).unwrap();
        let State::Dead(dead) = sessions.state(&id).unwrap() else { panic!("the lock is free") };
        dead.asked_at()
    };
    drop(session.asking());
    let asking = vec![session.asking(), session.asking()];
    drop(session.asking());
    let at = asked(asking, session).unwrap();
    assert!(at.elapsed().unwrap().as_secs() < 60);
}

#[test]
fn an_identifier_cannot_leave_the_directory() {
    let (_directory, sessions) = sessions();
    for id in ["", "../x", "a/b", "A", "a.b", &"a".repeat(65)] {
        assert!(!is_id(id) && sessions.state(id).is_err(), "{id}");
    }
}

#[test]
fn a_directory_keeps_its_identity_and_others_have_another() {
    let (directory, first) = sessions();
    let again = Sessions::open(directory.path().join("sessions")).unwrap();
    let other = Sessions::open(directory.path().join("other")).unwrap();
    assert_eq!(first.at(), again.at());
    assert_ne!(first.at(), other.at());
    assert_eq!(first.at().len(), 24);
}

#[test]
fn processes_that_begin_at_once_agree_on_the_identity() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Sessions::open(directory.path().join("sessions")).unwrap().at().to_owned();
    let found: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found.len(), 1);
}

#[test]
fn beginning_while_others_clean_up_never_yields_a_session_that_looks_dead() {
    let (_directory, sessions) = sessions();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for id in sessions.ids().unwrap() {
                    if let State::Dead(dead) = sessions.state(&id).unwrap() {
                        dead.forget().unwrap();
                    }
                }
            }
        });
        let begun: Vec<Session> = (0..300).map(|_| sessions.begin().unwrap()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for session in &begun {
            assert!(matches!(sessions.state(session.id()).unwrap(), State::Held));
        }
    });
}

#[test]
fn what_a_process_left_that_died_before_its_session_began_is_discarded() {
    let (directory, sessions) = sessions();
    let left = directory.path().join("sessions/0123.new");
    std::fs::write(&left, "").unwrap();
    assert!(sessions.ids().unwrap().is_empty());
    assert!(!left.exists());
}

#[test]
fn the_directory_is_below_the_users_state() {
    let home = Path::new("/home/u");
    let expected = |path: &str| Some(PathBuf::from(path));
    assert_eq!(Sessions::directory(None, Some(home)), expected("/home/u/.local/state/docker-mcp/sessions"));
    assert_eq!(Sessions::directory(Some("/s".into()), Some(home)), expected("/s/docker-mcp/sessions"));
    for ignored in ["", "relative"] {
        let found = Sessions::directory(Some(ignored.into()), Some(home));
        assert_eq!(found, expected("/home/u/.local/state/docker-mcp/sessions"));
    }
    assert_eq!(Sessions::directory(None, None), None);
}

#[cfg(unix)]
#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Sessions::open(shared).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}
