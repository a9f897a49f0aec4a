//! `docker-mcp provisioner audit ls`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Format, Place, Wanted, shown, table};
use crate::audit::reader::{Records, is_denied};
use crate::audit::record::{Kind, Record};
use crate::cli::Status;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What the wanted records of a session come to.
#[derive(Default)]
struct Session {
    from: String,
    to: String,
    last: Kind,
    operations: u64,
    calls: u64,
    denied: u64,
    lost: u64,
    servers: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let directory = arguments.place.directory()?;
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    for found in Records::open(&directory, arguments.wanted.filter())? {
        sessions.entry(found.record.session.clone().into_owned()).or_default().add(&found.record);
    }
    let mut sessions: Vec<(String, Session)> = sessions.into_iter().collect();
    sessions.sort_by(|(_, one), (_, other)| one.from.cmp(&other.from));
    match arguments.format {
        Format::Text if sessions.is_empty() => println!("nothing was recorded"),
        Format::Text => print!("{}", text(&sessions)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&document(&sessions))?),
    }
    Ok(Status::Success)
}

impl Session {
    fn add(&mut self, record: &Record<'_>) {
        if self.from.is_empty() {
            self.from = record.time.clone().into_owned();
        }
        self.to = record.time.clone().into_owned();
        self.last = record.event;
        self.lost += record.lost.unwrap_or(0);
        match record.event {
            Kind::Ended => self.operations += 1,
            Kind::Call => self.calls += 1,
            _ => {}
        }
        // Components and servers that are refused, too.
        if matches!(record.event, Kind::Call | Kind::Loaded | Kind::Refused) {
            self.denied += u64::from(is_denied(record));
        }
        if let Some(server) = record.server.as_deref()
            && !self.servers.iter().any(|known| known == server)
        {
            self.servers.push(server.to_owned());
        }
    }

    /// How the log ends, as far as the records that are wanted tell.
    fn end(&self) -> &'static str {
        match self.last {
            Kind::Closed => "closed",
            Kind::Recovered => "killed",
            _ => "",
        }
    }
}

fn text(sessions: &[(String, Session)]) -> String {
    let head = ["SESSION", "FROM", "TO", "END", "OPERATIONS", "CALLS", "DENIED", "LOST", "SERVERS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(|(id, session)| {
        vec![
            shown(id),
            shown(&session.from),
            shown(&session.to),
            session.end().to_owned(),
            session.operations.to_string(),
            session.calls.to_string(),
            session.denied.to_string(),
            session.lost.to_string(),
            shown(&session.servers.join(",")),
        ]
    }));
    table(&rows)
}

fn document(sessions: &[(String, Session)]) -> Json {
    let sessions = sessions.iter().map(|(id, session)| {
        json!({
            "session": id,
            "from": session.from,
            "to": session.to,
            "end": session.end(),
            "operations": session.operations,
            "calls": session.calls,
            "denied": session.denied,
            "lost": session.lost,
            "servers": session.servers,
        })
    });
    json!({ "sessions": sessions.collect::<Vec<_>>() })
}
