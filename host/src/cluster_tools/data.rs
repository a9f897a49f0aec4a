//! The content of a ConfigMap or Secret, from a `.env` file or from JSON: read, checked, and never shown.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use provisioning_core::value::ObjectKind;
use provisioning_core::{cluster_key, env_file};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::needs::is_placeholder;

/// What all values of one object may hold together, in bytes, as the API server has it.
const MAX_DATA_BYTES: usize = 1 << 20;
/// The largest file that is read: quotes and comments take room as well.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// What stands for standard input.
const STDIN: &str = "-";

/// Values by key.
#[derive(Default)]
pub(super) struct Data {
    pub(super) values: BTreeMap<String, Zeroizing<String>>,
    /// Names whose value is still to be filled in, in their order.
    pub(super) skipped: Vec<String>,
}

impl Data {
    /// The variables of a `.env` file. Where a name stands twice, the last counts.
    ///
    /// # Errors
    /// If the file cannot be read or is none, or a name or the whole cannot be kept in an object.
    pub(super) fn from_env_file(path: &Path, kind: ObjectKind) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = read(path).with_context(|| format!("cannot read `{shown}`"))?;
        let pairs = env_file::parse(&text).with_context(|| format!("`{shown}`"))?;
        let mut last = BTreeMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            cluster_key(&pair.name).with_context(|| format!("`{shown}`: line {}{}", pair.line, hint(&pair.name)))?;
            last.insert(pair.name.as_str(), index);
        }
        let counting = pairs.iter().enumerate().filter(|(index, pair)| last.get(pair.name.as_str()) == Some(index));
        Self::collect(counting.map(|(_, pair)| (pair.name.clone(), pair.value.clone())), kind)
    }

    /// A JSON map of texts.
    ///
    /// # Errors
    /// If it is none, or a name or the whole cannot be kept in an object.
    pub(super) fn from_json(text: &str, kind: ObjectKind) -> anyhow::Result<Self> {
        let from_stdin = if text == STDIN { Some(read(Path::new(STDIN)).context("standard input")?) } else { None };
        let text = from_stdin.as_ref().map_or(text, |text| text.as_str());
        // The parser's own words for a map of texts would show what stands in place of one.
        let json: Json = serde_json::from_str(text)
            .map_err(|error| anyhow::anyhow!("line {}, column {}: this is not JSON", error.line(), error.column()))?;
        let Json::Object(map) = json else { bail!("a JSON map is expected: `{{\"key\": \"text\"}}`") };
        let mut pairs = Vec::new();
        for (key, value) in map {
            let key = cluster_key(&key)?.to_owned();
            let Json::String(text) = value else { bail!("`{key}` is no text; put its value in quotes") };
            pairs.push((key, Zeroizing::new(text)));
        }
        Self::collect(pairs, kind)
    }

    fn collect(pairs: impl IntoIterator<Item = (String, Zeroizing<String>)>, kind: ObjectKind) -> anyhow::Result<Self> {
        let mut data = Self::default();
        for (key, value) in pairs {
            // An empty secret is a mistake; an empty setting may be meant.
            if is_placeholder(&value) || (value.is_empty() && kind == ObjectKind::Secret) {
                data.skipped.push(key);
            } else {
                data.values.insert(key, value);
            }
        }
        data.check_size()?;
        Ok(data)
    }

    fn check_size(&self) -> anyhow::Result<()> {
        let total: usize = self.values.values().map(|value| value.len()).sum();
        if total <= MAX_DATA_BYTES {
            return Ok(());
        }
        let largest = self.values.iter().max_by_key(|(_, value)| value.len());
        let (key, length) = largest.map_or(("", 0), |(key, value)| (key.as_str(), value.len()));
        bail!(
            "the values have {total} bytes together, and one object holds {MAX_DATA_BYTES}; the largest is that of `{key}` \
             with {length}: shorten it, or let the server read it from a volume"
        )
    }

    /// The keys, in order.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).collect()
    }
}

/// What is likely meant by a name that is no key.
fn hint(name: &str) -> &'static str {
    if name.starts_with("export ") { ": leave out `export`" } else { "" }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    // As large as it can get at once: a buffer that moves leaves copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::new());
    if path.as_os_str() == STDIN {
        text.reserve(64 << 10);
        std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    } else {
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len().min(MAX_FILE_BYTES + 1);
        text.reserve(usize::try_from(length).unwrap_or(0) + 1);
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    }
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}
