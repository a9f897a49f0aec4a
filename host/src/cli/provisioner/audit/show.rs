//! `docker-mcp provisioner audit show`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use serde_json::Value as Json;

use super::{Format, Place, Wanted, shown};
use crate::audit::reader::{Found, Records, is_denied};
use crate::audit::record::{Kind, Record};
use crate::cli::Status;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Only the last so many
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// How to show it; `json` is one record a line, as it is stored
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let directory = arguments.place.directory()?;
    let records = Records::open(&directory, arguments.wanted.filter())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut count = 0_u64;
    let mut show = |found: &Found| {
        count += 1;
        match arguments.format {
            Format::Text => out.write_all(text(&found.record).as_bytes()),
            Format::Json => writeln!(out, "{}", found.line),
        }
    };
    let done = match arguments.last {
        None => records.into_iter().try_for_each(|found| show(&found)),
        Some(wanted) => {
            let mut last = VecDeque::new();
            for found in records {
                last.push_back(found);
                if last.len() > wanted {
                    last.pop_front();
                }
            }
            last.iter().try_for_each(show)
        }
    };
    if count == 0 && arguments.format == Format::Text {
        eprintln!("nothing like that was recorded");
    }
    match done.and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Status::Success),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Status::Success),
    }
}

/// A record in one line, and what it has besides in further ones.
fn text(record: &Record<'_>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{} {}", shown(&record.time), shown(&record.session));
    if let Some(operation) = record.operation {
        let _ = write!(out, " #{operation}");
    }
    let _ = writeln!(out, "  {}", event(record));
    let mut more = |label: &str, text: &str| {
        let _ = writeln!(out, "    {label:12} {}", shown(text));
    };
    for (name, argument) in &record.arguments {
        match argument {
            Json::Array(items) => items.iter().for_each(|item| more(name, &plain(item))),
            other => more(name, &plain(other)),
        }
    }
    record.gave.iter().for_each(|line| more("gave", line));
    record.after.iter().for_each(|end| more("after", &format!("session {} ended with {}", end.session, end.head)));
    record.files.iter().for_each(|file| more("file", file));
    if !record.grants.is_empty() {
        more("grants", &record.grants.join(", "));
    }
    if let Some(error) = &record.error {
        more("error", error);
    }
    if let Some(digest) = record.digest.as_deref().filter(|_| record.event == Kind::Loaded) {
        more("digest", digest);
    }
    if !record.calls.is_empty() {
        let calls = record.calls.iter().map(|(function, count)| format!("{function} {count}"));
        more("calls", &calls.collect::<Vec<_>>().join(", "));
    }
    if let Some(used) = &record.used {
        let used = format!(
            "{} KiB of memory, {} ms computing, {} host calls, {} handles, {} bytes in values, {} containers, {} log lines",
            used.memory_bytes >> 10,
            used.guest_ms,
            used.host_calls,
            used.handles,
            used.value_bytes,
            used.containers,
            used.log_lines
        );
        more("used", &used);
    }
    out
}

fn event(record: &Record<'_>) -> String {
    let of = |text: &Option<std::borrow::Cow<'_, str>>| shown(text.as_deref().unwrap_or_default());
    let function = || format!("{}.{}", of(&record.interface), of(&record.function));
    let subject = || {
        let server = if record.server.is_some() { format!(" `{}`", of(&record.server)) } else { String::new() };
        let tool = if record.tool.is_some() { format!(" tool `{}`", of(&record.tool)) } else { String::new() };
        format!("{}{server}{tool} by {}", of(&record.task), of(&record.component))
    };
    let rule = || {
        let Some(rule) = &record.rule else { return String::new() };
        let place = rule.file.as_deref().map(|file| match rule.line {
            Some(line) => format!(" at {file}:{line}"),
            None => format!(" in {file}"),
        });
        format!(" by {}{}", shown(&rule.text), shown(&place.unwrap_or_default()))
    };
    let took = record.duration_us.map(|time| format!(" in {:.1} ms", time as f64 / 1e3)).unwrap_or_default();
    match record.event {
        Kind::Opened => format!("log begins, gateway {} process {}", of(&record.gateway), record.process.unwrap_or(0)),
        Kind::Continued => "log goes on in a new file".to_owned(),
        Kind::Removed => "old files are deleted".to_owned(),
        Kind::Loaded => format!("component {} loaded: {}{}", of(&record.component), of(&record.outcome), rule()),
        Kind::Refused => format!("server `{}`: DENIED{}", of(&record.server), rule()),
        Kind::Begun => format!("begins: {}", subject()),
        Kind::Asked => format!("asks: {}", function()),
        Kind::Call => {
            let verdict = if is_denied(record) { "DENIED" } else { "allowed" };
            format!("{}: {verdict}{}, {}{took}", function(), rule(), of(&record.outcome))
        }
        Kind::Ended => format!("ends: {}, {}{took}", subject(), of(&record.outcome)),
        Kind::Lost => format!("{} RECORDS ARE LOST", record.lost.unwrap_or(0)),
        Kind::Closed => "log ends".to_owned(),
        Kind::Recovered => format!("the gateway was killed; session {} says so", of(&record.by)),
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
