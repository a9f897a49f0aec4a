//! Building guests with a nested cargo: which packages, for which target, in which environment.
//!
//! The same toolchain gives the same bytes wherever the sources and the target directory lie. The build script uses
//! this module, and so does `docker-mcp provisioner rebuild`, which holds it to that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use wit_component::ComponentEncoder;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PROFILE: &str = "guest";

/// What a guest is built as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A library without any WASI import, made a component here.
    Bare,
    /// A WASI command, which the compiler's own linker makes a component.
    Command,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Bare, Self::Command];

    fn target(self) -> &'static str {
        match self {
            Self::Bare => "wasm32-unknown-unknown",
            Self::Command => "wasm32-wasip2",
        }
    }
}

/// A package of the workspace that is built for wasm.
pub(crate) struct Guest {
    /// The package's name.
    pub(crate) package: String,
    /// What the component's file is called, without `.wasm`.
    pub(crate) file_stem: String,
    kind: Kind,
}

impl Guest {
    pub(crate) fn new(package: &str, kind: Kind) -> Self {
        Self { package: package.to_owned(), file_stem: package.to_owned(), kind }
    }

    /// One guest per folder that has a package. Its file is called as the folder, its package `fixture-FOLDER`.
    pub(crate) fn below(folder: &Path, kind: Kind) -> Result<Vec<Self>> {
        let mut guests = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| format!("cannot read `{}`: {error}", folder.display()))? {
            let entry = entry?;
            if entry.path().join("Cargo.toml").exists() {
                let file_stem = entry.file_name().to_string_lossy().into_owned();
                guests.push(Self { package: format!("fixture-{file_stem}"), file_stem, kind });
            }
        }
        guests.sort_by(|one, other| one.package.cmp(&other.package));
        Ok(guests)
    }

    /// What the compiler calls its output: libraries have underscores, binaries do not.
    fn artefact(&self) -> String {
        match self.kind {
            Kind::Bare => format!("{}.wasm", self.package.replace('-', "_")),
            Kind::Command => format!("{}.wasm", self.package),
        }
    }
}

/// The components that are embedded in the program: the constant, what it is, and the guest.
pub(crate) fn builtins() -> [(&'static str, &'static str, Guest); 4] {
    [
        ("DOCKER", "The built-in provisioner for Docker.", Guest::new("docker-provisioner", Kind::Bare)),
        ("KUBERNETES", "The built-in provisioner for Kubernetes.", Guest::new("kubernetes-provisioner", Kind::Bare)),
        (
            "CLUSTER_MAPPING",
            "The built-in mapping from templates to keys of cluster objects.",
            Guest::new("cluster-mapping", Kind::Bare),
        ),
        ("SAMPLE_SERVER", "The sample MCP server.", Guest::new("sample-server", Kind::Command)),
    ]
}

/// The toolchain that guests are built with.
pub(crate) struct Toolchain {
    cargo: OsString,
    rustc: OsString,
    workspace: PathBuf,
    /// Of its own, so that the nested cargo never waits for the outer one's lock.
    target_directory: PathBuf,
    flags: String,
}

impl Toolchain {
    /// A toolchain by its programs. They are run in the workspace.
    pub(crate) fn new(cargo: OsString, rustc: OsString, workspace: &Path, target_directory: PathBuf) -> Result<Self> {
        let home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
            .ok_or("cannot find the home directory; set `CARGO_HOME`")?;
        let remap = [(workspace, "/workspace"), (target_directory.as_path(), "/target"), (home.as_path(), "/cargo")]
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
        Ok(Self { cargo, rustc, workspace: workspace.to_owned(), target_directory, flags: remap.join("\u{1f}") })
    }

    /// What the compiler calls itself.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new(&self.rustc)
            .current_dir(&self.workspace)
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot run rustc: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Builds guests, with one run of cargo for each target.
    pub(crate) fn build(&self, guests: &[&Guest]) -> Result<()> {
        self.check_targets()?;
        for kind in Kind::ALL {
            let packages: Vec<&str> =
                guests.iter().filter(|guest| guest.kind == kind).map(|guest| guest.package.as_str()).collect();
            if packages.is_empty() {
                continue;
            }
            let mut command = Command::new(&self.cargo);
            command.current_dir(&self.workspace);
            for (name, _) in env::vars_os() {
                if leaks(&name.to_string_lossy()) {
                    command.env_remove(name);
                }
            }
            command
                .env("CARGO_ENCODED_RUSTFLAGS", &self.flags)
                .args(["build", "--locked", "--profile", PROFILE, "--target", kind.target(), "--target-dir"])
                .arg(&self.target_directory);
            for package in &packages {
                command.args(["--package", package]);
            }
            let output = command.output().map_err(|error| format!("cannot run cargo for the guests: {error}"))?;
            if !output.status.success() {
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
                return Err(format!("building the guests {packages:?} for {} failed; see above", kind.target()).into());
            }
        }
        Ok(())
    }

    /// The bytes of a guest's component.
    pub(crate) fn component(&self, guest: &Guest) -> Result<Vec<u8>> {
        let path = self.target_directory.join(guest.kind.target()).join(PROFILE).join(guest.artefact());
        let module = fs::read(&path)
            .map_err(|error| format!("package `{}` did not produce `{}`: {error}", guest.package, path.display()))?;
        match guest.kind {
            Kind::Command => Ok(module),
            Kind::Bare => {
                let encoded =
                    ComponentEncoder::default().validate(true).module(&module).and_then(|mut encoder| encoder.encode());
                encoded.map_err(|error| format!("package `{}` is not a component: {error:#}", guest.package).into())
            }
        }
    }

    fn check_targets(&self) -> Result<()> {
        for kind in Kind::ALL {
            let print = Command::new(&self.rustc)
                .current_dir(&self.workspace)
                .args(["--print", "target-libdir", "--target", kind.target()])
                .output()
                .map_err(|error| format!("cannot run rustc: {error}"))?;
            if !Path::new(String::from_utf8_lossy(&print.stdout).trim()).is_dir() {
                return Err(format!(
                    "the target {} is not installed; run `rustup target add {}`",
                    kind.target(),
                    Kind::ALL.map(Kind::target).join(" ")
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Whether a variable belongs to the outer build (its flags, its lints, its coverage) and would change the guests or
/// make them build again whenever the outer command changes.
///
/// The network, registry and job server settings stay, and so does `RUSTC_WRAPPER`, which is somebody's cache.
fn leaks(name: &str) -> bool {
    const STAY: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_MAKEFLAGS",
        "CARGO_CACHE_",
        "CARGO_ALIAS_",
    ];
    const GO: [&str; 8] = [
        "CARGO_",
        "RUSTFLAGS",
        "RUSTDOC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CLIPPY_",
        "DEP_",
        "LLVM_PROFILE_",
    ];
    const EXACT: [&str; 7] = ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "OUT_DIR"];
    !STAY.iter().any(|prefix| name.starts_with(prefix))
        && (GO.iter().any(|prefix| name.starts_with(prefix)) || EXACT.contains(&name))
}
