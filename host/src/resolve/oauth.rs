//! Servers that want OAuth: which secret holds the token. The gateway does not ask for tokens itself; somebody puts
//! one into the store of secrets.

use provisioning_core::Value;
use serde_json::Value as Json;

use super::ResolveError;
use crate::secrets::{SecretError, SecretStore};

/// The secrets that may hold the token, best first; none if the entry wants no OAuth. `oauth` has one of the shapes of
/// catalogs: a list of providers, `providers` with one, or `enabled` and `provider`.
pub(super) fn token_secrets(server: &str, oauth: Option<&Json>) -> Option<Vec<String>> {
    let oauth = oauth?;
    let providers = match oauth {
        Json::Null | Json::Bool(false) => return None,
        Json::Object(fields) if fields.get("enabled") == Some(&Json::Bool(false)) => return None,
        Json::Object(fields) => fields.get("providers").and_then(Json::as_array),
        other => other.as_array(),
    };
    if providers.is_some_and(Vec::is_empty) {
        return None;
    }
    let declared = providers.into_iter().flatten().filter_map(|provider| provider.get("secret")?.as_str());
    let mut names: Vec<String> = declared.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.push(format!("{server}.oauth_token"));
    Some(names)
}

/// The token: the first of the secrets that is set.
pub(super) async fn find(server: &str, names: &[String], store: &dyn SecretStore) -> Result<Value, ResolveError> {
    let mut first = None;
    for name in names {
        match store.get(name).await {
            Ok(_) => return Ok(Value::secret(name)),
            Err(SecretError::Missing { name, remedy }) => {
                first.get_or_insert((name, remedy));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (name, remedy) = first.unwrap_or_default();
    Err(no_token(server, Some(&name), &remedy))
}

/// That there is no token, and how to change that.
pub(super) fn no_token(server: &str, name: Option<&String>, remedy: &str) -> ResolveError {
    let name = name.map_or("", String::as_str);
    ResolveError::Entry(format!(
        "server `{server}` wants OAuth, and there is no token for it; get an access token from the service and store it \
         as secret `{name}` ({remedy})"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_of_the_catalogs_names_the_secrets_that_may_hold_the_token() {
        let own = || Some(vec!["s.oauth_token".to_owned()]);
        let both = || Some(vec!["s.pat".to_owned(), "s.oauth_token".to_owned()]);
        for (oauth, expected) in [
            (json!([{"provider": "s", "secret": "s.pat", "env": "S_PAT"}]), both()),
            (json!({"providers": [{"provider": "s", "secret": "s.pat"}]}), both()),
            (json!({"providers": [{"provider": "s"}]}), own()),
            (json!({"enabled": true, "provider": "s"}), own()),
            (json!({"enabled": false, "provider": "s"}), None),
            (json!({"providers": []}), None),
            (json!([]), None),
            (json!(null), None),
        ] {
            assert_eq!(token_secrets("s", Some(&oauth)), expected, "{oauth}");
        }
        assert_eq!(token_secrets("s", None), None);
    }
}
