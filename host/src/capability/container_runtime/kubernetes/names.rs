//! Names of objects: chosen before the create request, so that what it makes can be removed whatever happens.

use provisioning_core::names::slug;
use sha2::{Digest as _, Sha256};

use crate::capability::container_runtime::RuntimeError;

/// How much of a server's name is shown. With the rest it fits into the 63 bytes of a label.
const SLUG_BYTES: usize = 40;

/// A new name: `mcp-<server>-<12 hexadecimal digits>`, valid for any server name and never given twice.
pub(super) fn unique(server: &str) -> Result<String, RuntimeError> {
    Ok(format!("mcp-{}-{}", slug(server, SLUG_BYTES), random()?))
}

/// Twelve random hexadecimal digits.
pub(super) fn random() -> Result<String, RuntimeError> {
    let mut random = [0_u8; 6];
    getrandom::fill(&mut random)
        .map_err(|error| RuntimeError::Engine(format!("the system gives no random numbers: {error}")))?;
    Ok(hex(&random))
}

/// The name of the claim that stands for a named volume: the same for the same name, and different for different ones.
/// It begins with `mcp-`, so that no claim of somebody else is meant by accident.
pub(super) fn claim(volume: &str) -> String {
    let plain = slug(volume, SLUG_BYTES);
    match plain == volume {
        true => format!("mcp-{plain}"),
        false => format!("mcp-{plain}-{}", digest(volume)),
    }
}

/// The name of something that a session has one of.
pub(super) fn of_session(session: &str, what: &str) -> String {
    let plain = slug(session, 64);
    match plain == session {
        true => format!("mcp-{plain}-{what}"),
        false => format!("mcp-{plain}-{}-{what}", digest(session)),
    }
}

/// The name of something that an owner, by its unique identifier, has one of: nobody else can mean it, not even a session of
/// the same name.
pub(super) fn of_owner(session: &str, uid: &str, what: &str) -> String {
    of_session(session, &format!("{}-{what}", digest(uid)))
}

/// Eight digits that tell texts apart whose readable forms are the same.
pub(super) fn digest(text: &str) -> String {
    hex(Sha256::digest(text).get(..4).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(name: &str) -> bool {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
    }

    #[test]
    fn any_server_name_gives_a_valid_readable_and_unique_name() {
        for server in ["GitHub Official", "../../etc", "日本", "", "a--b__c", &"x".repeat(300), "-", "Ünï"] {
            let names: std::collections::BTreeSet<_> = (0..50).map(|_| unique(server).unwrap()).collect();
            assert_eq!(names.len(), 50);
            assert!(names.iter().all(|name| is_valid(name)), "{names:?}");
        }
        assert!(unique("GitHub Official").unwrap().starts_with("mcp-github-official-"));
    }

    #[test]
    fn one_volume_has_one_claim_and_two_have_two() {
        assert_eq!(claim("data"), "mcp-data");
        assert_eq!(claim("claude_memory"), claim("claude_memory"));
        assert_ne!(claim("claude_memory"), claim("claude-memory"));
        assert!(["claude_memory", "A", &"v".repeat(99)].iter().all(|name| is_valid(&claim(name))));
    }

    #[test]
    fn any_session_has_names_that_are_valid() {
        for session in ["0123abcd", "-x-", &"s".repeat(64)] {
            let name = of_session(session, "session");
            assert!(name.len() <= 253 && !name.ends_with('-') && name.starts_with("mcp-"), "{name}");
        }
        assert_ne!(of_session("-x", "session"), of_session("x", "session"));
        let uids = ["0b5ec1a4-9f5e-4d3c-8a55-111111111111", "0b5ec1a4-9f5e-4d3c-8a55-111111111112"];
        let [one, other] = uids.map(|uid| of_owner("0123abcd", uid, "runner"));
        assert!(
            one != other && is_valid(&one) && one.starts_with("mcp-0123abcd-") && one.ends_with("-runner"),
            "{one}"
        );
    }
}
