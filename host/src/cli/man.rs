//! `docker-mcp man`: a manual page for each command.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::{Cli, Status, output};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The directory to write to, such as ~/.local/share/man/man1
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let directory = &arguments.directory;
    let failed = || format!("cannot write manual pages to `{}`", directory.display());
    std::fs::create_dir_all(directory).with_context(failed)?;
    let mut command = Cli::command();
    command.build();
    let pages = pages(&command).with_context(failed)?;
    for (name, page) in &pages {
        std::fs::write(directory.join(name), page).with_context(failed)?;
    }
    eprintln!("wrote {} to `{}`", output::count(pages.len(), "manual page"), directory.display());
    Ok(Status::Success)
}

/// The page of a command and those of the commands below it, by file name.
fn pages(command: &clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut pages = vec![(man.get_filename(), page)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        pages.extend(self::pages(below)?);
    }
    Ok(pages)
}
