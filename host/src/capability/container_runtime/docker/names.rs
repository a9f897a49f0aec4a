//! Names of containers: chosen before the create request, so that what it makes can be removed whatever happens.

use crate::capability::container_runtime::RuntimeError;

use super::connect::hex;

/// How much of a server's name is shown.
const SLUG_BYTES: usize = 40;

/// A new name: `docker-mcp-<server>-<12 hexadecimal digits>`, valid for any server name and never given twice.
pub(super) fn unique(server: &str) -> Result<String, RuntimeError> {
    let mut random = [0_u8; 6];
    getrandom::fill(&mut random)
        .map_err(|error| RuntimeError::Engine(format!("the system gives no random numbers: {error}")))?;
    Ok(format!("docker-mcp-{}-{}", slug(server), hex(&random)))
}

/// Lower-case ASCII letters and digits, everything else as single dashes.
fn slug(server: &str) -> String {
    let mut slug = String::new();
    for character in server.chars() {
        if slug.len() == SLUG_BYTES {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "server".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_server_name_gives_a_valid_readable_slug() {
        assert_eq!(slug("GitHub Official"), "github-official");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("日本"), "server");
        assert_eq!(slug(""), "server");
        assert_eq!(slug("a--b__c"), "a-b-c");
        assert_eq!(slug(&"x".repeat(300)).len(), SLUG_BYTES);
    }

    #[test]
    fn names_of_one_server_differ() {
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| unique("same").unwrap()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.starts_with("docker-mcp-same-") && name.len() == 16 + 12));
    }
}
