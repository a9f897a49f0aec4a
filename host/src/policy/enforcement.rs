//! What holds for the operations of one process, beyond the grants of its component.

use std::collections::BTreeMap;
use std::sync::Arc;

use provisioning_core::Value;
use provisioning_core::policy::{Decision, Limit, Policies, RuleRef, Who};

use super::bind_mounts::BindPolicy;
use crate::sandbox::Limits;

/// Is told of every decision, in the order in which they are taken.
pub trait DecisionSink: Send + Sync {
    /// A decision; `server` is the one that it is about, if it is about one.
    fn decided(&self, server: Option<&str>, decision: &Decision);
}

/// The policies, who is told of decisions, and which directories may be mounted.
#[derive(Clone, Default)]
pub struct Enforcement {
    /// The policies.
    pub policies: Arc<Policies>,
    /// Who is told; nobody by default.
    pub sink: Option<Arc<dyn DecisionSink>>,
    /// The rules for directories of the host. Without them every runtime applies its own.
    pub binds: Option<Arc<BindPolicy>>,
    /// The namespace of the cluster that containers run in, if they run in one.
    pub namespace: Option<String>,
}

impl Enforcement {
    /// Tells of decisions and returns the first that denies, if one does.
    ///
    /// # Errors
    /// The first that denies.
    pub fn all(&self, server: Option<&str>, decisions: Vec<Decision>) -> Result<(), Decision> {
        if let Some(sink) = &self.sink {
            for decision in &decisions {
                sink.decided(server, decision);
            }
        }
        decisions.into_iter().find(|decision| !decision.is_allowed()).map_or(Ok(()), Err)
    }
}

impl Limits {
    /// The limits, lowered to these ceilings. Nothing raises one.
    #[must_use]
    pub fn lowered(mut self, ceilings: &BTreeMap<Limit, (u64, RuleRef)>) -> Self {
        let size = |own: usize, most: u64| own.min(usize::try_from(most).unwrap_or(usize::MAX));
        let count = |own: u32, most: u64| own.min(u32::try_from(most).unwrap_or(u32::MAX));
        for (limit, (most, _)) in ceilings {
            match limit {
                Limit::Memory => self.memory_bytes = size(self.memory_bytes, *most),
                Limit::TableElements => self.table_elements = size(self.table_elements, *most),
                Limit::Instances => self.instances = size(self.instances, *most),
                Limit::Handles => self.handles = size(self.handles, *most),
                Limit::CopiedBytes => self.copied_bytes = size(self.copied_bytes, *most),
                Limit::ValueBytes => self.value_bytes = size(self.value_bytes, *most),
                Limit::Containers => self.containers = count(self.containers, *most),
                Limit::Time => self.guest_time = self.guest_time.min(std::time::Duration::from_millis(*most)),
                Limit::HostCalls => self.host_calls = count(self.host_calls, *most),
                Limit::LogLines => self.log_lines = count(self.log_lines, *most),
            }
        }
        self
    }
}

/// Decides about the address of a remote server: the secrets and configuration in it and in its headers, and the
/// host. Which that is must be certain although the text of a secret in it is not known here.
pub fn remote(policies: &Policies, who: Who<'_>, url: &Value, headers: &[(String, Value)]) -> Vec<Decision> {
    let values = std::iter::once(url).chain(headers.iter().map(|(_, value)| value));
    let mut decisions = policies.holding(who).values(values);
    decisions.push(match authority(url) {
        Some((host, port)) => policies.holding(who).host(&host, port),
        None => policies.holding(who).unknown_host(&url.to_string()),
    });
    decisions
}

/// The host and port of an address, if they are certain.
fn authority(url: &Value) -> Option<(String, Option<u16>)> {
    use provisioning_core::Segment;
    let mut known = String::new();
    let mut complete = true;
    for segment in url.segments() {
        match segment {
            Segment::Text(text) => known.push_str(text),
            Segment::Private { text, .. } => known.push_str(text),
            Segment::Secret(_) | Segment::ClusterKey { .. } | Segment::Stored { .. } => {
                complete = false;
                break;
            }
        }
    }
    let read = |text: &str| {
        let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()))
    };
    let found = read(&known)?;
    // If the known part ends inside of the authority, what follows could still change it.
    let closed = || read(&format!("{known}@elsewhere.invalid:1")).is_some_and(|other| other == found);
    (complete || closed()).then_some(found)
}

#[cfg(test)]
mod tests {
    use provisioning_core::value::Origin;

    use super::*;

    #[test]
    fn a_host_is_certain_only_if_no_secret_can_change_it() {
        let url = |before: &str, after: &str| {
            authority(&Value::concat([&Value::text(before), &Value::secret("s"), &Value::text(after)]))
        };
        let host = |name: &str, port| Some((name.to_owned(), Some(port)));
        assert_eq!(url("https://a.example/x?key=", ""), host("a.example", 443));
        assert_eq!(url("https://A.example:8443/", "@b"), host("a.example", 8443));
        assert_eq!(url("https://a.example?", ""), host("a.example", 443));
        for (before, after) in [
            ("https://", "/x"),
            ("https://a.example", "/x"),
            ("https://a.example:8", "/x"),
            ("https://user:", "@a.example/"),
            ("", ""),
            ("ftp://a.example/", ""),
        ] {
            assert_eq!(url(before, after), None, "{before}");
        }
        let private = Value::concat([
            &Value::text("https://"),
            &Value::private(Origin::Config, "s.host", "evil.example/"),
            &Value::text(".good.example/"),
        ]);
        assert_eq!(authority(&private), host("evil.example", 443));
        assert_eq!(authority(&Value::text("https://0x7f.1/")), host("127.0.0.1", 443));
    }
}
