//! What a component wants beside what it is granted.

use serde::Serialize;

use super::{Import, Inspection};
use crate::policy::grants::Grants;

/// Whether an import may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It needs no grant.
    Free,
    /// It is granted.
    Granted,
    /// It is not granted, so the component will not run.
    NotGranted,
    /// Nobody can grant it: this gateway does not have it.
    NotOffered,
}

/// Imports and grants side by side.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// All grants as they are written after `--grant`.
    pub granted: Vec<String>,
    /// Each import and whether it may be used, in the order of the imports.
    pub imports: Vec<(String, Status)>,
    /// Grants that would have to be added for the component to run.
    pub missing: Vec<String>,
    /// Grants of interfaces that the component does not import.
    pub unused: Vec<String>,
    /// Grants that let it leave what the catalog entry allows.
    pub beyond_the_entry: Vec<String>,
    /// Whether it has all that it imports.
    pub can_run: bool,
}

impl Standing {
    /// Whether it imports something that nobody can grant.
    pub fn is_hopeless(&self) -> bool {
        self.imports.iter().any(|(_, status)| *status == Status::NotOffered)
    }

    /// Compares what a component imports with what it is granted.
    pub fn of(inspection: &Inspection, grants: &Grants) -> Self {
        let reach = grants.reach();
        let status = |import: &Import| match &import.grant {
            _ if !import.offered => Status::NotOffered,
            None => Status::Free,
            Some(grant) if reach.contains(grant) => Status::Granted,
            Some(_) => Status::NotGranted,
        };
        let imports: Vec<(String, Status)> =
            inspection.imports.iter().map(|import| (import.name.clone(), status(import))).collect();
        let wanted: Vec<&String> = inspection.imports.iter().filter_map(|import| import.grant.as_ref()).collect();
        let mut missing: Vec<String> = Vec::new();
        for grant in wanted.iter().filter(|grant| !reach.contains(**grant)) {
            if !missing.contains(grant) {
                missing.push((*grant).clone());
            }
        }
        Self {
            unused: reach.iter().filter(|grant| !wanted.contains(grant)).cloned().collect(),
            can_run: imports.iter().all(|(_, status)| matches!(status, Status::Free | Status::Granted)),
            granted: grants.names(),
            beyond_the_entry: grants.beyond_the_entry(),
            imports,
            missing,
        }
    }
}
