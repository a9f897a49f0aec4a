//! What `cluster-tools` prints: lines for people while it works, or one document for programs. Nothing else of it prints.
#![allow(clippy::print_stderr, reason = "printing is what this module is for")]

use clap::Args;
use serde::Serialize;

use crate::cli::output::{self, Format};

/// How a command tells what it did.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Output {
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Output {
    /// A line for people, at once.
    pub(super) fn line(self, text: impl AsRef<str>) -> anyhow::Result<()> {
        match self.format {
            Format::Text => output::print(&format!("{}\n", text.as_ref())),
            Format::Json => Ok(()),
        }
    }

    /// The whole, for programs.
    pub(super) fn document(self, value: &impl Serialize) -> anyhow::Result<()> {
        match self.format {
            Format::Text => Ok(()),
            Format::Json => output::print_json(value),
        }
    }

    /// Rows for people.
    pub(super) fn table(self, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
        match self.format {
            Format::Text => output::print_table(header, rows),
            Format::Json => Ok(()),
        }
    }
}

/// Something odd that stops nobody, on standard error.
pub(super) fn warning(text: impl AsRef<str>) {
    eprintln!("warning: {}", text.as_ref());
}

/// What went wrong, on standard error.
pub(super) fn error(text: impl AsRef<str>) {
    eprintln!("error: {}", text.as_ref());
}
