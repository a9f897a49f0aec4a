//! `--mcp-registry`: servers as MCP registries describe them, in a `server.json`, turned into catalog entries.
//!
//! Only what can be run as a container, or reached at an address, becomes an entry: a package of an image registry, or
//! else a remote. What the entry then may do is decided as for any other. Nothing is kept on disk.

use std::time::Duration;

use provisioning_core::template::section_name;
use reqwest::{Client, Url, redirect};
use serde_json::{Map, Value, json};

use crate::capability::container_runtime::routed::is_embedded;

/// How long a registry may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much it may answer.
const MOST: usize = 1 << 20;
/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// Fetches the description of one server and makes a catalog with its entry; the server's name comes first.
///
/// # Errors
/// If it cannot be had or cannot become an entry, with the reason.
pub async fn fetch(address: &str) -> Result<(String, Value), String> {
    let wrong = |reason: String| format!("`{address}`: {reason}");
    let url = Url::parse(address).map_err(|error| wrong(format!("not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("not an address with `http` or `https`".to_owned()));
    }
    let body = tokio::time::timeout(PATIENCE, get(url)).await;
    let body = body.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))).map_err(wrong)?;
    let document: Value = serde_json::from_slice(&body).map_err(|error| {
        wrong(format!(
            "line {} column {} is not JSON; give the address of a `server.json`",
            error.line(),
            error.column()
        ))
    })?;
    catalog(&document).map_err(wrong)
}

