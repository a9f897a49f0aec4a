//! What a policy costs: the judgement of a container and of a set of resolved values, without any file and with two
//! files of rules of every kind, in turns.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use docker_mcp::policy::file;
use provisioning_core::policy::{Case, Kind, Policies, Who, judge};
use provisioning_core::value::Origin;
use provisioning_core::{Bounds, ContainerSpec, Envelope, Network, Resources, SecurityProfile, Value, VolumeMount};

use super::Effort;
use super::report::{Series, end, row, title, verdict};

/// Five rules, all of which hold for the server, beside as many that are about others.
fn policy() -> String {
    let mut text =
        "version: 1\ncomponents: {allow: [{component: 'builtin:docker', interfaces: [log, secret-resolver]}]}\n\
                    servers: {allow: ['*'], deny: ['x*']}\nrules:\n"
            .to_owned();
    for number in 0..5 {
        for (name, scope) in [("own", "git*"), ("other", "slack")] {
            text.push_str(&format!(
                "  - name: {name} {number}\n    for: {{servers: ['{scope}']}}\n    images: {{allow: ['docker.io/mcp{number}/*', \
                 'docker.io/mcp/*']}}\n    secrets: {{allow: ['{{server}}.*'], deny: ['other.*']}}\n    config: {{allow: ['{{server}}']}}\n    \
                 mounts: {{allow: ['/tmp/**', 'volume:data']}}\n    variables: {{deny: ['LD_*', '*_PROXY']}}\n    \
                 resources: {{memory: 4g}}\n"
            ));
        }
    }
    text
}

pub(crate) fn measure(effort: Effort) -> anyhow::Result<()> {
    let read = |name: &str| file::parse(&policy(), Path::new(name));
    let policies = Policies { files: vec![read("one.yaml")?, read("two.yaml")?] };
    let private = |name: &str, text: &str| Value::private(Origin::Config, format!("github.{name}"), text);
    let envelope = Envelope {
        image: "mcp/github".to_owned(),
        command: vec![Value::text("--path"), private("path", "/tmp/path")],
        environment: (0..6).map(|number| (format!("NAME_{number}"), private(&format!("n{number}"), "x"))).collect(),
        volumes: vec![Value::text("data:/data"), private("dir", "/tmp/path:/path")],
        user: None,
        network: Network::Declared,
        hosts: Vec::new(),
        resources: Resources::default(),
    };
    let mut environment = envelope.environment.clone();
    environment.push(("TOKEN".to_owned(), Value::secret("github.token")));
    let envelope = Envelope { environment: environment.clone(), ..envelope };
    let spec = ContainerSpec {
        image: envelope.image.clone(),
        command: envelope.command.clone(),
        environment,
        volumes: envelope.volumes.iter().map(|value| VolumeMount { value: value.clone(), read_only: false }).collect(),
        user: None,
        network: Network::Declared,
        hosts: Vec::new(),
        labels: Vec::new(),
        resources: envelope.resources,
        security: SecurityProfile::default(),
    };
    let who = Who { digest: "aa", builtin: Some("docker"), server: Some("github"), kind: Some(Kind::Container) };
    let none = Policies::default();
    let bounds = Bounds::default();
    let case = |policies| Case { who, envelope: &envelope, bounds: &bounds, policies, mounted: &[] };
    let (mut without, mut with, mut values) = (Series::default(), Series::default(), Series::default());
    let warm_up = effort.samples(500);
    for sample in 0..warm_up + effort.samples(20_000) {
        let started = Instant::now();
        let one = judge(&case(&none), &spec);
        let without_time = started.elapsed();
        // As in an operation: what the resolvers hand out, and then the container.
        let started = Instant::now();
        let volumes = spec.volumes.iter().map(|mount| &mount.value);
        let handed = [
            policies.holding(who).values(spec.environment.iter().map(|(_, value)| value)),
            policies.holding(who).values(&spec.command),
            policies.holding(who).values(volumes),
        ];
        let other = judge(&case(&policies), &spec);
        let with_time = started.elapsed();
        let started = Instant::now();
        let resolved = policies.holding(who).values(spec.environment.iter().map(|(_, value)| value));
        let values_time = started.elapsed();
        ensure!(
            one.iter()
                .chain(handed.iter().flatten())
                .chain(&other)
                .chain(&resolved)
                .all(|decision| decision.is_allowed()),
            "{other:?}"
        );
        if sample >= warm_up {
            without.push(without_time);
            with.push(with_time);
            values.push(values_time);
        }
    }
    title("policy: two files of five rules each that hold for the server, and as many that do not");
    row("judging a container without a policy", &without, "");
    row("a provisioning with both: three resolvers and the container", &with, "");
    row("judging seven resolved values with both", &values, "");
    verdict("policies add to a provisioning at p50", with.adds(&without, 50) * 1e3, 20.0, "µs");
    verdict("policies add to a host call that resolves, at p50", values.percentile(50).as_secs_f64() * 1e6, 20.0, "µs");
    end();
    Ok(())
}
