//! Which limit a guest had reached when it ended, in words: its name, its value, and who set it.

use std::collections::BTreeMap;

use provisioning_core::policy::{Limit, RuleRef};
use wasmtime::component::ResourceTableError;

use super::{Limits, Stop};

/// The limit that is behind an error, if one is. `refused` is what the guest was refused more of; an allocator then ends
/// it by a trap that does not tell.
pub(super) fn limit_behind(error: &wasmtime::Error, refused: Option<Limit>) -> Option<Limit> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Cancelled => None,
            Stop::GuestTime => Some(Limit::Time),
            Stop::HostCalls => Some(Limit::HostCalls),
            Stop::Containers => Some(Limit::Containers),
            Stop::ValueBytes => Some(Limit::ValueBytes),
        };
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Some(Limit::Handles);
    }
    // These errors of wasmtime have no types; `tests/sandbox.rs` and `tests/hostile_components.rs` have one of each.
    let text = error.root_cause().to_string();
    if text.starts_with("resource limit exceeded") {
        Some(Limit::Instances)
    } else if text.contains("fuel allocated for hostcalls") {
        Some(Limit::CopiedBytes)
    } else if text.contains("store handle limit exceeded") {
        Some(Limit::Handles)
    } else {
        refused
    }
}

/// What the limit is called and how high it is, and what changes that.
pub(super) fn describe(limit: Limit, limits: &Limits, ceilings: &BTreeMap<Limit, (u64, RuleRef)>) -> String {
    let count = |count: u64, what: &str| format!("{count} {what}");
    let value = match limit {
        Limit::Memory => bytes(limits.memory_bytes) + " in all memories together",
        Limit::TableElements => count(limits.table_elements as u64, "elements in all tables together"),
        Limit::Instances => count(limits.instances as u64, "core instances, tables and memories each"),
        Limit::Handles => count(limits.handles as u64, "handles at once"),
        Limit::CopiedBytes => bytes(limits.copied_bytes) + " copied by one host call",
        Limit::ValueBytes => bytes(limits.value_bytes) + " in values at once",
        Limit::Containers => count(limits.containers.into(), "containers"),
        Limit::Time => format!("{} ms of computing", limits.guest_time.as_millis()),
        Limit::HostCalls => count(limits.host_calls.into(), "host calls"),
        Limit::LogLines => count(limits.log_lines.into(), "lines"),
    };
    let name = limit.name();
    // A ceiling above the gateway's own limit has no effect.
    match ceilings.get(&limit).filter(|(most, _)| *most < own(limit)) {
        Some((_, rule)) => format!("limit `{name}`: {value}; `limits.{name}` of {rule} sets it"),
        None => format!(
            "limit `{name}`: {value}; that is the gateway's own, which `limits.{name}` of a policy can only lower"
        ),
    }
}

/// What the gateway itself sets, in the unit of policies.
fn own(limit: Limit) -> u64 {
    let own = Limits::default();
    match limit {
        Limit::Memory => own.memory_bytes as u64,
        Limit::TableElements => own.table_elements as u64,
        Limit::Instances => own.instances as u64,
        Limit::Handles => own.handles as u64,
        Limit::CopiedBytes => own.copied_bytes as u64,
        Limit::ValueBytes => own.value_bytes as u64,
        Limit::Containers => own.containers.into(),
        Limit::Time => u64::try_from(own.guest_time.as_millis()).unwrap_or(u64::MAX),
        Limit::HostCalls => own.host_calls.into(),
        Limit::LogLines => own.log_lines.into(),
    }
}

fn bytes(bytes: usize) -> String {
    const KI: usize = 1 << 10;
    const MI: usize = 1 << 20;
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(MI) => format!("{} MiB", bytes / MI),
        _ if bytes.is_multiple_of(KI) => format!("{} KiB", bytes / KI),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_its_name_its_value_and_who_set_it() {
        let own = Limits::default();
        assert_eq!(
            describe(Limit::Memory, &own, &BTreeMap::new()),
            "limit `memory`: 64 MiB in all memories together; that is the gateway's own, which `limits.memory` of a \
             policy can only lower"
        );
        let rule = RuleRef { name: "small".into(), file: "policy.yaml".into(), line: 7 };
        let ceilings = BTreeMap::from([(Limit::Time, (500, rule.clone())), (Limit::HostCalls, (1_000_000, rule))]);
        let limits = own.lowered(&ceilings);
        assert_eq!(
            describe(Limit::Time, &limits, &ceilings),
            "limit `time`: 500 ms of computing; `limits.time` of rule `small` (policy.yaml:7) sets it"
        );
        let calls = describe(Limit::HostCalls, &limits, &ceilings);
        assert!(calls.starts_with("limit `host-calls`: 10000 host calls; that is the gateway's own"), "{calls}");
    }

    #[test]
    fn sizes_have_the_largest_unit_that_is_exact() {
        assert_eq!(
            [0, 1, 1024, 1 << 20, (1 << 20) + 1].map(bytes),
            ["0 bytes", "1 bytes", "1 KiB", "1 MiB", "1048577 bytes"]
        );
    }
}
