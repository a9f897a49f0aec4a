//! From the form of a file to what is evaluated: reads patterns, amounts and grants, and collects everything wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use provisioning_core::policy::patterns::ComponentPattern;
use provisioning_core::policy::{
    Allow, AllowedComponent, Components, Kind, Limit, Listed, Lists, Policy, Requirement, Rule,
};
use provisioning_core::quantity;
use provisioning_core::text::one_line;

use super::Problem;
use super::form::{self, Amount, At};
use crate::policy::grants::{Grants, Interface};

/// The longest message about a problem, in characters.
const MESSAGE: usize = 1000;

/// The version of the form that is read.
const VERSION: u32 = 1;
/// How many problems are told.
const MAX_PROBLEMS: usize = 50;

pub(super) fn compile(form: form::File, file: &str) -> Result<Policy, Vec<Problem>> {
    let mut problems = Problems(Vec::new());
    if form.version.value != VERSION {
        problems
            .add(&form.version, format!("there is no version `{}`; write `version: {VERSION}`", form.version.value));
    }
    let components = form.components.map(|components| problems.components(components)).unwrap_or_default();
    let servers = form.servers.map(|section| problems.section("servers", section)).unwrap_or_default();
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
    if !problems.0.is_empty() {
        problems.0.truncate(MAX_PROBLEMS);
        return Err(problems.0);
    }
    Ok(Policy { file: Arc::from(file), components, servers, rules })
}

/// Everything that is wrong.
struct Problems(Vec<Problem>);

impl Problems {
    fn add<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        // What it quotes is the file's.
        let message = one_line(&message.into(), MESSAGE);
        self.0.push(Problem { line: at.line, column: at.column, message });
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

    fn list<T: FromStr<Err: Display>>(&mut self, texts: &[At<String>]) -> Vec<Listed<T>> {
        texts.iter().filter_map(|text| self.read(text, str::parse)).collect()
    }

    fn section<T: FromStr<Err: Display>>(&mut self, key: &str, section: At<form::Section>) -> Lists<T> {
        let form::Section { allow, deny } = &section.value;
        if allow.is_none() && deny.is_none() {
            self.add(&section, format!("`{key}` says nothing; add `allow` or `deny`, or remove it"));
        }
        Lists {
            allow: allow.as_ref().map(|allow| Allow { line: allow.line, entries: self.list(&allow.value) }),
            deny: deny.as_ref().map(|deny| self.list(deny)).unwrap_or_default(),
        }
    }

    fn components(&mut self, form: form::Components) -> Components {
        let allow = form.allow.map(|allow| {
            let entries = allow.value.into_iter().filter_map(|entry| self.component(entry)).collect();
            (allow.line, entries)
        });
        Components { allow, deny: self.list(form.deny.as_deref().unwrap_or_default()) }
    }

    fn component(&mut self, entry: At<form::Component>) -> Option<AllowedComponent> {
        let form = entry.value;
        let component: Option<Listed<ComponentPattern>> = self.read(&form.component, str::parse);
        let name = form.name.as_ref().map_or(form.component.value.as_str(), |name| name.value.as_str());
        let interfaces = form.interfaces.map(|list| {
            let entries = list.value.iter().filter_map(|text| self.read(text, interface)).collect();
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
        let At { value: form, line, column } = rule;
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
        if let Some(scope) = form.scope {
            self.scope(scope, &mut read);
        }
        read.images = self.optional("images", form.images);
        read.secrets = self.optional("secrets", form.secrets);
        read.config = self.optional("config", form.config);
        if let Some(mounts) = &form.mounts {
            for deny in mounts.value.deny.iter().flatten().filter(|deny| deny.value.ends_with(":ro")) {
                self.add(deny, "`:ro` has no meaning in `deny`; deny the source, and allow it with `:ro` elsewhere");
            }
        }
        read.mounts = self.optional("mounts", form.mounts);
        if let Some(networks) = &form.networks {
            for text in networks.value.deny.iter().flatten().filter(|text| text.value == "none") {
                self.add(text, "`none` cannot be denied: it is no access at all");
            }
            let listed = networks.value.allow.iter().flat_map(|allow| &allow.value);
            for text in listed.chain(networks.value.deny.iter().flatten()) {
                if !matches!(text.value.as_str(), "none" | "declared" | "*") {
                    self.add(text, format!("there is no network `{}`; write `none` or `declared`", text.value));
                }
            }
        }
        read.networks = self.optional("networks", form.networks);
        read.hosts = self.optional("hosts", form.hosts);
        read.variables = self.optional("variables", form.variables);
        read.labels = self.optional("labels", form.labels);
        read.namespaces = self.optional("namespaces", form.namespaces);
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

    fn optional<T: FromStr<Err: Display>>(&mut self, key: &str, section: Option<At<form::Section>>) -> Lists<T> {
        section.map(|section| self.section(key, section)).unwrap_or_default()
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
        rule.servers = servers.as_ref().map(|servers| plain(self.list(servers)));
        rule.components = components.as_ref().map(|components| plain(self.list(components)));
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
