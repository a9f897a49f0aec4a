//! Completion of `docker mcp ...`: `docker` asks for the words that may follow and reads one on each line, with a
//! description behind a tab, and at the end a colon and what the shell shall do besides.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::CommandFactory as _;

use crate::cli::{Cli, output};

/// Adds no space and offers files, as the shell does by itself.
const DEFAULT: u8 = 0;
/// Offers no files.
const NO_FILES: u8 = 4;

/// Prints what may follow. `words` begins with `mcp`; its last is what is being typed, which may be empty.
pub(super) fn run(words: &[OsString]) -> anyhow::Result<()> {
    let mut words = words.to_vec();
    if words.len() < 2 {
        words.resize(2, OsString::new());
    }
    let last = words.len() - 1;
    let directory = std::env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut Cli::command(), words, last, directory.as_deref())?;
    let mut out = String::new();
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        // Writing to a string cannot fail.
        let _ = match candidate.get_help() {
            Some(help) => {
                writeln!(out, "{}\t{}", candidate.get_value().to_string_lossy(), first_line(&help.to_string()))
            }
            None => writeln!(out, "{}", candidate.get_value().to_string_lossy()),
        };
    }
    let directive = if found.is_empty() { DEFAULT } else { NO_FILES };
    output::print(&format!("{out}:{directive}\n"))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
