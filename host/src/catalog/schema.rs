//! What the schema of an entry says about the server's configuration: defaults, and whether it is complete and right.
//!
//! Configuration holds credentials, so that a message names keys and what the schema expects, never what was found.
//! Schemas are hostile: patterns run in linear time, and references, with which a small schema could ask for endless
//! work, are not followed. A schema that cannot be used leaves the configuration unchecked, with a warning, as the
//! existing gateway leaves all of it.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use provisioning_core::text::one_line;
use serde_json::{Map, Value as Json};

use super::shape::join;

/// How many complaints about one server are shown.
const MAX_COMPLAINTS: usize = 5;
/// How many bytes the program of one pattern may take.
const MAX_PATTERN: usize = 1 << 20;
/// How many characters of a schema's own text are shown.
const SHOWN: usize = 100;

/// What is wrong with the configuration of a server, in the order of its schema.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// What the operator has to change.
    pub(super) complaints: Vec<String>,
    /// Schemas that cannot be used, and why.
    pub(super) unusable: Vec<String>,
}

/// Fills in the defaults of the schemas where the section says nothing.
pub(super) fn fill(schemas: &[Json], section: &mut Map<String, Json>) {
    schemas.iter().for_each(|schema| defaults(schema, section, true));
}

/// What becomes of a setting that nobody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unset {
    /// This stands for it.
    Default(Json),
    /// The server works without it: its schema says what is required, and this is not.
    Optional,
    /// Somebody has to make it.
    Needed,
}

/// What the schemas say of a setting that nobody made: a default first, then whether it is required.
pub(super) fn unset(schemas: &[Json], path: &[&str]) -> Unset {
    let said = || schemas.iter().filter_map(|schema| unset_in(schema, path));
    let default = said().find(|said| matches!(said, Unset::Default(_)));
    default.or_else(|| said().find(|said| *said == Unset::Needed)).or_else(|| said().next()).unwrap_or(Unset::Needed)
}

/// What one schema says; none if it does not say what is required.
fn unset_in(schema: &Json, path: &[&str]) -> Option<Unset> {
    let (first, rest) = path.split_first()?;
    let property = |key: &str| schema.get("properties").and_then(|properties| properties.get(key));
    let whole = path.join(".");
    let (key, below, rest) = match property(&whole) {
        Some(below) => (whole.as_str(), Some(below), Default::default()),
        None => (*first, property(first), rest),
    };
    let default = below.and_then(|below| below.get("default"));
    let default = rest.iter().fold(default, |value, key| value.and_then(|value| value.get(key)));
    if let Some(default) = default.filter(|default| !default.is_null()) {
        return Some(Unset::Default(default.clone()));
    }
    let required = schema.get("required").and_then(Json::as_array);
    match required.map(|required| required.iter().any(|name| name == key)) {
        Some(false) => Some(Unset::Optional),
        Some(true) if rest.is_empty() => Some(Unset::Needed),
        _ => below.filter(|_| !rest.is_empty()).and_then(|below| unset_in(below, rest)),
    }
}

/// Checks a section, without the defaults of its schemas. `name` is the section's, for messages.
pub(super) fn check(schemas: &[Json], section: &Map<String, Json>, name: &str) -> Findings {
    let mut findings = Findings::default();
    for schema in schemas {
        let validator = match validator(schema) {
            Ok(validator) => validator,
            Err(reason) => {
                findings.unusable.push(reason);
                continue;
            }
        };
        let mut section = without_empty(section);
        defaults(schema, &mut section, false);
        let instance = lenient(schema, Json::Object(section));
        let left = MAX_COMPLAINTS.saturating_sub(findings.complaints.len());
        findings.complaints.extend(validator.iter_errors(&instance).take(left).map(|error| complaint(&error, name)));
    }
    findings.complaints.dedup();
    findings
}

