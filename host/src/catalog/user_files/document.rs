//! Changes to the text of a YAML or JSON document that leave alone what they are not about.
//!
//! `yaml-edit` and `jsonc-parser` change the text. They are not trusted with it: the result is read by the parser that
//! the rest of the gateway uses, and must be what was wanted, with every comment still there that is not about the
//! changed entry itself. Otherwise nothing is changed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::{Map, Value as Json, json};
use thiserror::Error;
use yaml_edit::{Document, Mapping};

use crate::catalog::yaml::{self, Complaint, Content, FileError, Node, Place};

/// One change to a document whose top is a map.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Gives the key that the path leads to this value. What is missing on the way is made.
    Set(Vec<String>, Json),
    /// Gives the key that the path leads to what stands in another document: its text, and the path there.
    Copy(Vec<String>, String, Vec<String>),
    /// Removes the key that the path leads to, if it is there.
    Remove(Vec<String>),
}

/// Why a document cannot be changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// The document cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The change would damage something else.
    #[error(
        "`{}` cannot be changed at `{key}` without harm to the rest of it; nothing was written, change it by hand",
        path.display()
    )]
    Unfaithful {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// Reads a document. What the names say is JSON must be strict JSON, because others read it as that.
pub(super) fn parse(text: &str, path: &Path) -> Result<Node, FileError> {
    if path.extension().is_some_and(|extension| extension == "json") && !text.trim().is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
            let place = Place { line: error.line(), column: error.column() };
            Complaint::new(place, "", "this is not JSON; correct it").in_file(path)
        })?;
    }
    yaml::parse(text).map_err(|complaint| complaint.in_file(path))
}

/// Makes changes one after the other; `path` is for messages.
pub(super) fn edit(text: &str, path: &Path, changes: &[Change]) -> Result<String, EditError> {
    changes.iter().try_fold(text.to_owned(), |mut text, change| {
        let mut before = parse(&text, path)?;
        let keys = match change {
            Change::Set(keys, _) | Change::Copy(keys, ..) | Change::Remove(keys) => keys.as_slice(),
        };
        check_maps(&before, keys).map_err(|complaint| complaint.in_file(path))?;
        if let Change::Copy(..) = change
            && lift(&before, keys, &Json::Null).0 != keys
        {
            // What is copied needs a place to stand in, in the style of a file rather than of an empty `{}`.
            text = edit(&text, path, &[Change::Set(keys.to_vec(), json!({ "copied": "" }))])?;
            before = parse(&text, path)?;
        }
        let wanted = match change {
            Change::Set(_, value) => Some(value.clone()),
            Change::Copy(_, source, from) => {
                Some(parse(source, path).ok().and_then(|top| Some(at(&top, from)?.to_json())).unwrap_or_default())
            }
            Change::Remove(_) => None,
        };
        if at(&before, keys).map(Node::to_json) == wanted {
            return Ok(text);
        }
        let document = Text { text: &text, path, top: &before, json: is_json(&text, path) };
        document
            .ways(keys, change, wanted)
            .into_iter()
            .find_map(|way| document.go(&way))
            .ok_or_else(|| EditError::Unfaithful { path: path.to_owned(), key: keys.join(".") })
    })
}

/// A document that is to be changed.
struct Text<'a> {
    text: &'a str,
    path: &'a Path,
    top: &'a Node,
    json: bool,
}

/// One way to make a change.
enum Way {
    /// Put a value.
    Put(Vec<String>, Json),
    /// Remove items of a list, by their places, and add others at its end.
    Items(Vec<String>, Vec<usize>, Vec<Json>, Json),
    /// Put what stands in another document as it stands there, comments and all.
    Graft(Vec<String>, String, Vec<String>),
    /// Remove a key.
    Drop(Vec<String>),
}

