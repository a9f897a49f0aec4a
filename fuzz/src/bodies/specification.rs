//! The judgement of container specifications: total on every input, and what it lets pass is what was granted.

use provisioning_core::policy::{Case, Kind, Policies, Who, judge};
use provisioning_core::value::{Origin, Value};
use provisioning_core::volume::is_volume_name;
use provisioning_core::{Bounds, ContainerSpec, Envelope, HostAlias, Network, Resources, SecurityProfile, VolumeMount};

/// A value of which no letter may be told.
fn private() -> Value {
    Value::private(Origin::Config, "s.private", "PRIVATE")
}

fn envelope() -> Envelope {
    Envelope {
        image: "mcp/s".to_owned(),
        command: vec![Value::text("--serve"), private()],
        environment: vec![("TOKEN".to_owned(), Value::secret("s.token")), ("MODE".to_owned(), Value::text("m"))],
        volumes: vec![Value::text("data:/data")],
        user: None,
        network: Network::None,
        hosts: vec![HostAlias { name: "db".to_owned(), address: "10.0.0.1".to_owned() }],
        resources: Resources::default(),
    }
}

/// A line of the input is a grant (`+NAME=BOUND`) or changes the entry's own specification (`FIELD TEXT`). A backslash
/// in a text stands for a private value if nothing is before it, and otherwise for a secret.
pub fn specification(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let envelope = envelope();
    let (mut spec, mut bounds) = (own(&envelope), Bounds::default());
    for line in text.lines().take(200) {
        match line.strip_prefix('+') {
            Some(grant) => add_grant(&mut bounds, grant),
            None => change(&mut spec, line),
        }
    }
    let policies = Policies::default();
    let who = Who { digest: "00", builtin: None, server: Some("s"), kind: Some(Kind::Container) };
    let decide = |spec: &ContainerSpec, bounds: &Bounds| {
        let case = Case { who, envelope: &envelope, bounds, policies: &policies, mounted: &[] };
        let decisions = judge(&case, spec);
        for decision in &decisions {
            let shown = decision.to_string();
            assert!(!shown.contains(char::is_control) && shown.len() < 8_000, "{shown:?}");
            assert!(!shown.contains("PRIVATE") || text.contains("PRIVATE"), "{shown}");
        }
        decisions.iter().all(|decision| decision.is_allowed())
    };
    assert!(decide(&own(&envelope), &bounds), "the entry's own specification is refused");
    if decide(&spec, &Bounds::default()) {
        inside(&spec, &envelope, &Bounds::default());
        assert!(decide(&spec, &bounds), "a grant takes away");
    }
    if decide(&spec, &bounds) {
        inside(&spec, &envelope, &bounds);
    }
}

/// What must hold of everything that is allowed, said in other words than the code that judges.
fn inside(spec: &ContainerSpec, envelope: &Envelope, bounds: &Bounds) {
    let is_plain = |value: &Value| value.as_plain_text().is_some();
    if spec.image != envelope.image {
        let granted = bounds.rewrite_image.iter().any(|place| {
            let place = place.split('/').next().unwrap_or_default().trim_end_matches(":443");
            // The one registry that is meant where none is written has several names.
            spec.image.starts_with(place) || place.contains("docker.")
        });
        assert!(granted && spec.image.is_ascii() && !spec.image.contains(".wasm"), "image {:?}", spec.image);
    }
    for (name, value) in &spec.environment {
        let own = envelope.environment.iter().find(|(own, _)| own == name);
        match own {
            Some((_, content)) => assert_eq!(content, value, "variable {name:?}"),
            None => assert!(
                is_plain(value) && !bounds.add_env.is_empty() && !name.contains(['=', '\0']),
                "variable {name:?}"
            ),
        }
    }
    for value in &spec.command {
        assert!(is_plain(value) || envelope.command.contains(value), "argument {value}");
    }
    for mount in spec.volumes.iter().filter(|mount| !envelope.volumes.contains(&mount.value)) {
        let text = mount.value.as_plain_text().unwrap_or_default();
        let source = text.split(':').next().unwrap_or_default();
        let granted = bounds.add_mount.iter().any(|mount| mount.split(':').next() == Some(source));
        assert!(granted && is_volume_name(source) && !text.contains(".."), "volume {text:?}");
    }
    if let Some(user) = &spec.user {
        assert!(user.as_plain_text().is_some_and(|user| bounds.rewrite_user.contains(user)), "user {user}");
    }
    assert_eq!(spec.network, Network::None);
    for host in spec.hosts.iter().filter(|host| !envelope.hosts.contains(host)) {
        assert!(bounds.add_host.contains(&format!("{}:{}", host.name, host.address)), "host {host:?}");
    }
    for (key, _) in &spec.labels {
        let granted = bounds.add_label.iter().any(|prefix| key.starts_with(prefix.as_str()));
        assert!(granted && key.is_ascii() && !key.to_ascii_lowercase().starts_with("docker-mcp"), "label {key:?}");
    }
    let most = envelope.resources;
    assert!((1..=most.cpu_millis).contains(&spec.resources.cpu_millis));
    assert!((1..=most.memory_bytes).contains(&spec.resources.memory_bytes));
}

