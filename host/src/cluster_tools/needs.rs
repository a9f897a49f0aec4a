//! What servers need of a cluster: the keys of the ConfigMap and of the Secret, found in everything of an entry that is
//! a template. Knows no cluster and no file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use provisioning_core::cluster_key;
use provisioning_core::template::{self, section_name};
use serde_json::Value as Json;

use crate::catalog::Entry;
use crate::catalog::configuration::{self, Unset};

/// What stands for a configuration value that somebody must fill in.
pub(super) const VALUE_PLACEHOLDER: &str = "<REPLACE_WITH_YOUR_VALUE>";
/// What stands for a secret that somebody must fill in.
pub(super) const SECRET_PLACEHOLDER: &str = "<REPLACE_WITH_YOUR_SECRET>";

/// True for what these tools write where a value is missing.
pub(super) fn is_placeholder(value: &str) -> bool {
    let inner = value.trim().strip_prefix("<REPLACE_WITH_").and_then(|rest| rest.strip_suffix('>'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

/// The keys that servers need, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// Keys of the ConfigMap: paths of templates.
    pub(super) config: BTreeMap<String, ConfigNeed>,
    /// Keys of the Secret: names of secrets.
    pub(super) secrets: BTreeMap<String, SecretNeed>,
}

/// A key of the ConfigMap.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigNeed {
    /// Who needs it.
    pub(super) servers: BTreeSet<String>,
    /// What the schema of an entry takes if nothing is set, as text.
    pub(super) default: Option<String>,
    /// Whether some server does not start without it.
    pub(super) is_required: bool,
}

/// A key of the Secret.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretNeed {
    /// Who needs it.
    pub(super) servers: BTreeSet<String>,
    /// Whether some server does not start without it.
    pub(super) is_required: bool,
}

impl Needs {
    /// What several servers need together.
    ///
    /// # Errors
    /// If a template is malformed.
    pub(super) fn of<'a>(servers: impl IntoIterator<Item = (&'a str, &'a Entry)>) -> anyhow::Result<Self> {
        let mut needs = Self::default();
        for (server, entry) in servers {
            needs.add(server, entry).with_context(|| format!("server `{server}`"))?;
        }
        Ok(needs)
    }

    fn add(&mut self, server: &str, entry: &Entry) -> anyhow::Result<()> {
        for secret in &entry.secrets {
            let need = self.secrets.entry(secret.name.clone()).or_default();
            need.servers.insert(server.to_owned());
            need.is_required |= secret.required != Some(false);
        }
        for found in config_uses(server, entry)? {
            let below: Vec<&str> = found.path.split('.').skip(1).collect();
            let unset = configuration::unset(entry, &below);
            let need = self.config.entry(found.path).or_default();
            need.servers.insert(server.to_owned());
            match unset {
                Unset::Default(Json::String(text)) => need.default = Some(text),
                Unset::Default(other) => need.default = Some(other.to_string()),
                Unset::Optional => {}
                Unset::Needed => need.is_required |= !found.has_default,
            }
        }
        Ok(())
    }

    /// Sees that every name can be a key.
    ///
    /// # Errors
    /// At the first that cannot.
    pub(super) fn check_keys(&self) -> anyhow::Result<()> {
        let config = self.config.iter().map(|(key, need)| (key, &need.servers));
        let secrets = self.secrets.iter().map(|(key, need)| (key, &need.servers));
        for (key, servers) in config.chain(secrets) {
            cluster_key(key).with_context(|| format!("server `{}`", in_words(servers)))?;
        }
        Ok(())
    }
}

/// Names for people, one after the other.
pub(super) fn in_words(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A place of an entry that names a configuration value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The variable's name, or the key of the entry, such as `command`.
    pub(super) place: String,
    /// What is named.
    pub(super) path: String,
    /// True if the template says what stands for it where nothing has the name.
    pub(super) has_default: bool,
}

/// Every place of an entry that names a configuration value. Text around a template is no part of it.
///
/// # Errors
/// If a template is malformed.
pub(super) fn config_uses(server: &str, entry: &Entry) -> anyhow::Result<Vec<Use>> {
    let secrets = entry.secret_names();
    let section = section_name(server);
    let mut texts: Vec<(&str, &str)> =
        entry.env.iter().map(|variable| (variable.name.as_str(), variable.value.as_str())).collect();
    for (key, text) in entry.templates().filter(|(key, _)| *key != "env") {
        texts.push((key, text));
    }
    let mut uses: Vec<Use> = Vec::new();
    for (place, text) in texts {
        for template::Use { path, has_default, .. } in template::uses(text)? {
            // Whatever is not in the server's own section is another server's, or an argument of a call.
            let is_own = path.split_once('.').is_some_and(|(head, _)| head == section);
            let found = Use { place: place.to_owned(), path, has_default };
            if is_own && !secrets.contains(&found.path) && !uses.contains(&found) {
                uses.push(found);
            }
        }
    }
    Ok(uses)
}

