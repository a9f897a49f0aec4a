//! Reading and writing `.env` files: `NAME=value` lines, comments, and values in quotes, which may span lines.
//!
//! A value without quotes is taken as it stands, as the existing gateway does: nothing is expanded, and `#` in it is
//! no comment, because a secret may hold both. A value counts as quoted only if its closing quote ends the line;
//! `"a","b"` is taken as it stands. Between single quotes all is literal; between double quotes `\n`, `\r`, `\t`,
//! `\"`, `\\` and `\$` are escapes. A byte order mark is tolerated, and messages name the line instead of showing it:
//! a line that is no pair is most likely the rest of a secret.

mod quoted;
mod write;

use std::fmt;

use quoted::Quoted;
use thiserror::Error;
use zeroize::Zeroizing;

pub use write::{NoName, is_name, line};

/// A name and the text that the file gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name: of a secret or variable. May contain dots.
    pub name: String,
    /// The value, wiped when dropped.
    pub value: Zeroizing<String>,
    /// The line it begins on, counted from 1.
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
    #[error("line {line} is not `NAME=value`; start comments with `#`, and put a value of several lines in quotes")]
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
    /// A value begins with a quote, and no such quote ends a line.
    #[error(
        "line {line} begins a value in quotes that does not end; end it with the same quote, or put a value that \
         itself begins with a quote into quotes of the other kind"
    )]
    OpenQuote {
        /// The line of the opening quote, counted from 1.
        line: usize,
    },
}

/// Reads the pairs of a file in their order. If a name is repeated, the last one counts; [`get`] follows that.
///
/// # Errors
/// At the first line that is no pair.
pub fn parse(text: &str) -> Result<Vec<Pair>, EnvFileError> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let (content, mut after) = rest.split_once('\n').unwrap_or((rest, ""));
        let content = content.trim();
        if !content.is_empty() && !content.starts_with('#') {
            let (name, value) = content.split_once('=').ok_or(EnvFileError::NotAPair { line })?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() {
                return Err(EnvFileError::NoName { line });
            }
            let begins = line;
            // From the value to the end of the file: one in quotes may go on in later lines.
            let onward = rest.split_once('=').map_or("", |(_, onward)| onward.trim_start());
            let value = match if value.starts_with(['"', '\'']) { quoted::read(onward) } else { Quoted::No } {
                Quoted::No => Zeroizing::new(value.to_owned()),
                Quoted::Open => return Err(EnvFileError::OpenQuote { line }),
                Quoted::Value { value, lines, rest } => {
                    line += lines;
                    after = rest;
                    value
                }
            };
            pairs.push(Pair { name: name.to_owned(), value, line: begins });
        }
        rest = after;
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
    fn quotes_that_end_their_line_are_taken_off_and_all_others_stay() {
        for (text, expected) in [
            ("A=\"x y\"", "x y"),
            ("A = ' $B\\n # '  # note", " $B\\n # "),
            ("A=\"\"", ""),
            (r#"A="\"\\\n\r\t\$\d""#, "\"\\\n\r\t$\\d"),
            ("A=\"one\ntwo\"\r\n", "one\ntwo"),
            ("A='one\r\n# two\n\nB=3'\n", "one\r\n# two\n\nB=3"),
            (r#"A="a","b""#, r#""a","b""#),
            ("A=\"x\"# no comment", "\"x\"# no comment"),
            ("A=it's", "it's"),
            ("A=x # 'note'", "x # 'note'"),
        ] {
            let pairs = parse(&format!("{text}\nLAST=1")).unwrap();
            assert_eq!(get(&pairs, "A").unwrap().as_str(), expected, "{text}");
            assert_eq!((pairs.len(), get(&pairs, "LAST").unwrap().as_str()), (2, "1"), "{text}");
            assert_eq!(pairs[1].line, text.trim_end().split('\n').count() + 1 + usize::from(text.ends_with('\n')));
        }
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        let error = parse("A=1\n\nhunter2\n").unwrap_err();
        assert_eq!(error, EnvFileError::NotAPair { line: 3 });
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(parse("=hunter2"), Err(EnvFileError::NoName { line: 1 }));
        for open in ["B=1\nA=\"hunter2\nC=3\n", "B=1\nA='hunter2\nC='3\n", "B=1\nA=\"hunter2\\\"\n"] {
            let error = parse(open).unwrap_err();
            assert_eq!(error, EnvFileError::OpenQuote { line: 2 });
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn the_last_of_several_counts_and_debug_shows_no_value() {
        let pairs = parse("A=hunter1\nA=hunter2").unwrap();
        assert_eq!(get(&pairs, "A").unwrap().as_str(), "hunter2");
        assert!(get(&pairs, "B").is_none() && !format!("{pairs:?}").contains("hunter"));
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "([ -~\n\r\t\u{feff}\u{85}é\"'=#\\\\]|\"\n|='|=\"){0,60}") {
            drop(parse(&text));
        }

        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec((any::<String>(), "\\PC*|[ \"'\\\\\n\r\t$#=a]{0,9}"), 0..6)) {
            let pairs: Vec<_> = pairs.into_iter().filter(|(name, _)| is_name(name)).collect();
            let text: String = pairs.iter().map(|(name, value)| line(name, value).unwrap().to_string()).collect();
            let read = parse(&text).unwrap();
            let read: Vec<_> = read.iter().map(|pair| (pair.name.clone(), pair.value.to_string())).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn a_value_that_does_not_begin_with_a_quote_stands_as_it_is(value in "([!#-&(-~]([ -~]{0,12}[!-~])?)?") {
            let pairs = parse(&format!("# c\nA.b={value}\n")).unwrap();
            prop_assert_eq!(get(&pairs, "A.b").unwrap().as_str(), value);
        }
    }
}
