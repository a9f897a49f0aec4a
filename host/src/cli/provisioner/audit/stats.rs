//! `docker-mcp provisioner audit stats`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{Format, Place, Wanted, shown, table};
use crate::audit::reader::{Records, is_denied};
use crate::audit::record::{Kind, Record, Used};
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

/// How often something happened and how long it took.
#[derive(Default)]
struct Row {
    count: u64,
    denied: u64,
    failed: u64,
    total_us: u64,
    longest_us: u64,
}

impl Row {
    fn add(&mut self, record: &Record<'_>) {
        self.count += 1;
        let denied = is_denied(record);
        self.denied += u64::from(denied);
        self.failed += u64::from(!denied && record.outcome.as_deref() != Some("ok"));
        let time = record.duration_us.unwrap_or(0);
        self.total_us = self.total_us.saturating_add(time);
        self.longest_us = self.longest_us.max(time);
    }

    fn mean_us(&self) -> u64 {
        self.total_us / self.count.max(1)
    }
}

#[derive(Default)]
struct Stats {
    sessions: BTreeSet<String>,
    operations: BTreeMap<(String, String), Row>,
    calls: BTreeMap<String, Row>,
    /// Calls that have no record of their own.
    counted: BTreeMap<String, u64>,
    most: Used,
    limits: Option<Used>,
    lost: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let directory = arguments.place.directory()?;
    let mut stats = Stats::default();
    for found in Records::open(&directory, arguments.wanted.filter())? {
        stats.add(&found.record);
    }
    match arguments.format {
        Format::Text if stats.sessions.is_empty() => println!("nothing was recorded"),
        Format::Text => print!("{}", stats.text()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&stats.document())?),
    }
    Ok(Status::Success)
}

impl Stats {
    fn add(&mut self, record: &Record<'_>) {
        if !self.sessions.contains(&*record.session) {
            self.sessions.insert(record.session.clone().into_owned());
        }
        self.lost += record.lost.unwrap_or(0);
        let of = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
        match record.event {
            Kind::Call => {
                let function = format!("{}.{}", of(&record.interface), of(&record.function));
                *self.counted.entry(function.clone()).or_default() += 0;
                self.calls.entry(function).or_default().add(record);
            }
            Kind::Ended => {
                self.operations.entry((of(&record.task), of(&record.server))).or_default().add(record);
                for (function, count) in &record.calls {
                    *self.counted.entry(function.clone()).or_default() += count.as_u64().unwrap_or(0);
                }
                if let Some(used) = &record.used {
                    self.most = most(self.most, *used);
                }
            }
            Kind::Loaded => {
                self.limits = record.limits.or(self.limits);
                if is_denied(record) {
                    self.operations.entry(("load".to_owned(), String::new())).or_default().add(record);
                }
            }
            Kind::Refused => {
                self.operations.entry(("admit".to_owned(), of(&record.server))).or_default().add(record);
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        let milliseconds = |time: u64| format!("{:.1}", time as f64 / 1e3);
        let cells = |row: &Row| {
            [row.denied.to_string(), row.failed.to_string(), milliseconds(row.mean_us()), milliseconds(row.longest_us)]
        };
        let mut out = format!("{} sessions, {} records lost\n\n", self.sessions.len(), self.lost);
        let head = |first: &[&str]| {
            let rest = ["COUNT", "DENIED", "FAILED", "MEAN MS", "LONGEST MS"];
            first.iter().chain(&rest).map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let mut rows = vec![head(&["OPERATION", "SERVER"])];
        rows.extend(self.operations.iter().map(|((task, server), row)| {
            let mut line = vec![shown(task), shown(server), row.count.to_string()];
            line.extend(cells(row));
            line
        }));
        out.push_str(&table(&rows));
        let mut rows = vec![head(&["CALL"])];
        rows.extend(self.counted.iter().map(|(function, count)| {
            let mut line = vec![shown(function)];
            match self.calls.get(function) {
                Some(row) => {
                    line.push(count.max(&row.count).to_string());
                    line.extend(cells(row));
                }
                None => line.push(count.to_string()),
            }
            line
        }));
        out.push('\n');
        out.push_str(&table(&rows));
        let mut rows = vec![["LIMIT", "MOST USED", "ALLOWED"].map(str::to_owned).to_vec()];
        let allowed = self.limits.map(members).unwrap_or_default();
        rows.extend(members(self.most).into_iter().map(|(name, used)| {
            let limit = allowed.iter().find(|(other, _)| *other == name);
            vec![name.to_owned(), used.to_string(), limit.map_or_else(String::new, |(_, limit)| limit.to_string())]
        }));
        // Writing to a string cannot fail.
        let _ = write!(out, "\n{}", table(&rows));
        out
    }

    fn document(&self) -> Json {
        let row = |row: &Row| {
            json!({
                "count": row.count,
                "denied": row.denied,
                "failed": row.failed,
                "mean_us": row.mean_us(),
                "longest_us": row.longest_us,
            })
        };
        let operations = self.operations.iter().map(|((task, server), of)| {
            let mut item = json!({ "task": task, "server": server });
            if let (Some(item), Json::Object(row)) = (item.as_object_mut(), row(of)) {
                item.extend(row);
            }
            item
        });
        let calls = self.counted.iter().map(|(function, count)| {
            let mut item = json!({ "function": function });
            if let Some(item) = item.as_object_mut() {
                if let Some(Json::Object(row)) = self.calls.get(function).map(row) {
                    item.extend(row);
                }
                let listed = self.calls.get(function).map_or(0, |row| row.count);
                item.insert("count".to_owned(), (*count).max(listed).into());
            }
            item
        });
        json!({
            "sessions": self.sessions.len(),
            "lost": self.lost,
            "operations": operations.collect::<Vec<_>>(),
            "calls": calls.collect::<Vec<_>>(),
            "most_used": self.most,
            "limits": self.limits,
        })
    }
}

fn members(used: Used) -> Vec<(&'static str, u64)> {
    vec![
        ("memory_bytes", used.memory_bytes),
        ("table_elements", used.table_elements),
        ("instances", used.instances),
        ("handles", used.handles),
        ("guest_ms", used.guest_ms),
        ("host_calls", used.host_calls),
        ("copied_bytes", used.copied_bytes),
        ("value_bytes", used.value_bytes),
        ("containers", used.containers),
        ("log_lines", used.log_lines),
    ]
}

fn most(one: Used, other: Used) -> Used {
    Used {
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        table_elements: one.table_elements.max(other.table_elements),
        instances: one.instances.max(other.instances),
        handles: one.handles.max(other.handles),
        guest_ms: one.guest_ms.max(other.guest_ms),
        host_calls: one.host_calls.max(other.host_calls),
        copied_bytes: one.copied_bytes.max(other.copied_bytes),
        value_bytes: one.value_bytes.max(other.value_bytes),
        containers: one.containers.max(other.containers),
        log_lines: one.log_lines.max(other.log_lines),
    }
}
