//! Host names and addresses in one canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// The IPv4 addresses that packets for an IPv6 address may end at: those that are written inside of it (RFC 4291), that
/// translators (RFC 6052, RFC 8215) and tunnels (6to4, Teredo, ISATAP) take out of it. None for IPv4 itself.
pub fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let octets = address.octets();
    let at = |from: usize| {
        let bytes: Option<[u8; 4]> = octets.get(from..from + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let inverted = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(!ip.to_bits())),
        other => other,
    };
    let found = match address.segments() {
        [0, 0, 0, 0, 0, 0, ..] if address > Ipv6Addr::LOCALHOST => vec![at(12)],
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![at(12)],
        // A translator of one's own may use any of the lengths that fit behind this prefix.
        [0x64, 0xff9b, 1, high, ..] => {
            let ([a, b], c, d) = (high.to_be_bytes(), octets[9], octets[10]);
            let at_56 = [octets[7], octets[9], octets[10], octets[11]];
            let v4 = |octets: [u8; 4]| Some(IpAddr::V4(Ipv4Addr::from(octets)));
            vec![v4([a, b, c, d]), v4(at_56), at(9), at(12)]
        }
        [0x2002, ..] => vec![at(2)],
        [0x2001, 0, ..] => vec![at(4), at(12).map(inverted)],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![at(12)],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
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

    #[test]
    fn ipv4_is_found_inside_of_ipv6() {
        for (address, expected) in [
            ("10.0.0.1", &[][..]),
            ("::1", &[]),
            ("::", &[]),
            ("2606:4700::1111", &[]),
            ("::10.0.0.1", &["10.0.0.1"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"]),
            ("::ffff:0:10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b::10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b:1:a00:0:100::", &["10.0.0.1", "0.0.1.0", "0.1.0.0", "0.0.0.0"]),
            ("2002:a00:1::5", &["10.0.0.1"]),
            ("2001:0:a00:1:0:0:f5ff:fffe", &["10.0.0.1", "10.0.0.1"]),
            ("fe80::5efe:10.0.0.1", &["10.0.0.1"]),
        ] {
            let found: Vec<String> = embedded(address.parse().unwrap()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{address}");
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
