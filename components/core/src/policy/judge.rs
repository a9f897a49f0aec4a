//! The judgement of a container: the one place where a specification is compared with the envelope, the grants and
//! the policies, whichever component made it and whichever runtime will get it.

use super::decision::{Decision, Subject, SubjectKind};
use super::evaluate::{Holding, Who};
use super::patterns::{Image, Source};
use super::{Policies, Requirement};
use crate::envelope::{Bounds, Envelope};
use crate::spec::{ContainerSpec, Network, Resources, VolumeMount};
use crate::value::{Segment, Value};
use crate::volume::{self, Volume};

/// What a specification is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// On whose behalf it is asked for.
    pub who: Who<'a>,
    /// What the server may become.
    pub envelope: &'a Envelope,
    /// How far the component was granted to leave that.
    pub bounds: &'a Bounds,
    /// What the policies allow.
    pub policies: &'a Policies,
    /// The volumes as they will be mounted, in the specification's order, once links are followed. Without them, or
    /// where there is none, the specification's own text is judged.
    pub mounted: &'a [Option<Volume>],
}

/// Judges a specification. It is allowed if every decision allows; the first that does not says why not.
///
/// The rules are asked only if envelope and grants let it pass.
pub fn judge(case: &Case<'_>, spec: &ContainerSpec) -> Vec<Decision> {
    let mut decisions = Vec::new();
    if let Some(server) = case.who.server {
        decisions.push(case.policies.server(server));
    }
    if let Err(refusal) = case.envelope.check(spec, case.bounds) {
        let subject = Subject::new(SubjectKind::Envelope, format!("{} {}", refusal.field, refusal.subject));
        decisions.push(Decision::denied(subject, None, refusal.to_string()));
        return decisions;
    }
    decisions.extend(grants(case, spec));
    if case.policies.is_empty() {
        return decisions;
    }
    let rules = &case.policies.holding(case.who);
    decisions.push(rules.image(&spec.image));
    decisions.extend(rules.values(values(spec)));
    decisions.extend(spec.environment.iter().map(|(name, _)| rules.variable(name)));
    decisions.extend(
        spec.volumes.iter().enumerate().filter_map(|(index, mount)| mounted(rules, mount, case.mounted.get(index))),
    );
    decisions.push(rules.network(spec.network));
    if spec.network == Network::Declared {
        // `allowHosts` is not enforced, so a container with a network reaches every host.
        decisions.push(rules.every_host());
    }
    decisions.extend(spec.hosts.iter().map(|host| rules.host(&host.name, None)));
    let denied = rules.denied_addresses();
    decisions.extend(spec.hosts.iter().filter_map(|host| denied.refusal(&host.name, host.address.parse().ok()?, None)));
    decisions.extend(spec.labels.iter().map(|(key, _)| rules.label(key)));
    decisions.extend(ceilings(rules, spec.resources));
    decisions.extend(requirements(rules, spec));
    decisions
}

/// Whether secrets that are in a cluster may be read for a remote server: that leaves what a cluster is otherwise asked
/// for, so that the component must be granted it, by the operator and by every file that bounds its grants.
pub fn remote_secrets(policies: &Policies, who: Who<'_>, bounds: &Bounds) -> Decision {
    let subject = Subject::new(SubjectKind::Grant, "remote-secrets");
    if !bounds.remote_secrets {
        let reason = "is not granted, so no secret of the cluster is read for the address or the headers of a remote server; \
                      add `--grant remote-secrets` to allow it";
        return Decision::denied(subject, None, reason.to_owned());
    }
    let mut rule = None;
    for (bounds, at) in policies.bounds(who) {
        if !bounds.remote_secrets {
            let reason = format!("is beyond `grants` of {at}; add `remote-secrets` there to allow it");
            return Decision::denied(subject, Some(at), reason);
        }
        rule = rule.or(Some(at));
    }
    Decision::allowed(subject, rule)
}

/// All values of a specification.
fn values(spec: &ContainerSpec) -> impl Iterator<Item = &Value> {
    let environment = spec.environment.iter().map(|(_, value)| value);
    let volumes = spec.volumes.iter().map(|mount| &mount.value);
    spec.command.iter().chain(environment).chain(volumes).chain(&spec.user)
}