/// The variables whose value stands in the catalog; where one is named twice, the last counts.
pub(super) fn static_environment(entry: &Entry) -> BTreeMap<&str, &str> {
    let fixed = entry.env.iter().filter(|variable| !template::is_template(&variable.value));
    fixed.map(|variable| (variable.name.as_str(), variable.value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::catalog::Catalog;

    fn entry(yaml: &str) -> Entry {
        let (catalog, _) = Catalog::parse(&format!("registry:\n  s.x:\n{yaml}"), Path::new("c.yaml")).unwrap();
        catalog.get("s.x").unwrap().clone()
    }

    #[test]
    fn variables_are_found_wherever_a_template_may_stand() {
        let server = entry(
            "    image: i\n    env: [{name: A, value: 'x{{s_x.env}}y{{s_x.more|or:1}}'}, {name: B, value: fixed}]\n    \
             command: ['--a={{s_x.command}}', '{{s_x.token}}']\n    volumes: ['{{s_x.dirs|volume|into}}']\n    \
             user: '{{s_x.user}}'\n    secrets: [{name: s_x.token, env: T}, {name: s_x.more, env: M, required: false}]\n",
        );
        let needs = Needs::of([("s.x", &server)]).unwrap();
        assert_eq!(needs.config.keys().collect::<Vec<_>>(), ["s_x.command", "s_x.dirs", "s_x.env", "s_x.user"]);
        assert_eq!(needs.secrets.keys().collect::<Vec<_>>(), ["s_x.more", "s_x.token"]);
        assert!(needs.secrets["s_x.token"].is_required && !needs.secrets["s_x.more"].is_required);
        assert_eq!(static_environment(&server), BTreeMap::from([("B", "fixed")]));
        let remote = entry(
            "    remote: {url: 'https://{{s_x.host}}/mcp', headers: {X: 'k {{s_x.header}}', Y: '$T'}}\n    \
             secrets: [{name: t, env: T}]\n",
        );
        let needs = Needs::of([("s.x", &remote)]).unwrap();
        assert_eq!(needs.config.keys().collect::<Vec<_>>(), ["s_x.header", "s_x.host"]);
    }

    #[test]
    fn what_a_caller_gives_to_a_tool_is_nothing_that_the_cluster_has() {
        let server = entry(
            "    type: poci\n    tools:\n      - name: t\n        parameters: {type: object}\n        \
             container: {image: i, command: ['{{query}}', '{{s_x.key}}', '{{other.key}}'], user: '{{s_x.user}}'}\n",
        );
        let needs = Needs::of([("s.x", &server)]).unwrap();
        assert_eq!(needs.config.keys().collect::<Vec<_>>(), ["s_x.key", "s_x.user"]);
    }

    #[test]
    fn schemas_say_what_is_required_and_what_holds_by_default() {
        let server = entry(
            "    image: i\n    env: [{name: A, value: '{{s_x.a}}{{s_x.b}}{{s_x.c.d}}{{s_x.e}}{{s_x.a|or:x}}'}]\n    config:\n      - \
             type: object\n        required: [a]\n        properties: {a: {type: string}, b: {type: integer, default: \
             7}, c: {type: object, properties: {d: {type: string, default: x}}}}\n",
        );
        let needs = Needs::of([("s.x", &server)]).unwrap();
        assert!(needs.config["s_x.a"].is_required && !needs.config["s_x.b"].is_required);
        assert_eq!(needs.config["s_x.b"].default.as_deref(), Some("7"));
        assert_eq!(needs.config["s_x.a"].default, None);
        assert_eq!(needs.config["s_x.e"].default, None);
    }

    #[test]
    fn a_name_that_is_no_key_is_refused_with_its_server() {
        let server = entry("    image: i\n    secrets: [{name: a/b, env: T}]\n");
        let error = Needs::of([("s.x", &server)]).unwrap().check_keys().unwrap_err();
        assert!(format!("{error:#}").starts_with("server `s.x`: `a/b` cannot be a key"), "{error:#}");
    }

    #[test]
    fn placeholders_are_told_from_values() {
        for text in
            [VALUE_PLACEHOLDER, SECRET_PLACEHOLDER, "<REPLACE_WITH_ACTUAL_VALUE>", " <REPLACE_WITH_ACTUAL_SECRET> "]
        {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["", "x", "<REPLACE_WITH_x>", "a<REPLACE_WITH_YOUR_VALUE>", "REPLACE_WITH_YOUR_VALUE"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
