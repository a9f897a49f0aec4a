//! The texts of the values of one request: read as late as possible, wiped when dropped, and hidden from messages.

use std::collections::{BTreeSet, HashSet};

use provisioning_core::{ContainerSpec, Segment, Value};

use crate::capability::container_runtime::RuntimeError;
use crate::secrets::{SecretStore, SecretText, materialise};

/// Texts shorter than this are not looked for in messages: hiding `1` would only garble them.
const SHORTEST_HIDDEN: usize = 4;
/// As many letters of a private text in a row are hidden although they are not all of it: an engine quotes the group of
/// a user, the source of a volume, the parent of a directory, or a text with some letters escaped.
const SHORTEST_PART: usize = 5;

/// The texts of all values of a specification.
pub(super) struct Texts(Vec<(Value, SecretText)>);

impl Texts {
    /// Reads them, each value once.
    pub(super) async fn read(spec: &ContainerSpec, store: &dyn SecretStore) -> Result<Self, RuntimeError> {
        let environment = spec.environment.iter().map(|(_, value)| value);
        let volumes = spec.volumes.iter().map(|mount| &mount.value);
        let mut texts: Vec<(Value, SecretText)> = Vec::new();
        for value in spec.command.iter().chain(environment).chain(volumes).chain(&spec.user) {
            if !texts.iter().any(|(known, _)| known == value) {
                texts.push((value.clone(), materialise(value, store).await?));
            }
        }
        Ok(Self(texts))
    }

    /// The text of one of them.
    pub(super) fn get(&self, value: &Value) -> Result<String, RuntimeError> {
        match self.0.iter().find(|(known, _)| known == value) {
            Some((_, text)) => Ok(text.expose().to_owned()),
            None => Err(RuntimeError::Engine(format!("value `{value}` was not read; this is a bug"))),
        }
    }

    /// Puts names in the place of private texts that an engine or a policy quotes in its message.
    pub(super) fn hide(&self, error: RuntimeError) -> RuntimeError {
        match error {
            RuntimeError::Invalid(message) => RuntimeError::Invalid(self.hidden(message)),
            RuntimeError::Denied(message) => RuntimeError::Denied(self.hidden(message)),
            RuntimeError::Conflict(message) => RuntimeError::Conflict(self.hidden(message)),
            RuntimeError::Engine(message) => RuntimeError::Engine(self.hidden(message)),
            other => other,
        }
    }

    fn hidden(&self, mut message: String) -> String {
        for (value, text) in self.0.iter().filter(|(value, _)| value.as_plain_text().is_none()) {
            let whole = text.expose();
            if whole.len() >= SHORTEST_HIDDEN {
                message = message.replace(whole, &value.to_string());
            }
            for segment in value.segments() {
                if let Segment::Private { text, .. } = segment
                    && text.len() >= SHORTEST_HIDDEN
                {
                    let name = Value::from_segments([segment.clone()]).to_string();
                    message = message.replace(text.as_str(), &name);
                }
            }
        }
        let parts = self.parts();
        if parts.is_empty() {
            return message;
        }
        // Names that were put in are not looked into.
        let (names, mut rest, mut hidden) = (self.names(), message.as_str(), String::new());
        loop {
            let found = names.iter().filter_map(|name| rest.find(name.as_str()).map(|at| (at, name))).min();
            let Some((at, name)) = found else { break };
            let (before, after) = rest.split_at(at);
            hidden.push_str(&without(before, &parts));
            hidden.push_str(name);
            rest = after.strip_prefix(name.as_str()).unwrap_or_default();
        }
        hidden.push_str(&without(rest, &parts));
        hidden
    }

    /// What stands in a message for a private text.
    fn names(&self) -> BTreeSet<String> {
        let private = |segment: &&Segment| !matches!(segment, Segment::Text(_));
        let segments = self.0.iter().flat_map(|(value, _)| value.segments()).filter(private);
        let each = segments.map(|segment| Value::from_segments([segment.clone()]).to_string());
        each.chain(self.0.iter().map(|(value, _)| value.to_string())).filter(|name| !name.is_empty()).collect()
    }

    /// Every few letters in a row of the private texts. A text with a secret in it counts as a whole.
    fn parts(&self) -> HashSet<&[u8]> {
        let mut parts = HashSet::new();
        for (value, whole) in &self.0 {
            for segment in value.segments() {
                let text = match segment {
                    Segment::Text(_) => continue,
                    Segment::Private { text, .. } => text.as_str(),
                    _ => whole.expose(),
                };
                parts.extend(text.as_bytes().windows(SHORTEST_PART));
            }
        }
        parts
    }
}

/// A message with `…` in the place of what it shares with private texts.
fn without(message: &str, parts: &HashSet<&[u8]>) -> String {
    let mut shared = vec![false; message.len()];
    for (at, part) in message.as_bytes().windows(SHORTEST_PART).enumerate() {
        if parts.contains(part)
            && let Some(bytes) = shared.get_mut(at..at + SHORTEST_PART)
        {
            bytes.fill(true);
        }
    }
    let mut shown = String::with_capacity(message.len());
    let mut is_hiding = false;
    for (at, character) in message.char_indices() {
        let bytes = shared.get(at..at + character.len_utf8()).unwrap_or_default();
        let is_shared = bytes.iter().any(|shared| *shared);
        match (is_shared, is_hiding) {
            (false, _) => shown.push(character),
            (true, false) => shown.push('…'),
            (true, true) => {}
        }
        is_hiding = is_shared;
    }
    shown
}

#[cfg(test)]
mod tests {
    use provisioning_core::value::Origin;

    use super::*;

    #[test]
    fn private_text_that_an_engine_quotes_is_replaced_by_its_name() {
        let value = Value::concat([&Value::private(Origin::Config, "s.path", "/home/me/x"), &Value::text(":/data")]);
        let texts = Texts(vec![(value, SecretText::new("/home/me/x:/data".to_owned()))]);
        let hidden = texts.hide(RuntimeError::Invalid("bad mount /home/me/x of /home/me/x:/data".to_owned()));
        assert_eq!(hidden.to_string(), "bad mount <config:s.path> of <config:s.path>:/data");
    }

    #[test]
    fn a_part_of_a_private_text_is_hidden_and_names_stay() {
        let user = Value::private(Origin::Config, "user.config", "config-ada:gruppe-ä");
        let token = Value::concat([&Value::text("Bearer "), &Value::secret("user.token")]);
        let texts = Texts(vec![
            (user, SecretText::new("config-ada:gruppe-ä".to_owned())),
            (token, SecretText::new("Bearer s3cret\"token".to_owned())),
        ]);
        for (message, expected) in [
            ("unable to find user config-ada: no entry", "unable to find user … no entry"),
            ("no group gruppe-ä, user config-ada:gruppe-ä", "no group …, user <config:user.config>"),
            (r#"exec: "Bearer s3cret\"token": no"#, r#"exec: "…\…": no"#),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(texts.hide(RuntimeError::Invalid(message.to_owned())).to_string(), expected);
        }
    }
}
