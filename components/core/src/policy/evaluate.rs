//! Evaluation of single questions: may this component run, use this interface, have this secret, reach this host?

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use super::decision::{Decision, RuleRef, Subject, SubjectKind};
use super::patterns::{Image, Source};
use super::{AllowedComponent, Kind, Limit, Listed, Lists, Policies, Policy, Requirement, Rule};
use crate::envelope::Bounds;
use crate::host::Host;
use crate::spec::{Network, Resources};
use crate::value::{Origin, Segment, Value};

/// On whose behalf something is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// The component: the SHA-256 of its bytes in hexadecimal.
    pub digest: &'a str,
    /// The component's name, if it is part of the gateway.
    pub builtin: Option<&'a str>,
    /// The server; none outside of any server's scope.
    pub server: Option<&'a str>,
    /// How the server is reached, if there is one.
    pub kind: Option<Kind>,
}

impl Rule {
    /// Whether the rule is about this one.
    pub fn applies(&self, who: Who<'_>) -> bool {
        let server = |patterns: &Vec<super::glob::NamePattern>| {
            who.server.is_some_and(|server| patterns.iter().any(|pattern| pattern.covers(server, who.server)))
        };
        self.servers.as_ref().is_none_or(server)
            && self
                .components
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.covers(who.digest, who.builtin)))
            && self.kinds.as_ref().is_none_or(|kinds| who.kind.is_some_and(|kind| kinds.contains(&kind)))
    }
}

/// One question to lists of one kind.
struct Question<'a, P> {
    subject: Subject,
    /// The key of the lists in a file, for the remedy.
    key: &'static str,
    /// What to add to an `allow` list.
    entry: &'a dyn Fn() -> String,
    covers: &'a dyn Fn(&P) -> bool,
    /// For `deny`: whether the pattern may mean what is asked for.
    touches: &'a dyn Fn(&P) -> bool,
}

impl Policy {
    pub(super) fn at(&self, line: u32, name: &Arc<str>) -> RuleRef {
        RuleRef { file: Arc::clone(&self.file), line, name: Arc::clone(name) }
    }

    /// Answers a question by the lists of one file. `Ok` has the entry that allows, if there is any list.
    fn ask<'a, P: Display + 'a>(
        &self,
        question: &Question<'_, P>,
        lists: impl Iterator<Item = (&'a Arc<str>, &'a Lists<P>)>,
    ) -> Result<Option<RuleRef>, Decision> {
        let (mut closed, mut allowed) = (None, None);
        for (name, lists) in lists {
            if let Some(denied) = lists.deny.iter().find(|listed| (question.touches)(&listed.pattern)) {
                let rule = self.at(denied.line, name);
                let reason = format!(
                    "is denied by {rule}: `{}` in `{}.deny`; it can only be allowed by removing that entry",
                    denied.pattern, question.key
                );
                return Err(Decision::denied(question.subject.clone(), Some(rule), reason));
            }
            if let Some(allow) = &lists.allow {
                closed.get_or_insert((allow.line, name));
                if allowed.is_none() {
                    let entry = allow.entries.iter().find(|listed| (question.covers)(&listed.pattern));
                    allowed = entry.map(|listed| self.at(listed.line, name));
                }
            }
        }
        match (closed, allowed) {
            (None, _) => Ok(None),
            (Some(_), Some(rule)) => Ok(Some(rule)),
            (Some((line, name)), None) => {
                let rule = self.at(line, name);
                let reason = format!(
                    "is in no `{}.allow` that holds here, such as that of {rule}; add `{}` there to allow it",
                    question.key,
                    (question.entry)()
                );
                Err(Decision::denied(question.subject.clone(), Some(rule), reason))
            }
        }
    }
}

