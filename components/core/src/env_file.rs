//! Reading `.env` files: `NAME=value` lines, comments, nothing else.
//!
//! Values are taken as they stand: no quotes are removed and no variables expanded, because a secret may hold both.
//! Beyond the existing gateway's rules, a byte order mark is tolerated, and messages name the line instead of
//! showing it: a line that is no pair is most likely the rest of a secret.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// A name and the text that the file gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name: of a secret or variable. May contain dots.
    pub name: String,
    /// The value, wiped when dropped.
    pub value: Zeroizing<String>,
    /// The line it stands on, counted from 1.
    pub line: usize,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("name", &self.name).field("line", &self.line).finish_non_exhaustive()
    }
}

/// Why a file is not a `.env` file. Holds no text of the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EnvFileError {
    /// A line is neither a pair, a comment nor empty.
    #[error("line {line} is not `NAME=value`; start comments with `#`, and write a value on one line")]
    NotAPair {
        /// The line, counted from 1.
        line: usize,
    },
    /// Nothing stands before the equals sign.
    #[error("line {line} has no name before `=`; write `NAME=value`")]
    NoName {
        /// The line, counted from 1.
        line: usize,
    },
}

/// Reads the pairs of a file in their order. If a name is repeated, the last one counts; [`get`] follows that.
///
/// # Errors
/// At the first line that is no pair.
pub fn parse(text: &str) -> Result<Vec<Pair>, EnvFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    for (index, content) in text.split('\n').enumerate() {
        let line = index + 1;
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (name, value) = content.split_once('=').ok_or(EnvFileError::NotAPair { line })?;
        let name = name.trim();
        if name.is_empty() {
            return Err(EnvFileError::NoName { line });
        }
        pairs.push(Pair { name: name.to_owned(), value: Zeroizing::new(value.trim().to_owned()), line });
    }
    Ok(pairs)
}

/// The value that counts for a name.
pub fn get<'a>(pairs: &'a [Pair], name: &str) -> Option<&'a Zeroizing<String>> {
    pairs.iter().rev().find(|pair| pair.name == name).map(|pair| &pair.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_order_mark_is_tolerated() {
        let pairs = parse("\u{feff}# c\r\nA=1\r\n").unwrap();
        assert_eq!((pairs[0].name.as_str(), pairs[0].value.as_str(), pairs[0].line), ("A", "1", 2));
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        let error = parse("A=1\n\nhunter2\n").unwrap_err();
        assert_eq!(error, EnvFileError::NotAPair { line: 3 });
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(parse("=hunter2"), Err(EnvFileError::NoName { line: 1 }));
    }

    #[test]
    fn the_last_of_several_counts_and_debug_shows_no_value() {
        let pairs = parse("A=hunter1\nA=hunter2").unwrap();
        assert_eq!(get(&pairs, "A").unwrap().as_str(), "hunter2");
        assert!(get(&pairs, "B").is_none() && !format!("{pairs:?}").contains("hunter"));
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in any::<String>()) {
            drop(parse(&text));
        }

        #[test]
        fn what_was_written_is_read(name in "[A-Za-z_.][A-Za-z0-9_.]{0,8}", value in "([!-~]([ -~]{0,12}[!-~])?)?") {
            let pairs = parse(&format!("# c\n{name}={value}\n")).unwrap();
            prop_assert_eq!(get(&pairs, &name).unwrap().as_str(), value);
        }
    }
}
