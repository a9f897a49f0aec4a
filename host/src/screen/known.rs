//! Finding the gateway's own secrets without keeping them.
//!
//! Of each secret only a digest, its length and a few bits of a sum over its beginning are kept, all under a random
//! key of this process. A text is walked once, however many secrets there are: wherever the sum over the next bytes has
//! bits that belong to some secret, which chance makes rare, digests are compared.

use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};

/// How many bytes of a secret the sum is made of. Shorter secrets are not looked for: they are found everywhere.
pub(super) const SHORTEST: usize = 8;
/// How many bits of the sum are kept.
const BITS: u32 = 16;
/// How many secrets are remembered.
const MOST: usize = 4096;

pub(super) struct Known {
    key: [u8; 32],
    factor: u64,
    state: RwLock<State>,
}

struct State {
    /// A bit for each value of the sum.
    sums: Box<[u64; 1 << (BITS - 6)]>,
    secrets: Vec<Secret>,
}

struct Secret {
    name: String,
    length: usize,
    digest: [u8; 32],
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let mut factor = [0; 8];
        getrandom::fill(&mut factor)?;
        let state = State { sums: Box::new([0; 1 << (BITS - 6)]), secrets: Vec::new() };
        Ok(Self { key, factor: u64::from_le_bytes(factor) | 1, state: RwLock::new(state) })
    }

    /// Remembers a secret. White space around it does not count.
    pub(super) fn learn(&self, name: &str, secret: &[u8]) {
        let secret = secret.trim_ascii();
        let Some(sum) = self.sum(secret) else { return };
        let digest = self.digest(secret);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.secrets.len() < MOST && !state.secrets.iter().any(|known| known.digest == digest) {
            if let Some(word) = state.sums.get_mut(usize::from(sum >> 6)) {
                *word |= 1 << (sum & 63);
            }
            state.secrets.push(Secret { name: name.to_owned(), length: secret.len(), digest });
        }
    }

    /// The name of the first secret whose text is in this one.
    pub(super) fn find(&self, text: &str) -> Option<String> {
        let text = text.as_bytes();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.secrets.is_empty() {
            return None;
        }
        for (start, window) in text.windows(SHORTEST).enumerate() {
            let Some(sum) = self.sum(window) else { continue };
            if state.sums.get(usize::from(sum >> 6)).is_none_or(|word| word >> (sum & 63) & 1 != 1) {
                continue;
            }
            let found = state.secrets.iter().find(|secret| {
                let candidate = text.get(start..start + secret.length);
                candidate.is_some_and(|candidate| self.digest(candidate) == secret.digest)
            });
            if let Some(secret) = found {
                return Some(secret.name.clone());
            }
        }
        None
    }

    fn sum(&self, text: &[u8]) -> Option<u16> {
        let word = u64::from_le_bytes(*text.first_chunk::<SHORTEST>()?);
        // The highest bits depend on all of the word.
        u16::try_from(word.wrapping_mul(self.factor) >> (64 - BITS)).ok()
    }

    fn digest(&self, text: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(text).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_secrets_are_not_looked_for() {
        let known = Known::new().unwrap();
        known.learn("a", b"1234567");
        known.learn("b", b"12345678");
        assert_eq!(known.find("0123456"), None);
        assert_eq!(known.find("a 12345678 b"), Some("b".to_owned()));
    }

    #[test]
    fn a_line_end_of_a_file_is_no_part_of_a_secret() {
        let known = Known::new().unwrap();
        known.learn("key", b"-- a key --\n");
        assert_eq!(known.find("{-- a key --}"), Some("key".to_owned()));
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_is_and_only_if_it_is_there(
            secrets in proptest::collection::vec("[a-c]{8,12}", 1..6), text in "[a-c]{0,60}",
        ) {
            let known = Known::new().unwrap();
            for secret in &secrets {
                known.learn(secret, secret.as_bytes());
            }
            let is_there = secrets.iter().any(|secret| text.contains(secret.as_str()));
            prop_assert_eq!(known.find(&text).is_some(), is_there);
            for secret in &secrets {
                let surrounded = format!("{text}{secret}{text}");
                prop_assert!(known.find(&surrounded).is_some());
            }
        }
    }
}
