//! Patterns of names, of dotted configuration paths and of file paths. All are anchored: a pattern covers the whole
//! text or nothing.
//!
//! - A *name* pattern: `*` stands for any run of characters, also none. Everything else is itself.
//! - A *subtree* pattern has parts between dots, `*` stays within a part, and it covers what it names and everything
//!   below.
//! - A *path* pattern has parts between slashes, `*` stays within a part, and a part `**` stands for any number of
//!   parts, also none.
//!
//! In names and subtrees `{server}` stands for the name of the server that is asked for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::one_line;

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 512;

/// Why a text is no pattern: what is wrong and what to write.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` {reason}")]
pub struct PatternError {
    /// The pattern.
    pub text: String,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

impl PatternError {
    pub(super) fn new(text: &str, reason: impl Into<String>) -> Self {
        Self { text: one_line(text, 200), reason: reason.into() }
    }
}

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(Box<str>),
    /// Any run of characters.
    Any,
    /// The server's name.
    Server,
}

const SERVER: &str = "{server}";

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, between) in text.split(SERVER).enumerate() {
        tokens.extend((index > 0).then_some(Token::Server));
        for (index, plain) in between.split('*').enumerate() {
            tokens.extend((index > 0).then_some(Token::Any));
            tokens.extend((!plain.is_empty()).then(|| Token::Text(plain.into())));
        }
    }
    tokens
}

/// Whether the tokens cover the whole text. Goes back to the last `*` only, so that the time is at most the product
/// of the lengths. A pattern about the server covers nothing where there is none.
fn covers(tokens: &[Token], text: &str, server: Option<&str>) -> bool {
    let mut pattern = tokens;
    let mut rest = text;
    let mut again: Option<(&[Token], &str)> = None;
    loop {
        let next = match pattern.split_first() {
            None if rest.is_empty() => return true,
            None => None,
            Some((Token::Any, after)) => {
                again = Some((after, rest));
                Some((after, rest))
            }
            Some((Token::Text(wanted), after)) => rest.strip_prefix(&**wanted).map(|rest| (after, rest)),
            Some((Token::Server, after)) => {
                let Some(server) = server else { return false };
                rest.strip_prefix(server).map(|rest| (after, rest))
            }
        };
        let next = next.or_else(|| {
            let (after, from) = again?;
            let from = from.get(from.chars().next()?.len_utf8()..)?;
            again = Some((after, from));
            Some((after, from))
        });
        match next {
            Some(next) => (pattern, rest) = next,
            None => return false,
        }
    }
}

/// A server's name as templates write it.
fn section(server: &str) -> Cow<'_, str> {
    if server.contains('.') { server.replace('.', "_").into() } else { server.into() }
}

fn check(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(PatternError::new(text, "is empty; write a name, or `*` for all"));
    }
    if text.len() > MAX_PATTERN {
        return Err(PatternError::new(text, format!("is longer than {MAX_PATTERN} bytes; shorten it with `*`")));
    }
    if one_line(text, usize::MAX) != text || text.trim() != text {
        return Err(PatternError::new(text, "has blanks around it or characters that cannot be seen; remove them"));
    }
    if text.replace(SERVER, "").contains(['{', '}', '[', ']', '?', '\\']) {
        return Err(PatternError::new(text, "has a sign that patterns do not know; there is `*` and `{server}`"));
    }
    Ok(())
}

/// A pattern of names: servers, secrets, variables, labels, namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    tokens: Vec<Token>,
}

impl NamePattern {
    /// Whether it covers a name; `server` is the one that is asked for.
    pub fn covers(&self, name: &str, server: Option<&str>) -> bool {
        covers(&self.tokens, name, server)
    }

