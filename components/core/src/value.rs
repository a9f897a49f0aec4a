//! Opaque text with provenance: what the host keeps where a guest holds a `value` resource.
//!
//! A [`Value`] remembers of each piece whether it is plain text, private text from configuration or a caller, a
//! secret known only by name, or a key in the cluster. It deliberately never holds the text of a secret: that is
//! read just in time by whoever creates the container.

use std::fmt;

use zeroize::Zeroizing;

/// Where private text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The operator's configuration; the name is the path, such as `server.key`.
    Config,
    /// An argument of the tool call being served; the name is the parameter.
    Argument,
}

/// The kind of cluster object a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A Kubernetes `Secret`.
    Secret,
    /// A Kubernetes `ConfigMap`.
    ConfigMap,
}

/// One piece of a [`Value`].
#[derive(Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text that anyone may see: written in the catalog or made by a guest.
    Text(String),
    /// Text that must not be shown, and where it came from.
    Private {
        /// Where it came from.
        origin: Origin,
        /// The configuration path or parameter name.
        name: String,
        /// The text itself.
        text: Zeroizing<String>,
    },
    /// A secret, by name. Its text is read when it is needed.
    Secret(String),
    /// A key of a cluster object.
    ClusterKey {
        /// The kind of object.
        kind: ObjectKind,
        /// The object's name.
        object: String,
        /// The key in it.
        key: String,
    },
    /// A value that is kept under a key of an object of the server's own, which is made together with its pod. It
    /// reads as its content; only whoever creates the pod uses the key.
    Stored {
        /// The kind of object.
        kind: ObjectKind,
        /// The key in it.
        key: String,
        /// What the key holds.
        content: Value,
    },
}

/// Text, private text, secrets and cluster keys in order. Equality means the same pieces from the same places.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Value {
    segments: Vec<Segment>,
}

impl Value {
    /// A value of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::from_segments([Segment::Text(text.into())])
    }

    /// A value that is one secret.
    pub fn secret(name: impl Into<String>) -> Self {
        Self::from_segments([Segment::Secret(name.into())])
    }

    /// A value of private text.
    pub fn private(origin: Origin, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from_segments([Segment::Private { origin, name: name.into(), text: Zeroizing::new(text.into()) }])
    }

    /// A value of the given pieces. Empty text is dropped and neighbouring plain text is joined, so that values
    /// that read the same and come from the same places compare equal however they were put together.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut joined: Vec<Segment> = Vec::new();
        for segment in segments {
            match (joined.last_mut(), segment) {
                (_, Segment::Text(text)) if text.is_empty() => {}
                (Some(Segment::Text(before)), Segment::Text(text)) => before.push_str(&text),
                (_, segment) => joined.push(segment),
            }
        }
        Self { segments: joined }
    }

    /// The given values one after the other.
    pub fn concat<'a>(parts: impl IntoIterator<Item = &'a Value>) -> Self {
        Self::from_segments(parts.into_iter().flat_map(|part| part.segments.iter().cloned()))
    }

    /// The pieces in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// True if it certainly reads as "". A secret is never empty by this measure.
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| match segment {
            Segment::Text(text) => text.is_empty(),
            Segment::Private { text, .. } => text.is_empty(),
            Segment::Secret(_) | Segment::ClusterKey { .. } => false,
            Segment::Stored { content, .. } => content.is_empty(),
        })
    }

    /// The value with everything in its place that is kept in the server's own objects: what it reads as.
    pub fn content(&self) -> Self {
        Self::from_segments(self.segments.iter().flat_map(|segment| match segment {
            Segment::Stored { content, .. } => content.content().segments,
            other => vec![other.clone()],
        }))
    }

    /// The names of the secrets in it, in order, repeated as often as they occur.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Secret(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The text, if it is all plain text.
    pub fn as_plain_text(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [] => Some(""),
            [Segment::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The number of bytes it holds in memory: its text, and what keeps its pieces apart.
    pub fn held_bytes(&self) -> usize {
        // Pieces of a few letters are smaller than what holds them.
        self.segments
            .iter()
            .map(|segment| {
                size_of::<Segment>()
                    + match segment {
                        Segment::Text(text) => text.len(),
                        Segment::Private { text, name, .. } => text.len() + name.len(),
                        Segment::Secret(name) => name.len(),
                        Segment::ClusterKey { object, key, .. } => object.len() + key.len(),
                        Segment::Stored { key, content, .. } => key.len() + content.held_bytes(),
                    }
            })
            .sum()
    }
}

/// Shows plain text and the names of everything else: `https://<config:db.host>/?key=<secret:db.key>`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => f.write_str(text)?,
                Segment::Private { origin: Origin::Config, name, .. } => write!(f, "<config:{name}>")?,
                Segment::Private { origin: Origin::Argument, name, .. } => write!(f, "<argument:{name}>")?,
                Segment::Secret(name) => write!(f, "<secret:{name}>")?,
                Segment::ClusterKey { kind: ObjectKind::Secret, object, key } => {
                    write!(f, "<secret-key:{object}/{key}>")?;
                }
                Segment::ClusterKey { kind: ObjectKind::ConfigMap, object, key } => {
                    write!(f, "<config-key:{object}/{key}>")?;
                }
                Segment::Stored { content, .. } => write!(f, "{content}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_was_put_together_the_same_value_compares_equal() {
        let one = Value::concat([&Value::text("a"), &Value::text(""), &Value::text("b"), &Value::secret("k")]);
        let other = Value::concat([&Value::text("ab"), &Value::secret("k")]);
        assert_eq!(one, other);
        assert_ne!(one, Value::text("ab<secret:k>"));
    }

    #[test]
    fn what_is_kept_in_an_object_reads_as_its_content() {
        let (kind, key) = (ObjectKind::Secret, "TOKEN".to_owned());
        let stored = Segment::Stored { kind, key, content: Value::secret("k") };
        let value = Value::from_segments([Segment::Text("Bearer ".to_owned()), stored]);
        assert_eq!(value.content(), Value::concat([&Value::text("Bearer "), &Value::secret("k")]));
        assert_eq!(value.to_string(), "Bearer <secret:k>");
    }

    #[test]
    fn neither_display_nor_debug_shows_private_text() {
        let value = Value::concat([&Value::text("u="), &Value::private(Origin::Config, "db.user", "hunter2")]);
        assert_eq!(value.to_string(), "u=<config:db.user>");
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
