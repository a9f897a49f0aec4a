//! What policies demand of the audit log.

use std::sync::Arc;

use super::decision::RuleRef;
use super::{Listed, Policies};

/// What one file demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditDemand {
    /// The line.
    pub line: u32,
    /// Nothing may run without a log.
    pub required: bool,
    /// Where it is kept: a normalised absolute path, or `~/` and a path below the home directory.
    pub directory: Option<Listed<String>>,
    /// How many bytes of it are kept at least.
    pub keep_bytes: Option<Listed<u64>>,
}

/// What all files demand, each with the rule that does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditDemands {
    /// Nothing may run without a log.
    pub required: Option<RuleRef>,
    /// Where it is kept.
    pub directory: Option<(String, RuleRef)>,
    /// How many bytes of it are kept at least.
    pub keep_bytes: Option<(u64, RuleRef)>,
}

impl Policies {
    /// What the files demand of the audit log.
    ///
    /// # Errors
    /// If two of them demand different directories: no log could be in both.
    pub fn audit(&self) -> Result<AuditDemands, String> {
        let name: Arc<str> = Arc::from("audit");
        let mut all = AuditDemands::default();
        let demands = self.files.iter().filter_map(|policy| Some((policy, policy.audit.as_ref()?)));
        for (policy, demand) in demands {
            let at = |line| policy.at(line, &name);
            if demand.required && all.required.is_none() {
                all.required = Some(at(demand.line));
            }
            if let Some(listed) = &demand.directory {
                match &all.directory {
                    Some((known, rule)) if *known != listed.pattern => {
                        return Err(format!(
                            "the audit log cannot be both in `{known}`, as {rule} demands, and in `{}`, as {} demands; agree on one",
                            listed.pattern,
                            at(listed.line)
                        ));
                    }
                    Some(_) => {}
                    None => all.directory = Some((listed.pattern.clone(), at(listed.line))),
                }
            }
            if let Some(listed) = &demand.keep_bytes
                && all.keep_bytes.as_ref().is_none_or(|(most, _)| *most < listed.pattern)
            {
                all.keep_bytes = Some((listed.pattern, at(listed.line)));
            }
        }
        Ok(all)
    }
}
