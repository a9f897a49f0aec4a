//! Image references in one canonical form, so that what is judged is what an engine runs.
//!
//! Stricter than engines where they guess: upper case, letters of other scripts, a text that could also be the
//! identifier of an image, and `.`-paths are refused. Spellings of one place become one.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::one_line;

/// A reference to an image in a registry, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    /// The registry, such as `docker.io` or `registry.example:5000`.
    pub registry: String,
    /// The repository, such as `library/busybox`.
    pub repository: String,
    /// The tag; `latest` if neither tag nor digest is written.
    pub tag: Option<String>,
    /// The digest, such as `sha256:…`.
    pub digest: Option<String>,
}

/// Why a text is no image reference.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` is no plain image reference: {reason}; write `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`")]
pub struct ImageError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The registry that is meant where none is named.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Other names of the same registry.
const ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|reason| ImageError { text: one_line(text, 200), reason })
    }
}

fn parse(text: &str) -> Result<ImageRef, &'static str> {
    if !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err("it has blanks or letters that are not ASCII");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(checked_digest(digest)?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(checked_tag(tag)?)),
        _ => (rest, None),
    };
    if name.is_empty() || name.len() > 255 {
        return Err("its name is empty or longer than 255 letters");
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (checked_registry(first)?, path),
        _ => (DEFAULT_REGISTRY.to_owned(), name),
    };
    if !path.split('/').all(is_component) {
        return Err("a part of its name is not lower-case letters and digits with single `.`, `_` or `-` between them");
    }
    if tag.is_none() && digest.is_none() && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("it could also be the identifier of an image; add a tag");
    }
    let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
        true => format!("library/{path}"),
        false => path.to_owned(),
    };
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(ImageRef { registry, repository, tag, digest })
}

/// By the rule of engines: the first part is a registry if it cannot be a part of a repository.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A registry in canonical form.
pub(crate) fn checked_registry(text: &str) -> Result<String, &'static str> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !host.split('.').all(label) {
        return Err("its registry is not a lower-case host name");
    }
    let port = match port {
        // The port that is meant where none is named.
        None | Some("443") => String::new(),
        Some(port)
            if !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok() =>
        {
            format!(":{port}")
        }
        Some(_) => return Err("the port of its registry is no number from 1 to 65535"),
    };
    if port.is_empty() && ALIASES.contains(&host) {
        return Ok(DEFAULT_REGISTRY.to_owned());
    }
    Ok(format!("{host}{port}"))
}

/// One part of a repository: runs of lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(text: &str) -> bool {
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let mut rest = text;
    loop {
        let run = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        rest = rest.get(run..).unwrap_or_default();
        if run == 0 {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        let between = rest.bytes().take_while(|byte| matches!(byte, b'.' | b'_' | b'-')).count();
        if between == 0 || !separator(rest.get(..between).unwrap_or_default()) {
            return false;
        }
        rest = rest.get(between..).unwrap_or_default();
    }
}

fn checked_tag(tag: &str) -> Result<String, &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if fits { Ok(tag.to_owned()) } else { Err("its tag is not 1 to 128 letters, digits, `_`, `.` or `-`") }
}

/// A digest, with as many digits as its algorithm has.
pub(crate) fn checked_digest(digest: &str) -> Result<String, &'static str> {
    let length = match digest.split_once(':') {
        Some(("sha256", hex)) => (hex, 64),
        Some(("sha512", hex)) => (hex, 128),
        _ => return Err("its digest does not begin with `sha256:` or `sha512:`"),
    };
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match length.0.len() == length.1 && length.0.bytes().all(hex) {
        true => Ok(digest.to_owned()),
        false => Err("its digest has not as many lower-case hexadecimal digits as it must"),
    }
}

/// The canonical form, registry and tag written out.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_image_become_one() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, canonical) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("index.docker.io/library/busybox:1", "docker.io/library/busybox:1".to_owned()),
            ("registry-1.docker.io:443/mcp/time", "docker.io/mcp/time:latest".to_owned()),
            ("mcp/time", "docker.io/mcp/time:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("h.example:5000/a/b__c-d.e:T_1", "h.example:5000/a/b__c-d.e:T_1".to_owned()),
            ("cafe:1", "docker.io/library/cafe:1".to_owned()),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), canonical, "{text}");
        }
        let pinned = format!("mcp/time:1@{digest}").parse::<ImageRef>().unwrap();
        assert_eq!((pinned.tag.as_deref(), pinned.digest), (Some("1"), Some(digest)));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "a b",
            "a\n",
            "Mcp/time",
            "REGISTRY.example/a",
            "mсp/time",
            "ｍcp/time",
            "a//b",
            "/a",
            "a/",
            "a/../b",
            "a/./b",
            ".a/b",
            "a:",
            "a:b:c",
            "a@",
            "a@sha256:aa",
            "a@md5:00",
            "a/b:c/d",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "h:0/a",
            "h:99999/a",
            "h.:1/a",
            "h..x/a",
            "-h.x/a",
            "0123abcd",
            "cafe",
            "[::1]:5000/a",
            "a?b=c",
            "a#b",
            "http://h/a",
            "a%2fb",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_reads_as_itself(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.to_string().parse::<ImageRef>(), Ok(image));
            }
        }

        #[test]
        fn reading_is_total(text in any::<String>()) {
            drop(text.parse::<ImageRef>());
        }
    }
}
