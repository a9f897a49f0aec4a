//! `docker-mcp policy`: checks policy files, shows what holds here, and prints the schema.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use provisioning_core::policy::{Listed, Lists, Policy, Rule};
use serde_json::{Value as Json, json};

use super::Status;
use super::assemble::{home, policies};
use crate::builtin;
use crate::policy::effect::Effect;
use crate::policy::file::{self, Checked, PolicyError};
use crate::policy::grants::Grants;
use crate::policy::sources;
use crate::sandbox::contract::digest;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check policy files, with the place of everything that is wrong
    Check(Check),
    /// Show the policies that hold here, and what the built-in provisioner is granted
    Show(Show),
    /// Print the JSON Schema of policy files
    Schema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to show what is wrong
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// A policy besides the organisation's and the user's own; repeat it for several
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(command: Command) -> anyhow::Result<Status> {
    match command {
        Command::Check(arguments) => check(&arguments),
        Command::Show(arguments) => show(&arguments),
        Command::Schema => {
            println!("{}", serde_json::to_string_pretty(&file::schema())?);
            Ok(Status::Success)
        }
    }
}

/// Says on stdout what is wrong, as compilers do; the status says whether anything is.
fn check(arguments: &Check) -> anyhow::Result<Status> {
    let results: Vec<(&Path, Result<Checked, PolicyError>)> =
        arguments.files.iter().map(|path| (path.as_path(), read(path))).collect();
    match arguments.format {
        Format::Json => {
            let files = results.iter().map(|(path, result)| {
                let (problems, warnings) = match result {
                    Ok(checked) => (&[][..], checked.warnings.as_slice()),
                    Err(error) => (error.problems.as_slice(), &[][..]),
                };
                json!({ "file": path, "valid": result.is_ok(), "problems": problems, "warnings": warnings })
            });
            println!("{}", serde_json::to_string_pretty(&json!({ "files": files.collect::<Vec<_>>() }))?);
        }
        Format::Text => {
            for (path, result) in &results {
                let file = path.display().to_string();
                match result {
                    Ok(checked) => {
                        println!("{file}: valid");
                        checked.warnings.iter().for_each(|warning| println!("{}", warning.at(&file, "warning: ")));
                    }
                    Err(error) => error.lines().for_each(|line| println!("{line}")),
                }
            }
        }
    }
    Ok(if results.iter().any(|(_, result)| result.is_err()) { Status::Partial } else { Status::Success })
}

fn read(path: &Path) -> Result<Checked, PolicyError> {
    let text =
        sources::read_untrusted(path).map_err(|error| PolicyError::whole(path, format!("cannot be read: {error}")))?;
    file::check(&text, path)
}