impl Way {
    fn keys(&self) -> &[String] {
        match self {
            Self::Put(keys, _) | Self::Items(keys, ..) | Self::Graft(keys, ..) | Self::Drop(keys) => keys,
        }
    }
}

impl Text<'_> {
    /// The ways to make a change, the one that keeps most first.
    fn ways(&self, keys: &[String], change: &Change, wanted: Option<Json>) -> Vec<Way> {
        let Some(wanted) = wanted else { return vec![Way::Drop(keys.to_vec())] };
        let mut ways = Vec::new();
        // What is missing from here on is made as a whole, so that it does not take on the style of an empty `{}`.
        let (outer, value) = lift(self.top, keys, &wanted);
        if !self.json && outer == keys {
            if let Change::Copy(_, source, from) = change {
                ways.push(Way::Graft(keys.to_vec(), source.clone(), from.clone()));
            }
            ways.extend(self.items(keys, &wanted));
        }
        ways.push(Way::Put(outer.to_vec(), value));
        ways
    }

    /// A list that only loses items and gets others at its end.
    fn items(&self, keys: &[String], wanted: &Json) -> Option<Way> {
        let (Content::List(old), Json::Array(new)) = (&at(self.top, keys)?.content, wanted) else { return None };
        let old: Vec<Json> = old.iter().map(Node::to_json).collect();
        let gone = old.iter().enumerate().filter(|(_, item)| !new.contains(item)).map(|(index, _)| index);
        let added = new.iter().filter(|item| !old.contains(item)).cloned();
        Some(Way::Items(keys.to_vec(), gone.collect(), added.collect(), wanted.clone()))
    }

    /// The changed text, if it is faithful.
    fn go(&self, way: &Way) -> Option<String> {
        // A parser that panics on an odd file has failed like any other.
        let changed = catch_unwind(AssertUnwindSafe(|| match self.json {
            true => change_json(self.text, way),
            false => change_yaml(self.text, self.top, way),
        }));
        let mut after = changed.ok().flatten()?;
        if self.text.contains("\r\n") && !self.text.replace("\r\n", "").contains('\n') {
            after = after.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        let found = parse(&after, self.path).ok()?;
        let grafted = match way {
            Way::Graft(_, source, from) => Some(at(&parse(source, self.path).ok()?, from)?.clone()),
            _ => None,
        };
        let arrived = |found: Option<&Node>| match (way, found) {
            (Way::Drop(_), found) => found.is_none(),
            (Way::Put(_, value) | Way::Items(.., value), Some(found)) => found.to_json() == *value,
            (Way::Graft(..), Some(found)) => grafted.as_ref().is_some_and(|source| same(source, found)),
            (_, None) => false,
        };
        let own = own_lines(self.top, way.keys(), self.text.lines().count());
        let faithful = (!self.json || is_json(&after, self.path))
            && agrees(Some(self.top), Some(&found), way.keys(), &arrived)
            && (self.json || keeps_comments(self.text, &after, &own));
        faithful.then_some(after)
    }
}

/// Everything that a path goes through must be a map.
fn check_maps(top: &Node, keys: &[String]) -> Result<(), Complaint> {
    let mut node = Some(top);
    for (depth, key) in keys.iter().enumerate() {
        let Some(inner) = node.filter(|node| !node.is_null()) else { return Ok(()) };
        let Content::Map(entries) = &inner.content else {
            let place = keys.get(..depth).unwrap_or_default().join(".");
            return Err(Complaint::new(inner.place, place, format!("a map is expected, found {}", inner.kind())));
        };
        node = entry(entries, key);
    }
    Ok(())
}

fn at<'a>(top: &'a Node, keys: &[String]) -> Option<&'a Node> {
    keys.iter().try_fold(top, |node, key| match &node.content {
        Content::Map(entries) => entry(entries, key),
        _ => None,
    })
}

