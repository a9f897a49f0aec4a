//! The program that starts tools in their pods, and what it reports. Its sources are in `host/build/runner`.
//!
//! A cluster can neither give the output that a container writes before somebody is attached to it, with the streams kept
//! apart, nor tell an exit code without seconds of delay. So a tool's container begins with this program: it waits until
//! the gateway is attached, and ends both streams with the exit code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, Container, KeyToPath, Volume, VolumeMount};

use super::values::escape;
use super::volumes::Volumes;
use crate::capability::container_runtime::{Captured, RuntimeError};

/// A program for one kind of processor.
#[derive(Clone, Copy)]
pub(super) struct Program {
    /// The kind of processor, as clusters call it.
    pub(super) architecture: &'static str,
    pub(super) bytes: &'static [u8],
}

/// The programs that were built with this one.
pub(super) const PROGRAMS: &[Program] = include!(concat!(env!("OUT_DIR"), "/runner_programs.rs"));

/// Where it is in a container.
const DIRECTORY: &str = "/.mcp-gateway";
const FILE: &str = "run";
const VOLUME: &str = "mcp-gateway-runner";
/// The label of a node with its kind of processor.
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// How many bytes say that the gateway listens, and come back with the report.
const NONCE: usize = 16;
/// How long a report is: those bytes and the exit code.
const REPORT: usize = NONCE + 4;

/// What a tool's container is to begin with.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// The `ConfigMap` with the programs.
    pub(super) config_map: String,
    /// Which of them.
    pub(super) architecture: &'static str,
    /// The image by the digest whose entry point this is.
    pub(super) image: String,
    /// The image's entry point.
    pub(super) entry_point: Vec<String>,
    /// The image's own arguments, for where there are no others.
    pub(super) arguments: Vec<String>,
    /// The image's own user.
    pub(super) user: String,
}

impl Started {
    /// Lets the container begin with the program.
    pub(super) fn apply(
        self,
        container: &mut Container,
        volumes: &mut Volumes,
        node_selector: &mut BTreeMap<String, String>,
    ) {
        let given = container.args.take().unwrap_or_default();
        let arguments = match given.is_empty() {
            true => self.arguments.iter().map(|text| escape(text)).collect(),
            false => given,
        };
        container.command = Some(vec![format!("{DIRECTORY}/{FILE}")]);
        container.args = Some(self.entry_point.iter().map(|text| escape(text)).chain(arguments).collect());
        container.image = Some(self.image);
        node_selector.insert(ARCHITECTURE.to_owned(), self.architecture.to_owned());
        volumes.volumes.push(Volume {
            name: VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: self.config_map,
                items: Some(vec![KeyToPath {
                    key: self.architecture.to_owned(),
                    path: FILE.to_owned(),
                    mode: Some(0o555),
                }]),
                default_mode: Some(0o555),
                optional: Some(false),
            }),
            ..Volume::default()
        });
        volumes.mounts.push(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: DIRECTORY.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// Which kind of processor the nodes have: what the operator selects, else what has worked so far.
#[derive(Debug, Default)]
pub(super) struct Choice(AtomicUsize);

impl Choice {
    /// The kind of processor to use now. None if there is no program for the nodes.
    pub(super) fn now(&self, selector: &BTreeMap<String, String>) -> Option<&'static str> {
        match selector.get(ARCHITECTURE) {
            Some(wanted) => PROGRAMS.iter().map(|program| program.architecture).find(|known| known == wanted),
            None => PROGRAMS.get(self.0.load(Ordering::Relaxed)).map(|program| program.architecture),
        }
    }

    /// No node has this kind of processor: the next one is used from now on.
    pub(super) fn rule_out(&self, architecture: &str) {
        let at = PROGRAMS.iter().position(|program| program.architecture == architecture);
        let _ = at.map(|at| self.0.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed));
    }
}

/// The bytes that say that the gateway listens.
#[derive(Clone, Copy)]
pub(super) struct Nonce([u8; NONCE]);

impl Nonce {
    pub(super) fn new() -> Result<Self, RuntimeError> {
        let mut bytes = [0; NONCE];
        getrandom::fill(&mut bytes)
            .map_err(|error| RuntimeError::Engine(format!("the system gives no random numbers: {error}")))?;
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One of the streams of a tool, up to the report at its end.
pub(super) struct Reported {
    nonce: Nonce,
    limit: usize,
    captured: Captured,
    /// The last bytes, which may be a part of the report.
    held: Vec<u8>,
    code: Option<i64>,
}

impl Reported {
    /// A stream of which so many bytes are kept.
    pub(super) fn new(nonce: Nonce, limit: usize) -> Self {
        Self { nonce, limit, captured: Captured::default(), held: Vec::new(), code: None }
    }

    /// Takes bytes in. What follows the report is nobody's.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.code.is_some() {
            return;
        }
        self.held.extend_from_slice(bytes);
        // A report is the last thing on its stream.
        let before = self.held.len().saturating_sub(REPORT);
        let (output, last) = self.held.split_at(before);
        self.captured.extend(output, self.limit);
        if let Some((nonce, code)) = last.split_at_checked(NONCE)
            && nonce == self.nonce.bytes()
            && let Ok(code) = <[u8; 4]>::try_from(code)
        {
            self.code = Some(i64::from(i32::from_le_bytes(code)));
            self.held.clear();
        } else {
            self.held.drain(..before);
        }
    }

