//! The texts of the values of one request: read as late as possible, wiped when dropped, and hidden from messages.

use provisioning_core::{ContainerSpec, Segment, Value};

use crate::capability::container_runtime::RuntimeError;
use crate::secrets::{SecretStore, SecretText, materialise};

/// Texts shorter than this are not looked for in messages: hiding `1` would only garble them.
const SHORTEST_HIDDEN: usize = 4;

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
            if text.expose().len() >= SHORTEST_HIDDEN {
                message = message.replace(text.expose(), &value.to_string());
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
        message
    }
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
}
