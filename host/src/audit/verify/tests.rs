use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use crate::audit::{Audit, Call, Ending, Options, Retention, Subject};

const LONG: Duration = Duration::from_secs(20);

fn open(directory: &Path, session: &str, retention: Retention) -> Audit {
    Audit::open(Options { directory: directory.to_owned(), session: session.to_owned(), retention }).unwrap()
}

fn provision(audit: &Audit, server: &str) {
    let mut operation = audit.operation(|| Subject {
        task: "provision",
        server: Some(server),
        tool: None,
        component: "docker",
        digest: "d1",
    });
    for _ in 0..3 {
        let call = Call { interface: "config-resolver", function: "resolve-command", acts: false };
        operation.enter(0, call, |_| {});
        operation.leave(None, |_| Ending::ok());
    }
    operation.end(Ending::ok, Default::default);
}

/// A log of one session with 12 records.
async fn written(directory: &Path, session: &str) -> Head {
    let audit = open(directory, session, Retention::default());
    provision(&audit, "one");
    provision(&audit, "two");
    audit.close(LONG).await.unwrap().unwrap()
}

fn check(path: &Path) -> Report {
    directory(&Directory::at(path.to_owned())).unwrap()
}

fn only_file(directory: &Path) -> PathBuf {
    let files = Directory::at(directory.to_owned()).files().unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].path.clone()
}

#[tokio::test]
async fn each_line_that_is_changed_removed_repeated_or_moved_is_found() {
    let place = tempfile::tempdir().unwrap();
    let head = written(place.path(), "s").await;
    let report = check(place.path());
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
    let session = &report.sessions[0];
    assert_eq!((session.records, session.head, session.state), (12, head, State::Closed));

    let path = only_file(place.path());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut cases: Vec<(String, Vec<String>, usize)> = Vec::new();
    let own = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    for at in 0..lines.len() {
        let mut changed = own();
        // As valid as before: a millisecond earlier or later.
        let digit = changed[at].find("Z\",\"session\"").unwrap() - 1;
        let other = if &changed[at][digit..=digit] == "0" { "1" } else { "0" };
        changed[at].replace_range(digit..=digit, other);
        cases.push((format!("changed {at}"), changed, at));
        let mut repeated = own();
        repeated.insert(at, lines[at].to_owned());
        cases.push((format!("repeated {at}"), repeated, at + 1));
        // Removing the last ones is what only a head shows.
        if at + 1 < lines.len() {
            let mut removed = own();
            removed.remove(at);
            cases.push((format!("removed {at}"), removed, at));
            let mut moved = own();
            moved.swap(at, at + 1);
            cases.push((format!("moved {at}"), moved, at));
        }
        // A line that is right in itself, with another content.
        let mut forged = own();
        let mut line = br#"{"seq":3,"time":"2026-01-01T00:00:00.000Z","session":"s","event":"begun""#.to_vec();
        chain::seal(&mut line, 0, &mut Head::default());
        forged.insert(at, String::from_utf8(line).unwrap().trim_end().to_owned());
        cases.push((format!("added {at}"), forged, at));
    }
    for (case, lines, at) in cases {
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let report = check(place.path());
        let found: Vec<_> = report.problems.iter().filter_map(|problem| problem.line).collect();
        if case == "removed 0" {
            assert!(report.problems[0].what.contains("the file was cut at its beginning"), "{report:?}");
        }
        let near = (at as u64).saturating_sub(1)..=at as u64 + 2;
        assert!(found.first().is_some_and(|line| near.contains(line)), "{case}: {report:?}");
    }
}

#[tokio::test]
async fn what_is_cut_off_the_end_shows_with_the_head_or_in_a_later_session() {
    let place = tempfile::tempdir().unwrap();
    let head = written(place.path(), "s").await;
    let path = only_file(place.path());
    assert!(holds(std::slice::from_ref(&path), head.hash).unwrap().is_some());
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().take(9).collect();
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let report = check(place.path());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.sessions[0].state, State::Unfinished);
    assert_eq!(holds(std::slice::from_ref(&path), head.hash).unwrap(), None);

    fs::write(&path, &text).unwrap();
    let later = written(place.path(), "t").await;
    assert!(check(place.path()).is_sound());
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let report = check(place.path());
    assert!(report.problems[0].what.contains("records 10 to 12 are missing at its end"), "{report:?}");
    // A whole session that is gone is missed as well: no gateway says that it deleted it.
    fs::remove_file(&path).unwrap();
    let report = check(place.path());
    assert!(report.problems[0].what.contains("session s is not here"), "{report:?}");
    assert!(report.problems[0].what.contains("no record says that a gateway deleted them"), "{report:?}");
    let _ = later;
}

