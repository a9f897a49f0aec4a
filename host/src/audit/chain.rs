//! The chain: each line ends with the hash of the line before and its own, so that a line that was changed, removed,
//! moved or added shows.
//!
//! A line is a JSON object whose last two members are `prev` and `hash`. `hash` is the SHA-256 of the line's bytes
//! up to the comma before `"hash"`; `prev` is the `hash` of the line before, and 64 zeros in the first one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    fn hex(self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            }
        }
        text
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotAHash),
        };
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0_u8, |value, &character| Ok((value << 4) | digit(character)?))?;
        }
        Ok(Self(hash))
    }
}

/// A text that is no hash.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a hash is 64 digits of 0-9 and a-f")]
pub struct NotAHash;

/// Where a chain ends: how many records it has, and the hash of the last. Written `412:0a1b…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the last record; the first has 1.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Ends a line whose object is still open, as the one after `head`, and moves the head to it.
pub fn seal(line: &mut Vec<u8>, from: usize, head: &mut Head) {
    line.extend_from_slice(PREV);
    line.extend_from_slice(&head.hash.hex());
    line.push(b'"');
    let hash = Hash::of(line.get(from..).unwrap_or_default());
    line.extend_from_slice(HASH);
    line.extend_from_slice(&hash.hex());
    line.extend_from_slice(b"\"}\n");
    *head = Head { seq: head.seq + 1, hash };
}

const PREV: &[u8] = b",\"prev\":\"";
const HASH: &[u8] = b",\"hash\":\"";

/// The hashes at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The hash of the line before.
    pub prev: Hash,
    /// Its own, which fits its bytes.
    pub hash: Hash,
}

/// Why a line is not one of the log, or not as it was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    /// It does not end as every line does.
    #[error("it does not end with `prev` and `hash`")]
    Unsealed,
    /// Its hash is that of other bytes.
    #[error("its hash is that of another text: it was changed")]
    Changed,
}

/// Checks a line by itself; without the line feed.
///
/// # Errors
/// If it is not as it was written.
pub fn check(line: &[u8]) -> Result<Seal, Broken> {
    let hash_at = |text: &[u8], mark: &[u8], end: &[u8]| {
        let (rest, digits) = text.strip_suffix(end)?.split_last_chunk::<64>()?;
        let hash: Hash = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some((rest.strip_suffix(mark)?.len(), hash))
    };
    let (length, hash) = hash_at(line, HASH, b"\"}").ok_or(Broken::Unsealed)?;
    let content = line.get(..length).unwrap_or_default();
    let (_, prev) = hash_at(content, PREV, b"\"").ok_or(Broken::Unsealed)?;
    if Hash::of(content) == hash { Ok(Seal { prev, hash }) } else { Err(Broken::Changed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(count: u8) -> (Vec<u8>, Head) {
        let (mut text, mut head) = (Vec::new(), Head::default());
        for number in 0..count {
            let from = text.len();
            text.extend_from_slice(format!("{{\"seq\":{number}").as_bytes());
            seal(&mut text, from, &mut head);
        }
        (text, head)
    }

    #[test]
    fn each_line_fits_itself_and_the_one_before() {
        let (text, head) = lines(3);
        let mut last = Hash::default();
        for line in text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n') {
            let seal = check(line).unwrap();
            assert_eq!(seal.prev, last);
            last = seal.hash;
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
        assert_eq!(head, Head { seq: 3, hash: last });
        assert_eq!(head.hash.to_string().parse(), Ok(head.hash));
    }

    proptest! {
        #[test]
        fn a_line_with_one_other_byte_is_found(at in 0_usize..150, byte: u8) {
            let (text, _) = lines(1);
            let mut line = text.strip_suffix(b"\n").unwrap().to_vec();
            let at = at % line.len();
            prop_assume!(line[at] != byte);
            line[at] = byte;
            prop_assert!(check(&line).is_err());
        }

        #[test]
        fn no_bytes_make_the_check_fail_otherwise(line: Vec<u8>) {
            let _ = check(&line);
        }
    }
}