fn show(arguments: &Show) -> anyhow::Result<Status> {
    let loaded = policies(&arguments.policy, home().as_deref())?;
    let builtin = [
        ("docker", Grants::builtin_docker(), builtin::DOCKER),
        ("kubernetes", Grants::builtin_kubernetes(), builtin::KUBERNETES),
    ]
    .map(|(name, grants, bytes)| {
        let effect = Effect::of(&grants, &loaded.policies, &digest(bytes), Some(name));
        (name, grants.to_string(), effect)
    });
    let files = || loaded.policies.files.iter().zip(&loaded.files);
    match arguments.format {
        Format::Json => {
            let files = files().map(|(policy, (path, role))| {
                let entries: Vec<Json> = entries(policy).iter().map(Entry::json).collect();
                json!({ "file": path, "role": role.name(), "entries": entries })
            });
            let granted = builtin.iter().map(|(name, grants, _)| (*name, grants.split(',').collect::<Vec<_>>()));
            let effective = builtin.iter().map(|(name, _, effect)| (*name, effect));
            let shown = json!({
                "files": files.collect::<Vec<_>>(),
                "builtin": granted.collect::<BTreeMap<_, _>>(),
                "effective": effective.collect::<BTreeMap<_, _>>(),
            });
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
        Format::Text => {
            match loaded.files.len() {
                0 => println!("no policy file holds here; grants and the catalog alone decide"),
                1 => println!("one policy file holds here"),
                count => println!("{count} policy files hold here; each of them must allow what is asked for"),
            }
            for (policy, (path, role)) in files() {
                println!("\n{} ({})", path.display(), role.name());
                entries(policy).iter().for_each(|entry| println!("  {}", entry.text()));
            }
            for (name, granted, effect) in &builtin {
                println!("\ngranted to the built-in provisioner `{name}`: {granted}");
                if !loaded.files.is_empty() {
                    let left = if effect.left.is_empty() { "nothing".to_owned() } else { effect.left.join(",") };
                    println!("left to it by the policies: {}", if effect.denied.is_some() { "nothing" } else { &left });
                    effect.lines().iter().for_each(|line| println!("  {line}"));
                }
            }
        }
    }
    Ok(Status::Success)
}

/// One line of a policy, taken out of its file.
struct Entry {
    line: u32,
    rule: String,
    scope: String,
    section: &'static str,
    verb: &'static str,
    what: String,
}

impl Entry {
    fn text(&self) -> String {
        let Self { line, rule, scope, section, verb, what } = self;
        format!("line {line:<4} {section:<11} {verb:<8} {what:<40} {rule}{scope}").trim_end().to_owned()
    }

    fn json(&self) -> Json {
        let Self { line, rule, scope, section, verb, what } = self;
        json!({ "line": line, "rule": rule, "for": scope.trim(), "section": section, "verb": verb, "what": what })
    }
}

/// A file as the list of what it says, in its order.
fn entries(policy: &Policy) -> Vec<Entry> {
    let mut all = Vec::new();
    let plain = |line, section, verb, what: String| Entry {
        line,
        rule: String::new(),
        scope: String::new(),
        section,
        verb,
        what,
    };
    if let Some((line, components)) = &policy.components.allow {
        if components.is_empty() {
            all.push(plain(*line, "components", "allow", "nothing".to_owned()));
        }
        for entry in components {
            let list = |texts: Vec<String>| if texts.is_empty() { "nothing".to_owned() } else { texts.join(",") };
            let mut add = |verb, what| {
                let named = Entry { rule: entry.name.to_string(), ..plain(entry.line, "components", verb, what) };
                all.push(named);
            };
            add("allow", entry.component.to_string());
            if let Some(interfaces) = &entry.interfaces {
                add("link", list(interfaces.entries.iter().map(|listed| listed.pattern.clone()).collect()));
            }
            if let Some((_, bounds)) = &entry.grants {
                let grants = Grants { bounds: bounds.clone(), ..Grants::default() }.to_string();
                add("grant", list(Some(grants).filter(|grants| !grants.is_empty()).into_iter().collect()));
            }
            for (limit, most) in &entry.limits {
                let unit = if limit.name() == "time" { " ms" } else { "" };
                add("limit", format!("{} {}{unit}", limit.name(), most.pattern));
            }
        }
    }
    let denied = policy.components.deny.iter();
    all.extend(denied.map(|listed| plain(listed.line, "components", "deny", listed.pattern.to_string())));
    if let Some(audit) = &policy.audit {
        let mut add = |line, verb, what| all.push(plain(line, "audit", verb, what));
        if audit.required {
            add(audit.line, "require", "the audit log".to_owned());
        }
        if let Some(directory) = &audit.directory {
            add(directory.line, "kept in", directory.pattern.clone());
        }
        if let Some(keep) = &audit.keep_bytes {
            add(keep.line, "at least", format!("{} bytes", keep.pattern));
        }
    }
    lists("servers", &policy.servers, &plain, &mut all);
    policy.rules.iter().for_each(|rule| rule_entries(rule, &mut all));
    all.sort_by_key(|entry| entry.line);
    all
}

fn rule_entries(rule: &Rule, all: &mut Vec<Entry>) {
    let mut scope = String::new();
    let mut narrow = |what: &str, names: Vec<String>| scope.push_str(&format!(", {what} {}", names.join(" ")));
    if let Some(servers) = &rule.servers {
        narrow("servers", servers.iter().map(ToString::to_string).collect());
    }
    if let Some(components) = &rule.components {
        narrow("components", components.iter().map(ToString::to_string).collect());
    }
    if let Some(kinds) = &rule.kinds {
        narrow("kinds", kinds.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect());
    }
    let named = |line, section, verb, what| Entry {
        line,
        rule: rule.name.to_string(),
        scope: scope.clone(),
        section,
        verb,
        what,
    };
    lists("images", &rule.images, &named, all);
    lists("secrets", &rule.secrets, &named, all);
    lists("config", &rule.config, &named, all);
    lists("mounts", &rule.mounts, &named, all);
    lists("networks", &rule.networks, &named, all);
    lists("hosts", &rule.hosts, &named, all);
    lists("variables", &rule.variables, &named, all);
    lists("labels", &rule.labels, &named, all);
    lists("namespaces", &rule.namespaces, &named, all);
    if let Some(Listed { line, pattern }) = &rule.cpu_millis {
        all.push(named(*line, "resources", "at most", format!("{} cpus", f64::from(*pattern) / 1000.0)));
    }
    if let Some(Listed { line, pattern }) = &rule.memory_bytes {
        all.push(named(*line, "resources", "at most", format!("{pattern} bytes of memory")));
    }
    all.extend(rule.require.iter().map(|listed| named(listed.line, "require", "", listed.pattern.name().to_owned())));
}

fn lists<P: std::fmt::Display>(
    section: &'static str,
    lists: &Lists<P>,
    entry: &dyn Fn(u32, &'static str, &'static str, String) -> Entry,
    all: &mut Vec<Entry>,
) {
    if let Some(allow) = &lists.allow {
        if allow.entries.is_empty() {
            all.push(entry(allow.line, section, "allow", "nothing".to_owned()));
        }
        all.extend(allow.entries.iter().map(|listed| entry(listed.line, section, "allow", listed.pattern.to_string())));
    }
    all.extend(lists.deny.iter().map(|listed| entry(listed.line, section, "deny", listed.pattern.to_string())));
}
