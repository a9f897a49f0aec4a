use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::audit::queue::Origin;
use crate::audit::reader::{Filter, Records};
use crate::audit::{Audit, Options, verify};

const LONG: Duration = Duration::from_secs(60);

fn open(directory: &Path, session: &str, retention: Retention) -> Audit {
    Audit::open(Options { directory: directory.to_owned(), session: session.to_owned(), retention }).unwrap()
}

fn note(audit: &Audit) {
    audit.record(|| Record::of(Kind::Loaded));
}

fn push(queue: &Queue) {
    let parts = Parts { facts: br#"{"event":"loaded""#, ..Parts::default() };
    queue.push(SystemTime::now(), Frame::Whole, parts, &Origin::default());
}

fn records(directory: &Path) -> Vec<Record<'static>> {
    let records = Records::open(&Directory::at(directory.to_owned()), Filter::default()).unwrap();
    records.map(|found| found.record).collect()
}

/// Gives the writer time until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_is_recorded_is_there_soon_and_only_its_owner_can_read_it() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("audit");
    let audit = open(&directory, "s", Retention::default());
    note(&audit);
    until("the record should be written", || records(&directory).len() == 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("s.000001.jsonl")), 0o600);
    }
    assert_eq!(audit.close(LONG).await.unwrap().unwrap().seq, 3);
    // What comes after the end is ignored, and a second end is none.
    note(&audit);
    assert_eq!(audit.close(LONG).await.unwrap(), None);
    assert_eq!(records(&directory).last().unwrap().event, Kind::Closed);
    // Nobody takes over the log of another session.
    assert!(Audit::open(Options { directory, session: "s".to_owned(), retention: Retention::default() }).is_err());
}

