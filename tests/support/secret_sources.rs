//! One secret in every kind of source, each with a text of its own, for the built binary and for code in this process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_mcp::secrets::credential_helper::CredentialHelper;
use docker_mcp::secrets::directory::Directory;
use docker_mcp::secrets::encrypted_file::EncryptedFile;
use docker_mcp::secrets::env_file::EnvFileStore;
use docker_mcp::secrets::environment::Environment;
use docker_mcp::secrets::search_path::SearchPath;
use docker_mcp::secrets::{Place, SecretSource, SecretText};
use tempfile::TempDir;

/// The kinds of sources that need nothing but this machine.
pub(crate) const KINDS: [&str; 6] = ["file", "directory", "environment", "helper", "desktop", "encrypted"];

/// A credential helper that keeps what it is given in files, and writes down its arguments.
pub(crate) const HELPER: &str = r#"#!/bin/sh
here=$(dirname "$0")
store=$here/$(basename "$0").store
mkdir -p "$store"
echo "$*" >>"$here/arguments"
read -r input
case "$1" in
  store) printf %s "$input" >"$store/$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')" ;;
  get) cat "$store/$input" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
  erase) rm "$store/$input" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
  list)
    printf '{'
    for file in "$store"/*; do
      [ ! -e "$file" ] || printf '%s"%s":"docker-mcp"' "$separator" "$(basename "$file")"
      separator=,
    done
    printf '}' ;;
  *) exit 9 ;;
esac
"#;

/// The sources, in a directory of their own; the encrypted file is in the home directory.
pub(crate) struct Sources {
    pub(crate) directory: TempDir,
    home: PathBuf,
}

/// The name of the secret of a kind.
pub(crate) fn name(kind: &str) -> String {
    format!("keeper.{kind}")
}

/// Its text.
pub(crate) fn text(kind: &str) -> String {
    format!("canary-{kind}-7d1f")
}

impl Sources {
    pub(crate) async fn new(home: &Path) -> Self {
        let sources = Self { directory: TempDir::new().unwrap(), home: home.to_owned() };
        sources.write("secrets.env", &format!("{}={}\n", name("file"), text("file")));
        sources.write(&format!("files/{}", name("directory")), &format!("{}\n", text("directory")));
        sources.helper("docker-credential-fixture");
        sources.helper("docker-credential-desktop");
        for (kind, program) in [("helper", "docker-credential-fixture"), ("desktop", "docker-credential-desktop")] {
            let helper = CredentialHelper::new(kind, sources.path(program));
            helper.set(&name(kind), &SecretText::new(text(kind))).await.unwrap();
        }
        sources.encrypted().set(&name("encrypted"), &SecretText::new(text("encrypted"))).await.unwrap();
        sources
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Makes a credential helper.
    pub(crate) fn helper(&self, program: &str) {
        write_program(&self.path(program), HELPER);
    }

    /// What `--secrets` names.
    pub(crate) fn flag(&self) -> String {
        let directory = self.directory.path().display();
        format!("{directory}/secrets.env:{directory}/files:env=CANARY_:helper=fixture:default")
    }

    /// What the environment of the binary needs.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.directory.path().display());
        vec![
            ("PATH", path.into()),
            ("CANARY_keeper__environment", text("environment").into()),
            ("DOCKER_MCP_SECRET_KEY_FILE", self.path("key.txt").into()),
            // The user's own keyring is none of a test's business.
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/does/not/exist".into()),
        ]
    }

    fn place(&self) -> Place {
        let variables = self.variables();
        let mut place = Place::of_process(Some(self.home.clone()));
        place.variable =
            Arc::new(move |asked| variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.clone()));
        place
    }

    fn encrypted(&self) -> EncryptedFile {
        EncryptedFile::in_place(&self.place().own_directory().unwrap(), &self.place())
    }

    /// The same sources in this process.
    pub(crate) async fn search_path(&self) -> SearchPath {
        SearchPath::new(vec![
            Box::new(EnvFileStore::new(self.path("secrets.env")).await.unwrap()),
            Box::new(Directory::new(self.path("files")).unwrap()),
            Box::new(Environment::new("CANARY_", &self.place()).unwrap()),
            Box::new(CredentialHelper::new("helper=fixture", self.path("docker-credential-fixture"))),
            Box::new(CredentialHelper::new("docker-desktop", self.path("docker-credential-desktop"))),
            Box::new(self.encrypted()),
        ])
    }
}

/// Makes an executable file. A copy by another process: what this one has open for writing, another thread's child may
/// have for a moment too, and nothing that is open for writing can be run.
pub(crate) fn write_program(path: &Path, content: &str) {
    let text = path.with_extension("text");
    std::fs::write(&text, content).unwrap();
    let made = std::process::Command::new("install").args(["-m", "700"]).args([&text, path]).status().unwrap();
    assert!(made.success(), "{made}");
}
