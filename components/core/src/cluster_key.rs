//! Names as keys of cluster objects: a secret's name in a `Secret`, the path of a template in a `ConfigMap`.
//!
//! A name is its own key or no key at all. Nothing is replaced or escaped, so different names never share a key, and
//! who reads an object sees the names that stand in the catalog.

use thiserror::Error;

use crate::text::one_line;

/// The longest key that a cluster accepts, in bytes.
pub const MAX_KEY_BYTES: usize = 253;

/// Why a name cannot be a key of a `Secret` or `ConfigMap`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{shown}` cannot be a key of a Secret or ConfigMap: {reason}; a key is 1 to 253 letters, digits, `.`, `_` and `-`, \
     not `.` and not beginning with `..`; give it such a name in the catalog"
)]
pub struct InvalidKey {
    /// The beginning of the name, on one line.
    shown: String,
    /// What is wrong with it.
    reason: String,
}

/// The key for a name: the name itself, as every cluster accepts it.
///
/// # Errors
/// If a cluster would not accept the name as a key.
pub fn cluster_key(name: &str) -> Result<&str, InvalidKey> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if let Some(other) = name.chars().find(|character| !is_plain(*character)) {
        let other = if other == ' ' {
            "a blank".to_owned()
        } else {
            format!("`{}`", one_line(other.encode_utf8(&mut [0; 4]), 1))
        };
        format!("it holds {other}")
    } else if name == "." || name.starts_with("..") {
        // Keys become file names where an object is mounted.
        "it would be a directory".to_owned()
    } else if name.len() > MAX_KEY_BYTES {
        format!("it has {} characters", name.len())
    } else {
        return Ok(name);
    };
    Err(InvalidKey { shown: one_line(name, 80), reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule as Kubernetes writes it, `IsConfigMapKey`.
    fn kubernetes_accepts(key: &str) -> bool {
        let letters = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        !key.is_empty() && key.len() <= 253 && letters && key != "." && key != ".." && !key.starts_with("..")
    }

    #[test]
    fn a_name_that_is_no_key_is_refused_with_what_is_wrong() {
        for (name, reason) in [
            ("", "it is empty"),
            ("a/b", "it holds `/`"),
            ("a b", "it holds a blank"),
            ("a\nb", "it holds `\\n`"),
            ("日本", "it holds `日`"),
            (".", "it would be a directory"),
            ("..", "it would be a directory"),
            ("..a", "it would be a directory"),
            (&"k".repeat(254), "it has 254 characters"),
        ] {
            let error = cluster_key(name).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains('\n') && error.len() < 400, "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_the_name_itself_and_exactly_what_a_cluster_accepts(name in "[a-zA-Z0-9._/:-]{0,6}|[.a]{0,4}|a{250,256}|\\PC*") {
            prop_assert_eq!(cluster_key(&name).ok(), kubernetes_accepts(&name).then_some(name.as_str()));
        }
    }
}