fn own(envelope: &Envelope) -> ContainerSpec {
    ContainerSpec {
        image: envelope.image.clone(),
        command: envelope.command.clone(),
        environment: envelope.environment.clone(),
        volumes: envelope.volumes.iter().map(|value| VolumeMount { value: value.clone(), read_only: false }).collect(),
        user: envelope.user.clone(),
        network: envelope.network,
        hosts: envelope.hosts.clone(),
        labels: Vec::new(),
        resources: envelope.resources,
        security: SecurityProfile::default(),
    }
}

fn add_grant(bounds: &mut Bounds, grant: &str) {
    let (name, bound) = grant.split_once('=').unwrap_or((grant, ""));
    let set = match name {
        "rewrite-command" => {
            bounds.rewrite_command = true;
            return;
        }
        "rewrite-image" => &mut bounds.rewrite_image,
        "add-argument" => &mut bounds.add_argument,
        "rewrite-user" => &mut bounds.rewrite_user,
        "add-env" => &mut bounds.add_env,
        "add-mount" => &mut bounds.add_mount,
        "add-label" => &mut bounds.add_label,
        "add-host" => &mut bounds.add_host,
        _ => return,
    };
    // As the reader of grants has it.
    if !bound.is_empty() {
        set.insert(bound.to_owned());
    }
}

fn change(spec: &mut ContainerSpec, line: &str) {
    let (field, text) = line.split_once(' ').unwrap_or((line, ""));
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    match field {
        "image" => spec.image = text.to_owned(),
        "arg" => spec.command.push(value(text)),
        "args" => spec.command = vec![value(text)],
        "env" => {
            let (name, text) = pair(text);
            spec.environment.push((name, value(&text)));
        }
        "set" => {
            let (name, text) = pair(text);
            spec.environment.iter_mut().filter(|(own, _)| *own == name).for_each(|(_, old)| *old = value(&text));
        }
        "less" => {
            spec.environment.pop();
        }
        "volume" => spec.volumes.push(VolumeMount { value: value(text), read_only: false }),
        "user" => spec.user = Some(value(text)),
        "network" => spec.network = Network::Declared,
        "host" => {
            let (name, address) = pair(text);
            spec.hosts.push(HostAlias { name, address });
        }
        "label" => spec.labels.push(pair(text)),
        "cpu" => spec.resources.cpu_millis = text.parse().unwrap_or_default(),
        "memory" => spec.resources.memory_bytes = text.parse().unwrap_or_default(),
        _ => {}
    }
}

fn value(text: &str) -> Value {
    let parts: Vec<Value> = text
        .split_inclusive(['\\'])
        .flat_map(|part| match part {
            "\\" => vec![private()],
            part => match part.strip_suffix('\\') {
                Some(before) => vec![Value::text(before), Value::secret("s.token")],
                None => vec![Value::text(part)],
            },
        })
        .collect();
    Value::concat(&parts)
}
