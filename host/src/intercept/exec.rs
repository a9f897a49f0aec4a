//! Interceptors that are commands on this machine.
//!
//! The command is the operator's own and runs with the rights of the gateway, but without its environment, where
//! tokens and secrets are. It and all its children are one process group, which ends with the call.

use std::process::Stdio;

use provisioning_core::text::one_line;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::MAX_ANSWER;

/// The variables that a command is given, if they are set.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "TERM",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];
/// How much of standard error is logged, and of each of its lines.
const MAX_LOG: u64 = 64 << 10;
const LINE: usize = 500;

/// A process group, which is killed when this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Fails if nothing of it is left, which is what is wanted.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

/// Runs a command with a message on its standard input; its standard output.
pub(super) async fn run(command: &str, message: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let _group = id.map(Group);
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("it has no standard streams".to_owned());
    };
    let write = async move {
        // A command need not read what it does not want.
        let _ = stdin.write_all(message).await;
        let _ = stdin.shutdown().await;
    };
    let (answer, (), ()) = tokio::join!(read(stdout), write, log(stderr));
    let answer = answer?;
    let status = child.wait().await.map_err(|error| format!("how it ended cannot be told: {error}"))?;
    if status.success() { Ok(answer) } else { Err(format!("it failed: {status}")) }
}

async fn read(stdout: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let most = MAX_ANSWER as u64 + 1;
    stdout.take(most).read_to_end(&mut answer).await.map_err(|error| format!("it cannot be read: {error}"))?;
    if answer.len() > MAX_ANSWER {
        return Err(format!("it answered more than {} MiB", MAX_ANSWER >> 20));
    }
    Ok(answer)
}

async fn log(mut stderr: impl AsyncRead + Unpin) {
    let mut text = Vec::new();
    let _ = (&mut stderr).take(MAX_LOG).read_to_end(&mut text).await;
    for line in String::from_utf8_lossy(&text).lines() {
        tracing::info!(line = one_line(line, LINE), "an interceptor says");
    }
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_command_reads_the_message_and_its_output_is_the_answer() {
        assert_eq!(run("cat; echo more", b"message ").await.unwrap(), b"message more\n");
        // One that does not read fails nothing.
        assert_eq!(run("exec <&-; echo no", &vec![b'x'; 1 << 20]).await.unwrap(), b"no\n");
    }

    #[tokio::test]
    async fn failures_are_errors() {
        assert_eq!(run("echo '{}'; exit 3", b"").await.unwrap_err(), "it failed: exit status: 3");
        assert_eq!(run("head -c 5000000 /dev/zero", b"").await.unwrap_err(), "it answered more than 4 MiB");
        assert!(run("kill -9 $$", b"").await.unwrap_err().contains("signal: 9"));
    }

    #[tokio::test]
    async fn nothing_of_the_environment_but_what_a_shell_needs_is_handed_on() {
        let names = String::from_utf8(run("env | cut -d= -f1", b"").await.unwrap()).unwrap();
        let own = ["PWD", "SHLVL", "_", "OLDPWD"];
        for name in names.lines() {
            assert!(KEPT.contains(&name) || own.contains(&name), "{name}");
        }
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the test has a variable that is not handed on");
    }

    #[tokio::test]
    async fn whoever_gives_up_ends_the_command_and_its_children() {
        let mark = tempfile::tempdir().unwrap();
        let file = mark.path().join("alive");
        let command = format!("(while :; do date > {0}; sleep 0.05; done) & sleep 600", file.display());
        let work = run(&command, b"");
        let deadline = Instant::now() + Duration::from_secs(60);
        tokio::select! {
            ended = work => panic!("{ended:?}"),
            () = async { while !file.exists() { tokio::time::sleep(Duration::from_millis(10)).await } } => {}
        }
        // Once the children are gone, nothing makes the file anew.
        while file.exists() || std::fs::remove_file(&file).is_ok() {
            let _ = std::fs::remove_file(&file);
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(Instant::now() < deadline, "a child of the command still runs");
        }
    }
}
