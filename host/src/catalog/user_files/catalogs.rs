//! The catalogs that a user has: `catalog.json` names them, `catalogs/` holds a file for each.
//!
//! The file is written before it is named and unnamed before it is removed, so that what is named exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use provisioning_core::names;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Change, UserFileError, UserFiles, document, to_json};
use crate::catalog::{Catalog, Warning};

/// The name of Docker's catalog.
pub const DOCKER: &str = "docker-mcp";
/// Where Docker's catalog comes from.
pub const DOCKER_URL: &str = "https://desktop.docker.com/mcp/catalog/v3/catalog.yaml";

/// What is known of a catalog besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listed {
    /// Its name for people.
    pub display_name: String,
    /// Where it came from: an address or a file. None for one that was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it was last fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update: Option<String>,
}

/// All catalogs by name.
///
/// # Errors
/// If `catalog.json` is broken.
pub fn list(files: &UserFiles) -> Result<BTreeMap<String, Listed>, UserFileError> {
    let path = files.catalog_index();
    let mut catalogs = match files.read(&path)? {
        Some(text) => listed(&to_json(&text, &path)?),
        None => BTreeMap::new(),
    };
    // The file alone is enough for Docker's own.
    if !catalogs.contains_key(DOCKER) && files.catalog(DOCKER).exists() {
        catalogs.insert(DOCKER.to_owned(), docker());
    }
    Ok(catalogs)
}

/// Docker's catalog, as it is listed.
pub fn docker() -> Listed {
    let display_name = "Docker MCP Catalog".to_owned();
    Listed { display_name, url: Some(DOCKER_URL.to_owned()), last_update: None }
}

fn listed(index: &Json) -> BTreeMap<String, Listed> {
    let catalogs = index.get("catalogs").and_then(Json::as_object).into_iter().flatten();
    // A value that is odd says nothing about the catalog, which is there all the same.
    catalogs.map(|(name, value)| (name.clone(), serde_json::from_value(value.clone()).unwrap_or_default())).collect()
}

/// What is listed about one catalog.
///
/// # Errors
/// If there is no such catalog.
pub fn get(files: &UserFiles, name: &str) -> Result<Listed, UserFileError> {
    let mut catalogs = list(files)?;
    catalogs.remove(name).ok_or_else(|| unknown(name, catalogs.keys()))
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> UserFileError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let remedy = match (names::near(name, known.iter().copied()).first(), known.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "there is none yet; see `docker-mcp catalog import --help`".to_owned(),
        (None, false) => format!("there are: {}", known.join(", ")),
    };
    UserFileError::Refused(format!("there is no catalog `{name}`; {remedy}"))
}

/// The files of all catalogs, Docker's first: where two have a server of one name, the later counts.
///
/// # Errors
/// If `catalog.json` is broken.
pub fn paths(files: &UserFiles) -> Result<Vec<PathBuf>, UserFileError> {
    let catalogs = list(files)?;
    let (docker, others): (Vec<&String>, Vec<&String>) = catalogs.keys().partition(|name| *name == DOCKER);
    Ok(docker.into_iter().chain(others).map(|name| files.catalog(name)).collect())
}

/// The servers of all catalogs, and what is odd about them.
///
/// # Errors
/// If one of the catalogs cannot be read.
pub fn load(files: &UserFiles) -> Result<(Catalog, Vec<Warning>), UserFileError> {
    let (mut catalogs, mut warnings) = (Vec::new(), Vec::new());
    for path in paths(files)? {
        let (catalog, odd) = Catalog::load(&path)?;
        catalogs.push(catalog);
        warnings.extend(odd);
    }
    Ok((Catalog::merge(catalogs), warnings))
}

/// The text of one catalog and its file.
///
/// # Errors
/// If there is no such catalog or it cannot be read.
pub fn text(files: &UserFiles, name: &str) -> Result<(String, PathBuf), UserFileError> {
    get(files, name)?;
    let path = files.catalog(name);
    let text = crate::catalog::yaml::read_text(&path)?;
    Ok((text, path))
}

