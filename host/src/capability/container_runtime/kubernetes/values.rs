//! From values to a container's environment and arguments, without any private text: what is kept in an object becomes
//! a reference to its key, and a mixture of text and references becomes `$(NAME)` of a variable that refers to it.
//!
//! Kubernetes replaces `$(NAME)` in variables, commands and arguments and reads `$$` as `$`; text is written so that it
//! comes out as it was.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, SecretKeySelector};
use provisioning_core::value::ObjectKind;
use provisioning_core::{Segment, Value};

use crate::capability::container_runtime::RuntimeError;

/// What the names of variables begin with that only help others.
const HELPER: &str = "MCP_GATEWAY_VALUE_";

/// A key of an object. Without the object's name it is a key of the server's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    kind: ObjectKind,
    object: Option<String>,
    key: String,
}

enum Piece {
    Text(String),
    Reference(Reference),
}

/// What a container is given.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// Its variables, each after those that it refers to.
    pub(super) environment: Vec<EnvVar>,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// What the server's own objects hold: the content of each key.
    pub(super) stored: BTreeMap<(ObjectKind, String), Value>,
}

/// Translates the variables and arguments of a container whose own objects have this name.
pub(super) fn translate(
    own: &str,
    environment: &[(String, Value)],
    arguments: &[Value],
) -> Result<Translated, RuntimeError> {
    let mut names = Names::new(own, environment)?;
    let mut exact = Vec::new();
    let mut mixed = Vec::new();
    let mut stored = BTreeMap::new();
    for (name, value) in environment {
        let pieces = pieces(value, &mut stored)?;
        match pieces.as_slice() {
            [Piece::Reference(reference)] => exact.push(variable(name, reference, own)),
            _ => mixed.push(EnvVar { name: name.clone(), value: Some(names.text(&pieces)), value_from: None }),
        }
    }
    let mut written = Vec::with_capacity(arguments.len());
    for value in arguments {
        written.push(names.text(&pieces(value, &mut stored)?));
    }
    let mut environment = exact;
    environment.extend(names.helpers);
    environment.extend(mixed);
    Ok(Translated { environment, arguments: written, stored })
}

/// Text as Kubernetes has to be given it, to come out as it is.
pub(super) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// Takes a value apart, and notes what of it the server's own objects hold.
fn pieces(value: &Value, stored: &mut BTreeMap<(ObjectKind, String), Value>) -> Result<Vec<Piece>, RuntimeError> {
    let mut pieces = Vec::new();
    for segment in value.segments() {
        pieces.push(match segment {
            Segment::Text(text) => Piece::Text(text.clone()),
            Segment::ClusterKey { kind, object, key } => {
                Piece::Reference(Reference { kind: *kind, object: Some(object.clone()), key: key.clone() })
            }
            Segment::Stored { kind, key, content } => {
                check_key(key)?;
                let before = stored.entry((*kind, key.clone())).or_insert_with(|| content.clone());
                if before != content {
                    return Err(RuntimeError::Conflict(format!(
                        "two different values are to be kept under key `{key}`; a provisioner stores each under a key of its \
                         own"
                    )));
                }
                Piece::Reference(Reference { kind: *kind, object: None, key: key.clone() })
            }
            Segment::Secret(_) | Segment::Private { .. } => {
                return Err(RuntimeError::Invalid(format!(
                    "`{value}` would stand in the pod's specification, where it can be read; a provisioner for clusters \
                     imports `cluster-objects` and stores it first"
                )));
            }
        });
    }
    Ok(pieces)
}

fn check_key(key: &str) -> Result<(), RuntimeError> {
    let fits = key.len() <= 253
        && !key.is_empty()
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match fits {
        true => Ok(()),
        false => Err(RuntimeError::Invalid(format!(
            "`{}` cannot be a key of an object in a cluster; use letters, digits, `-`, `_` and `.`",
            key.escape_debug()
        ))),
    }
}

/// A variable that is exactly what an object has under a key.
fn variable(name: &str, reference: &Reference, own: &str) -> EnvVar {
    let object = reference.object.as_deref().unwrap_or(own).to_owned();
    let (key, optional) = (reference.key.clone(), Some(false));
    let source = match reference.kind {
        ObjectKind::Secret => EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { key, name: object, optional }),
            ..EnvVarSource::default()
        },
        ObjectKind::ConfigMap => EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector { key, name: object, optional }),
            ..EnvVarSource::default()
        },
    };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// Which variable stands for which reference.
struct Names<'a> {
    own: &'a str,
    taken: BTreeSet<&'a str>,
    known: BTreeMap<Reference, String>,
    helpers: Vec<EnvVar>,
}

