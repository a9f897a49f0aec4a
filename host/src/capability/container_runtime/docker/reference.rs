//! Image references: checked before they become part of a request, and taken apart for pulling.

use crate::capability::container_runtime::RuntimeError;

/// A checked image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// Registry and repository, as written.
    pub(super) name: &'a str,
    /// The digest if there is one, else the tag, else `latest`.
    pub(super) tag: &'a str,
}

impl<'a> Reference<'a> {
    /// Checks and splits a reference.
    pub(super) fn parse(text: &'a str) -> Result<Self, RuntimeError> {
        let wrong = || {
            let shown: String = text.chars().take(200).flat_map(char::escape_default).collect();
            RuntimeError::Invalid(format!(
                "`{shown}` is no image reference; write it as `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`"
            ))
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let digest_fits = digest.is_none_or(|digest| {
            digest.split_once(':').is_some_and(|(algorithm, hex)| {
                is_made_of(algorithm, "+._-") && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        });
        let tag_fits = tag.is_none_or(|tag| tag.len() <= 128 && is_made_of(tag, "._-"));
        let name_fits = name.len() <= 255
            && name.split('/').enumerate().all(|(index, part)| {
                // Only a registry may have a port.
                is_made_of(part, if index == 0 && name.contains('/') { "._-:" } else { "._-" })
            });
        if !(digest_fits && tag_fits && name_fits) {
            return Err(wrong());
        }
        Ok(Self { name, tag: digest.or(tag).unwrap_or("latest") })
    }

    /// The registry, by the rule of the `docker` command line: the first part is one if it has a dot or a port.
    pub(super) fn registry(&self) -> &'a str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "docker.io",
        }
    }
}

/// True for a non-empty text of ASCII letters, digits and `others` that begins with a letter or digit. So `..` is
/// never a part.
fn is_made_of(text: &str, others: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_like_docker_splits_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("h:5000/a/b:1@{digest}");
        let cases = [
            ("busybox", "busybox", "latest", "docker.io"),
            ("mcp/time:1.0", "mcp/time", "1.0", "docker.io"),
            ("localhost/x", "localhost/x", "latest", "localhost"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x", "latest", "127.0.0.1:5000"),
            (with_digest.as_str(), "h:5000/a/b", digest.as_str(), "h:5000"),
        ];
        for (text, name, tag, registry) in cases {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.name, reference.tag, reference.registry()), (name, tag, registry), "{text}");
        }
    }

    #[test]
    fn what_would_leave_the_path_of_the_request_is_refused() {
        let bad = ["", "../../containers/x", "a/../b", "a?b=c", "a#b", "a b", "a:", "a@sha256:xyz", "/a", "a//b", "-a"];
        for text in bad {
            assert!(matches!(Reference::parse(text), Err(RuntimeError::Invalid(_))), "{text}");
        }
    }
}
