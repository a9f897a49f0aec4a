//! `docker-mcp catalog bootstrap`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::init;
use crate::catalog::user_files::catalogs;
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The file to write; it must not exist
    file: PathBuf,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let files = user_files()?;
    init::ensure(&files).await?;
    let text = catalogs::starter(&files)?;
    let file = &arguments.file;
    let failed = || format!("cannot write `{}`", file.display());
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).with_context(failed)?;
    }
    let mut new = match std::fs::File::create_new(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            anyhow::bail!("`{}` is there already; choose another name", file.display());
        }
        created => created.with_context(failed)?,
    };
    new.write_all(text.as_bytes()).with_context(failed)?;
    eprintln!(
        "wrote examples to `{0}`; change them and run `docker-mcp catalog import {0} --name NAME`",
        file.display()
    );
    Ok(Status::Success)
}
