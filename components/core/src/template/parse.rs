//! Cutting an expression into plain text and templates. Knows the syntax and nothing of what is named.

use super::{MAX_TEMPLATE_BYTES, TemplateError, shortened};

/// A piece of an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text outside of templates, as it stands.
    Text(&'a str),
    /// A template.
    Template {
        /// What it names, cut at the dots; never empty.
        path: Vec<&'a str>,
        /// The functions, left to right.
        calls: Vec<Call<'a>>,
    },
}

/// A function call of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    First,
    Last,
    Into,
    Volume,
    VolumeTarget,
    Or(&'a str),
    MountAs(&'a str),
}

pub(super) fn parse(expression: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let fail = |reason: String| TemplateError { template: shortened(expression), reason };
    if expression.len() > MAX_TEMPLATE_BYTES {
        return Err(fail(format!("is longer than {MAX_TEMPLATE_BYTES} bytes; write a shorter one")));
    }
    let mut pieces = Vec::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inner, tail)) = after.split_once("}}") else {
            return Err(fail("`{{` is never closed; add `}}`".to_owned()));
        };
        // The closing braces of an inner template would be taken for those of the outer one.
        if inner.contains("{{") && tail.split("{{").next().is_some_and(|close| close.contains("}}")) {
            return Err(fail("a template cannot stand inside another; write them one after the other".to_owned()));
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(template(inner).map_err(fail)?);
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn template(inner: &str) -> Result<Piece<'_>, String> {
    let mut parts = inner.split('|');
    let path = parts.next().unwrap_or_default().split('.').map(str::trim).collect();
    let calls = parts.filter(|part| !part.trim().is_empty()).map(call).collect::<Result<_, _>>()?;
    Ok(Piece::Template { path, calls })
}

fn call(text: &str) -> Result<Call<'_>, String> {
    // Only the name is trimmed: a default may end in blanks.
    let (name, argument) = match text.split_once(':') {
        Some((name, argument)) => (name.trim(), Some(argument)),
        None => (text.trim(), None),
    };
    match (name, argument) {
        ("first", None) => Ok(Call::First),
        ("last", None) => Ok(Call::Last),
        ("into", None) => Ok(Call::Into),
        ("volume", None) => Ok(Call::Volume),
        ("volume-target", None) => Ok(Call::VolumeTarget),
        ("or", Some(default)) => Ok(Call::Or(default)),
        ("mount_as", Some(target)) => Ok(Call::MountAs(target.trim())),
        ("or", None) => Err("`or` needs a default; write `or:DEFAULT`".to_owned()),
        ("mount_as", None) => Err("`mount_as` needs a path; write `mount_as:/PATH` or `mount_as:/PATH:ro`".to_owned()),
        ("first" | "last" | "into" | "volume" | "volume-target", Some(_)) => {
            Err(format!("`{name}` takes no value; write `{name}` alone"))
        }
        _ => Err(format!(
            "there is no function `{}`; use one of `first`, `last`, `into`, `volume`, `volume-target`, `or:DEFAULT`, \
             `mount_as:/PATH`",
            shortened(name)
        )),
    }
}
