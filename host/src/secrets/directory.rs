//! Secrets as the files of a directory, such as `/run/secrets`: a file's name is the secret's name, its content
//! without one line end is the text. This is how Docker, Podman and Kubernetes hand secrets to a container.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::permissions::{self, ReadError};
use super::{Answer, MAX_SECRET, SecretSource, SecretText, SourceError};

/// The largest number of names that are listed.
const MAX_NAMES: usize = 10_000;

/// Secrets in the files of a directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The files of a directory, which must be there.
    ///
    /// # Errors
    /// If it is not, or everybody may write to it.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let directory = Self { path: path.into() };
        directory.check()?;
        Ok(directory)
    }

    /// Checked again for each secret: a directory that went away must not look like an empty one.
    fn check(&self) -> Result<(), SourceError> {
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| self.error(&format!("it cannot be read: {error}; correct `--secrets`")))?;
        if !metadata.is_dir() {
            return Err(self.error("it is no directory; correct `--secrets`"));
        }
        permissions::refuse_writable(&metadata).map_err(|reason| self.error(&reason))
    }

    fn read(&self, name: &str) -> Result<Answer, SourceError> {
        self.check()?;
        if !is_file_name(name) {
            return Ok(Answer::NotThere);
        }
        let wrong = |reason: &str| self.error(&format!("file `{name}`: {reason}"));
        let bytes = match permissions::read(&self.path.join(name), MAX_SECRET, permissions::refuse_writable) {
            Ok((bytes, _)) => bytes,
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Answer::NotThere),
            Err(ReadError::Io(error)) => return Err(wrong(&format!("{error}; correct its permissions"))),
            Err(ReadError::Wrong(reason)) => return Err(wrong(&reason)),
        };
        let text = permissions::trimmed(&bytes).map_err(|reason| wrong(&reason))?;
        Ok(if text.is_empty() { Answer::NotThere } else { Answer::Found(SecretText::from(text)) })
    }

    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.check()?;
        let failed = |error: std::io::Error| self.error(&format!("it cannot be listed: {error}"));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)?.take(MAX_NAMES) {
            let entry = entry.map_err(failed)?;
            // Kubernetes keeps what its links point to in directories that begin with a dot.
            let name = entry.file_name().into_string().ok().filter(|name| is_file_name(name) && !name.starts_with('.'));
            if let Some(name) = name
                && std::fs::metadata(entry.path()).is_ok_and(|found| found.is_file())
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a secret's name is that of a file in the directory itself.
fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

#[async_trait]
impl SecretSource for Directory {
    fn label(&self) -> String {
        format!("directory `{}`", self.path.display())
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        let (directory, name) = (self.clone(), name.to_owned());
        permissions::off_thread(move || directory.read(&name)).await.map_err(|reason| self.error(&reason))?
    }

    fn remedy(&self, name: &str) -> Option<String> {
        is_file_name(name).then(|| format!("put it into the file `{}`", self.path.join(name).display()))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        let directory = self.clone();
        permissions::off_thread(move || directory.list()).await.map_err(|reason| self.error(&reason))?
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_files_name_is_the_secrets_and_one_line_end_goes() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::new(place.path().join("s"));
        assert!(directory.unwrap_err().to_string().contains("correct `--secrets`"));
        std::fs::create_dir_all(place.path().join("s/..data")).unwrap();
        let directory = Directory::new(place.path().join("s")).unwrap();
        std::fs::write(place.path().join("outside"), "hunter1").unwrap();
        for (name, content) in
            [("a.b", "one\n\n"), ("c", "two\r\n"), ("d", " x "), ("empty", "\n"), ("..data/l", "k8s")]
        {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("..data/l", directory.path().join("linked")).unwrap();
        let cases = [
            ("a.b", Some("one\n")),
            ("c", Some("two")),
            ("d", Some(" x ")),
            ("linked", Some("k8s")),
            ("empty", None),
            ("missing", None),
            ("../outside", None),
            ("..", None),
            ("", None),
            ("a\nb", None),
        ];
        for (name, expected) in cases {
            let found = match directory.look_up(name).await.unwrap() {
                Answer::Found(text) => Some(text.expose().to_owned()),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        assert_eq!(directory.names().await.unwrap(), ["a.b", "c", "d", "empty", "linked"]);
        // A directory that went away, or a file that cannot be used, is no missing secret.
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(directory.path().join("large"), vec![b'x'; (MAX_SECRET + 1) as usize]).unwrap();
        std::fs::write(directory.path().join("open"), "hunter2").unwrap();
        std::fs::set_permissions(directory.path().join("open"), PermissionsExt::from_mode(0o666)).unwrap();
        for (name, expected) in
            [("sub", "no regular file"), ("binary", "not UTF-8"), ("large", "larger than 1 MiB"), ("open", "chmod o-w")]
        {
            let error = directory.look_up(name).await.unwrap_err().to_string();
            assert!(error.contains(&format!("file `{name}`: ")) && error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"));
        }
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(directory.look_up("c").await.unwrap_err().to_string().contains("chmod o-w"));
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        assert!(matches!(directory.look_up("c").await, Ok(Answer::Found(_))), "as Kubernetes mounts them");
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert!(directory.look_up("c").await.is_err());
    }
}