/// What leaves the envelope must be within the grants of every file that bounds them.
fn grants(case: &Case<'_>, spec: &ContainerSpec) -> Vec<Decision> {
    // Without a grant nothing has left it: that was judged before.
    if *case.bounds == Bounds::default() {
        return Vec::new();
    }
    let Err(left) = case.envelope.check(spec, &Bounds::default()) else { return Vec::new() };
    let subject = |field: &str, what: &str| Subject::new(SubjectKind::Grant, format!("{field} {what}"));
    let mut rule = None;
    for (bounds, at) in case.policies.bounds(case.who) {
        if let Err(refusal) = case.envelope.check(spec, &bounds) {
            let reason = match &refusal.grant {
                Some(grant) => format!("is beyond `grants` of {at}; add `{grant}` there to allow it"),
                None => format!("is beyond `grants` of {at}: {}", refusal.remedy),
            };
            return vec![Decision::denied(subject(refusal.field, &refusal.subject), Some(at), reason)];
        }
        rule = rule.or(Some(at));
    }
    vec![Decision::allowed(subject(left.field, &left.subject), rule)]
}

fn mounted(rules: &Holding<'_>, mount: &VolumeMount, real: Option<&Option<Volume>>) -> Option<Decision> {
    let shown = mount.value.to_string();
    let parsed =
        real.cloned().flatten().or_else(|| known_text(&mount.value).and_then(|text| Volume::parse(&text).ok()));
    let Some(volume) = parsed else { return Some(rules.unknown_mount(&shown)) };
    let options = || volume.mode.iter().flat_map(|mode| mode.split(',')).map(str::trim);
    let read_only = mount.read_only || (options().any(|mode| mode == "ro") && !options().any(|mode| mode == "rw"));
    // A volume without a source begins empty and goes with the container.
    let source = volume.source.as_deref()?;
    if volume::is_volume_name(source) {
        return Some(rules.mount(&shown, &Source::Volume(source), read_only));
    }
    Some(match volume::normalised(source).as_deref().and_then(std::path::Path::to_str) {
        Some(path) => rules.mount(&shown, &Source::Path(path), read_only),
        None => rules.unknown_mount(&shown),
    })
}

/// The text of a value, if no secret is in it.
pub fn known_text(value: &Value) -> Option<String> {
    let mut text = String::new();
    for segment in value.segments() {
        match segment {
            Segment::Text(plain) => text.push_str(plain),
            Segment::Private { text: private, .. } => text.push_str(private),
            Segment::Secret(_) | Segment::ClusterKey { .. } => return None,
            Segment::Stored { content, .. } => text.push_str(&known_text(content)?),
        }
    }
    Some(text)
}

fn ceilings(rules: &Holding<'_>, asked: Resources) -> Vec<Decision> {
    let (cpu, memory) = rules.resources();
    let decide = |name: String, fits: bool, most: String, rule| {
        let subject = Subject::new(SubjectKind::Resource, name);
        match fits {
            true => Decision::allowed(subject, Some(rule)),
            false => {
                let reason = format!("is more than {most} of {rule}; ask for less");
                Decision::denied(subject, Some(rule), reason)
            }
        }
    };
    let cpu = cpu.map(|(most, rule)| {
        let name = format!("cpu-millis: {}", asked.cpu_millis);
        decide(name, asked.cpu_millis <= most, format!("`cpus` ({most} thousandths)"), rule)
    });
    let memory = memory.map(|(most, rule)| {
        let name = format!("memory-bytes: {}", asked.memory_bytes);
        decide(name, asked.memory_bytes <= most, format!("`memory` ({most} bytes)"), rule)
    });
    cpu.into_iter().chain(memory).collect()
}

fn requirements(rules: &Holding<'_>, spec: &ContainerSpec) -> Vec<Decision> {
    let decide = |(requirement, rule): (Requirement, _)| {
        let (met, remedy) = match requirement {
            Requirement::ImageDigest => (
                Image::parse(&spec.image).is_ok_and(|image| image.is_pinned()),
                "name the image as `REPOSITORY@sha256:DIGEST` in the catalog",
            ),
            Requirement::ReadOnlyRoot => (spec.security.read_only_root, HARDEN),
            Requirement::DropCapabilities => (spec.security.drop_capabilities, HARDEN),
            Requirement::RunAsNonRoot => (spec.security.run_as_non_root, HARDEN),
        };
        let subject = Subject::new(SubjectKind::Requirement, requirement.name());
        match met {
            true => Decision::allowed(subject, Some(rule)),
            false => {
                let reason = format!("of {rule} is not met; {remedy}");
                Decision::denied(subject, Some(rule), reason)
            }
        }
    };
    rules.requirements().into_iter().map(decide).collect()
}

const HARDEN: &str = "use a provisioner that hardens what it starts";
