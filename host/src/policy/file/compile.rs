//! From the form of a file to what is evaluated: reads patterns, amounts and grants, and collects everything wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use provisioning_core::policy::patterns::ComponentPattern;
use provisioning_core::policy::{
    Allow, AllowedComponent, AuditDemand, Components, Kind, Limit, Listed, Lists, Policy, Requirement, Rule,
};
use provisioning_core::text::one_line;
use provisioning_core::{quantity, volume};

use super::form::{self, Amount, At};
use super::futile::{self, Why};
use super::{Checked, Problem};
use crate::audit::Retention;
use crate::policy::grants::{Grants, Interface};

/// The longest message about a problem, in characters.
const MESSAGE: usize = 1000;

/// The version of the form that is read.
const VERSION: u32 = 1;
/// How many problems are told.
const MAX_PROBLEMS: usize = 50;

pub(super) fn compile(form: form::File, file: &str) -> Result<Checked, Vec<Problem>> {
    let mut problems = Problems::default();
    if form.version.value != VERSION {
        problems
            .add(&form.version, format!("there is no version `{}`; write `version: {VERSION}`", form.version.value));
    }
    let components = form.components.map(|components| problems.components(components)).unwrap_or_default();
    let servers = form.servers.map(|section| problems.section("servers", section, futile::server)).unwrap_or_default();
    let audit = form.audit.map(|audit| problems.audit(audit));
    let rules = form.rules.unwrap_or_default();
    let mut names = BTreeMap::new();
    for rule in &rules {
        let name = &rule.value.name;
        if name.value.trim().is_empty() || one_line(&name.value, 100) != name.value {
            problems.add(name, "a name is 1 to 100 visible characters; messages show it");
        } else if let Some(first) = names.insert(name.value.clone(), name.line) {
            problems.add(name, format!("the rule on line {first} has the name `{}` too; choose another", name.value));
        }
    }
    let rules = rules.into_iter().map(|rule| problems.rule(rule)).collect();
    let Problems { mut wrong, mut futile } = problems;
    if !wrong.is_empty() {
        wrong.truncate(MAX_PROBLEMS);
        return Err(wrong);
    }
    futile.truncate(MAX_PROBLEMS);
    Ok(Checked { policy: Policy { file: Arc::from(file), components, servers, rules, audit }, warnings: futile })
}

/// Everything that is wrong, and what has no effect.
#[derive(Default)]
struct Problems {
    wrong: Vec<Problem>,
    futile: Vec<Problem>,
}

/// What a list is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Allow,
    Deny,
}