/// What a catalog says it is called: its name, and its name for people.
///
/// # Errors
/// If the text is no catalog.
pub fn names_in(text: &str, path: &Path) -> Result<(Option<String>, Option<String>), UserFileError> {
    Catalog::parse(text, path)?;
    let content = to_json(text, path)?;
    let text = |key: &str| content.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty());
    Ok((text("name").map(str::to_owned), text("displayName").map(str::to_owned)))
}

/// Gives a catalog that says no name one.
///
/// # Errors
/// If the text cannot be changed.
pub fn with_name(text: &str, path: &Path, name: &str) -> Result<String, UserFileError> {
    let set = |key: &str| Change::Set(vec![key.to_owned()], json!(name));
    Ok(document::edit(text, path, &[set("name"), set("displayName")])?)
}

/// Checks that a new catalog can have this name.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), UserFileError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.len() <= 100 && name.bytes().all(fits) && name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let shown = provisioning_core::text::one_line(name, 100);
    Err(UserFileError::Refused(format!(
        "`{shown}` cannot name a catalog; use letters, digits, `-`, `_` and `.`, first a letter or digit"
    )))
}

/// Makes an empty catalog.
///
/// # Errors
/// If the name is taken or cannot be one.
pub fn create(files: &UserFiles, name: &str) -> Result<(), UserFileError> {
    put_new(files, name, &head(name))
}

/// Makes a catalog with the content of another.
///
/// # Errors
/// If there is no such catalog, or the new name is taken or cannot be one.
pub fn fork(files: &UserFiles, source: &str, name: &str) -> Result<(), UserFileError> {
    let (content, path) = text(files, source)?;
    put_new(files, name, &with_name(&content, &path, name)?)
}

/// The beginning of a catalog; the names that pass [`check_name`] need no more than quotes.
fn head(name: &str) -> String {
    format!("name: \"{name}\"\ndisplayName: \"{name}\"\nregistry: {{}}\n")
}

fn put_new(files: &UserFiles, name: &str, content: &str) -> Result<(), UserFileError> {
    check_name(name)?;
    if name == DOCKER {
        return Err(UserFileError::Refused(format!("`{name}` is Docker's own catalog; choose another name")));
    }
    let _lock = files.lock()?;
    let taken = list(files)?.into_keys().find(|known| files.catalog(known) == files.catalog(name));
    if let Some(taken) = taken {
        return Err(UserFileError::Refused(format!(
            "there is a catalog `{taken}` already; choose another name, or remove it with `docker-mcp catalog rm {taken}`"
        )));
    }
    put_locked(files, name, &Listed { display_name: name.to_owned(), ..Listed::default() }, content)
}

/// Makes or replaces a catalog. True if there was one before.
///
/// # Errors
/// If the name cannot be one or a file not be written.
pub fn put(files: &UserFiles, name: &str, listed: &Listed, content: &str) -> Result<bool, UserFileError> {
    check_name(name)?;
    let _lock = files.lock()?;
    let before = list(files)?.contains_key(name);
    put_locked(files, name, listed, content)?;
    Ok(before)
}

fn put_locked(files: &UserFiles, name: &str, listed: &Listed, content: &str) -> Result<(), UserFileError> {
    // Tells a broken index before anything is written.
    list(files)?;
    UserFiles::write(&files.catalog(name), content)?;
    let entry = json!(listed);
    files.update_locked(&files.catalog_index(), |index| {
        let known = index.get("catalogs").and_then(|catalogs| catalogs.get(name));
        // What others noted about the catalog stays.
        let fields = entry.as_object().into_iter().flatten();
        Ok(match known.and_then(Json::as_object) {
            Some(_) => fields.map(|(key, value)| Change::Set(in_index(&[name, key]), value.clone())).collect(),
            None => vec![Change::Set(in_index(&[name]), entry.clone())],
        })
    })?;
    Ok(())
}

fn in_index(keys: &[&str]) -> Vec<String> {
    std::iter::once("catalogs").chain(keys.iter().copied()).map(str::to_owned).collect()
}

/// Removes a catalog.
///
/// # Errors
/// If there is none, or it is Docker's.
pub fn remove(files: &UserFiles, name: &str) -> Result<(), UserFileError> {
    if name == DOCKER {
        return Err(UserFileError::Refused(format!("`{name}` is Docker's own catalog, which is not removed")));
    }
    let _lock = files.lock()?;
    get(files, name)?;
    remove_locked(files, &[name.to_owned()])
}

