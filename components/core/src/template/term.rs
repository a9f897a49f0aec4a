//! What a template names: looking it up, and how it reads where text is needed.

use serde_json::{Map, Number, Value as Json};

use super::Scope;
use crate::value::{Origin, Segment, Value};

/// What a template yields before it becomes text.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// Nothing has this name.
    Missing,
    /// Null: empty, but there.
    Null,
    /// Text, a number, a boolean, a map or a secret.
    One(Item),
    /// A list.
    Many(Vec<Item>),
}

/// One thing as text.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// How it reads.
    pub(super) value: Value,
    /// True if JSON writes it without quotes: numbers, booleans, nested lists and maps.
    bare: bool,
}

impl Item {
    pub(super) fn new(value: Value) -> Self {
        Self { value, bare: false }
    }
}

impl Term {
    pub(super) fn text(text: &str) -> Self {
        Self::One(Item::new(Value::text(text)))
    }

    /// True if there is nothing in it: 0 and false are something.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Missing | Self::Null => true,
            Self::One(item) => item.value.is_empty(),
            Self::Many(items) => items.is_empty(),
        }
    }

    /// How it reads as one text. A list is JSON.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Missing | Self::Null => Value::default(),
            Self::One(item) => item.value.clone(),
            Self::Many(items) => {
                let mut segments = vec![Segment::Text("[".to_owned())];
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        segments.push(Segment::Text(",".to_owned()));
                    }
                    let quote = Segment::Text(if item.bare { "" } else { "\"" }.to_owned());
                    segments.push(quote.clone());
                    segments.extend(
                        item.value.segments().iter().map(
                            |segment| {
                                if item.bare { segment.clone() } else { escaped(segment) }
                            },
                        ),
                    );
                    segments.push(quote);
                }
                segments.push(Segment::Text("]".to_owned()));
                Value::from_segments(segments)
            }
        }
    }
}

/// A piece as it stands inside a JSON string. A secret's text is not known here and stays as it is.
fn escaped(segment: &Segment) -> Segment {
    let escape = |text: &str| {
        let quoted = Json::String(text.to_owned()).to_string();
        quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted).to_owned()
    };
    match segment {
        Segment::Text(text) => Segment::Text(escape(text)),
        Segment::Private { origin, name, text } => {
            Segment::Private { origin: *origin, name: name.clone(), text: escape(text).into() }
        }
        Segment::Secret(_) | Segment::ClusterKey { .. } | Segment::Stored { .. } => segment.clone(),
    }
}

/// Finds what a path names.
pub(super) fn look_up(path: &[&str], scope: &Scope<'_>) -> Term {
    let name = path.join(".");
    if scope.secrets.contains(&name) {
        return Term::One(Item::new(Value::secret(name)));
    }
    if let Some(found) = descend(scope.config, path) {
        return term(found, Origin::Config, &name);
    }
    // A section that exists answers for everything below it, set or not: otherwise the caller of a tool could
    // supply what the operator left out.
    let head = path.first().copied().unwrap_or_default();
    match scope.arguments {
        Some(arguments) if !scope.config.contains_key(head) => {
            descend(arguments, path).map_or(Term::Missing, |found| term(found, Origin::Argument, &name))
        }
        _ => Term::Missing,
    }
}

/// How many parts of a path may be read together as one key that contains dots.
const MAX_JOINED: usize = 8;

fn descend<'a>(map: &'a Map<String, Json>, path: &[&str]) -> Option<&'a Json> {
    let (first, rest) = path.split_first()?;
    let found = map.get(*first).and_then(|child| match (child, rest) {
        (child, []) => Some(child),
        (Json::Object(child), rest) => descend(child, rest),
        _ => None,
    });
    if found.is_some() || path.len() > MAX_JOINED {
        return found;
    }
    (2..=path.len()).find_map(|count| {
        let (key, rest) = path.split_at_checked(count)?;
        match (map.get(&key.join("."))?, rest) {
            (child, []) => Some(child),
            (Json::Object(child), rest) => descend(child, rest),
            _ => None,
        }
    })
}

fn term(json: &Json, origin: Origin, name: &str) -> Term {
    match json {
        Json::Null => Term::Null,
        Json::Array(items) => Term::Many(items.iter().map(|json| item(json, origin, name)).collect()),
        json => Term::One(item(json, origin, name)),
    }
}

fn item(json: &Json, origin: Origin, name: &str) -> Item {
    let (text, bare) = match json {
        Json::Null => (String::new(), false),
        Json::Bool(flag) => (flag.to_string(), true),
        Json::Number(number) => (number_text(number), true),
        Json::String(text) => (text.clone(), false),
        json => (json.to_string(), true),
    };
    Item { value: Value::private(origin, name, text), bare }
}

/// A number in full, with an exponent only where it would be very long.
fn number_text(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let Some(float) = number.as_f64() else { return number.to_string() };
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        };
    }
    format!("{float}")
}