    /// Its own text, without what `*` and `{server}` stand for.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().filter_map(|token| match token {
            Token::Text(text) => Some(&**text),
            Token::Any | Token::Server => None,
        })
    }

    /// What every name begins with that it covers, if it says so.
    pub fn beginning(&self) -> Option<&str> {
        match self.tokens.first() {
            Some(Token::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether `{server}` is in it.
    pub fn is_about_server(&self) -> bool {
        self.tokens.contains(&Token::Server)
    }

    /// Whether it has a `*`.
    pub fn is_wild(&self) -> bool {
        self.tokens.contains(&Token::Any)
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        check(text)?;
        if text.contains("**") {
            return Err(PatternError::new(text, "has `**`; in names one `*` stands for any run of characters"));
        }
        Ok(Self { text: text.to_owned(), tokens: tokens(text) })
    }
}

/// A pattern of configuration paths: covers what it names and everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtreePattern {
    text: String,
    parts: Vec<Vec<Token>>,
}

impl SubtreePattern {
    /// Whether the path lies in the subtree.
    pub fn covers(&self, path: &str, server: Option<&str>) -> bool {
        let server = server.map(section);
        let mut parts = path.split('.');
        self.parts.iter().all(|pattern| parts.next().is_some_and(|part| covers(pattern, part, server.as_deref())))
    }

    /// Whether the path lies in the subtree or holds some of it: whether both are the same as far as both go.
    pub fn touches(&self, path: &str, server: Option<&str>) -> bool {
        let server = server.map(section);
        self.parts.iter().zip(path.split('.')).all(|(pattern, part)| covers(pattern, part, server.as_deref()))
    }
}

impl FromStr for SubtreePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        check(text)?;
        if text.contains("**") {
            return Err(PatternError::new(text, "has `**`; a subtree covers everything below it anyway"));
        }
        if text.split('.').any(str::is_empty) {
            return Err(PatternError::new(text, "has an empty part; write it as `server.section.key`"));
        }
        Ok(Self { text: text.to_owned(), parts: text.split('.').map(tokens).collect() })
    }
}

/// One part of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any number of parts.
    Deep,
    One(Vec<Token>),
}

/// The most parts of a path pattern: each has a bit, and the end.
const MAX_PARTS: usize = 60;

/// A pattern of parts between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// Reads the parts between slashes; the text begins with none.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let part = |part: &str| match part {
            "**" => Ok(Part::Deep),
            "" => Err("has an empty part; write one slash between two parts and none at the end"),
            "." | ".." => Err("has a part `.` or `..`; write the path itself"),
            part if part.contains("**") => Err("has `**` beside other text; it must be a whole part"),
            part => Ok(Part::One(tokens(part))),
        };
        if text.split('/').count() > MAX_PARTS {
            return Err("has more than 60 parts; shorten it with `**`");
        }
        text.split('/').map(part).collect::<Result<_, _>>().map(Self)
    }

    /// How many parts it has at least, and whether it may have more.
    pub(super) fn length(&self) -> (usize, bool) {
        let fixed = self.0.iter().filter(|part| **part != Part::Deep).count();
        (fixed, fixed != self.0.len())
    }

    /// Whether it covers these parts.
    pub(super) fn covers<'a>(&self, parts: impl Iterator<Item = &'a str>) -> bool {
        self.states(parts) >> self.0.len() & 1 == 1
    }

    /// Whether it covers these parts with some others after them, or none.
    pub(super) fn touches<'a>(&self, parts: impl Iterator<Item = &'a str>) -> bool {
        self.states(parts) != 0
    }

    /// A bit for each number of parts of the pattern, from none to all: whether so many can stand for all of `parts`.
    fn states<'a>(&self, parts: impl Iterator<Item = &'a str>) -> u64 {
        // A part `**` stays reachable while it takes parts, and can always be left behind.
        let skip = |mut states: u64| {
            for (index, part) in self.0.iter().enumerate() {
                if *part == Part::Deep && states >> index & 1 == 1 {
                    states |= 1 << (index + 1);
                }
            }
            states
        };
        let mut states = skip(1);
        for text in parts {
            if states == 0 {
                break;
            }
            let mut next = 0;
            for (index, part) in self.0.iter().enumerate().filter(|(index, _)| states >> index & 1 == 1) {
                match part {
                    Part::Deep => next |= 1 << index,
                    Part::One(tokens) if covers(tokens, text, None) => next |= 1 << (index + 1),
                    Part::One(_) => {}
                }
            }
            states = skip(next);
        }
        states
    }
}

/// A pattern of absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    parts: Parts,
}

impl PathPattern {
    /// Whether it covers a normalised absolute path.
    pub fn covers(&self, path: &str) -> bool {
        parts_of(path).is_some_and(|parts| self.parts.covers(parts))
    }

    /// Whether it covers the path or something below it.
    pub fn touches(&self, path: &str) -> bool {
        // What is no absolute path is not known to be elsewhere.
        parts_of(path).is_none_or(|parts| self.parts.touches(parts))
    }
}

fn parts_of(path: &str) -> Option<impl Iterator<Item = &str>> {
    path.strip_prefix('/').map(|rest| rest.split('/').filter(|part| !part.is_empty()))
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        check(text)?;
        if text.contains(SERVER) {
            return Err(PatternError::new(text, "has `{server}`, which paths do not know; write the path out"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatternError::new(text, "is no absolute path; begin with `/`"));
        };
        let parts = Parts::parse(rest).map_err(|reason| PatternError::new(text, reason))?;
        Ok(Self { text: text.to_owned(), parts })
    }
}