impl Policies {
    /// Whether there is no file, so that nothing is restricted.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether the server may run.
    pub fn server(&self, server: &str) -> Decision {
        let question = Question {
            subject: Subject::new(SubjectKind::Server, server),
            key: "servers",
            entry: &|| server.to_owned(),
            covers: &|pattern: &super::glob::NamePattern| pattern.covers(server, None),
            touches: &|pattern| pattern.covers(server, None),
        };
        let name: Arc<str> = Arc::from("servers");
        let mut rule = None;
        for policy in &self.files {
            match policy.ask(&question, std::iter::once((&name, &policy.servers))) {
                Ok(allowed) => rule = rule.or(allowed),
                Err(denied) => return denied,
            }
        }
        Decision::allowed(question.subject, rule)
    }

    /// Whether a component may run at all.
    pub fn component(&self, who: Who<'_>) -> Decision {
        let shown = who.builtin.map_or_else(|| format!("sha256:{}", who.digest), |name| format!("builtin:{name}"));
        let subject = Subject::new(SubjectKind::Component, &shown);
        let mut allowed = None;
        for policy in &self.files {
            let name: Arc<str> = Arc::from("components");
            let denied = policy.components.deny.iter().find(|listed| listed.pattern.covers(who.digest, who.builtin));
            if let Some(denied) = denied {
                let rule = policy.at(denied.line, &name);
                let reason = format!(
                    "is denied by {rule}: `{}` in `components.deny`; it can only be allowed by removing that entry",
                    denied.pattern
                );
                return Decision::denied(subject, Some(rule), reason);
            }
            let Some((line, entries)) = &policy.components.allow else { continue };
            match entries.iter().find(|entry| entry.component.covers(who.digest, who.builtin)) {
                Some(entry) => allowed = allowed.or(Some(policy.at(entry.line, &entry.name))),
                None => {
                    let rule = policy.at(*line, &name);
                    let reason =
                        format!("is not in `components.allow` ({rule}); add `component: {shown}` there to let it run");
                    return Decision::denied(subject, Some(rule), reason);
                }
            }
        }
        Decision::allowed(subject, allowed)
    }

    /// The entries of a file that allow a component.
    fn entries<'a>(policy: &'a Policy, who: Who<'a>) -> impl Iterator<Item = &'a AllowedComponent> {
        let entries = policy.components.allow.iter().flat_map(|(_, entries)| entries);
        entries.filter(move |entry| entry.component.covers(who.digest, who.builtin))
    }

    /// Whether a component may use an interface, or a WASI package, that it is granted.
    pub fn interface(&self, who: Who<'_>, interface: &str) -> Decision {
        let subject = Subject::new(SubjectKind::Interface, interface);
        let mut rule = None;
        for policy in &self.files {
            let mut closed = None;
            let mut open = false;
            for entry in Self::entries(policy, who) {
                match &entry.interfaces {
                    None => open = true,
                    Some(allow) => match allow.entries.iter().find(|listed| listed.pattern == interface) {
                        Some(listed) => {
                            open = true;
                            rule = rule.or_else(|| Some(policy.at(listed.line, &entry.name)));
                        }
                        None => closed = closed.or_else(|| Some(policy.at(allow.line, &entry.name))),
                    },
                }
            }
            if let (Some(at), false) = (closed, open) {
                let reason = format!("is not in `interfaces` of {at}; add `{interface}` there to allow it");
                return Decision::denied(subject, Some(at), reason);
            }
        }
        Decision::allowed(subject, rule)
    }

    /// How far each file lets a component leave the envelope; files that do not say are left out.
    pub fn bounds(&self, who: Who<'_>) -> Vec<(Bounds, RuleRef)> {
        let mut all = Vec::new();
        for policy in &self.files {
            let mut sum: Option<(Bounds, RuleRef)> = None;
            let mut open = false;
            for entry in Self::entries(policy, who) {
                match &entry.grants {
                    None => open = true,
                    Some((line, bounds)) => match &mut sum {
                        Some((known, _)) => known.extend(bounds.clone()),
                        None => sum = Some((bounds.clone(), policy.at(*line, &entry.name))),
                    },
                }
            }
            all.extend(sum.filter(|_| !open));
        }
        all
    }