/// Sets the outermost key whose map is missing or empty instead of the key itself.
fn lift<'a>(top: &Node, keys: &'a [String], value: &Json) -> (&'a [String], Json) {
    let is_empty = |node: Option<&Node>| match node.map(|node| &node.content) {
        None => true,
        Some(Content::Map(entries)) => entries.is_empty(),
        Some(_) => node.is_some_and(Node::is_null),
    };
    let depth = (1..keys.len()).find(|depth| is_empty(at(top, keys.get(..*depth).unwrap_or_default())));
    let (kept, made) = keys.split_at(depth.unwrap_or(keys.len()));
    let wrap = |value: Json, key: &String| Json::Object(Map::from_iter([(key.clone(), value)]));
    (kept, made.iter().rev().fold(value.clone(), wrap))
}

/// Whether a text is JSON and has to stay it. Only files with that name may be empty.
fn is_json(text: &str, path: &Path) -> bool {
    let named = path.extension().is_some_and(|extension| extension == "json");
    named || (text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn change_json(text: &str, way: &Way) -> Option<String> {
    let root = CstRootNode::parse(text, &ParseOptions::default()).ok()?;
    let (last, above) = way.keys().split_last()?;
    let mut object: CstObject = root.object_value_or_create()?;
    for key in above {
        object = object.object_value(key)?;
    }
    match (object.get(last), way) {
        (Some(property), Way::Put(_, value)) => property.set_value(json_input(value)),
        (None, Way::Put(_, value)) => drop(object.append(last, json_input(value))),
        (Some(property), Way::Drop(_)) => property.remove(),
        _ => return None,
    }
    let mut changed = root.to_string();
    if text.is_empty() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    Some(changed)
}

fn json_input(value: &Json) -> CstInputValue {
    match value {
        Json::Null => CstInputValue::Null,
        Json::Bool(flag) => CstInputValue::Bool(*flag),
        Json::Number(number) => CstInputValue::Number(number.to_string()),
        Json::String(text) => CstInputValue::String(text.clone()),
        Json::Array(items) => CstInputValue::Array(items.iter().map(json_input).collect()),
        Json::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), json_input(value))).collect())
        }
    }
}

fn change_yaml(text: &str, top: &Node, way: &Way) -> Option<String> {
    let (last, above) = way.keys().split_last()?;
    if let (true, Way::Put(_, value)) = (top.is_null(), way) {
        // Comments at most: there is nothing to change, so the entry goes below them.
        let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let entry = Json::Object(Map::from_iter([(last.clone(), value.clone())]));
        return Some(format!("{text}{separator}{}", serde_saphyr::to_string(&entry).ok()?));
    }
    let document = Document::from_str(text).ok()?;
    let mapping = inner(&document, above)?;
    let key = last.as_str();
    match way {
        Way::Drop(_) => drop(mapping.remove(key)),
        Way::Items(_, gone, added, _) => {
            let list = mapping.get_sequence(key)?;
            for index in gone.iter().rev() {
                list.remove(*index);
            }
            for item in added {
                list.push(Document::from_str(&serde_saphyr::to_string(item).ok()?).ok()?.as_scalar()?);
            }
        }
        // Taken from the text of a document of its own, written by the serializer that quotes what needs it.
        Way::Put(_, value) => {
            let source = Document::from_str(&serde_saphyr::to_string(value).ok()?).ok()?;
            match (source.as_mapping(), source.as_sequence(), source.as_scalar()) {
                (Some(map), ..) => mapping.set(key, map),
                (_, Some(list), _) => mapping.set(key, list),
                (_, _, Some(scalar)) => mapping.set(key, scalar),
                _ => return None,
            }
        }
        Way::Graft(_, source, from) => {
            mapping.set(key, inner(&Document::from_str(source).ok()?, from)?);
        }
    }
    Some(document.to_string())
}

/// The map that a path leads to.
fn inner(document: &Document, keys: &[String]) -> Option<Mapping> {
    keys.iter().try_fold(document.as_mapping()?, |mapping, key| mapping.get_mapping(key.as_str()))
}