impl<'a> Names<'a> {
    fn new(own: &'a str, environment: &'a [(String, Value)]) -> Result<Self, RuntimeError> {
        let mut names = Self { own, taken: BTreeSet::new(), known: BTreeMap::new(), helpers: Vec::new() };
        for (name, value) in environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(RuntimeError::Invalid(format!(
                    "environment variable `{}` has no valid name; leave out `=` and null characters",
                    name.escape_debug()
                )));
            }
            names.taken.insert(name);
            // A name with other signs would not be found in `$(NAME)`.
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            let mut ignored = BTreeMap::new();
            if let [Piece::Reference(reference)] = pieces(value, &mut ignored)?.as_slice()
                && plain
            {
                names.known.entry(reference.clone()).or_insert_with(|| name.clone());
            }
        }
        Ok(names)
    }

    fn text(&mut self, pieces: &[Piece]) -> String {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(plain) => text.push_str(&escape(plain)),
                Piece::Reference(reference) => {
                    text.push_str("$(");
                    text.push_str(&self.name(reference));
                    text.push(')');
                }
            }
        }
        text
    }

    /// The variable of a reference: one that the server is given anyway, or one more.
    fn name(&mut self, reference: &Reference) -> String {
        if let Some(name) = self.known.get(reference) {
            return name.clone();
        }
        let mut number = self.helpers.len() + 1;
        let mut name = format!("{HELPER}{number}");
        while self.taken.contains(name.as_str()) || self.helpers.iter().any(|helper| helper.name == name) {
            number += 1;
            name = format!("{HELPER}{number}");
        }
        self.helpers.push(variable(&name, reference, self.own));
        self.known.insert(reference.clone(), name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use provisioning_core::value::Origin;

    use super::*;

    fn stored(kind: ObjectKind, key: &str, content: Value) -> Segment {
        Segment::Stored { kind, key: key.to_owned(), content }
    }

    fn secret(key: &str) -> Segment {
        stored(ObjectKind::Secret, key, Value::secret(key))
    }

    fn text(text: &str) -> Segment {
        Segment::Text(text.to_owned())
    }

    fn env(pairs: &[(&str, Vec<Segment>)]) -> Vec<(String, Value)> {
        pairs.iter().map(|(name, segments)| ((*name).to_owned(), Value::from_segments(segments.clone()))).collect()
    }

    #[test]
    fn text_comes_out_as_it_was_although_kubernetes_expands_variables() {
        let environment = env(&[("A", vec![text("$(TOKEN) $$ $HOME $")]), ("TOKEN", vec![secret("t")])]);
        let done = translate("own", &environment, &[Value::text("$(TOKEN)"), Value::text("100$")]).unwrap();
        let found = done.environment.iter().find(|variable| variable.name == "A").unwrap();
        assert_eq!(found.value.as_deref(), Some("$$(TOKEN) $$$$ $$HOME $$"));
        assert_eq!(done.arguments, ["$$(TOKEN)", "100$$"]);
    }

    #[test]
    fn a_value_that_is_one_key_refers_to_it_and_a_mixture_expands_variables_defined_before() {
        let cluster = Segment::ClusterKey {
            kind: ObjectKind::ConfigMap,
            object: "mcp-gateway-config".to_owned(),
            key: "db.host".to_owned(),
        };
        let environment = env(&[
            ("URL", vec![text("postgres://u:"), secret("db.password"), text("@"), cluster.clone()]),
            ("PASSWORD", vec![secret("db.password")]),
            ("MCP_GATEWAY_VALUE_1", vec![text("taken")]),
        ]);
        let command = [Value::from_segments([text("--host="), cluster])];
        let done = translate("own", &environment, &command).unwrap();
        let names: Vec<_> = done.environment.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["PASSWORD", "MCP_GATEWAY_VALUE_2", "URL", "MCP_GATEWAY_VALUE_1"]);
        assert_eq!(done.environment[2].value.as_deref(), Some("postgres://u:$(PASSWORD)@$(MCP_GATEWAY_VALUE_2)"));
        assert_eq!(done.arguments, ["--host=$(MCP_GATEWAY_VALUE_2)"]);
        let from = |index: usize| done.environment[index].value_from.clone().unwrap();
        let own = from(0).secret_key_ref.unwrap();
        assert_eq!((own.name.as_str(), own.key.as_str(), own.optional), ("own", "db.password", Some(false)));
        let theirs = from(1).config_map_key_ref.unwrap();
        assert_eq!((theirs.name.as_str(), theirs.key.as_str()), ("mcp-gateway-config", "db.host"));
        let kept: Vec<_> = done.stored.into_keys().collect();
        assert_eq!(kept, [(ObjectKind::Secret, "db.password".to_owned())]);
    }

    #[test]
    fn private_text_never_gets_into_a_specification() {
        for value in [Value::secret("k"), Value::private(Origin::Argument, "q", "hunter2")] {
            for (environment, command) in
                [(vec![("K".to_owned(), value.clone())], vec![]), (vec![], vec![value.clone()])]
            {
                let error = translate("own", &environment, &command).unwrap_err();
                assert!(matches!(&error, RuntimeError::Invalid(text) if text.contains("cluster-objects")), "{error}");
                assert!(!error.to_string().contains("hunter2"));
            }
        }
    }

    #[test]
    fn one_key_never_stands_for_two_values() {
        let kind = ObjectKind::ConfigMap;
        let environment =
            env(&[("A", vec![stored(kind, "a", Value::text("1"))]), ("B", vec![stored(kind, "a", Value::text("2"))])]);
        assert!(matches!(translate("own", &environment, &[]), Err(RuntimeError::Conflict(_))));
        for key in ["", "a/b", "a:b", "..", ".", "..x"] {
            let environment = env(&[("A", vec![stored(kind, key, Value::text("1"))])]);
            assert!(matches!(translate("own", &environment, &[]), Err(RuntimeError::Invalid(_))), "{key}");
        }
    }
}
