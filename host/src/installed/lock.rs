//! The format of the lock file. `docs/provisioners.md` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::grants::Grants;

/// The version of the format.
const VERSION: u32 = 1;

/// All that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// What is installed, by name.
    pub provisioners: BTreeMap<String, Installed>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, provisioners: BTreeMap::new() }
    }
}

/// One installed provisioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// The SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Where it came from.
    pub origin: String,
    /// What it imports: interfaces, and their functions as `INTERFACE#FUNCTION`.
    pub imports: Vec<String>,
    /// What it is granted, each as it is written after `--grant`.
    #[serde(with = "written_out")]
    pub grants: Grants,
    /// Who agreed to that.
    pub consent: Consent,
}

/// Who agreed to something, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The name of the user, as the environment had it.
    pub by: String,
    /// The user's number, as the system had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The time, in UTC (RFC 3339).
    pub at: String,
}

impl Lock {
    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// What is wrong, with the place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if lock.version != VERSION {
            return Err(format!("its format has version {}, and this gateway reads version {VERSION}", lock.version));
        }
        for (name, installed) in &lock.provisioners {
            super::check_name(name).map_err(|error| error.to_string())?;
            // It becomes a part of a path.
            let digest = &installed.digest;
            if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("the digest of `{name}` is not 64 hexadecimal digits"));
            }
        }
        Ok(lock)
    }

    pub(super) fn to_text(&self) -> String {
        // Strings, numbers and maps by strings can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Grants as a list of texts.
mod written_out {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::policy::grants::Grants;

    pub(super) fn serialize<S: Serializer>(grants: &Grants, serializer: S) -> Result<S::Ok, S::Error> {
        grants.names().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grants, D::Error> {
        let mut all = Grants::default();
        for text in Vec::<String>::deserialize(deserializer)? {
            all.extend(text.parse().map_err(serde::de::Error::custom)?);
        }
        Ok(all)
    }
}
