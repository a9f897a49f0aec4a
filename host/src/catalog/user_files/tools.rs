//! `tools.yaml`: which tools of a server are enabled. A server that is not in it has all of its tools.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Change, UserFileError, UserFiles, fields};

/// The enabled tools by server; servers that are not in it have all of theirs.
///
/// # Errors
/// If the file is broken.
pub fn enabled(files: &UserFiles) -> Result<BTreeMap<String, Vec<String>>, UserFileError> {
    let path = files.tools();
    let Some(text) = files.read(&path)? else { return Ok(BTreeMap::new()) };
    let read = || fields(&text, &path)?.all_texts().map_err(|complaint| complaint.in_file(&path));
    Ok(read()?)
}

/// Changes the list of one server: `decide` is given the list, or none, and returns the new one, or none if nothing
/// changes. Items that stay keep their order and their comments.
///
/// # Errors
/// If the file is broken or cannot be written.
pub fn update(
    files: &UserFiles,
    server: &str,
    decide: impl FnOnce(Option<Vec<String>>) -> Option<Vec<String>>,
) -> Result<bool, UserFileError> {
    files.update(&files.tools(), |tools| {
        let now = tools.get(server).and_then(Json::as_array).map(|names| {
            names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect()
        });
        Ok(decide(now).map(|new| Change::Set(vec![server.to_owned()], json!(new))).into_iter().collect())
    })
}
