//! What starts tools in their pods, and what it reports.
//!
//! A cluster can neither give the output that a container writes before somebody is attached to it, with the streams kept
//! apart, nor tell an exit code without seconds of delay. So a tool's container begins with something else: it waits until
//! the gateway is attached, and ends both streams with the exit code.
//!
//! That is a few words for the image's own shell, which gets the arguments as they are, or a program from a `ConfigMap`
//! (its sources are in `host/build/runner`). The program works in any image, but a pod with a volume starts 0.3 s later:
//! kubelet looks whether volumes are mounted, and the next time after 300 ms.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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

/// The shell of nearly all images that have one.
const SHELL: &str = "/bin/sh";
/// What it is told. The tool is run as a program even if the shell has something of that name itself, with a standard input
/// of which only the first line is gone, and without the variables that shells set. What the shell itself has to say, such
/// as `Killed`, goes nowhere. Nothing but what is built into shells is used, so that no `PATH` matters.
const WORDS: &str = r#"IFS= read -r n || exit 1
unset PWD OLDPWD SHLVL
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-)
c=$?
printf %s%03d "$n" "$c"
printf %s%03d "$n" "$c" >&3
exit "$c""#;
/// Variables that mean something to a shell, so that it does not pass them on as they are.
const OF_SHELLS: [&str; 20] = [
    "_",
    "ENV",
    "EUID",
    "FPATH",
    "IFS",
    "LINENO",
    "MAIL",
    "MAILPATH",
    "OLDPWD",
    "OPTARG",
    "OPTIND",
    "POSIXLY_CORRECT",
    "PPID",
    "PS1",
    "PS2",
    "PS4",
    "PWD",
    "SHELLOPTS",
    "SHLVL",
    "UID",
];
/// What the names begin with of those that change what a shell does, or what is loaded into its process too.
const CHANGING: [&str; 5] = ["BASH", "KSH", "LD_", "MALLOC_", "ZSH"];
/// How many images are remembered.
const IMAGES: usize = 1000;

/// How many random bytes say that the gateway listens, and come back with the report.
const NONCE: usize = 16;

/// What waits for the gateway and reports.
#[derive(Clone, Debug)]
pub(super) enum Means {
    /// The image's own shell.
    Shell,
    /// One of the programs in this `ConfigMap`.
    Program(String),
}

