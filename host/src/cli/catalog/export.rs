//! `docker-mcp catalog export`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::catalog::user_files::catalogs;
use crate::cli::{Status, output, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The catalog
    name: String,
    /// The file to write, or `-` for standard output
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { name, file } = arguments;
    if name == catalogs::DOCKER {
        bail!("`{name}` is Docker's own catalog, which is not exported; it is at {}", catalogs::DOCKER_URL);
    }
    let (text, _) = catalogs::text(&user_files()?, name)?;
    if file.as_os_str() == "-" {
        output::print(&text)?;
        return Ok(Status::Success);
    }
    let failed = || format!("cannot write `{}`", file.display());
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).with_context(failed)?;
    }
    std::fs::write(file, text).with_context(failed)?;
    eprintln!("wrote the catalog `{name}` to `{}`", file.display());
    Ok(Status::Success)
}
