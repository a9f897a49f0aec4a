//! Inspection of components: total on every input, and what it shows is fit for a terminal.

use std::fmt::Write as _;

use crate::inspect::{Difference, Standing, inspect};
use crate::policy::grants::Grants;

/// The bytes of a component, or of anything else.
pub fn component(data: &[u8]) {
    let inspection = match inspect(data) {
        Ok(inspection) => inspection,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty() && !shown.contains(char::is_control), "{shown:?}");
            return;
        }
    };
    let standing = Standing::of(&inspection, &Grants::builtin_docker());
    assert_eq!(standing.imports.len(), inspection.imports.len(), "each import has a status");
    let difference = Difference::between(&inspection, &inspection);
    assert!(difference.same_bytes && !difference.wants_something_new(), "a component differs from itself");
    let mut shown = String::new();
    let functions = |functions: &[crate::inspect::Function]| -> String {
        functions.iter().fold(String::new(), |mut all, function| {
            let _ = write!(all, "{}{}", function.name, function.signature.as_deref().unwrap_or_default());
            all
        })
    };
    for import in &inspection.imports {
        shown += &import.name;
        shown += &import.capability;
        shown.extend(import.grant.as_deref());
        shown += &functions(&import.functions);
        shown.extend(import.types.iter().map(String::as_str));
    }
    for export in &inspection.exports {
        shown += &export.name;
        shown += &functions(&export.functions);
        shown.extend(export.types.iter().map(String::as_str));
    }
    for fit in &inspection.worlds {
        shown.extend(fit.problems.iter().map(String::as_str));
    }
    shown.extend(inspection.warnings.iter().map(String::as_str));
    assert!(!shown.contains(char::is_control), "a name could drive a terminal: {shown:?}");
    assert!(serde_json::to_string(&inspection).is_ok());
}
