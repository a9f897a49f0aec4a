//! The protocol against a program that speaks it.

use std::path::Path;

use super::*;

fn helper(directory: &Path, script: &str) -> CredentialHelper {
    let (path, text) = (directory.join("helper"), directory.join("text"));
    std::fs::write(&text, script).unwrap();
    // By another process: what this one has open for writing, another test's child may have for a moment too.
    let made = std::process::Command::new("install").args(["-m", "700"]).args([&text, &path]).status().unwrap();
    assert!(made.success(), "{made}");
    CredentialHelper::new(DOCKER_DESKTOP, path)
}

const SCRIPT: &str = r#"#!/bin/sh
    [ "$*" = get ] || exit 9
    read -r key
    case "$key" in
      sm_github.token) printf '{"ServerURL":"x","Username":"mcp","Secret":"it is\nme"}' ;;
      sm_broken) printf 'hunter2' ;;
      sm_locked) printf 'hunter2'; exit 1 ;;
      *) echo 'credentials not found in native keychain'; exit 1 ;;
    esac"#;

#[tokio::test]
async fn a_secret_is_asked_for_on_standard_input_only() {
    let directory = tempfile::tempdir().unwrap();
    let helper = helper(directory.path(), &SCRIPT.replace(r"\n", r"\\n"));
    let Answer::Found(text) = helper.look_up("github.token").await.unwrap() else { panic!("it is there") };
    assert_eq!(text.expose(), "it is\nme");
    for missing in ["other", "x\nsm_github.token", ""] {
        assert!(matches!(helper.look_up(missing).await, Ok(Answer::NotThere)), "{missing}");
    }
    for name in ["broken", "locked"] {
        let error = helper.look_up(name).await.unwrap_err().to_string();
        assert!(error.starts_with("docker-desktop: ") && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_helper_that_is_not_installed_is_absent_and_one_that_cannot_run_is_broken() {
    let absent = CredentialHelper::new(DOCKER_DESKTOP, "/does/not/exist/docker-credential-desktop");
    assert!(matches!(absent.look_up("github.token").await, Ok(Answer::Absent("not installed"))));
    assert!(absent.set("a", &SecretText::new("b".to_owned())).await.unwrap_err().reason.contains("not installed"));
    let directory = tempfile::tempdir().unwrap();
    let broken = helper(directory.path(), "#!/does/not/exist\n");
    assert!(broken.look_up("github.token").await.unwrap_err().to_string().contains("cannot be run"));
}

#[test]
fn a_helper_is_named_by_a_word_and_no_path() {
    assert_eq!(CredentialHelper::named("pass").unwrap().program, "docker-credential-pass");
    for name in ["", "../x", "a/b", "a b", "é"] {
        assert!(CredentialHelper::named(name).unwrap_err().contains("helper=pass"), "{name}");
    }
}
