//! Reading a catalog from where the user says it is: an address, or a file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::catalog::MAX_FILE_BYTES;
use crate::catalog::user_files::UserFiles;
use crate::catalog::user_files::download::{fetch, is_address};

/// The text, what to call it in messages, and the same for later.
pub(super) struct Source {
    pub(super) text: String,
    pub(super) shown: PathBuf,
    pub(super) origin: String,
}

/// Reads an address or a file.
pub(super) async fn read(files: &UserFiles, from: &str, allow_http: bool) -> anyhow::Result<Source> {
    if is_address(from) {
        // Hidden where standard error is no terminal.
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("fetching {bytes} {bar:30}") {
            bar.set_style(style);
        }
        let fetched = fetch(from, allow_http, |done, total| {
            bar.set_length(total.unwrap_or(MAX_FILE_BYTES));
            bar.set_position(done);
        })
        .await;
        bar.finish_and_clear();
        return Ok(Source { text: fetched?, shown: Path::new(from).to_owned(), origin: from.to_owned() });
    }
    let path = std::path::absolute(from).with_context(|| format!("`{from}` is no path"))?;
    let Some(text) = files.read(&path)? else {
        bail!("there is no file `{}`; name a file, an `https://` address, or `docker-mcp`", path.display());
    };
    let Some(origin) = path.to_str().map(str::to_owned) else { bail!("the path `{}` is no text", path.display()) };
    Ok(Source { text, shown: path, origin })
}