    /// The exit code, once it is reported.
    pub(super) fn code(&self) -> Option<i64> {
        self.code
    }

    /// What was kept.
    pub(super) fn finish(mut self) -> Captured {
        if self.code.is_none() {
            self.captured.extend(&self.held, self.limit);
        }
        self.captured
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn output_and_report_are_told_apart_however_they_arrive() {
        let nonce = Nonce(*b"0123456789abcdef");
        let mut stream = b"some output that 0123456789abcde looks like it".to_vec();
        let output = stream.clone();
        stream.extend(nonce.bytes());
        stream.extend(7_i32.to_le_bytes());
        for size in 1..=stream.len() {
            let mut reported = Reported::new(nonce, 1000);
            for piece in stream.chunks(size) {
                assert_eq!(reported.code(), None);
                reported.extend(piece);
            }
            assert_eq!(reported.code(), Some(7));
            assert_eq!(reported.finish().bytes, output);
        }
        let mut cut = Reported::new(nonce, 10);
        stream.chunks(9).for_each(|piece| cut.extend(piece));
        let captured = cut.finish();
        assert_eq!((captured.bytes.len(), captured.dropped), (10, output.len() as u64 - 10));
        let mut broken = Reported::new(nonce, 1000);
        broken.extend(b"short");
        assert_eq!((broken.code(), broken.finish().bytes), (None, b"short".to_vec()));
    }

    #[test]
    fn the_kind_of_processor_is_the_operators_or_what_works() {
        let choice = Choice::default();
        let none = BTreeMap::new();
        assert_eq!(choice.now(&none), PROGRAMS.first().map(|program| program.architecture));
        let other = BTreeMap::from([(ARCHITECTURE.to_owned(), "riscv64".to_owned())]);
        assert_eq!(choice.now(&other), None);
        for program in PROGRAMS {
            choice.rule_out(program.architecture);
            choice.rule_out(program.architecture);
        }
        assert_eq!(choice.now(&none), None);
    }

    /// Runs the program itself, where this machine can.
    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_program_runs_its_arguments_as_they_are_and_reports_how_they_ended() {
        let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let program = PROGRAMS.iter().find(|program| program.architecture == own).unwrap();
        assert!(program.bytes.len() < 16 << 10, "it is {} bytes", program.bytes.len());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        std::fs::write(&path, program.bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
        let run = |arguments: &[&str], input: &[u8]| {
            let nonce = Nonce::new().unwrap();
            let mut child = Command::new(&path)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // In two parts: the first read gets less than it asks for.
            stdin.write_all(&nonce.bytes()[..5]).unwrap();
            stdin.write_all(&nonce.bytes()[5..]).unwrap();
            stdin.write_all(input).unwrap();
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let streams = [output.stdout, output.stderr].map(|bytes| {
                let mut reported = Reported::new(nonce, usize::MAX);
                reported.extend(&bytes);
                let code = reported.code();
                (code.unwrap(), reported.finish().bytes)
            });
            let [(code, stdout), (same, stderr)] = streams;
            assert_eq!((code, i64::from(output.status.code().unwrap())), (same, code));
            (code, stdout, String::from_utf8(stderr).unwrap())
        };
        let odd = ["printf", "%s|", "a b", "it's", "$(id)", "", "\n", "ü"];
        assert_eq!(run(&odd, b""), (0, "a b|it's|$(id)||\n|ü|".as_bytes().to_vec(), String::new()));
        assert_eq!(run(&["cat"], b"\0\xff\n"), (0, b"\0\xff\n".to_vec(), String::new()));
        let (code, stdout, stderr) = run(&["sh", "-c", "echo out; echo err >&2; exit 7"], b"");
        assert_eq!((code, stdout.as_slice(), stderr.as_str()), (7, b"out\n".as_slice(), "err\n"));
        assert_eq!(run(&["sh", "-c", "kill -TERM $$"], b"").0, 128 + 15);
        assert_eq!(
            run(&["/no/such"], b""),
            (127, Vec::new(), "cannot run `/no/such`: no such file or directory\n".to_owned())
        );
        assert_eq!(run(&["nosuchprogram"], b"").0, 127);
        assert_eq!(run(&["/etc/passwd"], b"").0, 126);
        assert_eq!(run(&[""], b"").0, 127);
    }
}
