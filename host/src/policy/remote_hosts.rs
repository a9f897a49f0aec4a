//! Which addresses remote servers may have: those of the public internet, and what the operator names.
//!
//! A catalog is data from elsewhere. Without this rule an entry could point the gateway, with whatever headers, at a
//! service that only this machine or its network can reach. Whoever dials asks here; nothing is dialled here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A host that may be at a private address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateHost {
    host: String,
    port: Option<u16>,
}

impl FromStr for PrivateHost {
    type Err = String;

    /// Reads `HOST` or `HOST:PORT`; an IPv6 address with a port is in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no host; write `localhost`, `10.0.0.5:8080` or `[::1]:8080`");
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse::<u16>().map_err(|_| wrong())?))
            }
            _ => (text, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if host.is_empty() || !(is_name || host.parse::<Ipv6Addr>().is_ok()) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct RemoteHosts {
    private: Vec<PrivateHost>,
    proxies: Vec<String>,
}

/// The variables that name proxies, in upper and lower case.
const PROXY_VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

impl RemoteHosts {
    /// Private addresses are allowed for these hosts. `vars` gives the environment, of which the proxies matter.
    pub fn new(private: Vec<PrivateHost>, vars: impl Fn(&str) -> Option<String>) -> Self {
        let named = PROXY_VARIABLES.iter().flat_map(|name| [vars(name), vars(&name.to_ascii_lowercase())]);
        let proxies = named.flatten().filter_map(|proxy| host_of(&proxy)).collect();
        Self { private, proxies }
    }

    /// Whether a server at this host and port may have a private address.
    pub fn may_be_private(&self, host: &str, port: u16) -> bool {
        self.private.iter().any(|allowed| {
            allowed.host.eq_ignore_ascii_case(host) && allowed.port.is_none_or(|allowed| allowed == port)
        })
    }

    /// Whether this is the host of a proxy of this machine, which the operator chose and which is usually private.
    pub fn is_proxy(&self, host: &str) -> bool {
        self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(host))
    }
}

/// The host of `[SCHEME://][USER@]HOST[:PORT][/…]`.
fn host_of(proxy: &str) -> Option<String> {
    let rest = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next()?,
        None => host.split(':').next()?,
    };
    Some(host.to_owned()).filter(|host| !host.is_empty())
}

/// True for an address of the public internet: not of this machine, a private network, a link, or a range without
/// hosts, however it is wrapped into an IPv6 address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = match first {
        0 | 10 | 127 | 224..=255 => true,
        // Shared between carriers and their customers.
        100 => (64..128).contains(&second),
        // Where clouds have their metadata services, among others.
        169 => second == 254,
        172 => (16..32).contains(&second),
        192 => second == 168 || (second == 0 && matches!(third, 0 | 2)) || (second == 88 && third == 99),
        198 => matches!(second, 18 | 19) || (second == 51 && third == 100),
        203 => second == 0 && third == 113,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match [first, second, third, fourth, fifth, sixth] {
        // `::1`, `::`, and IPv4 in the two ways that begin with zeros.
        [0, 0, 0, 0, 0, 0xffff] => embedded(seventh, eighth),
        [0, 0, 0, 0, 0, 0] => false,
        // Translated and tunnelled IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0] => embedded(seventh, eighth),
        [0x64, 0xff9b, ..] => false,
        [0x2002, high, low, ..] => embedded(high, low),
        // Tunnels with the address of a server and an obscured one of a client.
        [0x2001, 0, ..] | [0x2001, 0xdb8, ..] => false,
        // Only this eighth of the space is given out as global unicast.
        _ => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_machine_or_its_network_can_reach_are_not_public() {
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001:0:1::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "193.0.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_named_host_is_allowed_with_its_port_or_with_all() {
        let hosts = ["localhost", "10.0.0.5:8080", "[::1]:90", "fd00::2"].map(|text| text.parse().unwrap());
        let hosts = RemoteHosts::new(hosts.to_vec(), |_| None);
        for (host, port, expected) in [
            ("localhost", 1, true),
            ("LocalHost", 2, true),
            ("10.0.0.5", 8080, true),
            ("10.0.0.5", 8081, false),
            ("::1", 90, true),
            ("::1", 91, false),
            ("fd00::2", 7, true),
            ("localhost.evil.example", 1, false),
        ] {
            assert_eq!(hosts.may_be_private(host, port), expected, "{host}:{port}");
        }
        for wrong in ["", "http://x", "a:b", "x:99999", "[::1", "a b"] {
            wrong.parse::<PrivateHost>().unwrap_err();
        }
    }

    #[test]
    fn proxies_are_found_however_they_are_written() {
        let hosts = RemoteHosts::new(Vec::new(), |name| match name {
            "HTTPS_PROXY" => Some("http://me:pass@proxy.corp:3128/".to_owned()),
            "all_proxy" => Some("[fd00::9]:1080".to_owned()),
            _ => None,
        });
        assert!(hosts.is_proxy("proxy.corp") && hosts.is_proxy("fd00::9"));
        assert!(!hosts.is_proxy("corp") && !hosts.is_proxy(""));
    }
}
