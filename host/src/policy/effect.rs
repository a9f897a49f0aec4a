//! What the policies leave of a component's grants, and which rule takes away what. For showing; what decides is
//! asked again at each place.

use provisioning_core::policy::{Decision, Policies, RuleRef, Who};
use serde::Serialize;

use super::grants::Grants;

/// Grants as the policies leave them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// Why the component must not run at all, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<Decision>,
    /// Interfaces and WASI packages that it may use.
    pub left: Vec<String>,
    /// Those that it is granted and may not use.
    pub taken: Vec<Decision>,
    /// What bounds how far it may leave the catalog entry, besides its grants: each of these must allow it too.
    pub bounded: Vec<Bounded>,
    /// Ceilings of its limits.
    pub limits: Vec<Capped>,
}

/// A file that bounds how far a component may leave the catalog entry.
#[derive(Clone, Debug, Serialize)]
pub struct Bounded {
    /// The most that it leaves, as written after `--grant`.
    pub grants: Vec<String>,
    /// What says so.
    pub rule: RuleRef,
}

/// A limit that a policy lowers.
#[derive(Clone, Debug, Serialize)]
pub struct Capped {
    /// Its name in a policy.
    pub limit: &'static str,
    /// The ceiling; milliseconds or bytes where it is not a number of things.
    pub most: u64,
    /// What says so.
    pub rule: RuleRef,
}

impl Effect {
    /// What the policies leave a component of these grants, whichever server it deploys.
    pub fn of(grants: &Grants, policies: &Policies, digest: &str, builtin: Option<&str>) -> Self {
        let who = Who { digest, builtin, server: None, kind: None };
        let taken: Vec<Decision> = grants
            .reach()
            .iter()
            .map(|grant| policies.interface(who, grant))
            .filter(|decision| !decision.is_allowed())
            .collect();
        // Without grants of this kind there is nothing to bound.
        let bounds = if grants.beyond_the_entry().is_empty() { Vec::new() } else { policies.bounds(who) };
        Self {
            denied: Some(policies.component(who)).filter(|decision| !decision.is_allowed()),
            left: grants.clone().within(policies, who).reach(),
            taken,
            bounded: bounds
                .into_iter()
                .map(|(bounds, rule)| {
                    let grants = Grants { bounds, ..Grants::default() }.beyond_the_entry();
                    Bounded { grants, rule }
                })
                .collect(),
            limits: policies
                .limits(who)
                .into_iter()
                .map(|(limit, (most, rule))| Capped { limit: limit.name(), most, rule })
                .collect(),
        }
    }

    /// Whether the policies leave everything as it is granted.
    pub fn is_nothing(&self) -> bool {
        self.denied.is_none() && self.taken.is_empty() && self.bounded.is_empty() && self.limits.is_empty()
    }

    /// What is taken away, a line for each.
    pub fn lines(&self) -> Vec<String> {
        let denied = self.denied.iter().map(|decision| format!("it does not run: {decision}"));
        let taken = self.taken.iter().map(|decision| format!("without `{}`: {decision}", decision.subject.name));
        let bounded = self.bounded.iter().map(|bounded| {
            let most = if bounded.grants.is_empty() { "not at all".to_owned() } else { bounded.grants.join(", ") };
            format!("beyond the catalog at most: {most} ({})", bounded.rule)
        });
        let limits = self.limits.iter().map(|capped| {
            let unit = if capped.limit == "time" { " ms" } else { "" };
            format!("`{}` at most {}{unit} ({})", capped.limit, capped.most, capped.rule)
        });
        denied.chain(taken).chain(bounded).chain(limits).collect()
    }
}
