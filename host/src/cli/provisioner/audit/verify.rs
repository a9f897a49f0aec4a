//! `docker-mcp provisioner audit verify`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value as Json, json};

use super::{Format, Place, shown, table};
use crate::audit::chain::Hash;
use crate::audit::verify::{self, Report, State};
use crate::cli::Status;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Only this file. Default: all of the directory
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// A head that a gateway printed when it ended, `NUMBER:HASH` or its hash: this record must be there
    #[arg(long, value_name = "HEAD", value_parser = head)]
    head: Option<Hash>,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    place: Place,
}

fn head(text: &str) -> Result<Hash, String> {
    let hash = text.rsplit_once(':').map_or(text, |(_, hash)| hash);
    hash.parse().map_err(|error: crate::audit::chain::NotAHash| error.to_string())
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (report, paths) = match &arguments.file {
        Some(path) => {
            let unreadable = || format!("cannot read `{}`", path.display());
            (verify::file(path).with_context(unreadable)?, vec![path.clone()])
        }
        None => {
            let directory = arguments.place.directory()?;
            let paths = directory.files()?.into_iter().map(|file| file.path);
            (verify::directory(&directory)?, paths.collect())
        }
    };
    let found = match arguments.head {
        Some(wanted) => Some((wanted, verify::holds(&paths, wanted)?)),
        None => None,
    };
    let is_cut = matches!(found, Some((_, None)));
    match arguments.format {
        Format::Text => {
            print!("{}", text(&report));
            match &found {
                Some((hash, None)) => {
                    println!("MISSING: no record has the hash {hash}: records were removed, or replaced")
                }
                Some((_, Some((path, line)))) => println!("the head is at {}:{line}", path.display()),
                None => {}
            }
            println!("{}", if report.is_sound() && !is_cut { "ok" } else { "NOT OK" });
        }
        Format::Json => {
            let mut document = document(&report, !is_cut);
            if let (Some(document), Some((_, found))) = (document.as_object_mut(), &found) {
                let place = found.as_ref().map(|(path, line)| json!({ "file": path, "line": line }));
                document.insert("head".to_owned(), json!(place));
            }
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
    }
    Ok(if report.is_sound() && !is_cut { Status::Success } else { Status::Partial })
}

fn state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Recovered => "killed",
        State::Running => "running",
        State::Unfinished => "without end",
    }
}

fn text(report: &Report) -> String {
    let mut rows = vec![["SESSION", "FROM", "TO", "RECORDS", "LOST", "END", "HEAD"].map(str::to_owned).to_vec()];
    rows.extend(report.sessions.iter().map(|session| {
        vec![
            shown(&session.session),
            shown(&session.from),
            shown(&session.to),
            session.records.to_string(),
            session.lost.to_string(),
            state(session.state).to_owned(),
            session.head.to_string(),
        ]
    }));
    let mut out = if report.sessions.is_empty() { "no record\n".to_owned() } else { table(&rows) };
    for note in &report.notes {
        out.push_str(&format!("note: {}\n", shown(note)));
    }
    for problem in &report.problems {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        out.push_str(&format!("{}{line}: {}\n", problem.file.display(), shown(&problem.what)));
    }
    if report.more_problems > 0 {
        out.push_str(&format!("and {} problems more\n", report.more_problems));
    }
    out
}

fn document(report: &Report, head_is_there: bool) -> Json {
    let sessions = report.sessions.iter().map(|session| {
        json!({
            "session": session.session,
            "files": session.files,
            "records": session.records,
            "first": session.first,
            "from": session.from,
            "to": session.to,
            "head": session.head.to_string(),
            "end": state(session.state),
            "lost": session.lost,
        })
    });
    let problems = report
        .problems
        .iter()
        .map(|problem| json!({ "file": problem.file, "line": problem.line, "what": problem.what }));
    json!({
        "ok": report.is_sound() && head_is_there,
        "sessions": sessions.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "more_problems": report.more_problems,
        "notes": report.notes,
    })
}