impl Problems {
    fn add<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        // What it quotes is the file's.
        let message = one_line(&message.into(), MESSAGE);
        self.wrong.push(Problem { line: at.line, column: at.column, message });
    }

    /// Something that is there and has no effect: what looks as if it protected somebody is an error.
    fn add_futile<T>(&mut self, verb: Verb, at: &At<T>, message: impl Into<String>) {
        match verb {
            Verb::Deny => self.add(at, message),
            Verb::Allow => {
                let message = one_line(&message.into(), MESSAGE);
                self.futile.push(Problem { line: at.line, column: at.column, message });
            }
        }
    }

    /// Reads one thing, or notes why not.
    fn read<T, E: Display>(&mut self, at: &At<String>, read: impl FnOnce(&str) -> Result<T, E>) -> Option<Listed<T>> {
        match read(&at.value) {
            Ok(pattern) => Some(Listed { line: at.line, pattern }),
            Err(error) => {
                self.add(at, error.to_string());
                None
            }
        }
    }

    fn list<T: FromStr<Err: Display>>(
        &mut self,
        verb: Verb,
        texts: &[At<String>],
        why: fn(&T) -> Why,
    ) -> Vec<Listed<T>> {
        let mut list = Vec::new();
        for text in texts {
            let Some(listed) = self.read(text, str::parse) else { continue };
            if let Some(why) = why(&listed.pattern) {
                self.add_futile(verb, text, format!("`{}` {why}", one_line(&text.value, 200)));
            }
            list.push(listed);
        }
        list
    }

    fn section<T: FromStr<Err: Display>>(
        &mut self,
        key: &str,
        section: At<form::Section>,
        why: fn(&T) -> Why,
    ) -> Lists<T> {
        let form::Section { allow, deny } = &section.value;
        if allow.is_none() && deny.is_none() {
            self.add(&section, format!("`{key}` says nothing; add `allow` or `deny`, or remove it"));
        }
        Lists {
            allow: allow
                .as_ref()
                .map(|allow| Allow { line: allow.line, entries: self.list(Verb::Allow, &allow.value, why) }),
            deny: deny.as_ref().map(|deny| self.list(Verb::Deny, deny, why)).unwrap_or_default(),
        }
    }

    fn audit(&mut self, audit: At<form::AuditLog>) -> AuditDemand {
        let form::AuditLog { required, directory, keep } = &audit.value;
        if required.is_none() && directory.is_none() && keep.is_none() {
            self.add(&audit, "`audit` says nothing; add `required: true`, `directory` or `keep`, or remove it");
        }
        let keep = keep.clone().map(text);
        AuditDemand {
            line: audit.line,
            required: required.as_ref().is_some_and(|required| required.value),
            directory: directory.as_ref().and_then(|path| self.read(path, log_directory)),
            keep_bytes: keep.and_then(|size| self.read(&size, kept)),
        }
    }

    fn components(&mut self, form: form::Components) -> Components {
        let allow = form.allow.map(|allow| {
            let entries = allow.value.into_iter().filter_map(|entry| self.component(entry)).collect();
            (allow.line, entries)
        });
        let deny = form.deny.as_deref().unwrap_or_default();
        Components { allow, deny: self.list(Verb::Deny, deny, futile::component) }
    }

    fn component(&mut self, entry: At<form::Component>) -> Option<AllowedComponent> {
        let form = entry.value;
        let component: Option<Listed<ComponentPattern>> =
            self.list(Verb::Allow, std::slice::from_ref(&form.component), futile::component).pop();
        let name = form.name.as_ref().map_or(form.component.value.as_str(), |name| name.value.as_str());
        let interfaces = form.interfaces.map(|list| {
            let mut entries = Vec::new();
            for text in &list.value {
                let Some(listed) = self.read(text, interface) else { continue };
                if let Some(why) = futile::interface(&listed.pattern) {
                    self.add_futile(Verb::Allow, text, format!("`{}` {why}", listed.pattern));
                }
                entries.push(listed);
            }
            Allow { line: list.line, entries }
        });
        let grants = form.grants.map(|list| {
            let mut all = Grants::default();
            for text in &list.value {
                if let Some(listed) = self.read(text, beyond) {
                    all.extend(listed.pattern);
                }
            }
            (list.line, all.bounds)
        });
        let limits = form.limits.map(|limits| self.limits(limits)).unwrap_or_default();
        let name = Arc::from(one_line(name, 100));
        component.map(|component| AllowedComponent {
            line: entry.line,
            name,
            component: component.pattern,
            interfaces,
            grants,
            limits,
        })
    }

    fn limits(&mut self, form: form::Limits) -> BTreeMap<Limit, Listed<u64>> {
        let counts = [
            (Limit::TableElements, form.table_elements),
            (Limit::Instances, form.instances),
            (Limit::Handles, form.handles),
            (Limit::Containers, form.containers),
            (Limit::HostCalls, form.host_calls),
            (Limit::LogLines, form.log_lines),
        ];
        let sizes = [
            (Limit::Memory, form.memory),
            (Limit::CopiedBytes, form.copied_bytes),
            (Limit::ValueBytes, form.value_bytes),
        ];
        let mut all = BTreeMap::new();
        for (limit, count) in counts {
            all.extend(count.map(|count| (limit, Listed { line: count.line, pattern: count.value })));
        }
        for (limit, size) in sizes {
            let size = size.and_then(|size| self.read(&text(size), quantity::bytes));
            all.extend(size.map(|size| (limit, size)));
        }
        let time = form.time.and_then(|time| self.read(&text(time), milliseconds));
        all.extend(time.map(|time| (Limit::Time, time)));
        all
    }

    fn rule(&mut self, rule: At<form::Rule>) -> Rule {
        let At { value: mut form, line, column } = rule;
        let silent = [
            &form.images,
            &form.secrets,
            &form.config,
            &form.mounts,
            &form.networks,
            &form.hosts,
            &form.variables,
            &form.labels,
            &form.namespaces,
        ]
        .iter()
        .all(|section| section.is_none())
            && form.resources.is_none()
            && form.require.is_none();
        if silent {
            let message = format!(
                "rule `{}` says nothing; add `images`, `secrets` or another section",
                one_line(&form.name.value, 100)
            );
            self.add(&At { value: (), line, column }, message);
        }
        let mut read = Rule { name: Arc::from(one_line(&form.name.value, 100)), line, ..Rule::default() };
        if let Some(scope) = form.scope.take() {
            self.scope(scope, &mut read);
        }
        self.only_remote(&read, &form);
        read.images = self.optional("images", form.images, futile::image);
        read.secrets = self.optional("secrets", form.secrets, futile::SECRET);
        read.config = self.optional("config", form.config, futile::CONFIG);
        if let Some(mounts) = &form.mounts {
            for deny in mounts.value.deny.iter().flatten().filter(|deny| deny.value.ends_with(":ro")) {
                self.add(deny, "`:ro` has no meaning in `deny`; deny the source, and allow it with `:ro` elsewhere");
            }
        }
        read.mounts = self.optional("mounts", form.mounts, futile::mount);
        if let Some(networks) = &form.networks {
            let listed = networks.value.allow.iter().flat_map(|allow| &allow.value);
            for text in listed.chain(networks.value.deny.iter().flatten()) {
                if !matches!(text.value.as_str(), "none" | "declared" | "*") {
                    self.add(text, format!("there is no network `{}`; write `none` or `declared`", text.value));
                }
            }
        }
        if let Some(networks) = &form.networks {
            for deny in networks.value.deny.iter().flatten().filter(|deny| deny.value == "none") {
                self.add(deny, "`none` denies nothing: no network at all is always allowed; remove it");
            }
        }
        read.networks = self.optional("networks", form.networks, futile::never);
        read.hosts = self.optional("hosts", form.hosts, futile::HOST);
        read.variables = self.optional("variables", form.variables, futile::variable);
        read.labels = self.optional("labels", form.labels, futile::label);
        read.namespaces = self.optional("namespaces", form.namespaces, futile::namespace);
        if let Some(resources) = form.resources {
            if resources.value.cpus.is_none() && resources.value.memory.is_none() {
                self.add(&resources, "`resources` says nothing; add `cpus` or `memory`, or remove it");
            }
            read.cpu_millis = resources.value.cpus.and_then(|cpus| self.read(&text(cpus), quantity::cpu_millis));
            read.memory_bytes = resources.value.memory.and_then(|size| self.read(&text(size), quantity::memory_bytes));
        }
        let required = form.require.unwrap_or_default();
        read.require = required.into_iter().map(|at| Listed { line: at.line, pattern: at.value.into() }).collect();
        read
    }

    fn optional<T: FromStr<Err: Display>>(
        &mut self,
        key: &str,
        section: Option<At<form::Section>>,
        why: fn(&T) -> Why,
    ) -> Lists<T> {
        section.map(|section| self.section(key, section, why)).unwrap_or_default()
    }

    /// What is about containers has no effect in a rule that is about remote servers alone.
    fn only_remote(&mut self, rule: &Rule, form: &form::Rule) {
        let only_remote = |kinds: &Vec<Kind>| kinds.iter().all(|kind| *kind == Kind::Remote);
        if !rule.kinds.as_ref().is_some_and(only_remote) {
            return;
        }
        const WHY: &str = "has no effect: the rule is about remote servers alone, which have no container";
        let sections = [
            ("images", &form.images),
            ("mounts", &form.mounts),
            ("networks", &form.networks),
            ("variables", &form.variables),
            ("labels", &form.labels),
            ("namespaces", &form.namespaces),
        ];
        for (key, section) in sections {
            let Some(section) = section else { continue };
            for deny in section.value.deny.iter().flatten() {
                self.add(deny, format!("`{}` in `{key}.deny` {WHY}", one_line(&deny.value, 200)));
            }
            if let Some(allow) = &section.value.allow {
                self.add_futile(Verb::Allow, allow, format!("`{key}.allow` {WHY}"));
            }
        }
        if let Some(resources) = &form.resources {
            self.add(resources, format!("`resources` {WHY}"));
        }
        for required in form.require.iter().flatten() {
            self.add(required, format!("`require` {WHY}"));
        }
    }

    fn scope(&mut self, scope: At<form::Scope>, rule: &mut Rule) {
        let form::Scope { servers, components, kinds } = &scope.value;
        if servers.is_none() && components.is_none() && kinds.is_none() {
            self.add(&scope, "`for` says nothing; add `servers`, `components` or `kinds`, or remove it");
        }
        // A rule about nobody would look as if it protected somebody.
        let nobody = [servers.as_ref().map(Vec::len), components.as_ref().map(Vec::len), kinds.as_ref().map(Vec::len)];
        if nobody.contains(&Some(0)) {
            self.add(&scope, "an empty list in `for` means nobody; name somebody, or remove it");
        }
        fn plain<T>(list: Vec<Listed<T>>) -> Vec<T> {
            list.into_iter().map(|listed| listed.pattern).collect()
        }
        // A rule may deny, so that one about nobody is as bad as an entry for nothing.
        rule.servers = servers.as_ref().map(|servers| plain(self.list(Verb::Deny, servers, futile::never)));
        let listed = |components: &Vec<At<String>>| plain(self.list(Verb::Deny, components, futile::component));
        rule.components = components.as_ref().map(listed);
        rule.kinds = kinds.as_ref().map(|kinds| kinds.iter().map(|kind| (*kind).into()).collect());
    }
}

