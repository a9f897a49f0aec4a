//! Secrets from variables of the environment that begin with a prefix.
//!
//! A name becomes a variable by a rule that no two names share: letters and digits stay, `_` stays, `.` becomes `__`
//! and `-` becomes `___`. A name in which two of these three stand side by side, or with any other character, cannot
//! come from the environment. So `github.api_key` with the prefix `MCP_` is in `MCP_github__api_key`.

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{Answer, Place, SecretSource, SecretText, SourceError};

/// Secrets in variables with a prefix.
#[derive(Clone)]
pub struct Environment {
    prefix: String,
    place: Place,
}

impl Environment {
    /// The variables that begin with a prefix.
    ///
    /// # Errors
    /// If the prefix is empty, which would make every variable a secret that a catalog may ask for, or cannot be part
    /// of a variable's name.
    pub fn new(prefix: &str, place: &Place) -> Result<Self, String> {
        if prefix.is_empty() {
            return Err("`env=` needs a prefix, such as `env=MCP_SECRET_`".to_owned());
        }
        if !prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`env={prefix}` is no prefix of variables; use letters, digits and `_`"));
        }
        Ok(Self { prefix: prefix.to_owned(), place: place.clone() })
    }

    fn variable(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, encoded(name)?))
    }
}

/// The part of a variable's name behind the prefix.
fn encoded(name: &str) -> Option<String> {
    let mut variable = String::with_capacity(name.len() + 8);
    let mut run = false;
    for character in name.chars() {
        let underscores = match character {
            '_' => "_",
            '.' => "__",
            '-' => "___",
            character if character.is_ascii_alphanumeric() => {
                variable.push(character);
                run = false;
                continue;
            }
            _ => return None,
        };
        if run {
            return None;
        }
        variable.push_str(underscores);
        run = true;
    }
    (!variable.is_empty()).then_some(variable)
}

/// The name whose variable has this part behind the prefix.
fn decoded(variable: &str) -> Option<String> {
    let mut name = String::with_capacity(variable.len());
    let mut characters = variable.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '_' {
            name.push(character);
            continue;
        }
        let mut more = 0;
        while characters.next_if_eq(&'_').is_some() {
            more += 1;
        }
        name.push(*['_', '.', '-'].get(more)?);
    }
    // Whatever is not written as this program writes it is some other variable.
    encoded(&name).is_some_and(|again| again == variable).then_some(name)
}

#[async_trait]
impl SecretSource for Environment {
    fn label(&self) -> String {
        format!("variables `{}...`", self.prefix)
    }

    async fn look_up(&self, name: &str) -> Result<Answer, SourceError> {
        let Some(variable) = self.variable(name) else { return Ok(Answer::NotThere) };
        match (self.place.variable)(&variable).map(std::ffi::OsString::into_string) {
            None => Ok(Answer::NotThere),
            Some(Ok(text)) if text.is_empty() => Ok(Answer::NotThere),
            Some(Ok(text)) => Ok(Answer::Found(SecretText::from(Zeroizing::new(text)))),
            Some(Err(_)) => Err(self.error(&format!("variable `{variable}` is not UTF-8 text; correct it"))),
        }
    }

    fn remedy(&self, name: &str) -> Option<String> {
        Some(format!("set the variable `{}`", self.variable(name)?))
    }

    async fn names(&self) -> Result<Vec<String>, SourceError> {
        let variables = (self.place.variables)();
        let mut names: Vec<String> = variables
            .iter()
            .filter_map(|variable| decoded(variable.to_str()?.strip_prefix(&self.prefix)?))
            .filter(|name| {
                let variable = self.variable(name).unwrap_or_default();
                (self.place.variable)(&variable).is_some_and(|text| !text.is_empty())
            })
            .collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn names_become_variables_with_the_prefix() {
        let variables =
            [("P_github__api_key", "one"), ("P_my___server__Token", "two"), ("P_empty", ""), ("OTHER", "x")];
        let mut place = Place::of_process(None);
        place.variable =
            Arc::new(move |asked| variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).into()));
        place.variables = Arc::new(move || variables.iter().map(|(name, _)| (*name).into()).collect());
        let environment = Environment::new("P_", &place).unwrap();
        let found = async |name: &str| match environment.look_up(name).await.unwrap() {
            Answer::Found(text) => Some(text.expose().to_owned()),
            _ => None,
        };
        assert_eq!(found("github.api_key").await.as_deref(), Some("one"));
        assert_eq!(found("my-server.Token").await.as_deref(), Some("two"));
        for name in ["github_api_key", "my.server.token", "empty", "", "a/b", "github..api_key", "x\0y"] {
            assert_eq!(found(name).await, None, "{name}");
        }
        assert_eq!(environment.names().await.unwrap(), ["github.api_key", "my-server.Token"]);
        assert_eq!(environment.remedy("a.b").unwrap(), "set the variable `P_a__b`");
        assert_eq!(environment.remedy("a/b"), None);
        for prefix in ["", "A=B", "Ä"] {
            assert!(Environment::new(prefix, &place).is_err(), "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_variable(name in "[a-zA-Z0-9._-]{0,8}", other in "[a-z_]{0,8}") {
            if let Some(variable) = encoded(&name) {
                prop_assert_eq!(decoded(&variable), Some(name));
            }
            if let Some(name) = decoded(&other) {
                prop_assert_eq!(encoded(&name), Some(other));
            }
        }
    }
}
