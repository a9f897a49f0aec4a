//! Host names and addresses in one canonical form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use crate::text::one_line;

/// A host: a name in lower case without a final dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A name.
    Name(String),
    /// An address. An IPv4 address that is written inside IPv6 is an IPv4 address.
    Address(IpAddr),
}

/// Why a text is no host.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` is no host: {reason}")]
pub struct HostError {
    /// The text.
    pub text: String,
    /// What is wrong with it and what to write.
    pub reason: &'static str,
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let fail = |reason| HostError { text: one_line(text, 200), reason };
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !name.is_ascii() {
            return Err(fail("write letters of other scripts as `xn--…`"));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(fail("a name is letters, digits and `-` between dots"));
        }
        // `127.1`, `2130706433` and `0x7f.1` are addresses to some programs and names to others.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err(fail("it could be read as an address; write the address in full, such as `127.0.0.1`"));
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_host_become_one() {
        for (text, canonical) in [
            ("API.Example.com.", "api.example.com"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), canonical, "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "exаmple.com",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "a:1",
            "a/b",
            "u@h",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_reads_as_itself(text in any::<String>(), plain in "[a-z0-9.:\\[\\]-]{0,20}") {
            for text in [text, plain] {
                if let Ok(host) = text.parse::<Host>() {
                    prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
                }
            }
        }
    }
}