fn validator(schema: &Json) -> Result<Validator, String> {
    let mut schema = schema.clone();
    // Which draft it is makes no difference to what is used here, and its name none to anybody.
    if let Some(top) = schema.as_object_mut() {
        top.retain(|key, _| !matches!(key.as_str(), "$schema" | "$id" | "name"));
    }
    forget_unknown(&mut schema);
    if refers(&schema) {
        return Err("references (`$ref`) are not followed; write the schema out".to_owned());
    }
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
    options.build(&schema).map_err(|error| one_line(&error.to_string(), SHOWN))
}

/// Takes out of `required` what `properties` does not have. Real entries have such misspelt keys, and no template names
/// them: nobody could set them to any effect.
fn forget_unknown(schema: &mut Json) {
    let Some(Json::Object(properties)) = schema.get_mut("properties") else { return };
    let known: Vec<String> = properties.keys().cloned().collect();
    properties.values_mut().for_each(forget_unknown);
    if let Some(Json::Array(required)) = schema.get_mut("required") {
        required.retain(|name| known.iter().any(|known| name == known));
    }
}

/// True if something in the schema stands for another schema.
fn refers(schema: &Json) -> bool {
    const REFERENCES: [&str; 5] = ["$ref", "$dynamicRef", "$recursiveRef", "$schema", "$id"];
    match schema {
        Json::Object(map) => map.iter().any(|(key, below)| REFERENCES.contains(&key.as_str()) || refers(below)),
        Json::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

/// Puts defaults where nothing stands. A section below that is not there at all is made of its defaults if `all` are
/// wanted or if it must be there: otherwise it could be the one alternative too many.
fn defaults(schema: &Json, section: &mut Map<String, Json>, all: bool) {
    let required = |key: &str| {
        let required = schema.get("required").and_then(Json::as_array);
        required.is_some_and(|required| required.iter().any(|name| name == key))
    };
    for (key, schema) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        match section.get_mut(key) {
            Some(Json::Object(below)) => defaults(schema, below, all),
            Some(Json::Null) | None => {
                let mut value = schema.get("default").filter(|value| !value.is_null()).cloned();
                if value.is_none() && (all || required(key)) {
                    let mut below = Map::new();
                    defaults(schema, &mut below, all);
                    value = (!below.is_empty()).then_some(Json::Object(below));
                }
                section.extend(value.map(|value| (key.clone(), value)));
            }
            Some(_) => {}
        }
    }
}

/// The same without what is null, "" or an empty section: forms write these for what was not filled in.
fn without_empty(section: &Map<String, Json>) -> Map<String, Json> {
    let filled = |value: &Json| match value {
        Json::Null => None,
        Json::String(text) if text.is_empty() => None,
        Json::Object(below) => {
            let below = without_empty(below);
            (!below.is_empty()).then_some(Json::Object(below))
        }
        value => Some(value.clone()),
    };
    section.iter().filter_map(|(key, value)| Some((key.clone(), filled(value)?))).collect()
}

/// The value as the schema's type has it, where both read the same: `8080` for text, `"true"` for a boolean, one thing
/// for a list of it. All becomes text in the end, so there is no reason to insist.
fn lenient(schema: &Json, value: Json) -> Json {
    let wants = |kind: &str| match schema.get("type") {
        Some(Json::String(one)) => one == kind,
        Some(Json::Array(many)) => many.iter().any(|one| one == kind),
        _ => false,
    };
    match value {
        Json::Object(section) => {
            let properties = schema.get("properties");
            let below = |(key, value): (String, Json)| {
                let schema = properties.and_then(|properties| properties.get(&key)).unwrap_or(&Json::Null);
                let value = lenient(schema, value);
                (key, value)
            };
            Json::Object(section.into_iter().map(below).collect())
        }
        Json::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Json::Null);
            Json::Array(items.into_iter().map(|item| lenient(schema, item)).collect())
        }
        Json::Number(number) if wants("string") && !wants("number") && !wants("integer") => {
            Json::String(number.to_string())
        }
        Json::Bool(flag) if wants("string") && !wants("boolean") => Json::String(flag.to_string()),
        Json::String(text) if !wants("string") => {
            let read = serde_json::from_str(text.trim()).ok().filter(|value| match value {
                Json::Number(_) => wants("number") || wants("integer"),
                Json::Bool(_) => wants("boolean"),
                _ => false,
            });
            match read {
                Some(value) => value,
                None if wants("array") => lenient(schema, Json::Array(vec![Json::String(text)])),
                None => Json::String(text),
            }
        }
        value @ (Json::Number(_) | Json::Bool(_)) if wants("array") => lenient(schema, Json::Array(vec![value])),
        value => value,
    }
}