/// What a tool's container is to begin with.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// What it is.
    pub(super) means: Means,
    /// The kind of processor that the image is for, and the program.
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
    /// Lets the container begin with it.
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
        let words = self.entry_point.iter().map(|text| escape(text)).chain(arguments);
        container.image = Some(self.image);
        node_selector.insert(ARCHITECTURE.to_owned(), self.architecture.to_owned());
        let config_map = match self.means {
            Means::Shell => {
                container.command = Some([SHELL, "-c", WORDS, SHELL].map(escape).to_vec());
                container.args = Some(words.collect());
                return;
            }
            Means::Program(config_map) => config_map,
        };
        container.command = Some(vec![format!("{DIRECTORY}/{FILE}")]);
        container.args = Some(words.collect());
        volumes.volumes.push(Volume {
            name: VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_map,
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

/// Which images have no shell, as far as was found out.
#[derive(Debug, Default)]
pub(super) struct Shells(Mutex<HashSet<String>>);

impl Shells {
    /// Whether the image's shell is worth a try for a container with these variables, that begins with this word as far as
    /// it is known.
    pub(super) fn fits<'a>(
        &self,
        image: &str,
        mut variables: impl Iterator<Item = &'a str>,
        first: Option<&str>,
    ) -> bool {
        // Shells have options of their own for what they run, and some have no way to say that none follow.
        if first.is_none_or(|word| word.is_empty() || word.starts_with('-')) {
            return false;
        }
        let is_plain = |name: &str| {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !OF_SHELLS.contains(&name)
                && !CHANGING.iter().any(|begin| name.starts_with(begin))
        };
        variables.all(is_plain) && !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(image)
    }

    /// The image has none.
    pub(super) fn rule_out(&self, image: String) {
        let mut without = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if without.len() >= IMAGES {
            without.clear();
        }
        without.insert(image);
    }

    /// Whether this is why a container could not be started.
    pub(super) fn is_missing(reason: &str) -> bool {
        reason.contains(SHELL)
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

    /// What is sent to say so.
    pub(super) fn greeting(&self, means: &Means) -> Vec<u8> {
        match means {
            Means::Shell => format!("{}\n", self.digits()).into_bytes(),
            Means::Program(_) => self.0.to_vec(),
        }
    }

    fn digits(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How a report looks: what it begins with, and how the exit code follows.
struct Form {
    begin: Vec<u8>,
    code: fn(&[u8]) -> Option<i64>,
    length: usize,
}

impl Form {
    fn of(nonce: Nonce, means: &Means) -> Self {
        match means {
            Means::Shell => {
                let code = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
                Self { begin: nonce.digits().into_bytes(), code, length: 2 * NONCE + 3 }
            }
            Means::Program(_) => {
                let code = |bytes: &[u8]| Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)));
                Self { begin: nonce.0.to_vec(), code, length: NONCE + 4 }
            }
        }
    }
}

/// One of the streams of a tool, up to the report at its end.
pub(super) struct Reported {
    form: Form,
    limit: usize,
    captured: Captured,
    /// The last bytes, which may be a part of the report.
    held: Vec<u8>,
    code: Option<i64>,
}

impl Reported {
    /// A stream of which so many bytes are kept.
    pub(super) fn new(nonce: Nonce, means: &Means, limit: usize) -> Self {
        Self { form: Form::of(nonce, means), limit, captured: Captured::default(), held: Vec::new(), code: None }
    }

    /// Takes bytes in. What follows the report is nobody's.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.code.is_some() {
            return;
        }
        self.held.extend_from_slice(bytes);
        // A report is the last thing on its stream.
        let before = self.held.len().saturating_sub(self.form.length);
        let (output, last) = self.held.split_at(before);
        self.captured.extend(output, self.limit);
        if last.len() == self.form.length
            && let Some(code) = last.strip_prefix(self.form.begin.as_slice())
            && let Some(code) = (self.form.code)(code)
        {
            self.code = Some(code);
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
        let program = Means::Program(String::new());
        let output = b"some output that 0123456789abcde looks like it".to_vec();
        let mut of_shell = output.clone();
        of_shell.extend(nonce.digits().into_bytes());
        of_shell.extend(b"007");
        let mut stream = output.clone();
        stream.extend(nonce.0);
        stream.extend(7_i32.to_le_bytes());
        let cases = [(&program, &stream), (&Means::Shell, &of_shell)];
        for (means, stream, size) in cases.into_iter().flat_map(|(means, s)| (1..=s.len()).map(move |n| (means, s, n)))
        {
            let mut reported = Reported::new(nonce, means, 1000);
            for piece in stream.chunks(size) {
                assert_eq!(reported.code(), None);
                reported.extend(piece);
            }
            assert_eq!(reported.code(), Some(7));
            assert_eq!(reported.finish().bytes, output);
        }
        let mut cut = Reported::new(nonce, &program, 10);
        stream.chunks(9).for_each(|piece| cut.extend(piece));
        let captured = cut.finish();
        assert_eq!((captured.bytes.len(), captured.dropped), (10, output.len() as u64 - 10));
        let mut broken = Reported::new(nonce, &program, 1000);
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

    #[test]
    fn a_shell_is_not_given_what_it_would_understand_itself_and_is_tried_once() {
        let shells = Shells::default();
        let fits = |image: &str, variables: &[&str], first| shells.fits(image, variables.iter().copied(), first);
        assert!(fits("a", &["TOKEN", "_x1", "PATH"], Some("ls")));
        for odd in
            ["IFS", "PWD", "ENV", "BASH_ENV", "SHELLOPTS", "BASH_FUNC_printf%%", "LD_PRELOAD", "a.b", "1x", "", "ü"]
        {
            assert!(!fits("a", &["TOKEN", odd], Some("ls")), "{odd}");
        }
        for first in [None, Some(""), Some("-c"), Some("--")] {
            assert!(!fits("a", &[], first), "{first:?}");
        }
        shells.rule_out("a".to_owned());
        assert!(!fits("a", &[], Some("ls")) && fits("b", &[], Some("ls")));
    }

    /// Runs the program itself and what the shell is told, where this machine can.
    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn either_means_runs_its_arguments_as_they_are_and_reports_how_they_ended() {
        let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let program = PROGRAMS.iter().find(|program| program.architecture == own).unwrap();
        assert!(program.bytes.len() < 16 << 10, "it is {} bytes", program.bytes.len());
        let directory = tempfile::tempdir().unwrap();
        let (path, bytes) = (directory.path().join("run"), directory.path().join("bytes"));
        std::fs::write(&bytes, program.bytes).unwrap();
        // By another process: what this one has open for writing, another test's child may have for a moment too.
        let made = Command::new("install").args(["-m", "555"]).args([&bytes, &path]).status().unwrap();
        assert!(made.success(), "{made}");
        let run = |means: &Means, arguments: &[&str], input: &[u8]| {
            let nonce = Nonce::new().unwrap();
            let mut command = match means {
                Means::Program(_) => Command::new(&path),
                Means::Shell => {
                    let mut command = Command::new(SHELL);
                    command.args(["-c", WORDS, SHELL]);
                    command
                }
            };
            let mut child = command
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // In two parts: the first read gets less than it asks for.
            let greeting = nonce.greeting(means);
            stdin.write_all(&greeting[..5]).unwrap();
            stdin.write_all(&greeting[5..]).unwrap();
            stdin.write_all(input).unwrap();
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let streams = [output.stdout, output.stderr].map(|bytes| {
                let mut reported = Reported::new(nonce, means, usize::MAX);
                reported.extend(&bytes);
                let code = reported.code();
                (code.unwrap(), reported.finish().bytes)
            });
            let [(code, stdout), (same, stderr)] = streams;
            assert_eq!((code, i64::from(output.status.code().unwrap())), (same, code));
            (code, stdout, String::from_utf8(stderr).unwrap())
        };
        let program = Means::Program(String::new());
        for means in [&program, &Means::Shell] {
            let odd = ["printf", "%s|", "a b", "it's", "$(id)", "", "\n", "ü"];
            assert_eq!(run(means, &odd, b""), (0, "a b|it's|$(id)||\n|ü|".as_bytes().to_vec(), String::new()));
            assert_eq!(run(means, &["cat"], b"\0\xff\n"), (0, b"\0\xff\n".to_vec(), String::new()));
            let (code, stdout, stderr) = run(means, &["sh", "-c", "echo out; echo err >&2; exit 7"], b"");
            assert_eq!((code, stdout.as_slice(), stderr.as_str()), (7, b"out\n".as_slice(), "err\n"));
            assert_eq!(run(means, &["sh", "-c", "kill -TERM $$"], b"").0, 128 + 15);
            // Programs, not what a shell has of these names.
            assert_eq!(run(means, &["nosuchprogram"], b"").0, 127);
            assert_eq!(run(means, &["exit", "3"], b"").0, 127);
            assert_eq!(run(means, &["/no/such"], b"").0, 127);
            assert_eq!(run(means, &["/etc/passwd"], b"").0, 126);
        }
        assert_eq!(run(&program, &["/no/such"], b"").2, "cannot run `/no/such`: no such file or directory\n");
        assert_eq!(run(&program, &[""], b"").0, 127);
    }
}