/// Whether a document is the one from before, except for the key that the path leads to, of which `arrived` judges.
fn agrees(
    before: Option<&Node>,
    found: Option<&Node>,
    keys: &[String],
    arrived: &dyn Fn(Option<&Node>) -> bool,
) -> bool {
    let Some((key, rest)) = keys.split_first() else { return arrived(found) };
    let (Some(before), Some(found)) = (entries(before), entries(found)) else { return false };
    let others = |entries: &'_ [(String, Place, Node)]| -> Vec<(String, Node)> {
        entries.iter().filter(|(own, ..)| own != key).map(|(own, _, node)| (own.clone(), node.clone())).collect()
    };
    let (one, other) = (others(before), others(found));
    one.len() == other.len()
        && one.iter().zip(&other).all(|((a, one), (b, other))| a == b && same(one, other))
        && agrees(entry(before, key), entry(found, key), rest, arrived)
}

fn entry<'a>(entries: &'a [(String, Place, Node)], key: &str) -> Option<&'a Node> {
    entries.iter().find(|(own, ..)| own == key).map(|(_, _, node)| node)
}

/// The entries of a map; what is missing or null has none.
fn entries(node: Option<&Node>) -> Option<&[(String, Place, Node)]> {
    match node.map(|node| &node.content) {
        Some(Content::Map(entries)) => Some(entries),
        None => Some(&[]),
        Some(_) => node.filter(|node| node.is_null()).map(|_| &[][..]),
    }
}

/// Whether two things are the same to the letter, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.content, &other.content) {
        (Content::Scalar { text: a, plain: p }, Content::Scalar { text: b, plain: q }) => a == b && p == q,
        (Content::List(a), Content::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Content::Map(a), Content::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, _, a), (l, _, b))| k == l && same(a, b))
        }
        _ => false,
    }
}

/// The lines, from 0, of the entry that a path leads to, and its column, from 1: its own comments may go with it.
fn own_lines(top: &Node, keys: &[String], lines: usize) -> (Range<usize>, usize) {
    let mut node = top;
    let (mut start, mut end, mut column) = (0, lines, 0);
    for key in keys {
        let Content::Map(entries) = &node.content else { return (0..0, 0) };
        let Some(index) = entries.iter().position(|(own, ..)| own == key) else { return (0..0, 0) };
        let line = |index: usize| entries.get(index).map(|(_, place, _)| place.line.saturating_sub(1));
        start = line(index).unwrap_or(start);
        end = line(index + 1).filter(|next| *next > start).unwrap_or(end).min(end.max(start + 1));
        if let Some((_, place, inner)) = entries.get(index) {
            column = place.column;
            node = inner;
        }
    }
    (start..end, column)
}

/// Whether every comment is still there, apart from those of the changed entry itself: behind its words, or alone on
/// a line and further in than the entry. Others may be about what follows.
fn keeps_comments(before: &str, after: &str, (own, column): &(Range<usize>, usize)) -> bool {
    let mut left: Vec<&str> = after.lines().filter_map(comment).collect();
    before.lines().enumerate().all(|(number, line)| {
        let Some(text) = comment(line) else { return true };
        if let Some(at) = left.iter().position(|kept| *kept == text) {
            left.swap_remove(at);
            return true;
        }
        let indent = line.chars().take_while(|character| character.is_whitespace()).count();
        own.contains(&number) && (indent >= *column || !line.trim_start().starts_with('#'))
    })
}

/// What looks like a comment in a line.
fn comment(line: &str) -> Option<&str> {
    let begins = |at: &usize| line.get(..*at).is_some_and(|before| !before.ends_with(|c: char| !c.is_whitespace()));
    let at = line.match_indices('#').map(|(at, _)| at).find(begins)?;
    line.get(at..).map(str::trim_end)
}

#[cfg(test)]
mod tests;
