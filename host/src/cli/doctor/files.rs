//! The files that the gateway reads if nothing else is named, and the programs that they mention.

use std::collections::BTreeMap;
use std::path::Path;

use provisioning_core::text::one_line;
use serde::Deserialize;

use super::{Finding, Place};
use crate::catalog::{Catalog, configuration};
use crate::secrets::own_stores;

/// The part of the Docker configuration that names programs.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "credsStore", default)]
    store: String,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

/// The Docker configuration, and the credential helpers that it names.
pub(super) fn docker_configuration(place: &Place) -> Vec<Finding> {
    const CHECK: &str = "docker config";
    let directory = place.variable("DOCKER_CONFIG").map(Into::into);
    let Some(directory) = directory.or_else(|| place.home.as_ref().map(|home| home.join(".docker"))) else {
        return vec![Finding::ok(CHECK, "there is no home directory, so there is none")];
    };
    let path = directory.join("config.json");
    let shown = path.display();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::ok(CHECK, format!("there is no `{shown}`, and none is needed for public images"))];
        }
        Err(error) => {
            return vec![Finding::problem(CHECK, format!("cannot read `{shown}`: {error}"), "fix its permissions")];
        }
    };
    // The parser's message could quote the file, which may hold credentials: only the place is told.
    let config: DockerConfig = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => {
            let detail = format!("`{shown}` is not valid at line {}, column {}", error.line(), error.column());
            return vec![Finding::problem(CHECK, detail, "correct it")];
        }
    };
    let mut findings = vec![Finding::ok(CHECK, format!("`{shown}` can be read"))];
    let mut names: Vec<String> = config.helpers.into_values().chain([config.store]).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    for name in names {
        let program = format!("docker-credential-{}", one_line(&name, 100));
        findings.push(match place.program(&program) {
            Some(_) => Finding::ok("credentials", format!("`{program}` is installed")),
            None => Finding::warning(
                "credentials",
                format!("`{program}`, which the Docker configuration names, is not on the `PATH`"),
                format!("install it, or remove it from `{shown}`; without it private images cannot be pulled"),
            ),
        });
    }
    findings
}

/// The stores that secrets come from unless `--secrets` says otherwise. None is opened: that may ask the user.
pub(super) fn secret_store(place: &Place) -> Finding {
    const CHECK: &str = "secrets";
    let desktop = place.program("docker-credential-desktop").map(|_| "Docker Desktop (`docker-credential-desktop`)");
    let own = place.home.as_ref().map(|home| own_stores::kept_in(&home.join(".docker/mcp/secrets")));
    let there: Vec<&str> = desktop.into_iter().chain(own.into_iter().flatten()).collect();
    match there.is_empty() {
        false => Finding::ok(CHECK, format!("looked for in {}", there.join(", then in "))),
        true => {
            Finding::ok(CHECK, "none are kept here; `docker-mcp secret set` keeps some, `--secrets FILE` reads a file")
        }
    }
}

/// The catalog that is used unless `--catalog` names others.
pub(super) fn catalog(place: &Place) -> Finding {
    const CHECK: &str = "catalog";
    let path = place.home.as_ref().map(|home| home.join(".docker/mcp/catalogs/docker-mcp.yaml"));
    let Some(path) = path.filter(|path| is_there(path)) else {
        let fix = "pass `--catalog FILE` (`--catalog builtin:sample` to try it out)";
        return Finding::warning(CHECK, "there is no default catalog", fix);
    };
    match Catalog::load(&path) {
        Ok((catalog, warnings)) => {
            let detail = format!("`{}` has {}", path.display(), count(catalog.names().count(), "server"));
            match warnings.first() {
                None => Finding::ok(CHECK, detail),
                Some(first) => Finding::warning(
                    CHECK,
                    format!("{detail} and {}; the first: {first}", count(warnings.len(), "warning")),
                    "correct it, or get a newer docker-mcp",
                ),
            }
        }
        Err(error) => Finding::problem(CHECK, error.to_string(), "correct the file, or name another with `--catalog`"),
    }
}

/// The configuration that is used unless `--config` names others.
pub(super) fn configuration(place: &Place) -> Finding {
    const CHECK: &str = "configuration";
    let path = place.home.as_ref().map(|home| home.join(".docker/mcp/config.yaml"));
    let Some(path) = path.filter(|path| is_there(path)) else {
        return Finding::ok(CHECK, "there is no default configuration, and none is needed");
    };
    match configuration::load(std::slice::from_ref(&path)) {
        Ok(sections) => Finding::ok(CHECK, format!("`{}` has {}", path.display(), count(sections.len(), "section"))),
        Err(error) => Finding::problem(CHECK, error.to_string(), "correct the file, or name another with `--config`"),
    }
}

/// Whether there is something, even if it cannot be looked at.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
