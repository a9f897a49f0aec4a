//! Taking typed things out of a tree: each step knows its key, what is expected is said, what is not known is noted.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::yaml::{Complaint, Content, Node, Place};

/// Something odd in a file that does not stop anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) text: String,
}

/// A map of the file, from which known keys are taken one by one.
pub(super) struct Fields {
    path: String,
    place: Place,
    entries: Vec<(String, Place, Node)>,
}

/// A node and the key that leads to it.
pub(super) struct At {
    pub(super) path: String,
    pub(super) node: Node,
}

impl At {
    pub(super) fn new(path: impl Into<String>, node: Node) -> Self {
        Self { path: path.into(), node }
    }

    pub(super) fn complain(&self, expected: &str) -> Complaint {
        Complaint::new(
            self.node.place,
            self.path.clone(),
            format!("{expected} is expected, found {}", self.node.kind()),
        )
    }

    /// A map; null is an empty one.
    pub(super) fn fields(self) -> Result<Fields, Complaint> {
        let complaint = self.complain("a map");
        let place = self.node.place;
        match self.node.content {
            Content::Map(entries) => Ok(Fields { path: self.path, place, entries }),
            _ if self.node.is_null() => Ok(Fields { path: self.path, place, entries: Vec::new() }),
            _ => Err(complaint),
        }
    }

    /// A list; null is an empty one.
    pub(super) fn items(self) -> Result<Vec<At>, Complaint> {
        let complaint = self.complain("a list");
        match self.node.content {
            Content::List(items) => {
                let path = self.path;
                Ok(items.into_iter().enumerate().map(|(at, node)| At::new(format!("{path}[{at}]"), node)).collect())
            }
            _ if self.node.is_null() => Ok(Vec::new()),
            _ => Err(complaint),
        }
    }

    /// Whatever it is.
    pub(super) fn into_json(self) -> Json {
        self.node.to_json()
    }

    /// Text; a number or boolean is the text that stands in the file.
    pub(super) fn text(self) -> Result<String, Complaint> {
        let complaint = self.complain("text");
        match self.node.content {
            Content::Scalar { text, .. } => Ok(text),
            _ => Err(complaint),
        }
    }

    pub(super) fn flag(self) -> Result<bool, Complaint> {
        self.node.to_json().as_bool().ok_or_else(|| self.complain("`true` or `false`"))
    }
}

impl Fields {
    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if a map stands behind the key.
    pub(super) fn is_map(&self, key: &str) -> bool {
        self.entries.iter().any(|(own, _, node)| own == key && matches!(node.content, Content::Map(_)))
    }

    /// A map below a key; null is an empty one.
    pub(super) fn below(&mut self, key: &str) -> Result<Option<Fields>, Complaint> {
        self.take(key).map(At::fields).transpose()
    }

    /// The text behind a key, which stays.
    pub(super) fn peek(&self, key: &str) -> Option<String> {
        self.entries.iter().find_map(|(own, _, node)| match &node.content {
            Content::Scalar { text, .. } if own == key && !node.is_null() => Some(text.clone()),
            _ => None,
        })
    }

    /// Notes something about a key that is there.
    pub(super) fn note(&self, key: &str, text: &str, notes: &mut Vec<Note>) {
        if let Some((_, place, _)) = self.entries.iter().find(|(own, ..)| own == key) {
            notes.push(Note { place: *place, key: join(&self.path, key), text: text.to_owned() });
        }
    }

    /// True if the key is there, even with nothing behind it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(own, ..)| own == key)
    }

    /// Every entry, where the keys are names.
    pub(super) fn named(self) -> Vec<(String, At)> {
        let path = self.path;
        self.entries.into_iter().map(|(key, _, node)| (key.clone(), At::new(join(&path, &key), node))).collect()
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn take(&mut self, key: &str) -> Option<At> {
        let index = self.entries.iter().position(|(own, _, _)| own == key)?;
        let (_, _, node) = self.entries.remove(index);
        (!node.is_null()).then(|| At::new(join(&self.path, key), node))
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Complaint> {
        self.take(key).map(At::text).transpose()
    }

    /// Text that must be there and not be empty.
    pub(super) fn required(&mut self, key: &str) -> Result<String, Complaint> {
        let missing = Complaint::new(self.place, self.path.clone(), format!("`{key}` is missing; add `{key}: ...`"));
        self.text(key)?.filter(|text| !text.is_empty()).ok_or(missing)
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>, Complaint> {
        self.list(key, At::text)
    }

    pub(super) fn list<T>(
        &mut self,
        key: &str,
        read: impl FnMut(At) -> Result<T, Complaint>,
    ) -> Result<Vec<T>, Complaint> {
        let items = self.take(key).map_or_else(|| Ok(Vec::new()), At::items)?;
        items.into_iter().map(read).collect()
    }

    /// Every key with its list of texts.
    pub(super) fn all_texts(self) -> Result<BTreeMap<String, Vec<String>>, Complaint> {
        let named = self.named().into_iter();
        named.map(|(name, at)| Ok((name, at.items()?.into_iter().map(At::text).collect::<Result<_, _>>()?))).collect()
    }

    pub(super) fn text_map(&mut self, key: &str) -> Result<BTreeMap<String, String>, Complaint> {
        let Some(at) = self.take(key) else { return Ok(BTreeMap::new()) };
        at.fields()?.named().into_iter().map(|(name, at)| Ok((name, at.text()?))).collect()
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Complaint> {
        self.take(key).map(At::flag).transpose()
    }

    pub(super) fn json(&mut self, key: &str) -> Option<Json> {
        self.take(key).map(|at| at.node.to_json())
    }

    pub(super) fn json_map(&mut self, key: &str) -> Result<Option<serde_json::Map<String, Json>>, Complaint> {
        let Some(at) = self.take(key) else { return Ok(None) };
        match at.node.to_json() {
            Json::Object(map) => Ok(Some(map)),
            _ => Err(at.complain("a map")),
        }
    }

    /// Notes every key that was not taken, except those that are known to mean nothing here.
    pub(super) fn finish(self, ignored: &[&str], notes: &mut Vec<Note>) {
        for (key, place, _) in self.entries {
            if !ignored.contains(&key.as_str()) {
                let text = "unknown key, ignored; check its spelling".to_owned();
                notes.push(Note { place, key: join(&self.path, &key), text });
            }
        }
    }
}

/// A key below another. A name with dots is quoted, so that the path can be read back.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = if key.contains(['.', '[', ' ']) { format!("\"{key}\"") } else { key.to_owned() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