/// What is wrong and what to do, without the value.
fn complaint(error: &ValidationError<'_>, section: &str) -> String {
    let key = key(section, error.instance_path());
    let public = |value: &Json| match value {
        Json::String(text) => format!("`{}`", one_line(text, SHOWN)),
        value => format!("`{}`", one_line(&value.to_string(), SHOWN)),
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let missing = join(&key, property.as_str().unwrap_or_default());
            format!("`{missing}` is not set, and the server needs it")
        }
        ValidationErrorKind::Type { kind } => format!("`{key}` must be {}", types(kind)),
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().take(20).map(public).collect();
            format!("`{key}` must be one of {}", options.join(", "))
        }
        ValidationErrorKind::Constant { expected_value } => format!("`{key}` must be {}", public(expected_value)),
        ValidationErrorKind::Pattern { pattern } => {
            format!("`{key}` must match the pattern `{}`", one_line(pattern, SHOWN))
        }
        ValidationErrorKind::Minimum { limit } => format!("`{key}` must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("`{key}` must be at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("`{key}` must be more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("`{key}` must be less than {limit}"),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("`{key}` must be a multiple of {multiple_of}"),
        ValidationErrorKind::MinLength { limit } => format!("`{key}` must have at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("`{key}` must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("`{key}` must have at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("`{key}` must have at most {limit} items"),
        ValidationErrorKind::UniqueItems => format!("`{key}` must not have an item twice"),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let names: Vec<String> = unexpected.iter().take(5).map(|name| format!("`{}`", join(&key, name))).collect();
            format!("{} is not a setting of the server", names.join(", "))
        }
        ValidationErrorKind::AnyOf { context } => alternatives(&key, context, "at least one of"),
        ValidationErrorKind::OneOfNotValid { context } => alternatives(&key, context, "exactly one of"),
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            format!("`{key}` fits more than one of the alternatives that its schema has; keep one")
        }
        other => format!("`{key}` does not fit `{}` of its schema", other.keyword()),
    }
}

/// What the alternatives of a schema ask for, if all that is missing are keys.
fn alternatives(key: &str, context: &[Vec<ValidationError<'_>>], how_many: &str) -> String {
    let missing = |branch: &Vec<ValidationError<'_>>| {
        let names = branch.iter().map(|error| match error.kind() {
            ValidationErrorKind::Required { property } => {
                let above = self::key(key, error.instance_path());
                Some(format!("`{}`", join(&above, property.as_str().unwrap_or_default())))
            }
            _ => None,
        });
        names.collect::<Option<Vec<String>>>().map(|names| names.join(" with "))
    };
    match context.iter().take(10).map(missing).collect::<Option<Vec<String>>>() {
        Some(branches) if !branches.is_empty() => format!("{how_many} {} must be set", branches.join(", ")),
        _ => format!("`{key}` fits none of the {} alternatives that its schema has", context.len()),
    }
}

fn types(kind: &TypeKind) -> String {
    let word = |name: &str| match name {
        "string" => "text",
        "object" => "a section",
        "array" => "a list",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "nothing",
    };
    match kind {
        TypeKind::Single(one) => word(one.as_str()).to_owned(),
        TypeKind::Multiple(many) => many.iter().map(|one| word(one.as_str())).collect::<Vec<_>>().join(" or "),
    }
}

/// The key of a place in a section, such as `github.hosts[2].name`. Keys are the operator's, and bounded.
fn key(section: &str, path: &Location) -> String {
    let mut key = section.to_owned();
    for segment in path {
        key = match segment {
            LocationSegment::Property(name) => join(&key, &name),
            LocationSegment::Index(index) => format!("{key}[{index}]"),
        };
    }
    one_line(&key, 2 * SHOWN)
}

#[cfg(test)]
mod tests;