fn text(amount: At<Amount>) -> At<String> {
    At { value: amount.value.0, line: amount.line, column: amount.column }
}

/// An interface of the contract or a WASI package.
fn interface(text: &str) -> Result<String, String> {
    let grants: Grants = text.parse().map_err(|error: crate::policy::grants::GrantError| error.to_string())?;
    match grants.interfaces.len() + grants.wasi.len() {
        1 if grants.bounds == provisioning_core::Bounds::default() && !text.contains(',') => Ok(text.to_owned()),
        _ => {
            let known: BTreeSet<&str> = Interface::ALL.map(Interface::name).into();
            let known: Vec<&str> = known.into_iter().collect();
            Err(format!("`{text}` is no interface; there are {} and `wasi:PACKAGE`", known.join(", ")))
        }
    }
}

/// A grant to leave the envelope.
fn beyond(text: &str) -> Result<Grants, String> {
    let grants: Grants = text.parse().map_err(|error: crate::policy::grants::GrantError| error.to_string())?;
    if grants.interfaces.is_empty() && grants.wasi.is_empty() && grants != Grants::default() {
        return Ok(grants);
    }
    Err(format!("`{text}` is no grant to leave the envelope; interfaces belong into `interfaces`"))
}

/// Where the audit log is kept.
fn log_directory(path: &str) -> Result<String, String> {
    let below = path.strip_prefix("~/");
    let absolute = below.map_or_else(|| path.to_owned(), |below| format!("/{below}"));
    let is_plain = one_line(path, usize::MAX) == path && !below.is_some_and(|below| below.starts_with('/'));
    match volume::normalised(&absolute).filter(|_| is_plain) {
        Some(normal) if normal.to_str() == Some(absolute.trim_end_matches('/')) => {
            Ok(path.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "`{}` is no directory; write an absolute path, or one that begins with `~/`",
            one_line(path, 200)
        )),
    }
}

