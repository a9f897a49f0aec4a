//! `docker-mcp catalog init`, and the same for commands that need Docker's catalog.

use clap::Args;

use super::{import, source};
use crate::catalog::user_files::UserFiles;
use crate::catalog::user_files::catalogs::{self, DOCKER, DOCKER_URL};
use crate::cli::{Status, user_files};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {}

pub(super) async fn run(_: &Arguments) -> anyhow::Result<Status> {
    if !ensure(&user_files()?).await? {
        eprintln!("the catalog `{DOCKER}` is there; `docker-mcp catalog update {DOCKER}` fetches it again");
    }
    Ok(Status::Success)
}

/// Gets Docker's catalog if it is not there. True if it was fetched.
pub(super) async fn ensure(files: &UserFiles) -> anyhow::Result<bool> {
    if catalogs::list(files)?.contains_key(DOCKER) && files.catalog(DOCKER).exists() {
        return Ok(false);
    }
    let source = source::read(files, DOCKER_URL, false).await?;
    import::finish(files, DOCKER.to_owned(), source, false)?;
    Ok(true)
}