/// Removes all catalogs but Docker's, and returns their names.
///
/// # Errors
/// If a file cannot be changed or removed.
pub fn reset(files: &UserFiles) -> Result<Vec<String>, UserFileError> {
    let _lock = files.lock()?;
    let names: Vec<String> = list(files)?.into_keys().filter(|name| name != DOCKER).collect();
    remove_locked(files, &names)?;
    Ok(names)
}

fn remove_locked(files: &UserFiles, names: &[String]) -> Result<(), UserFileError> {
    let changes: Vec<Change> = names.iter().map(|name| Change::Remove(in_index(&[name]))).collect();
    files.update_locked(&files.catalog_index(), |_| Ok(changes))?;
    for path in names.iter().map(|name| files.catalog(name)) {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(UserFileError::Write { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies the entry of a server from the text of a catalog file into a catalog, as it stands there.
///
/// # Errors
/// If there is no such catalog or server, or the catalog has the server and `force` is not set.
pub fn add(
    files: &UserFiles,
    name: &str,
    server: &str,
    (source, from): (&str, &Path),
    force: bool,
) -> Result<(), UserFileError> {
    let (servers, _) = Catalog::parse(source, from)?;
    servers.select(&[server.to_owned()])?;
    let keys = vec!["registry".to_owned(), server.to_owned()];
    if to_json(source, from)?.get("registry").and_then(|servers| servers.get(server)).is_none() {
        return Err(UserFileError::Refused(format!(
            "`{}` has its servers not below `registry:`, so that `{server}` cannot be copied; rewrite it so",
            from.display()
        )));
    }
    if name == DOCKER {
        return Err(UserFileError::Refused(format!(
            "`{name}` is Docker's own catalog, which the next update replaces; fork it, or use another"
        )));
    }
    // Also tells a file that is gone.
    let (_, path) = text(files, name)?;
    files.update(&path, |catalog| {
        if !force && catalog.get("registry").and_then(|servers| servers.get(server)).is_some() {
            return Err(UserFileError::Refused(format!(
                "the catalog `{name}` has a server `{server}` already; replace it with `--force`"
            )));
        }
        Ok(vec![Change::Copy(keys.clone(), source.to_owned(), keys)])
    })?;
    Ok(())
}

/// The entry of a server as it stands in the last catalog that has it, with all that this program does not know.
///
/// # Errors
/// If a catalog cannot be read, or none has the server.
pub fn entry(files: &UserFiles, server: &str) -> Result<Json, UserFileError> {
    for path in paths(files)?.into_iter().rev() {
        let content = to_json(&crate::catalog::yaml::read_text(&path)?, &path)?;
        let named = |entry: &&Json| entry.get("name").and_then(Json::as_str) == Some(server);
        let listed = content.get("servers").and_then(Json::as_array).into_iter().flatten().find(named);
        if let Some(entry) = content.get("registry").and_then(|servers| servers.get(server)).or(listed) {
            return Ok(entry.clone());
        }
    }
    Err(UserFileError::Refused(format!("server `{server}` is in no catalog")))
}

/// The text of a catalog to start from: two servers of Docker's own.
///
/// # Errors
/// If Docker's catalog cannot be read or has none of them.
pub fn starter(files: &UserFiles) -> Result<String, UserFileError> {
    let (source, path) = text(files, DOCKER)?;
    let content = to_json(&source, &path)?;
    let keys = |server: &str| vec!["registry".to_owned(), server.to_owned()];
    let copies: Vec<Change> = ["dockerhub", "docker"]
        .into_iter()
        .filter(|server| content.get("registry").and_then(|servers| servers.get(*server)).is_some())
        .map(|server| Change::Copy(keys(server), source.clone(), keys(server)))
        .collect();
    if copies.is_empty() {
        let reason =
            format!("`{}` has neither `dockerhub` nor `docker`; `catalog fork` copies all of it", path.display());
        return Err(UserFileError::Refused(reason));
    }
    Ok(document::edit("", &path, &copies)?)
}