async fn get(url: Url) -> Result<Vec<u8>, String> {
    // Fails only if there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().redirect(redirect::Policy::limited(REDIRECTS)).build();
    let client = client.map_err(|_| "there is no TLS on this system".to_owned())?;
    let cannot = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        format!("cannot be fetched: {cause}")
    };
    let mut response = client.get(url).header("accept", "application/json").send().await.map_err(cannot)?;
    if !response.status().is_success() {
        return Err(format!("answered HTTP {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(cannot)? {
        if body.len() + piece.len() > MOST {
            return Err(format!("answered more than {} MiB", MOST >> 20));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// A catalog with the entry of the server that a document describes.
fn catalog(document: &Value) -> Result<(String, Value), String> {
    // What the interface of a registry answers has the description inside.
    let server = document.get("server").unwrap_or(document);
    if server.get("servers").is_some() {
        return Err("lists servers; give the address of one, such as `…/servers/NAME/versions/latest`".to_owned());
    }
    let name = text(server, "name").ok_or("describes no server: it has no `name`")?.replace('/', "-");
    let mut description = Description { section: section_name(&name), name, env: Vec::new(), secrets: Vec::new() };
    let is_image = |package: &&Value| {
        let kind = ["registryType", "registry_type", "registry_name"].into_iter().find_map(|key| text(package, key));
        matches!(kind, Some("oci" | "docker"))
    };
    let source = match items(server, "packages").find(is_image) {
        Some(package) => description.container(package)?,
        None => match items(server, "remotes").next() {
            Some(remote) => description.remote(remote)?,
            None => return Err("has neither an image (a package with `registryType: oci`) nor a remote".to_owned()),
        },
    };
    let mut entry = source;
    for key in ["title", "description"] {
        entry.extend(text(server, key).map(|text| (key.to_owned(), json!(text))));
    }
    entry.insert("env".to_owned(), Value::Array(description.env));
    entry.insert("secrets".to_owned(), Value::Array(description.secrets));
    let name = description.name;
    let registry = Map::from_iter([(name.clone(), Value::Object(entry))]);
    Ok((name, json!({ "registry": registry })))
}

/// What is gathered of a server.
struct Description {
    name: String,
    section: String,
    env: Vec<Value>,
    secrets: Vec<Value>,
}

impl Description {
    fn container(&mut self, package: &Value) -> Result<Map<String, Value>, String> {
        let transport = package.pointer("/transport/type").and_then(Value::as_str).unwrap_or("stdio");
        if transport != "stdio" {
            return Err(format!("its image speaks `{transport}`; only `stdio` is supported for images"));
        }
        let mut image = text(package, "identifier").ok_or("its image has no `identifier`")?.to_owned();
        let has_tag = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if let (false, Some(version)) = (has_tag, text(package, "version")) {
            image = format!("{image}{}{version}", if version.starts_with("sha256:") { "@" } else { ":" });
        }
        if let Some(base) = text(package, "registryBaseUrl").or_else(|| text(package, "registry_base_url")) {
            let host = base.trim_start_matches("https://").trim_end_matches('/');
            if host != "docker.io" && !image.starts_with(&format!("{host}/")) {
                image = format!("{host}/{image}");
            }
        }
        if is_embedded(&image) {
            return Err(format!("names `{image}`, which is no image of a registry"));
        }
        for variable in items(package, "environmentVariables").chain(items(package, "environment_variables")) {
            let name = text(variable, "name").ok_or("one of its variables has no `name`")?.to_owned();
            self.variable(&name, variable)?;
        }
        let mut volumes = Vec::new();
        for argument in items(package, "runtimeArguments").chain(items(package, "runtime_arguments")) {
            let value = self.value(argument, "argument")?.unwrap_or_default();
            match (text(argument, "name").unwrap_or_default(), value.split_once('=')) {
                ("-e" | "--env", Some((name, value))) => self.env.push(json!({ "name": name, "value": value })),
                ("-v" | "--volume", _) => volumes.push(json!(value)),
                (name, _) => {
                    return Err(format!(
                        "asks for `{name}` of the engine; only variables and volumes are given to servers"
                    ));
                }
            }
        }
        let mut command = Vec::new();
        for argument in items(package, "packageArguments").chain(items(package, "package_arguments")) {
            let name = text(argument, "name");
            if text(argument, "type") == Some("named") {
                command.extend(name.map(|name| json!(name)));
            }
            command.extend(self.value(argument, name.unwrap_or("argument"))?.map(|value| json!(value)));
        }
        let entry = json!({ "type": "server", "image": image, "command": command, "volumes": volumes });
        Ok(entry.as_object().cloned().unwrap_or_default())
    }

    fn remote(&mut self, remote: &Value) -> Result<Map<String, Value>, String> {
        let url = text(remote, "url").ok_or("its remote has no `url`")?;
        let kind = text(remote, "type").or_else(|| text(remote, "transport_type")).unwrap_or("streamable-http");
        let mut headers = Map::new();
        for header in items(remote, "headers") {
            let name = text(header, "name").ok_or("one of its headers has no `name`")?;
            let value = match is_true(header, "isSecret") || is_true(header, "is_secret") {
                true => {
                    let variable = name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                    self.secret(name, &variable, header);
                    around(text(header, "value").unwrap_or_default(), &format!("${{{variable}}}"))
                }
                false => self.value(header, name)?.unwrap_or_default(),
            };
            headers.insert(name.to_owned(), json!(value));
        }
        let remote = json!({ "url": plain(url)?, "transport_type": kind, "headers": headers });
        Ok(Map::from_iter([("type".to_owned(), json!("remote")), ("remote".to_owned(), remote)]))
    }

    fn variable(&mut self, name: &str, variable: &Value) -> Result<(), String> {
        if is_true(variable, "isSecret") || is_true(variable, "is_secret") {
            self.secret(name, name, variable);
        } else if let Some(value) = self.value(variable, name)? {
            self.env.push(json!({ "name": name, "value": value }));
        }
        Ok(())
    }

    fn secret(&mut self, name: &str, variable: &str, of: &Value) {
        let required = is_true(of, "isRequired") || is_true(of, "is_required");
        self.secrets.push(json!({ "name": format!("{}.{name}", self.name), "env": variable, "required": required }));
    }

    /// What is given, or else the default, or else what the configuration has under this name. Parts in braces are of
    /// the configuration.
    fn value(&self, of: &Value, name: &str) -> Result<Option<String>, String> {
        let Some(given) = text(of, "value").or_else(|| text(of, "default")) else {
            let of_configuration = name.trim_start_matches('-');
            return Ok(Some(format!("{{{{{}.{of_configuration}}}}}", self.section)));
        };
        let mut value = plain(given)?.to_owned();
        for variable in of.get("variables").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name) {
            value = value.replace(&format!("{{{variable}}}"), &format!("{{{{{}.{variable}}}}}", self.section));
        }
        Ok(Some(value).filter(|value| !value.is_empty()))
    }
}

/// A template of the registry with its one part in braces replaced; all of it if it has none.
fn around(template: &str, value: &str) -> String {
    match template.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?.1))) {
        Some((before, after)) => format!("{before}{value}{after}"),
        None => value.to_owned(),
    }
}

