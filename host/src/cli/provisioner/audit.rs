//! `docker-mcp provisioner audit`: reads and checks the audit log, and where gateways begin it.

mod ls;
mod show;
mod stats;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use provisioning_core::policy::AuditDemands;
use provisioning_core::text::one_line;

use super::super::options::ServerOptions;
use super::super::{Status, Verbosity, assemble, log_to_stderr};
use crate::audit::files::Directory;
use crate::audit::reader::Filter;
use crate::audit::record::time;
use crate::audit::{Audit, Options, Retention};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// List the sessions that have a log
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    /// Show what happened, in the order of time
    Show(show::Arguments),
    /// Sum up calls, refusals, times and what was used of the limits
    Stats(stats::Arguments),
    /// Check that nothing was changed, removed, moved or added
    Verify(verify::Arguments),
}

pub(in crate::cli) fn run(command: Command) -> anyhow::Result<Status> {
    match command {
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    }
}

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Where the log is.
#[derive(Args, Debug)]
struct Place {
    /// Where the audit log is kept. Default: ~/.local/state/docker-mcp/audit
    #[arg(long, value_name = "DIRECTORY")]
    audit_dir: Option<PathBuf>,
    #[command(flatten)]
    verbosity: Verbosity,
}

impl Place {
    fn directory(&self) -> anyhow::Result<Directory> {
        log_to_stderr(self.verbosity, true);
        let path = match &self.audit_dir {
            Some(path) => path.clone(),
            None => {
                let home = assemble::home();
                // Reading a log needs no policy; where one says that it is, it is looked for.
                let policies = assemble::policies(&[], home.as_deref()).ok();
                let demands = policies.and_then(|loaded| loaded.policies.audit().ok()).unwrap_or_default();
                match &demands.directory {
                    Some((directory, _)) => demanded_path(directory, home.as_deref())?,
                    None => default_path(home.as_deref())?,
                }
            }
        };
        anyhow::ensure!(
            path.is_dir(),
            "there is no audit log in `{}`; a gateway that runs makes it, and `--audit-dir` names another directory",
            path.display()
        );
        Ok(Directory::at(path))
    }
}

/// Which records are wanted.
#[derive(Args, Debug)]
struct Wanted {
    /// Only this session; the beginning of its identifier will do
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only this component: its name or path, or the beginning of its digest
    #[arg(long, value_name = "NAME|DIGEST")]
    component: Option<String>,
    /// Only what was refused
    #[arg(long)]
    denied: bool,
    /// Only from this time on: `30m`, `2h`, `7d`, or the beginning of a time such as `2026-11-22T14:30` (UTC)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
}

impl Wanted {
    fn filter(&self) -> Filter {
        Filter {
            session: self.session.clone(),
            server: self.server.clone(),
            component: self.component.clone(),
            denied: self.denied,
            since: self.since.clone(),
        }
    }
}

/// A time as records have it, or the beginning of one.
fn since(text: &str) -> Result<String, String> {
    let ago = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let unit = match text.chars().last() {
        Some('s') => Some(1),
        Some('m') => Some(60),
        Some('h') => Some(3600),
        Some('d') => Some(86_400),
        _ => None,
    };
    if let (Some(ago), Some(unit)) = (ago, unit) {
        let seconds = ago.checked_mul(unit).map(Duration::from_secs);
        return seconds
            .and_then(|ago| SystemTime::now().checked_sub(ago))
            .map(time)
            .ok_or_else(|| "that is too long ago".to_owned());
    }
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let fits = text.len() >= 4
        && text.len() <= SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if fits { Ok(text.to_owned()) } else { Err("write `30m`, `2h`, `7d`, or `2026-11-22T14:30:00Z`".to_owned()) }
}

fn default_path(home: Option<&Path>) -> anyhow::Result<PathBuf> {
    Directory::default_path(std::env::var_os("XDG_STATE_HOME"), home)
        .context("there is no home directory; set XDG_STATE_HOME, or name a directory with `--audit-dir`")
}

/// The directory that a policy names.
fn demanded_path(directory: &str, home: Option<&Path>) -> anyhow::Result<PathBuf> {
    match directory.strip_prefix("~/") {
        None => Ok(PathBuf::from(directory)),
        Some(below) => {
            let home = home.with_context(|| format!("there is no home directory for `{directory}`; set HOME"))?;
            Ok(home.join(below))
        }
    }
}

/// Begins the log of a session as the flags and the policies say. A directory that was asked for must be usable; without the
/// default one the gateway runs, and says that nothing is recorded, unless a policy requires the log.
///
/// # Errors
/// If the directory that was asked for cannot be used, or a flag is not what a policy demands.
pub(in crate::cli) fn begin(
    options: &ServerOptions,
    demands: &AuditDemands,
    home: Option<&Path>,
    session: &str,
) -> anyhow::Result<Audit> {
    if let (true, Some(rule)) = (options.no_audit, &demands.required) {
        anyhow::bail!("`--no-audit` is refused by {rule}, which requires the audit log; leave the flag out");
    }
    if options.no_audit {
        return Ok(Audit::off());
    }
    let keep = demands.keep_bytes.as_ref().map_or(0, |(bytes, _)| *bytes);
    let open = |directory: PathBuf| {
        let shown = directory.display().to_string();
        let retention = Retention::of_bytes(options.audit_keep.max(keep));
        let options = Options { directory, session: session.to_owned(), retention };
        let opened = if demands.required.is_some() { Audit::open_required(options) } else { Audit::open(options) };
        opened.with_context(|| format!("`{shown}` cannot be used for the audit log"))
    };
    let demanded = match &demands.directory {
        Some((directory, rule)) => Some((demanded_path(directory, home)?, rule)),
        None => None,
    };
    match (&options.audit_dir, demanded) {
        (Some(asked), Some((directory, rule))) if *asked != directory => anyhow::bail!(
            "`--audit-dir {}` is refused by {rule}, which demands that the audit log is in `{}`; leave the flag out",
            asked.display(),
            directory.display()
        ),
        (_, Some((directory, rule))) => open(directory).with_context(|| format!("{rule} demands it there")),
        (Some(directory), None) => open(directory.clone()).context("--audit-dir"),
        (None, None) if demands.required.is_some() => {
            let rule = demands.required.as_ref().map(ToString::to_string).unwrap_or_default();
            default_path(home).and_then(open).with_context(|| format!("{rule} requires the audit log"))
        }
        (None, None) => Ok(default_path(home).and_then(open).unwrap_or_else(|error| {
            tracing::warn!("nothing is recorded in an audit log: {error:#}; `--no-audit` leaves out this warning");
            Audit::off()
        })),
    }
}

/// A text from a log as a terminal may show it. Logs are written so, but may have been changed since.
fn shown(text: &str) -> String {
    one_line(text, 500)
}

/// Lines with columns as wide as they need to be; the last one may be of any width.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_age_or_the_beginning_of_a_time() {
        assert_eq!(since("2026-11").as_deref(), Ok("2026-11"));
        assert_eq!(since("2026-11-22T14:29:20.123Z").as_deref(), Ok("2026-11-22T14:29:20.123Z"));
        assert!(since("2h").unwrap() < time(SystemTime::now()));
        for wrong in ["", "h", "yesterday", "2026/11", "-5m", "99999999999999999d", "2026-11-22T14:29:20.123Z0"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
