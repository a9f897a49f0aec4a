//! Every way in which a file changes, on a real file system.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::time::Duration;

use super::*;

async fn expect_ring(bell: &mut Bell, files: &[PathBuf], what: &str) {
    let rung = tokio::time::timeout(Duration::from_secs(10), bell.rung.notified()).await;
    assert!(rung.is_ok(), "{what}");
    // One change is several events; those that come later are of this change too.
    while tokio::time::timeout(Duration::from_millis(500), bell.rung.notified()).await.is_ok() {}
    bell.follow(files);
}

#[tokio::test]
async fn every_way_in_which_a_file_changes_rings() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let file = root.join("a/b/file.yaml");
    let files = [file.clone()];
    let mut bell = Bell::new();
    bell.follow(&files);
    assert!(bell.watcher.is_some() && bell.is_complete);

    fs::create_dir(root.join("a")).unwrap();
    expect_ring(&mut bell, &files, "a directory on the way to it appears").await;
    fs::create_dir(root.join("a/b")).unwrap();
    expect_ring(&mut bell, &files, "its own directory appears").await;
    fs::write(&file, "1").unwrap();
    expect_ring(&mut bell, &files, "it appears").await;
    fs::write(&file, "2").unwrap();
    expect_ring(&mut bell, &files, "it is written to").await;
    fs::write(root.join("a/b/new"), "3").unwrap();
    fs::rename(root.join("a/b/new"), &file).unwrap();
    expect_ring(&mut bell, &files, "it is replaced").await;
    fs::remove_dir_all(root.join("a/b")).unwrap();
    expect_ring(&mut bell, &files, "its directory goes").await;
    fs::create_dir(root.join("a/b")).unwrap();
    expect_ring(&mut bell, &files, "its directory comes back").await;
    fs::write(&file, "4").unwrap();
    expect_ring(&mut bell, &files, "it comes back").await;

    fs::read(&file).unwrap();
    let rung = tokio::time::timeout(Duration::from_millis(300), bell.rung.notified()).await;
    assert!(rung.is_err(), "reading it is no change");
    fs::write(root.join("a/b/log"), "5").unwrap();
    fs::remove_file(root.join("a/b/log")).unwrap();
    let rung = tokio::time::timeout(Duration::from_millis(300), bell.rung.notified()).await;
    assert!(rung.is_err(), "another file of the directory is none either");
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_wherever_they_are_on_the_way() {
    use std::os::unix::fs::symlink;
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    for version in ["1", "2"] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("file"), version).unwrap();
    }
    // As the cluster mounts configuration: the file leads through a link that is replaced.
    fs::create_dir(root.join("mount")).unwrap();
    symlink("../1", root.join("mount/data")).unwrap();
    symlink("data/file", root.join("mount/file")).unwrap();
    let files = [root.join("mount/file")];
    let mut bell = Bell::new();
    bell.follow(&files);

    fs::write(root.join("1/file"), "one").unwrap();
    expect_ring(&mut bell, &files, "the file at its end is written to").await;
    symlink("../2", root.join("mount/new")).unwrap();
    fs::rename(root.join("mount/new"), root.join("mount/data")).unwrap();
    expect_ring(&mut bell, &files, "the link is replaced").await;
    fs::write(root.join("2/file"), "two").unwrap();
    expect_ring(&mut bell, &files, "the file at its new end is written to").await;

    let loops = root.join("loop");
    symlink("loop", &loops).unwrap();
    assert!(places(&loops).contains(&(root, "loop".into())));
}
