//! Catalog templates: `{{server.key|function}}` over configuration and arguments, and `$VAR` expansion.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use thiserror::Error;

/// What templates may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The configuration: a section per server.
    pub config: &'a Map<String, Json>,
    /// The names of the secrets that the entry declares. A template that names one yields that secret.
    pub secrets: &'a BTreeSet<String>,
    /// The arguments of the tool call, for ephemeral tools. They come before configuration.
    pub arguments: Option<&'a Map<String, Json>>,
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

/// tmp
pub fn evaluate(_e: &str, _s: &Scope) -> Result<crate::Value, TemplateError> {
    Ok(crate::Value::text(_e))
}
/// tmp
pub fn evaluate_list(_e: &[String], _s: &Scope) -> Result<Vec<crate::Value>, TemplateError> {
    Ok(vec![])
}
/// tmp
pub fn evaluate_each(_e: &[String], _s: &Scope) -> Result<Vec<(String, Vec<crate::Value>)>, TemplateError> {
    Ok(vec![])
}
/// tmp
pub fn expand_variables(v: &crate::Value, _l: &dyn Fn(&str) -> Option<crate::Value>) -> crate::Value {
    v.clone()
}