#[tokio::test]
async fn a_session_that_is_gone_although_older_ones_are_there_is_found() {
    let place = tempfile::tempdir().unwrap();
    let pause = || {
        let before = crate::audit::record::time(SystemTime::now());
        while crate::audit::record::time(SystemTime::now()) == before {
            std::thread::yield_now();
        }
    };
    for session in ["a", "b", "c"] {
        written(place.path(), session).await;
        pause();
    }
    assert!(check(place.path()).is_sound());
    fs::remove_file(place.path().join("b.000001.jsonl")).unwrap();
    let report = check(place.path());
    assert!(
        report.problems[0].what.contains("session b is not here; session c saw it end with record 12"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_gateway_that_was_killed_leaves_a_log_to_which_the_next_one_gives_an_end() {
    let place = tempfile::tempdir().unwrap();
    written(place.path(), "s").await;
    let path = only_file(place.path());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // As if the process had ended in the middle of a line, and exactly between two.
    for torn in [&lines[10][..50], ""] {
        fs::write(&path, lines[..10].concat() + torn).unwrap();
        let report = check(place.path());
        assert!(report.is_sound() && report.sessions[0].state == State::Unfinished, "{report:?}");
        assert_eq!(report.notes.len(), usize::from(!torn.is_empty()), "{report:?}");

        written(place.path(), "later").await;
        let report = check(place.path());
        assert!(report.is_sound(), "{report:?}");
        let recovered = &report.sessions[1];
        assert_eq!((recovered.state, recovered.records), (State::Recovered, 11));
        assert_eq!(report.notes.iter().any(|note| note.contains("was killed while it wrote")), !torn.is_empty());
        let end = fs::read_to_string(&path).unwrap();
        assert!(end.lines().last().unwrap().contains(r#""event":"recovered""#) && end.contains(r#""by":"later""#));
        // The torn line is no place to hide something in.
        if !torn.is_empty() {
            fs::write(&path, end.replace(torn, &torn.replace("seq", "qes"))).unwrap();
            assert!(!check(place.path()).is_sound());
        }
        fs::remove_file(place.path().join("later.000001.jsonl")).unwrap();
    }
}

#[tokio::test]
async fn the_chain_goes_on_over_files_and_a_file_in_between_is_missed() {
    let place = tempfile::tempdir().unwrap();
    let small = Retention { file_bytes: 2000, ..Retention::default() };
    let audit = open(place.path(), "s", small);
    for _ in 0..10 {
        provision(&audit, "one");
    }
    let head = audit.close(LONG).await.unwrap().unwrap();
    let files = Directory::at(place.path().to_owned()).files().unwrap();
    assert!(files.len() > 5 && files.iter().all(|file| file.bytes < 4000), "{files:?}");
    let report = check(place.path());
    assert!(report.is_sound() && report.sessions[0].head == head, "{report:?}");
    // Each file alone is sound too, as far as it goes.
    for path in &files {
        assert!(file(&path.path).unwrap().is_sound());
    }
    fs::remove_file(&files[2].path).unwrap();
    assert!(check(place.path()).problems[0].what.contains("are missing before it"));
}

#[tokio::test]
async fn a_beginning_that_is_cut_off_is_found_and_one_that_a_gateway_deleted_is_none() {
    let place = tempfile::tempdir().unwrap();
    let small = Retention { file_bytes: 2000, ..Retention::default() };
    let audit = open(place.path(), "s", small);
    for _ in 0..10 {
        provision(&audit, "one");
    }
    audit.close(LONG).await.unwrap().unwrap();
    let files = Directory::at(place.path().to_owned()).files().unwrap();
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(&file.path).unwrap()).collect();
    let restore = || {
        for (file, text) in files.iter().zip(&texts) {
            fs::write(&file.path, text).unwrap();
        }
    };
    let first_problem = || check(place.path()).problems.first().cloned();
    // The first lines of the first file, of a later one that has become the first, and of each by itself.
    for at in [0, 2] {
        files[..at].iter().for_each(|file| fs::remove_file(&file.path).unwrap());
        for lines in 1..3 {
            let kept: String = texts[at].split_inclusive('\n').skip(lines).collect();
            fs::write(&files[at].path, kept).unwrap();
            let problem = first_problem().unwrap();
            assert!(problem.what.contains("beginning") || problem.what.contains("begin with it"), "{problem:?}");
            assert_eq!((problem.file, problem.line), (files[at].path.clone(), Some(1)));
            assert!(!file(&files[at].path).unwrap().is_sound());
        }
        restore();
    }
    // The first files of a row, all but the last.
    for count in 1..files.len() {
        files[..count].iter().for_each(|file| fs::remove_file(&file.path).unwrap());
        let problem = first_problem().unwrap();
        assert!(problem.what.contains("no record says that a gateway deleted them"), "{problem:?}");
        restore();
    }
    // One that is emptied, or whose name was given to the next.
    fs::write(&files[0].path, "").unwrap();
    assert!(first_problem().unwrap().what.contains("are not here"));
    fs::rename(&files[1].path, &files[0].path).unwrap();
    assert!(first_problem().unwrap().what.contains("the file was cut at its beginning"));
    restore();

    // What a gateway deletes it says before, whoever the files belong to; and then only those are none.
    let all: u64 = files.iter().map(|file| file.bytes).sum();
    let keep = Retention { total_bytes: all - 2500, ..small };
    open(place.path(), "later", keep).close(LONG).await.unwrap();
    let left = Directory::at(place.path().to_owned()).files().unwrap();
    assert!(left[1].number > 1 && left[1].session == "s", "{left:?}");
    let report = check(place.path());
    assert!(report.is_sound() && report.notes[0].contains("as its record says"), "{report:?}");
}

#[test]
fn what_is_no_log_is_told_and_nothing_panics() {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("a.000001.jsonl", b"".to_vec()),
        ("b.000001.jsonl", b"\n\n{}\n\xff\xfe\n".to_vec()),
        ("c.000001.jsonl", vec![b'x'; 3 << 20]),
        ("d.000001.jsonl", br#"{"seq":18446744073709551615,"prev":"","hash":""}"#.to_vec()),
    ] {
        fs::write(place.path().join(name), bytes).unwrap();
    }
    let report = check(place.path());
    assert!(!report.is_sound() && report.sessions.is_empty(), "{report:?}");
    // A number at the end of its range, in a line that is right in itself.
    let mut line = br#"{"seq":18446744073709551615,"time":"","session":"e","event":"begun""#.to_vec();
    chain::seal(&mut line, 0, &mut Head::default());
    let twice = [line.clone(), line].concat();
    fs::write(place.path().join("e.000001.jsonl"), twice).unwrap();
    assert!(!check(place.path()).is_sound());
}