    /// The lowest ceiling for each limit of a component, and the rule that sets it.
    pub fn limits(&self, who: Who<'_>) -> BTreeMap<Limit, (u64, RuleRef)> {
        let mut lowest: BTreeMap<Limit, (u64, RuleRef)> = BTreeMap::new();
        for policy in &self.files {
            for entry in Self::entries(policy, who) {
                for (limit, listed) in &entry.limits {
                    if lowest.get(limit).is_none_or(|(known, _)| listed.pattern < *known) {
                        lowest.insert(*limit, (listed.pattern, policy.at(listed.line, &entry.name)));
                    }
                }
            }
        }
        lowest
    }

    /// The rules that hold for somebody, to ask several things of them.
    pub fn holding<'a>(&'a self, who: Who<'a>) -> Holding<'a> {
        let rules = |policy: &'a Policy| policy.rules.iter().filter(|rule| rule.applies(who)).collect();
        Holding { who, files: self.files.iter().map(|policy| (policy, rules(policy))).collect() }
    }
}

/// The rules that hold for somebody.
#[derive(Clone, Debug)]
pub struct Holding<'a> {
    who: Who<'a>,
    files: Vec<(&'a Policy, Vec<&'a Rule>)>,
}

impl Holding<'_> {
    fn ask<P: Display>(&self, question: Question<'_, P>, lists: fn(&Rule) -> &Lists<P>) -> Decision {
        let mut rule = None;
        for (policy, rules) in &self.files {
            let applicable = rules.iter();
            match policy.ask(&question, applicable.map(|rule| (&rule.name, lists(rule)))) {
                Ok(allowed) => rule = rule.or(allowed),
                Err(denied) => return denied,
            }
        }
        Decision::allowed(question.subject, rule)
    }

    /// The rules that hold, with their files.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&Policy, &Rule)> {
        self.files.iter().flat_map(|(policy, rules)| rules.iter().map(move |rule| (*policy, *rule)))
    }

    /// Whether any rule that holds here has lists of a kind.
    fn speaks<P>(&self, lists: fn(&Rule) -> &Lists<P>) -> bool {
        self.listed().any(|(_, rule)| !lists(rule).is_silent())
    }

    /// Whether rules about mounts hold here, so that it matters where links lead.
    pub fn restrict_mounts(&self) -> bool {
        self.speaks(|rule| &rule.mounts)
    }

    /// Whether an image may be run.
    pub fn image(&self, text: &str) -> Decision {
        if !self.speaks(|rule| &rule.images) {
            return Decision::allowed(Subject::new(SubjectKind::Image, text), None);
        }
        match Image::parse(text) {
            Ok(image) => {
                let question = Question {
                    subject: Subject::new(SubjectKind::Image, image.to_string()),
                    key: "images",
                    entry: &|| image.to_string(),
                    covers: &|pattern: &super::patterns::ImagePattern| pattern.covers(&image),
                    touches: &|pattern| pattern.touches(&image),
                };
                self.ask(question, |rule| &rule.images)
            }
            Err(reason) => self.unknown(
                Subject::new(SubjectKind::Image, text),
                &format!("cannot be judged by the rules about images: {reason}"),
                |rule| &rule.images,
            ),
        }
    }

    /// Refuses what cannot be told to be allowed, and names the first rule that it cannot be told for.
    fn unknown<P>(&self, subject: Subject, reason: &str, lists: fn(&Rule) -> &Lists<P>) -> Decision {
        let found = self.listed().find(|(_, rule)| !lists(rule).is_silent());
        let rule = found.map(|(policy, rule)| policy.at(rule.line, &rule.name));
        let at = rule.as_ref().map(|rule| format!("; see {rule}")).unwrap_or_default();
        Decision::denied(subject, rule, format!("{reason}{at}"))
    }

    fn named(
        &self,
        kind: SubjectKind,
        key: &'static str,
        name: &str,
        lists: fn(&Rule) -> &Lists<super::glob::NamePattern>,
    ) -> Decision {
        let question = Question {
            subject: Subject::new(kind, name),
            key,
            entry: &|| name.to_owned(),
            covers: &|pattern: &super::glob::NamePattern| pattern.covers(name, self.who.server),
            touches: &|pattern| pattern.covers(name, self.who.server),
        };
        self.ask(question, lists)
    }

    /// Whether a secret may be used.
    pub fn secret(&self, name: &str) -> Decision {
        self.named(SubjectKind::Secret, "secrets", name, |rule| &rule.secrets)
    }

    /// Whether an environment variable may have this name.
    pub fn variable(&self, name: &str) -> Decision {
        self.named(SubjectKind::Variable, "variables", name, |rule| &rule.variables)
    }

    /// Whether a label may have this key.
    pub fn label(&self, key: &str) -> Decision {
        self.named(SubjectKind::Label, "labels", key, |rule| &rule.labels)
    }

    /// Whether a namespace of a cluster may be used. For runtimes that have namespaces.
    pub fn namespace(&self, name: &str) -> Decision {
        self.named(SubjectKind::Namespace, "namespaces", name, |rule| &rule.namespaces)
    }

    /// Whether a container may have this network access. None at all is always allowed.
    pub fn network(&self, network: Network) -> Decision {
        match network {
            Network::None => Decision::allowed(Subject::new(SubjectKind::Network, "none"), None),
            Network::Declared => self.named(SubjectKind::Network, "networks", "declared", |rule| &rule.networks),
        }
    }

    /// Whether configuration may be used, by its path.
    pub fn config(&self, path: &str) -> Decision {
        let question = Question {
            subject: Subject::new(SubjectKind::Config, path),
            key: "config",
            entry: &|| path.to_owned(),
            covers: &|pattern: &super::glob::SubtreePattern| pattern.covers(path, self.who.server),
            touches: &|pattern| pattern.touches(path, self.who.server),
        };
        self.ask(question, |rule| &rule.config)
    }

    /// Decides about everything private that is in some values: secrets by name and configuration by path, each once.
    pub fn values<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> Vec<Decision> {
        let mut names: Vec<(SubjectKind, &str)> = Vec::new();
        for segment in values.into_iter().flat_map(Value::segments) {
            let name = match segment {
                Segment::Secret(name) => (SubjectKind::Secret, name.as_str()),
                Segment::Private { origin: Origin::Config, name, .. } => (SubjectKind::Config, name.as_str()),
                // What the caller of a tool wrote is not the operator's to keep back, and a key in a cluster stands for a
                // name that was decided about before.
                Segment::Private { origin: Origin::Argument, .. } | Segment::Text(_) | Segment::ClusterKey { .. } => {
                    continue;
                }
                // Asked about by the place that let it be kept.
                Segment::Stored { .. } => continue,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let decide = |(kind, name)| match kind {
            SubjectKind::Secret => self.secret(name),
            _ => self.config(name),
        };
        names.into_iter().map(decide).collect()
    }

    /// Whether a server may be reached at a host.
    pub fn host(&self, host: &str, port: Option<u16>) -> Decision {
        let shown = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let subject = Subject::new(SubjectKind::Host, &shown);
        match host.parse::<Host>() {
            Ok(host) => {
                let question = Question {
                    subject,
                    key: "hosts",
                    entry: &|| shown.clone(),
                    covers: &|pattern: &super::patterns::HostPattern| pattern.covers(&host, port),
                    touches: &|pattern| pattern.touches(&host, port),
                };
                self.ask(question, |rule| &rule.hosts)
            }
            Err(error) if self.speaks(|rule| &rule.hosts) => {
                let reason = format!("cannot be judged by the rules about hosts: {}", error.reason);
                self.unknown(subject, &reason, |rule| &rule.hosts)
            }
            Err(_) => Decision::allowed(subject, None),
        }
    }

    /// Whether an address is allowed of which the host is not known here, because a secret stands for it.
    pub fn unknown_host(&self, shown: &str) -> Decision {
        let subject = Subject::new(SubjectKind::Host, shown);
        if !self.speaks(|rule| &rule.hosts) {
            return Decision::allowed(subject, None);
        }
        let reason = "cannot be judged by the rules about hosts: write the scheme and the host of the address in the catalog \
                      or in the configuration, not in a secret";
        self.unknown(subject, reason, |rule| &rule.hosts)
    }

    /// Whether a container may reach every host, as one with a network does.
    pub fn every_host(&self) -> Decision {
        let question = Question {
            subject: Subject::new(SubjectKind::Host, "*"),
            key: "hosts",
            entry: &|| "*".to_owned(),
            covers: &super::patterns::HostPattern::is_everything,
            touches: &|_| true,
        };
        self.ask(question, |rule| &rule.hosts)
    }

    /// Whether something may be mounted. `subject` is how it may be shown.
    pub fn mount(&self, subject: &str, source: &Source<'_>, read_only: bool) -> Decision {
        let question = Question {
            subject: Subject::new(SubjectKind::Mount, subject),
            key: "mounts",
            entry: &|| {
                let place = match source {
                    Source::Volume(name) => format!("volume:{name}"),
                    Source::Path(path) if subject.starts_with('/') && !subject.contains('<') => (*path).to_owned(),
                    // The path may come from configuration, which is shown to nobody.
                    Source::Path(_) => "/path/of/its/source".to_owned(),
                };
                place + if read_only { ":ro" } else { "" }
            },
            covers: &|pattern: &super::patterns::MountPattern| pattern.covers(source, read_only, self.who.server),
            touches: &|pattern| pattern.touches(source, self.who.server),
        };
        self.ask(question, |rule| &rule.mounts)
    }

    /// Decides about a mount whose source is not known here.
    pub fn unknown_mount(&self, subject: &str) -> Decision {
        let subject = Subject::new(SubjectKind::Mount, subject);
        if !self.restrict_mounts() {
            return Decision::allowed(subject, None);
        }
        let reason = "cannot be judged by the rules about mounts: its source must be an absolute path or the name of a volume, \
                      and no secret";
        self.unknown(subject, reason, |rule| &rule.mounts)
    }

    /// What containers must have, each with the rules that say so.
    pub fn requirements(&self) -> Vec<(Requirement, RuleRef)> {
        let mut found: Vec<(Requirement, RuleRef)> = Vec::new();
        for (policy, rules) in &self.files {
            for rule in rules {
                for required in &rule.require {
                    if !found.iter().any(|(known, _)| *known == required.pattern) {
                        found.push((required.pattern, policy.at(required.line, &rule.name)));
                    }
                }
            }
        }
        found.sort_by_key(|(requirement, _)| *requirement);
        found
    }

    /// The lowest ceilings for processors and memory, and the rules that set them.
    pub fn resources(&self) -> (Ceiling<u32>, Ceiling<u64>) {
        let (mut cpu, mut memory) = (None, None);
        for (policy, rules) in &self.files {
            for rule in rules {
                lower(&mut cpu, rule.cpu_millis.as_ref(), |line| policy.at(line, &rule.name));
                lower(&mut memory, rule.memory_bytes.as_ref(), |line| policy.at(line, &rule.name));
            }
        }
        (cpu, memory)
    }

    /// The operator's ceilings, lowered to what the rules allow.
    pub fn lowered(&self, own: Resources) -> Resources {
        let (cpu, memory) = self.resources();
        Resources {
            cpu_millis: cpu.map_or(own.cpu_millis, |(cpu, _)| cpu.min(own.cpu_millis)),
            memory_bytes: memory.map_or(own.memory_bytes, |(memory, _)| memory.min(own.memory_bytes)),
        }
    }
}

/// The lowest of some ceilings and the rule that sets it, if there is one.
pub type Ceiling<T> = Option<(T, RuleRef)>;

fn lower<T: Copy + Ord>(lowest: &mut Ceiling<T>, found: Option<&Listed<T>>, at: impl Fn(u32) -> RuleRef) {
    if let Some(found) = found
        && lowest.as_ref().is_none_or(|(known, _)| found.pattern < *known)
    {
        *lowest = Some((found.pattern, at(found.line)));
    }
}
