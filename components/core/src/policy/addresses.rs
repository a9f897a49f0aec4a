//! Denied addresses, for those who connect: which address a name stands for is known only then.

use std::net::IpAddr;

use super::decision::{Decision, RuleRef, Subject, SubjectKind};
use super::evaluate::Holding;
use super::patterns::HostPattern;
use crate::host::Host;

/// The addresses and networks that rules deny. A name that leads to one is denied with it; whether a name is allowed is
/// decided before, by [`Holding::host`].
#[derive(Clone, Debug, Default)]
pub struct DeniedAddresses(Vec<(HostPattern, RuleRef)>);

impl DeniedAddresses {
    /// Whether none is denied.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a connection to this address must not be made, which a name was found to stand for; none if it may.
    pub fn refusal(&self, name: &str, address: IpAddr, port: Option<u16>) -> Option<Decision> {
        let host = Host::Address(address.to_canonical());
        let (pattern, rule) = self.0.iter().find(|(pattern, _)| pattern.touches(&host, port))?;
        let shown = port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let reason = format!(
            "leads to an address that is denied by {rule}: `{pattern}` in `hosts.deny`; it can only be allowed by removing \
             that entry"
        );
        Some(Decision::denied(Subject::new(SubjectKind::Host, shown), Some(rule.clone()), reason))
    }
}

impl Holding<'_> {
    /// The addresses that are denied.
    pub fn denied_addresses(&self) -> DeniedAddresses {
        let listed = self.listed().flat_map(|(policy, rule)| {
            let denied = rule.hosts.deny.iter().filter(|listed| listed.pattern.is_of_addresses());
            denied.map(move |listed| (listed.pattern.clone(), policy.at(listed.line, &rule.name)))
        });
        DeniedAddresses(listed.collect())
    }
}
