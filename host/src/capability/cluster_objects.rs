//! The `cluster-objects` interface: marks values as kept under keys of objects that belong to what the guest starts.
//!
//! Nothing is made here. A stored value still has its content, by which envelope and policies judge it; a cluster's
//! runtime makes the objects together with the pod, and runtimes without objects use the content.

use provisioning_core::value::{ObjectKind, Origin, Segment};
use provisioning_core::{Value, cluster_key};
use wasmtime::component::Resource;

use super::{Context, Failure};
use crate::sandbox::bindings::mcp_gateway::provisioning::cluster_objects::{self as wit, Entry, Host};
use crate::sandbox::bindings::mcp_gateway::provisioning::types::Error;

/// What remembering a key costs, besides its text.
const KEY_BYTES: usize = 64;

impl Host for Context {
    async fn store(&mut self, entries: Vec<Entry>) -> Result<Vec<Resource<Value>>, Failure> {
        self.enter()?;
        let mut kept = Vec::new();
        for entry in entries {
            let value = self.table.delete(entry.value)?;
            self.refund(value.held_bytes());
            let value = self.keep(entry.kind, &entry.key, &value)?;
            kept.push(self.push_value(value)?);
        }
        Ok(kept)
    }
}

impl Context {
    /// The value with everything in it stored that is neither plain text nor a reference already.
    fn keep(&mut self, kind: wit::ObjectKind, key: &str, value: &Value) -> Result<Value, Failure> {
        self.use_key(key)?;
        let runs = runs(value);
        let is_split = runs.iter().filter(|run| is_private(run)).count() > 1;
        let mut segments = Vec::new();
        let mut number = 0;
        for run in runs {
            if !is_private(&run) {
                segments.extend(run);
                continue;
            }
            number += 1;
            let content = Value::from_segments(run);
            let kind = object(kind, key, &content)?;
            let key = if is_split { format!("{key}.{number}") } else { key.to_owned() };
            if is_split {
                self.use_key(&key)?;
            }
            segments.push(Segment::Stored { kind, key, content });
        }
        Ok(Value::from_segments(segments))
    }

    /// Takes a key that this operation has not used yet.
    fn use_key(&mut self, key: &str) -> Result<(), Failure> {
        cluster_key(key).map_err(|error| Failure::Guest(Error::Invalid(error.to_string())))?;
        self.charge(key.len() + KEY_BYTES)?;
        match self.stored_keys.insert(key.to_owned()) {
            true => Ok(()),
            false => {
                let reason = format!("key `{key}` is used twice; give every value that is stored a key of its own");
                Err(Failure::Guest(Error::Invalid(reason)))
            }
        }
    }
}

/// The pieces of a value, cut before and after those that are references already.
fn runs(value: &Value) -> Vec<Vec<Segment>> {
    let is_reference = |segment: &Segment| matches!(segment, Segment::ClusterKey { .. } | Segment::Stored { .. });
    let mut runs: Vec<Vec<Segment>> = Vec::new();
    for segment in value.segments() {
        match runs.last_mut() {
            Some(run) if !is_reference(segment) && !run.first().is_some_and(is_reference) => run.push(segment.clone()),
            _ => runs.push(vec![segment.clone()]),
        }
    }
    runs
}

fn is_private(run: &[Segment]) -> bool {
    run.iter().any(|segment| matches!(segment, Segment::Private { .. } | Segment::Secret(_)))
}

/// The kind of object for some content.
fn object(asked: wit::ObjectKind, key: &str, content: &Value) -> Result<ObjectKind, Failure> {
    let is_argument = |segment: &Segment| matches!(segment, Segment::Private { origin: Origin::Argument, .. });
    match (asked, content.secrets().next()) {
        (wit::ObjectKind::Secret, _) | (wit::ObjectKind::Automatic, Some(_)) => Ok(ObjectKind::Secret),
        (wit::ObjectKind::Automatic, None) if content.segments().iter().any(is_argument) => Ok(ObjectKind::Secret),
        (wit::ObjectKind::Automatic | wit::ObjectKind::ConfigMap, None) => Ok(ObjectKind::ConfigMap),
        (wit::ObjectKind::ConfigMap, Some(secret)) => Err(Failure::Guest(Error::AccessDenied(format!(
            "secret `{secret}` would be kept in a ConfigMap, as `{key}`; store it as `secret` or `automatic`"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(runs: &[Vec<Segment>]) -> Vec<String> {
        runs.iter().map(|run| Value::from_segments(run.clone()).to_string()).collect()
    }

    #[test]
    fn a_value_is_cut_at_its_references() {
        let key = Segment::ClusterKey { kind: ObjectKind::Secret, object: "o".to_owned(), key: "k".to_owned() };
        let key = Value::from_segments([key]);
        let user = Value::private(Origin::Config, "s.user", "ann");
        let value = Value::concat([&Value::text("u="), &user, &key, &key, &Value::text("@h")]);
        let runs = runs(&value);
        assert_eq!(shown(&runs), ["u=<config:s.user>", "<secret-key:o/k>", "<secret-key:o/k>", "@h"]);
        assert_eq!(runs.iter().map(|run| is_private(run)).collect::<Vec<_>>(), [true, false, false, false]);
    }

    #[test]
    fn what_holds_a_secret_or_an_argument_goes_into_a_secret_and_never_into_a_config_map() {
        use wit::ObjectKind::{Automatic, ConfigMap, Secret};
        let config = Value::private(Origin::Config, "s.user", "ann");
        let argument = Value::private(Origin::Argument, "text", "hello");
        let mixed = Value::concat([&config, &Value::secret("s.token")]);
        for (asked, content, expected) in [
            (Automatic, &config, Some(ObjectKind::ConfigMap)),
            (Automatic, &argument, Some(ObjectKind::Secret)),
            (Automatic, &mixed, Some(ObjectKind::Secret)),
            (Secret, &config, Some(ObjectKind::Secret)),
            (ConfigMap, &config, Some(ObjectKind::ConfigMap)),
            (ConfigMap, &mixed, None),
        ] {
            assert_eq!(object(asked, "k", content).ok(), expected, "{asked:?} {content}");
        }
    }
}
