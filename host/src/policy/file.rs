//! Policy files: their form, reading them with positions, and turning them into what `provisioning-core` evaluates.
//!
//! The form is these types: both the reader and the published JSON Schema come from them. What is not known, set to
//! nothing or no pattern is an error with its place: a slip must not loosen a policy.

mod compile;
mod form;
mod futile;

use std::fmt;
use std::path::Path;

use provisioning_core::policy::Policy;
use provisioning_core::text::one_line;
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy};
use thiserror::Error;

/// The longest file, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The line, counted from 1; 0 if it is about the file as a whole.
    pub line: u32,
    /// The column, counted from 1.
    pub column: u32,
    /// What is wrong and what to write.
    pub message: String,
}

impl Problem {
    /// As compilers write it.
    pub fn at(&self, file: &str, before: &str) -> String {
        format!("{file}:{}:{}: {before}{}", self.line, self.column, self.message)
    }
}

/// Why a file is no policy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// Everything that is wrong, in the order of the file; at least one.
    pub problems: Vec<Problem>,
}

impl PolicyError {
    pub(crate) fn whole(file: &Path, message: impl Into<String>) -> Self {
        let problem = Problem { line: 0, column: 0, message: message.into() };
        Self { file: file.display().to_string(), problems: vec![problem] }
    }

    /// A line for each problem, as compilers write them.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| match problem.line {
            0 => format!("{}: {}", self.file, problem.message),
            _ => problem.at(&self.file, ""),
        })
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("policy ")?;
        f.write_str(&self.lines().next().unwrap_or_default())?;
        match self.problems.len() {
            0 | 1 => Ok(()),
            more => write!(f, " (and {} more; `docker-mcp policy check` shows all)", more - 1),
        }
    }
}

/// A file that is a policy, and what is worth a look in it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it says.
    pub policy: Policy,
    /// What stands in it without any effect, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads the text of a policy file; `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<Policy, PolicyError> {
    check(text, file).map(|checked| checked.policy)
}

/// Like [`parse`], for those who want to know more.
///
/// # Errors
/// As for [`parse`].
pub fn check(text: &str, file: &Path) -> Result<Checked, PolicyError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        // What is merged in is easily overlooked.
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    if text.len() as u64 > MAX_BYTES {
        return Err(PolicyError::whole(file, format!("is larger than {} MiB; split it", MAX_BYTES >> 20)));
    }
    let form: form::File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        let (line, column) = place.map_or((1, 1), |place| (place.line(), place.column()));
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        // What the library advises is for programmers.
        let advice = ", set DuplicateKeyPolicy in Options if acceptable";
        let text = error.without_snippet().to_string().replace(advice, "; set it once");
        let message = format!("{}; `docker-mcp policy schema` has what there is", one_line(without_place(&text), 400));
        PolicyError {
            file: file.display().to_string(),
            problems: vec![Problem { line: number(line), column: number(column), message }],
        }
    })?;
    let sorted = |mut problems: Vec<Problem>| {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    };
    match compile::compile(form, &file.display().to_string()) {
        Ok(checked) => Ok(Checked { warnings: sorted(checked.warnings), ..checked }),
        Err(problems) => Err(PolicyError { file: file.display().to_string(), problems: sorted(problems) }),
    }
}

/// A key that is absent has no value: `null` is not one that could be written.
fn without_null_defaults(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(fields) => {
            fields.retain(|key, value| key != "default" || !value.is_null());
            fields.values_mut().for_each(without_null_defaults);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_null_defaults),
        _ => {}
    }
}

/// A parser's message without the place at its end, which is told apart from it.
fn without_place(mut text: &str) -> &str {
    while let Some((head, place)) = text.rsplit_once(" at line ") {
        let digits = place.trim_end_matches(')').split(", column ");
        if !digits.into_iter().all(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
            break;
        }
        text = head.strip_suffix(" (used").or_else(|| head.strip_suffix(" (defined")).unwrap_or(head);
    }
    text
}

/// The JSON Schema of policy files.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(form::File).to_value();
    without_null_defaults(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".to_owned(), serde_json::json!("docker-mcp policy"));
    }
    schema
}