/// Refuses text that would be taken for a template of catalogs.
fn plain(text: &str) -> Result<&str, String> {
    if text.contains("{{") {
        Err("has a value with `{{`, which catalogs take for a template".to_owned())
    } else {
        Ok(text)
    }
}

fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn items<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn is_true(of: &Value, key: &str) -> bool {
    of.get(key).and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_becomes_a_server_with_its_variables_secrets_and_arguments() {
        let (name, catalog) = catalog(&json!({"server": {
            "name": "io.github.user/files", "description": "Files", "version": "1.0.2",
            "packages": [
                {"registryType": "npm", "identifier": "@user/files", "version": "1.0.2"},
                {"registryType": "oci", "registryBaseUrl": "https://ghcr.io", "identifier": "user/files", "version": "1.0.2",
                 "transport": {"type": "stdio"},
                 "runtimeArguments": [{"type": "named", "name": "-v", "value": "{root}:/data", "variables": {"root": {}}}],
                 "packageArguments": [{"type": "positional", "value": "/data"}, {"type": "named", "name": "--depth", "default": "3"}],
                 "environmentVariables": [
                    {"name": "TOKEN", "isSecret": true, "isRequired": true}, {"name": "MODE", "value": "fast"}, {"name": "USER_NAME"}]}
            ]}}))
        .unwrap();
        assert_eq!(name, "io.github.user-files");
        let entry = &catalog["registry"]["io.github.user-files"];
        assert_eq!(entry["image"], "ghcr.io/user/files:1.0.2");
        assert_eq!(entry["command"], json!(["/data", "--depth", "3"]));
        let section = section_name(&name);
        assert_eq!(entry["volumes"], json!([format!("{{{{{section}.root}}}}:/data")]));
        let secret = json!({"name": "io.github.user-files.TOKEN", "env": "TOKEN", "required": true});
        assert_eq!(entry["secrets"], json!([secret]));
        let user = json!({"name": "USER_NAME", "value": format!("{{{{{section}.USER_NAME}}}}")});
        assert_eq!(entry["env"], json!([{"name": "MODE", "value": "fast"}, user]));
    }

    #[test]
    fn a_remote_becomes_one_with_its_secrets_in_headers() {
        let (_, catalog) = catalog(&json!({"name": "r", "remotes": [{"type": "sse", "url": "https://h.example/sse",
            "headers": [{"name": "Authorization", "value": "Bearer {token}", "isSecret": true}, {"name": "X", "value": "y"}]}]}))
        .unwrap();
        let entry = &catalog["registry"]["r"];
        assert_eq!(entry["remote"]["transport_type"], "sse");
        assert_eq!(entry["remote"]["headers"], json!({"Authorization": "Bearer ${AUTHORIZATION}", "X": "y"}));
        assert_eq!(entry["secrets"], json!([{"name": "r.Authorization", "env": "AUTHORIZATION", "required": false}]));
    }

    #[test]
    fn what_cannot_be_run_here_is_said() {
        for (document, reason) in [
            (json!({"servers": []}), "lists servers"),
            (json!({}), "describes no server"),
            (json!({"name": "x", "packages": [{"registryType": "pypi", "identifier": "x"}]}), "has neither an image"),
            (
                json!({"name": "x", "packages": [{"registryType": "oci", "identifier": "/tmp/x.wasm"}]}),
                "names `/tmp/x.wasm`",
            ),
            (
                json!({"name": "x", "packages": [{"registryType": "oci", "identifier": "x",
                    "runtimeArguments": [{"type": "named", "name": "--privileged"}]}]}),
                "asks for `--privileged`",
            ),
            (
                json!({"name": "x", "packages": [{"registryType": "oci", "identifier": "x",
                    "environmentVariables": [{"name": "A", "value": "{{x}}"}]}]}),
                "has a value with `{{`",
            ),
        ] {
            let error = catalog(&document).unwrap_err();
            assert!(error.starts_with(reason), "{document}: {error}");
        }
    }
}
