//! Catalog templates: `{{server.key|function}}` over configuration, secrets and arguments, and `$VAR` expansion.
//!
//! Evaluation keeps provenance: what a template pulls in stays marked as private or as a secret, and is never
//! evaluated or expanded a second time. It deliberately reads neither the process environment nor a secret's text.
//!
//! The measured behaviour of the existing gateway is followed, except where it loses or mangles text. There:
//! - Braces outside a template stay (it drops them), white space and line breaks inside a template are trimmed.
//! - An unknown function, a function without its `:value`, a template inside a template and one that is never
//!   closed are errors (it ignores them). Blanks around a function's name do not matter.
//! - A lone number or boolean in a list is its text (it prints `<int Value>`), numbers are written in full
//!   (it prints `1e+06`), null is empty (it prints `<nil>`), and a list or map where text is needed is JSON.
//! - In a list, a template that names nothing adds nothing; it adds an empty argument. `or:[a,b]` is a list
//!   also when the key is missing.
//! - A key that itself contains dots is found. `C:/dir` and `\\host\share` are Windows paths like `C:\dir`.
//! - A volume with an unset part is left out; it stops the whole server.

mod functions;
mod parse;
mod term;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::value::Value;
use parse::Piece;
use term::{Item, Term};

pub use variables::expand_variables;

/// The longest template that is evaluated, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// What templates may name. A declared secret comes first, then a section of the configuration, then arguments,
/// so that the caller of a tool can neither replace nor supply what the operator configures.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The configuration: a section per server, see [`section_name`].
    pub config: &'a Map<String, Json>,
    /// The names of the secrets that the entry declares. A template that names one yields that secret.
    pub secrets: &'a BTreeSet<String>,
    /// The arguments of the tool call, for ephemeral tools. Pass on only those that the tool declares.
    pub arguments: Option<&'a Map<String, Json>>,
    /// What stands for a template that names exactly this path of the configuration and calls no function: a reference
    /// to where the text is, if it is not to be read here.
    pub references: Option<&'a BTreeMap<String, Value>>,
}

/// Why a template is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("template `{template}`: {reason}")]
pub struct TemplateError {
    /// The template's text, from the catalog.
    pub template: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// The name of the configuration section that templates of a server name: dots become underscores.
pub fn section_name(server: &str) -> String {
    server.replace('.', "_")
}

/// True if the text holds a template.
pub fn is_template(text: &str) -> bool {
    text.split_once("{{").is_some_and(|(_, rest)| rest.contains("}}"))
}

/// Evaluates an expression to one value: an environment variable, a user, an address, a header. What is missing
/// is empty; a list or map is written as JSON.
///
/// # Errors
/// If the expression is malformed or calls a function that does not exist.
pub fn evaluate(expression: &str, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    let parts = terms(expression, scope)?;
    let texts: Vec<Value> = parts.iter().map(|part| part.term.to_value()).collect();
    Ok(Value::concat(&texts))
}

/// Evaluates a command line. An expression that is one list is spread; one that names nothing adds nothing.
///
/// # Errors
/// As for [`evaluate`].
pub fn evaluate_list(expressions: &[String], scope: &Scope<'_>) -> Result<Vec<Value>, TemplateError> {
    let mut values = Vec::new();
    for expression in expressions {
        values.extend(spread(expression, scope)?);
    }
    Ok(values)
}

/// Evaluates volumes, each with the template that it came from. Volumes that come out empty are left out, and so
/// are those of which a template is empty: `{{server.dir}}:/data` is no volume while `server.dir` is not set.
///
/// # Errors
/// As for [`evaluate`].
pub fn evaluate_each(expressions: &[String], scope: &Scope<'_>) -> Result<Vec<(String, Vec<Value>)>, TemplateError> {
    expressions
        .iter()
        .map(|expression| {
            let unset = terms(expression, scope)?.iter().any(|part| part.is_template && part.term.is_empty());
            let values = if unset { Vec::new() } else { spread(expression, scope)? };
            Ok((expression.clone(), values.into_iter().filter(|value| !value.is_empty()).collect()))
        })
        .collect()
}

/// The paths that an expression names, without functions: `server.key`, `github.token`.
///
/// # Errors
/// As for [`evaluate`].
pub fn paths(expression: &str) -> Result<Vec<String>, TemplateError> {
    Ok(uses(expression)?.into_iter().map(|named| named.path).collect())
}

/// One template of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// What it names: `server.key`, `github.token`.
    pub path: String,
    /// True if it calls no function.
    pub is_plain: bool,
    /// True if it says what stands for it where nothing has the name.
    pub has_default: bool,
}

/// The templates of an expression, in order.
///
/// # Errors
/// As for [`evaluate`].
pub fn uses(expression: &str) -> Result<Vec<Use>, TemplateError> {
    let used = |piece| match piece {
        Piece::Text(_) => None,
        Piece::Template { path, calls } => Some(Use {
            path: path.join("."),
            is_plain: calls.is_empty(),
            has_default: calls.iter().any(|call| matches!(call, parse::Call::Or(_))),
        }),
    };
    Ok(parse::parse(expression)?.into_iter().filter_map(used).collect())
}

struct Part {
    is_template: bool,
    term: Term,
}

fn terms(expression: &str, scope: &Scope<'_>) -> Result<Vec<Part>, TemplateError> {
    let fail = |reason| TemplateError { template: shortened(expression), reason };
    let mut parts = Vec::new();
    for piece in parse::parse(expression)? {
        parts.push(match piece {
            Piece::Text(text) => Part { is_template: false, term: Term::text(text) },
            Piece::Template { path, calls } => {
                let reference =
                    scope.references.filter(|_| calls.is_empty()).and_then(|known| known.get(&path.join(".")));
                let mut term = match reference {
                    Some(value) => Term::One(Item::new(value.clone())),
                    None => term::look_up(&path, scope),
                };
                for call in &calls {
                    term = functions::apply(call, term).map_err(fail)?;
                }
                Part { is_template: true, term }
            }
        });
    }
    Ok(parts)
}

/// What an expression adds to a list.
fn spread(expression: &str, scope: &Scope<'_>) -> Result<Vec<Value>, TemplateError> {
    let parts = terms(expression, scope)?;
    match parts.as_slice() {
        [Part { term: Term::Missing, .. }] => Ok(Vec::new()),
        [Part { term: Term::Many(items), .. }] => Ok(items.iter().map(|item| item.value.clone()).collect()),
        parts => {
            let texts: Vec<Value> = parts.iter().map(|part| part.term.to_value()).collect();
            Ok(vec![Value::concat(&texts)])
        }
    }
}

/// The beginning of a text, for messages.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