macro_rules! shown_as_written {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
    )*};
}
shown_as_written!(NamePattern, SubtreePattern, PathPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(pattern: &str, text: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().covers(text, Some("git*hub"))
    }

    #[test]
    fn a_name_is_covered_as_a_whole() {
        for (pattern, text) in [
            ("github", "github"),
            ("*", ""),
            ("git*", "git"),
            ("*.token", "a.b.token"),
            ("a*b*c", "axxbyyc"),
            ("a*b*c", "abbc"),
            ("{server}.*", "git*hub.token"),
        ] {
            assert!(name(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("github", "github2"),
            ("github", "GitHub"),
            ("git", "github"),
            ("*.token", "token"),
            ("a*b*c", "axc"),
            ("{server}.*", "gitXhub.token"),
        ] {
            assert!(!name(pattern, text), "{pattern} {text}");
        }
        assert!(!"{server}".parse::<NamePattern>().unwrap().covers("", None));
        for wrong in ["", " a", "a**", "a?", "[a]", "{name}", "a\u{200b}", r"a\*"] {
            assert!(wrong.parse::<NamePattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subtree_covers_what_is_below_and_is_touched_by_what_is_above() {
        let pattern: SubtreePattern = "github.*.key".parse().unwrap();
        for path in ["github.a.key", "github.a.key.more"] {
            assert!(pattern.covers(path, None) && pattern.touches(path, None), "{path}");
        }
        for path in ["github", "github.a"] {
            assert!(!pattern.covers(path, None) && pattern.touches(path, None), "{path}");
        }
        for path in ["gitlab.a.key", "github.a.keys", "github.a.b.key", ""] {
            assert!(!pattern.covers(path, None) && !pattern.touches(path, None), "{path}");
        }
        let own: SubtreePattern = "{server}".parse().unwrap();
        assert!(own.covers("a_b.key", Some("a.b")) && !own.covers("a.b", Some("a.b")));
    }

    #[test]
    fn a_path_is_covered_by_parts() {
        let path = |pattern: &str| pattern.parse::<PathPattern>().unwrap();
        for (pattern, text) in [
            ("/srv/data", "/srv/data"),
            ("/srv/**", "/srv"),
            ("/srv/**", "/srv/a/b"),
            ("/srv/*/x", "/srv/a/x"),
            ("/**/x", "/x"),
            ("/srv/**/x/*", "/srv/x/x/y"),
        ] {
            assert!(path(pattern).covers(text) && path(pattern).touches(text), "{pattern} {text}");
        }
        for (pattern, text) in [("/srv/data", "/srv"), ("/srv/*/x", "/srv/a"), ("/srv/**/x", "/srv/q"), ("/srv/x", "/")]
        {
            assert!(!path(pattern).covers(text) && path(pattern).touches(text), "{pattern} {text}");
        }
        for (pattern, text) in [("/srv/data", "/srv/data/x"), ("/srv/*", "/srv/a/b"), ("/srv/**", "/srvx"), ("/a", "a")]
        {
            assert!(!path(pattern).covers(text), "{pattern} {text}");
        }
        for wrong in ["srv", "/srv/", "//srv", "/a/../b", "/a/**b", "/{server}"] {
            assert!(wrong.parse::<PathPattern>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_and_matching_are_total(pattern in any::<String>(), text in any::<String>(), server in any::<String>()) {
            if let Ok(pattern) = pattern.parse::<NamePattern>() {
                let _ = pattern.covers(&text, Some(&server));
            }
            if let Ok(pattern) = pattern.parse::<SubtreePattern>() {
                prop_assert!(!pattern.covers(&text, Some(&server)) || pattern.touches(&text, Some(&server)));
            }
            if let Ok(pattern) = format!("/{pattern}").parse::<PathPattern>() {
                let path = format!("/{text}");
                prop_assert!(!pattern.covers(&path) || pattern.touches(&path));
            }
        }

        #[test]
        fn a_star_covers_what_a_search_finds(before in "[ab]{0,3}", after in "[ab]{0,3}", text in "[ab]{0,8}") {
            let expected = text.len() >= before.len() + after.len() && text.starts_with(&before) && text.ends_with(&after);
            prop_assert_eq!(name(&format!("{before}*{after}"), &text), expected);
        }
    }
}
