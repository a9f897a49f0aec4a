//! Reading YAML and JSON into a tree that knows where each thing stands, so that every complaint has a line, a column
//! and a key. Scalars keep their text: `1.10` is `1.10` where text is wanted.
//!
//! JSON is read by the same parser, of whose language it is a part. Messages show keys and never values.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Map, Number, Value as Json};
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};
use thiserror::Error;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// How many things a file may hold once its aliases are followed.
const MAX_NODES: usize = 2_000_000;
/// How deep lists and maps may be nested.
const MAX_DEPTH: usize = 64;

/// Why a file cannot be read as what it should be.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("`{}` is larger than {} MiB; split it", path.display(), MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The content is wrong at a place.
    #[error("{}:{place}: {}{reason}", path.display(), key_prefix(key))]
    Content {
        /// The file.
        path: PathBuf,
        /// The place.
        place: Place,
        /// The key, such as `registry.github.env[2].name`; empty if it is not about one.
        key: String,
        /// What is wrong and what is expected.
        reason: String,
    },
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl From<Marker> for Place {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// Something in a file and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The text, and whether it stands plain, so that it may be a number, a boolean or null.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map in the file's order; keys are unique.
    Map(Vec<(String, Place, Node)>),
}

/// A complaint about the content, before it is known which file it is about.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) reason: String,
}

impl Complaint {
    pub(super) fn new(place: Place, key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place, key: key.into(), reason: reason.into() }
    }

    pub(super) fn in_file(self, path: &Path) -> FileError {
        FileError::Content { path: path.to_owned(), place: self.place, key: self.key, reason: self.reason }
    }
}

/// Reads a file, at most [`MAX_FILE_BYTES`].
pub(super) fn read_text(path: &Path) -> Result<String, FileError> {
    use std::io::Read;
    let fail = |source| FileError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Reads the one document of a text. An empty text is null.
pub(super) fn parse(text: &str) -> Result<Node, Complaint> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut document = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
            event if document.is_none() => document = Some(reader.node(event, span, 0)?),
            _ => return Err(Complaint::new(span.start.into(), "", "a second document begins here; keep one per file")),
        }
    }
    let empty = Content::Scalar { text: String::new(), plain: true };
    Ok(document.unwrap_or(Node { place: Place { line: 1, column: 1 }, content: empty }))
}

struct Reader<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    parser: I,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Complaint> {
        for event in self.parser.by_ref() {
            match event {
                Ok((Event::Comment(..), _)) => {}
                Ok(event) => return Ok(Some(event)),
                Err(error) => {
                    let reason =
                        format!("neither YAML nor JSON: {}; check indentation, quotes and colons", error.info());
                    return Err(Complaint::new((*error.marker()).into(), "", reason));
                }
            }
        }
        Ok(None)
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Complaint> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Complaint::new(
                place,
                "",
                format!("more than {MAX_NODES} values, aliases counted; use fewer aliases"),
            ));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Complaint> {
        let place = Place::from(span.start);
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(Complaint::new(place, "", format!("nested deeper than {MAX_DEPTH} levels; use fewer")));
        }
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
                (tagged(tag.as_deref(), text.into_owned(), style == ScalarStyle::Plain, place)?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Content::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Content::Map(self.map(depth)?), anchor),
            Event::Alias(anchor) => {
                let Some(mut node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Complaint::new(place, "", "this alias refers to itself; write the value out"));
                };
                self.count(node.size(), place)?;
                node.place = place;
                return Ok(node);
            }
            _ => return Err(Complaint::new(place, "", "a value is expected here")),
        };
        let node = Node { place, content };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Complaint> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Place, Node)>, Complaint> {
        let mut entries: Vec<(String, Place, Node)> = Vec::new();
        let mut merged: Vec<(String, Place, Node)> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let Content::Scalar { text, plain } = key.content else {
                return Err(Complaint::new(key.place, "", "a key must be text"));
            };
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span, depth + 1)?;
            if plain && text == "<<" {
                merged.extend(merge(value)?);
                continue;
            }
            if let Some(first) = seen.insert(text.clone(), key.place) {
                return Err(Complaint::new(key.place, text, format!("already set at {first}; set it once")));
            }
            entries.push((text, key.place, value));
        }
        for (key, place, value) in merged {
            if seen.insert(key.clone(), place).is_none() {
                entries.push((key, place, value));
            }
        }
        Ok(entries)
    }
}

/// A scalar, with the tags that say what it is: `!!str 5`, `!!int "5"`, `!!binary aGk=`.
fn tagged(tag: Option<&str>, text: String, plain: bool, place: Place) -> Result<Content, Complaint> {
    match tag {
        Some("str") => Ok(Content::Scalar { text, plain: false }),
        Some("int" | "float" | "bool" | "null") => Ok(Content::Scalar { text, plain: true }),
        Some("binary") => {
            let packed: String = text.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok();
            let wrong = || Complaint::new(place, "", "`!!binary` must be UTF-8 text in base64; write the text itself");
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
            Ok(Content::Scalar { text, plain: false })
        }
        _ => Ok(Content::Scalar { text, plain }),
    }
}

/// What `<<: *base` or `<<: [*a, *b]` adds.
fn merge(value: Node) -> Result<Vec<(String, Place, Node)>, Complaint> {
    match value.content {
        Content::Map(entries) => Ok(entries),
        Content::List(items) => {
            let maps: Vec<_> = items.into_iter().map(merge).collect::<Result<_, _>>()?;
            Ok(maps.into_iter().flatten().collect())
        }
        Content::Scalar { .. } => Err(Complaint::new(value.place, "<<", "a map to merge is expected")),
    }
}

impl Node {
    fn size(&self) -> usize {
        match &self.content {
            Content::Scalar { .. } => 1,
            Content::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Content::Map(entries) => 1 + entries.iter().map(|(_, _, node)| 1 + node.size()).sum::<usize>(),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if is_null(text))
    }

    /// The kind of thing, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.content {
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
            Content::Scalar { .. } => match self.to_json() {
                Json::Null => "nothing",
                Json::Bool(_) => "a boolean",
                Json::Number(_) => "a number",
                _ => "text",
            },
        }
    }

    /// The same as JSON. Numbers that JSON cannot write, such as `.nan`, become text.
    pub(super) fn to_json(&self) -> Json {
        match &self.content {
            Content::Scalar { text, plain: false } => Json::String(text.clone()),
            Content::Scalar { text, plain: true } => scalar(text),
            Content::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Content::Map(entries) => {
                Json::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A plain scalar by the core schema, with the octal numbers that the existing gateway also knows.
fn scalar(text: &str) -> Json {
    match text {
        _ if is_null(text) => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Json::String("NaN".to_owned()),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Json::String("+Inf".to_owned()),
        "-.inf" | "-.Inf" | "-.INF" => return Json::String("-Inf".to_owned()),
        _ => {}
    }
    integer(text).or_else(|| float(text)).map_or_else(|| Json::String(text.to_owned()), Json::Number)
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (radix, digits) = if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        (8, octal)
    } else if let Some(octal) = digits.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        (8, octal)
    } else {
        (10, digits)
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0i64.checked_sub_unsigned(size).map(Number::from) } else { Some(Number::from(size)) }
}

fn float(text: &str) -> Option<Number> {
    let number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.bytes().all(number) || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests;