/// How much of the audit log is kept.
fn kept(size: &str) -> Result<u64, String> {
    let bytes = quantity::bytes(size).map_err(|error| error.to_string())?;
    let is_enough = bytes >= Retention::LEAST_BYTES;
    is_enough
        .then_some(bytes)
        .ok_or_else(|| format!("`{}` is too little for a log; write `1m` or more", one_line(size, 50)))
}

/// A time as `500ms` or `2s`.
fn milliseconds(text: &str) -> Result<u64, String> {
    let (digits, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => ("", 0),
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let time = number.and_then(|number| number.checked_mul(factor));
    time.ok_or_else(|| format!("`{}` is no time; write `500ms` or `2s`", one_line(text, 50)))
}

impl From<form::Kind> for Kind {
    fn from(kind: form::Kind) -> Self {
        match kind {
            form::Kind::Container => Self::Container,
            form::Kind::Remote => Self::Remote,
        }
    }
}

impl From<form::Requirement> for Requirement {
    fn from(requirement: form::Requirement) -> Self {
        match requirement {
            form::Requirement::ImageDigest => Self::ImageDigest,
            form::Requirement::ReadOnlyRoot => Self::ReadOnlyRoot,
            form::Requirement::DropCapabilities => Self::DropCapabilities,
            form::Requirement::RunAsNonRoot => Self::RunAsNonRoot,
        }
    }
}
