//! What commands print: tables that fit the terminal, JSON, and colours where they are wanted.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use provisioning_core::text::one_line;
use serde::Serialize;

/// How data is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The longest text of a cell that is kept.
const MAX_CELL: usize = 1_000;

/// Prints data. A reader that has seen enough and goes away is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints rows below a header. On a terminal the header is bold and no row is longer than a line.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal()).map(|(width, _)| width.0.into());
    print(&table(header, rows, width, colours(io::stdout().is_terminal())))
}

/// Whether colours are wanted on a stream.
pub(crate) fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn table(header: &[&str], rows: &[Vec<String>], width: Option<usize>, bold: bool) -> String {
    // Names and descriptions are anybody's text: they must not drive the terminal.
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell.trim(), MAX_CELL)).collect()).collect();
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell));
            cells.chain([length(title)]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &[&str]| {
        let last = cells.len().saturating_sub(1);
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column == last {
            true => (*cell).to_owned(),
            false => format!("{cell}{:1$}  ", "", width.saturating_sub(length(cell))),
        });
        let text: String = padded.collect::<String>().trim_end().to_owned();
        match width {
            Some(width) if length(&text) > width.max(20) => text.chars().take(width.max(20) - 1).chain(['…']).collect(),
            _ => text,
        }
    };
    let mut out = match bold {
        true => format!("\u{1b}[1m{}\u{1b}[0m\n", line(header)),
        false => format!("{}\n", line(header)),
    };
    for row in &rows {
        out.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        out.push('\n');
    }
    out
}

/// `1 server`, `2 servers`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_cells_cannot_drive_it() {
        let rows = [vec!["a".to_owned(), "one\u{1b}[2J".to_owned()], vec!["long name".to_owned(), "x ".repeat(30)]];
        let plain = table(&["NAME", "DESCRIPTION"], &rows, None, false);
        assert!(plain.starts_with("NAME       DESCRIPTION\na          one\\u{1b}[2J\n"), "{plain}");
        let narrow = table(&["NAME", "DESCRIPTION"], &rows, Some(30), true);
        assert!(narrow.starts_with("\u{1b}[1mNAME       DESCRIPTION\u{1b}[0m\n"), "{narrow}");
        assert!(narrow.lines().skip(1).all(|line| line.chars().count() <= 30), "{narrow}");
        assert!(narrow.trim_end().ends_with('…'));
    }
}
