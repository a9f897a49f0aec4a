//! Names that could be taken for those of the contract and are not.

use provisioning_core::names::near;

use super::contract;
use crate::sandbox::contract::{PACKAGE, VERSION};

/// Why a name should make a reader look twice.
pub(super) fn warn(name: &str) -> Option<String> {
    let shown = provisioning_core::text::one_line(name, 200);
    if contract::interface(name).is_some() || name.starts_with("wasi:") {
        return None;
    }
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    let own = contract::contract()?;
    let interfaces = || contract::interfaces(own);
    if package == PACKAGE {
        if interfaces().any(|known| known == interface) {
            return Some(format!("`{shown}` is of another version of the contract; this gateway has {VERSION}"));
        }
        let meant = near(interface, interfaces()).first().map(|known| format!("; `{known}` is")).unwrap_or_default();
        return Some(format!("`{shown}` is not part of the contract{meant}"));
    }
    let similar = skeleton(package) == skeleton(PACKAGE)
        || (!near(&skeleton(package), [skeleton(PACKAGE).as_str()]).is_empty() && !package.is_empty());
    let version = if version.is_empty() { "" } else { "@" };
    if similar {
        return Some(format!("`{shown}` looks like the gateway's `{PACKAGE}/…{version}` and is not"));
    }
    interfaces()
        .any(|known| skeleton(known) == skeleton(interface))
        .then(|| format!("`{shown}` has the name of an interface of the gateway's contract, and is of another package"))
}

/// A name with letters and signs that look alike made the same.
fn skeleton(name: &str) -> String {
    let folded: String = name
        .chars()
        .flat_map(char::to_lowercase)
        .filter_map(|character| match character {
            '-' | '_' | '.' => None,
            '0' | 'о' | 'ο' => Some('o'),
            '1' | 'l' | '|' | 'і' | 'ı' => Some('i'),
            '3' | 'е' => Some('e'),
            '5' | 'ѕ' => Some('s'),
            'а' => Some('a'),
            'с' => Some('c'),
            'р' => Some('p'),
            'у' => Some('y'),
            'х' => Some('x'),
            'ɡ' => Some('g'),
            other => Some(other),
        })
        .collect();
    folded.replace("rn", "m").replace("vv", "w").replace("cl", "d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_the_contract_and_is_not_is_called_out() {
        for (name, expected) in [
            ("mcp-gateway:provisioning/log@0.2.0", "another version"),
            ("mcp-gateway:provisioning/log", "another version"),
            ("mcp-gateway:provisioning/container-runtme@0.1.0", "`container-runtime` is"),
            ("mcp-gatevvay:provisioning/log@0.1.0", "looks like"),
            ("mcp-gateway:provisi0ning/log@0.1.0", "looks like"),
            ("rncp-gateway:provisioning/log@0.1.0", "looks like"),
            ("mcpgateway:provisioning/log@0.1.0", "looks like"),
            ("mcр-gateway:provisioning/log@0.1.0", "looks like"),
            ("evil:corp/secret-resolver@0.1.0", "of another package"),
        ] {
            assert!(warn(name).is_some_and(|text| text.contains(expected)), "{name}: {:?}", warn(name));
        }
        for name in ["mcp-gateway:provisioning/log@0.1.0", "wasi:io/streams@0.2.6", "acme:tools/thing@1.0.0", "run"] {
            assert_eq!(warn(name), None, "{name}");
        }
    }
}
