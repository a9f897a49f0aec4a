//! `--block-secrets`: keeps secrets from passing between clients and servers.
//!
//! Two things count as secrets: text that looks like a credential of a well-known kind, and the texts of the secrets
//! that this gateway itself has read, as they are, escaped as in JSON, or in base64. It only finds; what is refused, and in
//! which words, is up to the gateway. A secret that is cut into pieces, or encoded in another way, passes.

mod known;
mod patterns;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;
use zeroize::Zeroizing;

use self::known::Known;
use self::patterns::Patterns;
use crate::secrets::{SecretError, SecretStore, SecretText};

/// Finds secrets in what passes.
#[derive(Debug)]
pub struct Screen {
    patterns: Patterns,
    known: Known,
}

/// What was found. Tells the kind, never the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Text that looks like a credential of this kind, such as `a GitHub token`.
    Pattern(&'static str),
    /// The text of the secret with this name.
    Secret(String),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pattern(kind) => write!(f, "what looks like {kind}"),
            Self::Secret(name) => write!(f, "the secret `{name}`"),
        }
    }
}

impl Screen {
    /// A screen that knows no secret of the gateway yet.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { patterns: Patterns::new(), known: Known::new()? })
    }

    /// The first secret in any text of a value, names of fields included.
    pub fn find(&self, value: &Value) -> Option<Found> {
        match value {
            Value::String(text) => self.find_in_text(text),
            Value::Array(items) => items.iter().find_map(|item| self.find(item)),
            Value::Object(fields) => {
                fields.iter().find_map(|(name, value)| self.find_in_text(name).or_else(|| self.find(value)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    /// The first secret in the result of a tool, a prompt or a resource. Pictures, sounds and other binary content,
    /// which are no text although JSON has them as such, are left out.
    pub fn find_in_result(&self, result: &Value) -> Option<Found> {
        let Value::Object(fields) = result else { return self.find(result) };
        fields.iter().find_map(|(name, value)| match (name.as_str(), value) {
            ("content" | "contents", Value::Array(items)) => items.iter().find_map(|item| self.find_in_item(item)),
            _ => self.find_in_text(name).or_else(|| self.find(value)),
        })
    }

    fn find_in_item(&self, item: &Value) -> Option<Found> {
        let Value::Object(fields) = item else { return self.find(item) };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        fields.iter().find_map(|(name, value)| match name.as_str() {
            "blob" => None,
            "data" if matches!(kind, "image" | "audio") => None,
            "resource" => self.find_in_item(value),
            _ => self.find_in_text(name).or_else(|| self.find(value)),
        })
    }

    fn find_in_text(&self, text: &str) -> Option<Found> {
        self.patterns.find(text).map(Found::Pattern).or_else(|| self.known.find(text).map(Found::Secret))
    }

    /// Remembers a secret, not its text.
    fn learn(&self, name: &str, secret: &SecretText) {
        let text = secret.expose().trim();
        self.known.learn(name, text.as_bytes());
        if let Ok(escaped) = serde_json::to_string(text).map(Zeroizing::new) {
            self.known.learn(name, escaped.trim_matches('"').as_bytes());
        }
        // Without the last group, which depends on what follows.
        let whole = text.as_bytes().chunks_exact(3).flatten().copied().collect::<Vec<u8>>();
        let whole = Zeroizing::new(whole);
        self.known.learn(name, Zeroizing::new(STANDARD.encode(&*whole)).as_bytes());
        self.known.learn(name, Zeroizing::new(URL_SAFE.encode(&*whole)).as_bytes());
    }
}

/// A secret store that lets a screen know what is read from it.
pub struct Screened {
    store: Arc<dyn SecretStore>,
    screen: Arc<Screen>,
}

impl Screened {
    /// Reads from `store`.
    pub fn new(store: Arc<dyn SecretStore>, screen: Arc<Screen>) -> Self {
        Self { store, screen }
    }
}

#[async_trait]
impl SecretStore for Screened {
    async fn get(&self, name: &str) -> Result<SecretText, SecretError> {
        let secret = self.store.get(name).await?;
        self.screen.learn(name, &secret);
        Ok(secret)
    }

    async fn contains(&self, name: &str) -> Result<bool, SecretError> {
        self.store.contains(name).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_in_every_text_of_a_result_but_not_in_pictures() {
        let screen = Screen::new().unwrap();
        screen.learn("db.password", &SecretText::new("correct horse".to_owned()));
        let token = format!("ghp_{}", "T".repeat(36));
        let secret = Some(Found::Secret("db.password".to_owned()));
        let github = Some(Found::Pattern("a GitHub token"));
        for (result, found) in [
            (json!({"content": [{"type": "text", "text": "nothing"}], "isError": false}), None),
            (json!({"content": [{"type": "text", "text": format!("x {token} y")}]}), github.clone()),
            (json!({"content": [{"type": "text", "text": "postgres://u:correct horse@h"}]}), secret.clone()),
            (json!({"content": [], "structuredContent": {"deep": [{"data": token}]}}), github.clone()),
            (json!({"content": [{"type": "image", "data": token, "mimeType": "image/png"}]}), None),
            (json!({"content": [{"type": "text", "data": token}]}), github.clone()),
            (json!({"content": [{"type": "resource", "resource": {"blob": token}}]}), None),
            (json!({"content": [{"type": "resource", "resource": {"text": token}}]}), github.clone()),
            (json!({"contents": [{"uri": "x://", "text": "correct horse"}]}), secret.clone()),
            (json!({"messages": [{"role": "user", "content": {"type": "text", "text": token.clone()}}]}), github),
            (json!({"content": [{"correct horse": 1}]}), secret),
        ] {
            assert_eq!(screen.find_in_result(&result), found, "{result}");
        }
    }

    #[test]
    fn a_secret_is_found_in_the_clothes_that_programs_put_on_it() {
        let screen = Screen::new().unwrap();
        screen.learn("key", &SecretText::new("say \"friend\" & enter?\n".to_owned()));
        for text in [
            "say \"friend\" & enter?".to_owned(),
            json!({ "KEY": "say \"friend\" & enter?" }).to_string(),
            STANDARD.encode("say \"friend\" & enter?"),
            STANDARD.encode("say \"friend\" & enter?\n"),
        ] {
            assert_eq!(screen.find(&json!([text])), Some(Found::Secret("key".to_owned())), "{text}");
        }
        assert_eq!(screen.find(&json!("say friend and enter")), None);
    }

    #[test]
    fn what_is_said_does_not_repeat_what_was_found() {
        let screen = Screen::new().unwrap();
        let token = format!("dckr_pat_{}", "T".repeat(27));
        let found = screen.find(&json!({ "x": token })).unwrap().to_string();
        assert_eq!(found, "what looks like a Docker access token");
        assert!(!format!("{screen:?}").contains("correct"));
    }
}