#[tokio::test]
async fn records_that_cannot_be_written_are_counted_and_the_log_says_so_when_it_can() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("audit");
    let directory = Directory::create(path.clone()).unwrap();
    let queue = Arc::new(Queue::default());
    let mut writer = Writer::new(directory, "s".to_owned(), Retention::default(), Arc::clone(&queue)).unwrap();
    let mut write = |count: u64| {
        for _ in 0..count {
            push(&queue);
        }
        writer.write(queue.take(Some(Duration::ZERO)));
        (writer.lost, writer.lost_in_all)
    };
    assert_eq!(write(2), (0, 0));
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(write(5), (5, 5));
    assert_eq!(write(1), (6, 6));
    // Trying again loses no more.
    assert_eq!(write(0), (6, 6));
    fs::create_dir(&path).unwrap();
    assert_eq!(write(0), (0, 6));
    assert_eq!(write(1), (0, 6));
    let found = records(&path);
    let events: Vec<Kind> = found.iter().map(|record| record.event).collect();
    assert_eq!(events, [Kind::Continued, Kind::Lost, Kind::Loaded], "{found:?}");
    assert_eq!(found[1].lost, Some(6));
    // The beginning is gone, and that is no secret.
    let report = verify::directory(&Directory::at(path)).unwrap();
    assert_eq!((report.sessions[0].first, report.sessions[0].lost), (3, 6));

    // One that is over before it can be written again tells how many are missing: the beginning, the record, the end.
    let other = place.path().join("other");
    let gone = open(&other, "t", Retention::default());
    fs::remove_dir_all(&other).unwrap();
    note(&gone);
    assert!(matches!(gone.close(LONG).await, Err(crate::audit::CloseError::Lost { records: 3, .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn room_is_looked_for_without_changing_the_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    fs::write(&path, "line").unwrap();
    assert!(has_room(&fs::OpenOptions::new().append(true).open(&path).unwrap()));
    assert!(!has_room(&File::open(&path).unwrap()) && !has_room(&File::open("/dev/full").unwrap()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "line");
}

#[test]
fn what_a_write_in_the_middle_of_a_batch_lost_stands_before_what_comes_next() {
    let place = tempfile::tempdir().unwrap();
    let directory = Directory::create(place.path().to_owned()).unwrap();
    let mut writer = Writer::new(directory, "s".to_owned(), Retention::default(), Arc::new(Queue::default())).unwrap();
    writer.begin_now().unwrap();
    let add = |writer: &mut Writer| {
        let parts = Parts { facts: br#"{"event":"loaded""#, ..Parts::default() };
        writer.append_frame(SystemTime::now(), &Frame::Whole, parts);
    };
    add(&mut writer);
    writer.flush();
    let path = place.path().join("s.000001.jsonl");
    // Cannot be written to for the time of two records.
    let file = std::mem::replace(&mut writer.file, File::open(&path).unwrap());
    (0..2).for_each(|_| add(&mut writer));
    writer.flush();
    assert!(writer.is_failing && writer.lost == 2);
    writer.file = file;
    add(&mut writer);
    writer.flush();
    assert!(!writer.is_failing && writer.lost == 0);
    let found: Vec<_> = records(place.path()).iter().map(|record| (record.event, record.lost)).collect();
    let (loaded, lost) = ((Kind::Loaded, None), (Kind::Lost, Some(2)));
    assert_eq!(found, [(Kind::Opened, None), loaded, lost, loaded]);
    assert!(verify::file(&path).unwrap().is_sound());
}

#[tokio::test]
async fn a_required_log_that_cannot_be_written_is_missing_until_it_can() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("audit");
    let options = || Options { directory: directory.clone(), session: "s".to_owned(), retention: Retention::default() };
    let audit = Audit::open_required(options()).unwrap();
    // It is there before anything is done.
    assert_eq!(records(&directory)[0].event, Kind::Opened);
    assert_eq!(audit.missing(), None);
    fs::remove_dir_all(&directory).unwrap();
    note(&audit);
    until("it should be missed", || audit.missing().is_some());
    fs::create_dir(&directory).unwrap();
    until("it should be there again", || {
        note(&audit);
        audit.missing().is_none()
    });
    // One that nobody requires is never missing.
    let other = open(&place.path().join("other"), "t", Retention::default());
    fs::remove_dir_all(place.path().join("other")).unwrap();
    note(&other);
    assert!(other.close(LONG).await.is_err());
    assert_eq!(other.missing(), None);
}

#[tokio::test]
async fn no_more_is_kept_than_shall_be_and_what_was_deleted_is_recorded() {
    let place = tempfile::tempdir().unwrap();
    let small = Retention { total_bytes: 6000, files: 100, file_bytes: 1000 };
    let alive = open(place.path(), "alive", small);
    note(&alive);
    until("the record should be written", || records(place.path()).len() == 2);
    let audit = open(place.path(), "s", small);
    for _ in 0..100 {
        note(&audit);
    }
    audit.close(LONG).await.unwrap();
    let files = Directory::at(place.path().to_owned()).files().unwrap();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    assert!(bytes < 9000, "{bytes}");
    // A log that is written to stays, however old it is.
    assert_eq!(files[0].session, "alive");
    let found = records(place.path());
    assert!(found.iter().any(|record| record.event == Kind::Removed && record.files[0].starts_with("s.0000")));
    let report = verify::directory(&Directory::at(place.path().to_owned())).unwrap();
    assert!(report.is_sound() && report.sessions[1].first > 50, "{report:?}");
    // So does the number of files.
    alive.close(LONG).await.unwrap();
    let few = open(place.path(), "t", Retention { files: 3, ..small });
    few.close(LONG).await.unwrap();
    assert_eq!(Directory::at(place.path().to_owned()).files().unwrap().len(), 3);
}

/// How often the thread of this name went to sleep so far, if the system tells.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let path = thread.unwrap().path();
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        if status.lines().next() == Some("Name:\taudit-idle") {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += line.unwrap().trim().parse::<u64>().unwrap();
        }
    }
    sum
}

#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::disallowed_methods, reason = "that nothing happens for a while is what is measured")]
fn the_writer_sleeps_while_nothing_is_recorded_and_wakes_seldom_while_much_is() {
    let place = tempfile::tempdir().unwrap();
    let directory = Directory::create(place.path().to_owned()).unwrap();
    let queue = Arc::new(Queue::default());
    let writer = Writer::new(directory, "s".to_owned(), Retention::default(), Arc::clone(&queue)).unwrap();
    let thread = std::thread::Builder::new().name("audit-idle".to_owned()).spawn(move || writer.run()).unwrap();
    push(&queue);
    until("the record should be written", || records(place.path()).len() == 2);
    let rest = || {
        let started = Instant::now();
        let mut before = (sleeps(), Instant::now());
        // At rest for half a second: five times the time in which it lets records gather.
        while before.1.elapsed() < Duration::from_millis(500) {
            assert!(started.elapsed() < LONG, "it does not come to rest");
            std::thread::sleep(Duration::from_millis(20));
            if sleeps() != before.0 {
                before = (sleeps(), Instant::now());
            }
        }
        before.0
    };
    let before = rest();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sleeps(), before, "it woke up with nothing to do");

    let started = Instant::now();
    let mut count = 0_u64;
    while count < 200 || started.elapsed() < Duration::from_secs(1) {
        push(&queue);
        count += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let (woke, seconds) = (sleeps() - before, started.elapsed().as_secs() + 1);
    assert!(woke <= 60 * seconds && woke < count, "it woke {woke} times for {count} records in {seconds} s");
    queue.close(None);
    thread.join().unwrap();
}
