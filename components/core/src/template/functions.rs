//! The functions of templates.

use super::parse::Call;
use super::term::{Item, Term};
use crate::value::{Segment, Value};

/// Applies a function. An error is the reason alone.
pub(super) fn apply(call: &Call<'_>, term: Term) -> Result<Term, String> {
    Ok(match call {
        Call::First => pick(term, |items| items.into_iter().next()),
        Call::Last => pick(term, |items| items.into_iter().next_back()),
        Call::Into => match term {
            Term::Missing | Term::Null => Term::Many(Vec::new()),
            Term::One(item) => Term::Many(vec![item]),
            Term::Many(items) => Term::Many(items),
        },
        Call::Volume => each(term, |value| {
            let target = container_path(&value)?;
            Ok(Value::concat([&value, &Value::text(":"), &target]))
        })?,
        Call::VolumeTarget => each(term, |value| container_path(&value))?,
        Call::Or(default) if term.is_empty() => {
            let inside = default.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match inside.map(str::trim) {
                Some("") => Term::Many(Vec::new()),
                Some(list) => {
                    Term::Many(list.split(',').map(|element| Item::new(Value::text(element.trim()))).collect())
                }
                None => Term::text(default),
            }
        }
        Call::Or(_) => term,
        Call::MountAs(target) => match pick(term, |items| items.into_iter().next()) {
            Term::One(item) if !item.value.is_empty() => {
                let target = Value::text(format!(":{target}"));
                Term::One(Item::new(Value::concat([&item.value, &target])))
            }
            other => other,
        },
    })
}

/// The element of a list, or the thing itself.
fn pick(term: Term, choose: impl FnOnce(Vec<Item>) -> Option<Item>) -> Term {
    match term {
        Term::Many(items) => choose(items).map_or(Term::Null, Term::One),
        other => other,
    }
}

/// Changes every element that is not empty.
fn each(term: Term, change: impl Fn(Value) -> Result<Value, String>) -> Result<Term, String> {
    let apply = |item: Item| {
        let value = if item.value.is_empty() { item.value } else { change(item.value)? };
        Ok::<_, String>(Item::new(value))
    };
    Ok(match term {
        Term::One(item) => Term::One(apply(item)?),
        Term::Many(items) => Term::Many(items.into_iter().map(apply).collect::<Result<_, _>>()?),
        other => other,
    })
}

/// The path inside a container for a path of the host. Keeps where the text came from.
fn container_path(value: &Value) -> Result<Value, String> {
    match value.segments() {
        [Segment::Text(text)] => Ok(Value::text(unix_path(text))),
        [Segment::Private { origin, name, text }] => Ok(Value::private(*origin, name.clone(), unix_path(text))),
        segments if segments.iter().any(|segment| matches!(segment, Segment::Secret(_))) => {
            Err("a secret cannot be a path; name a configuration value".to_owned())
        }
        // Already put together by another function: nothing in it is a path of the host alone.
        _ => Ok(value.clone()),
    }
}

/// `C:\a b` and `C:/a b` become `/C/a b`, `\\host\share` becomes `/host/share`; everything else is a Unix path already.
fn unix_path(path: &str) -> String {
    if let Some(share) = path.strip_prefix(r"\\") {
        return format!("/{}", share.replace('\\', "/"));
    }
    let mut characters = path.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some(drive), Some(':'), Some('\\' | '/')) if drive.is_ascii_alphabetic() => {
            format!("/{drive}/{}", characters.as_str().replace('\\', "/"))
        }
        _ => path.to_owned(),
    }
}
