use proptest::prelude::*;

use super::patterns::Source;
use super::*;
use crate::envelope::Envelope;
use crate::spec::{ContainerSpec, HostAlias, Network, Resources, SecurityProfile, VolumeMount};
use crate::value::{Origin, Value};

fn listed<P: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<Listed<P>> {
    texts.iter().zip(1..).map(|(text, line)| Listed { line, pattern: text.parse().unwrap() }).collect()
}

fn allow<P: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Lists<P> {
    Lists { allow: Some(Allow { line: 9, entries: listed(texts) }), deny: Vec::new() }
}

fn deny<P: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Lists<P> {
    Lists { allow: None, deny: listed(texts) }
}

fn file(rules: Vec<Rule>) -> Policy {
    Policy { file: "p.yaml".into(), components: Components::default(), servers: Lists::default(), rules, audit: None }
}

fn policies(rules: Vec<Rule>) -> Policies {
    Policies { files: vec![file(rules)] }
}

fn rule(name: &str) -> Rule {
    Rule { name: name.into(), line: 3, ..Rule::default() }
}

const WHO: Who<'static> =
    Who { digest: "aa", builtin: Some("docker"), server: Some("github"), kind: Some(Kind::Container) };

fn envelope() -> Envelope {
    Envelope {
        image: "mcp/github".to_owned(),
        command: vec![Value::private(Origin::Config, "github.path", "/x")],
        environment: vec![("TOKEN".to_owned(), Value::secret("github.token"))],
        volumes: vec![Value::text("data:/data"), Value::private(Origin::Config, "github.dir", "/srv/data:/x")],
        user: None,
        network: Network::Declared,
        hosts: vec![HostAlias { name: "db.local".to_owned(), address: "10.0.0.1".to_owned() }],
        resources: Resources::default(),
    }
}

fn spec() -> ContainerSpec {
    let envelope = envelope();
    ContainerSpec {
        image: envelope.image,
        command: envelope.command,
        environment: envelope.environment,
        volumes: envelope.volumes.into_iter().map(|value| VolumeMount { value, read_only: false }).collect(),
        user: None,
        network: envelope.network,
        hosts: envelope.hosts,
        labels: Vec::new(),
        resources: envelope.resources,
        security: SecurityProfile::default(),
    }
}

/// The first decision that denies.
fn refusal(policies: &Policies, who: Who<'_>, bounds: &Bounds, spec: &ContainerSpec) -> Option<String> {
    let envelope = envelope();
    let case = Case { who, envelope: &envelope, bounds, policies, mounted: &[] };
    judge(&case, spec).into_iter().find(|decision| !decision.is_allowed()).map(|decision| decision.to_string())
}

#[test]
fn demands_on_the_audit_log_add_up_and_two_directories_are_one_too_many() {
    let demand = |line, required, directory: Option<&str>, keep: Option<u64>| {
        let audit = AuditDemand {
            line,
            required,
            directory: directory.map(|pattern| Listed { line: line + 1, pattern: pattern.to_owned() }),
            keep_bytes: keep.map(|pattern| Listed { line: line + 2, pattern }),
        };
        Policy { audit: Some(audit), ..file(Vec::new()) }
    };
    let of = |files: Vec<Policy>| Policies { files }.audit();
    assert_eq!(of(vec![file(Vec::new())]), Ok(AuditDemands::default()));
    let all =
        of(vec![demand(1, false, None, Some(5)), demand(7, true, Some("/a"), Some(9)), demand(9, true, None, Some(7))]);
    let all = all.unwrap();
    assert_eq!(all.required.unwrap().line, 7);
    assert_eq!(all.directory.unwrap().0, "/a");
    assert_eq!(all.keep_bytes.map(|(bytes, rule)| (bytes, rule.line)), Some((9, 9)));
    let error = of(vec![demand(1, true, Some("/a"), None), demand(5, false, Some("/b"), None)]).unwrap_err();
    assert!(error.contains("rule `audit` (p.yaml:2)") && error.contains("rule `audit` (p.yaml:6)"), "{error}");
    assert!(of(vec![demand(1, true, Some("/a"), None), demand(5, false, Some("/a"), None)]).is_ok());
}

#[test]
fn a_refusal_names_the_narrowest_grant_and_it_is_enough() {
    type Change = fn(&mut ContainerSpec);
    let changes: [(&str, Change); 7] = [
        ("rewrite-image=h.example/a/b", |spec| spec.image = "h.example/a/b:2".to_owned()),
        ("add-argument=--log=json", |spec| spec.command.insert(0, Value::text("--log=json"))),
        ("rewrite-command", |spec| spec.command.clear()),
        ("rewrite-command", |spec| spec.command.push(Value::text("--any=*"))),
        ("add-env=TEAM", |spec| spec.environment.push(("TEAM".to_owned(), Value::text("a")))),
        ("add-mount=cache:/cache", |spec| {
            spec.volumes.push(VolumeMount { value: Value::text("cache:/cache:ro"), read_only: true });
        }),
        ("add-label=team.a", |spec| spec.labels.push(("team.a".to_owned(), "x".to_owned()))),
    ];
    for (grant, change) in changes {
        let mut asked = spec();
        change(&mut asked);
        let refused = envelope().check(&asked, &Bounds::default()).unwrap_err();
        assert_eq!(refused.grant.as_deref(), Some(grant));
        assert!(refused.remedy.contains(&format!("grant `{grant}` to allow it")), "{refused}");
        let (name, bound) = grant.split_once('=').unwrap_or((grant, ""));
        let mut bounds = Bounds::default();
        match name {
            "rewrite-image" => drop(bounds.rewrite_image.insert(bound.to_owned())),
            "add-argument" => drop(bounds.add_argument.insert(bound.to_owned())),
            "rewrite-command" => bounds.rewrite_command = true,
            "add-env" => drop(bounds.add_env.insert(bound.to_owned())),
            "add-mount" => drop(bounds.add_mount.insert(bound.to_owned())),
            _ => drop(bounds.add_label.insert(bound.to_owned())),
        }
        assert_eq!(envelope().check(&asked, &bounds), Ok(()), "{grant}");
    }
    // What cannot be written after `--grant` is not advised.
    let mut asked = spec();
    asked.labels.push(("a,b".to_owned(), "x".to_owned()));
    let refused = envelope().check(&asked, &Bounds::default()).unwrap_err();
    assert!(refused.grant.is_none() && refused.remedy.contains("no grant can be written"), "{refused}");
}

#[test]
fn each_kind_of_rule_refuses_a_container_and_says_where_and_what_would_allow_it() {
    let cases: Vec<(Rule, &str)> = vec![
        (
            Rule { images: allow(&["docker.io/other/*"]), ..rule("r") },
            "image `docker.io/mcp/github:latest` is in no `images.allow` that holds here, such as that of rule `r` (p.yaml:9); add `docker.io/mcp/github:latest` there to allow it",
        ),
        (
            Rule { images: deny(&["docker.io/mcp/*"]), ..rule("r") },
            "image `docker.io/mcp/github:latest` is denied by rule `r` (p.yaml:1): `docker.io/mcp/*` in `images.deny`; it can only be allowed by removing that entry",
        ),
        (Rule { secrets: allow(&["slack.*"]), ..rule("r") }, "secret `github.token` is in no `secrets.allow`"),
        (Rule { config: deny(&["github.path.deep"]), ..rule("r") }, "configuration `github.path` is denied"),
        (
            Rule { mounts: allow(&["volume:*", "/home/**"]), ..rule("r") },
            "mount `<config:github.dir>` is in no `mounts.allow`",
        ),
        (
            Rule { mounts: allow(&["volume:*", "/srv/**:ro"]), ..rule("r") },
            "mount `<config:github.dir>` is in no `mounts.allow`",
        ),
        (Rule { networks: allow(&["none"]), ..rule("r") }, "network `declared` is in no `networks.allow`"),
        (Rule { hosts: allow(&["db.local"]), ..rule("r") }, "host `*` is in no `hosts.allow`"),
        (Rule { hosts: deny(&["evil.example"]), ..rule("r") }, "host `*` is denied"),
        (Rule { variables: deny(&["TOK*"]), ..rule("r") }, "environment variable `TOKEN` is denied"),
        (
            Rule { cpu_millis: Some(Listed { line: 4, pattern: 500 }), ..rule("r") },
            "resource `cpu-millis: 1000` is more than `cpus` (500 thousandths) of rule `r` (p.yaml:4); ask for less",
        ),
        (
            Rule { memory_bytes: Some(Listed { line: 4, pattern: 1 << 20 }), ..rule("r") },
            "resource `memory-bytes: 2147483648` is more than",
        ),
        (
            Rule { require: vec![Listed { line: 5, pattern: Requirement::ImageDigest }], ..rule("r") },
            "requirement `image-digest` of rule `r` (p.yaml:5) is not met",
        ),
        (
            Rule { require: vec![Listed { line: 5, pattern: Requirement::ReadOnlyRoot }], ..rule("r") },
            "requirement `read-only-root` of rule",
        ),
    ];
    for (rule, expected) in cases {
        let said = refusal(&policies(vec![rule.clone()]), WHO, &Bounds::default(), &spec());
        assert!(said.as_ref().is_some_and(|said| said.starts_with(expected)), "{expected}\n{said:?}");
        // About somebody else it says nothing.
        let other = Rule { servers: Some(vec!["slack".parse().unwrap()]), ..rule.clone() };
        assert_eq!(refusal(&policies(vec![other]), WHO, &Bounds::default(), &spec()), None);
        let other = Rule { kinds: Some(vec![Kind::Remote]), ..rule.clone() };
        assert_eq!(refusal(&policies(vec![other]), WHO, &Bounds::default(), &spec()), None);
        let other = Rule { components: Some(vec![patterns::ComponentPattern::BuiltIn("x".to_owned())]), ..rule };
        assert_eq!(refusal(&policies(vec![other]), WHO, &Bounds::default(), &spec()), None);
    }
    let servers = Policies { files: vec![Policy { servers: allow(&["slack"]), ..file(Vec::new()) }] };
    assert!(
        refusal(&servers, WHO, &Bounds::default(), &spec())
            .unwrap()
            .starts_with("server `github` is in no `servers.allow`")
    );
    let whole = Rule {
        images: allow(&["docker.io/mcp/*"]),
        secrets: allow(&["{server}.*"]),
        config: allow(&["{server}"]),
        mounts: allow(&["volume:data", "/srv/data"]),
        networks: allow(&["declared"]),
        hosts: allow(&["*"]),
        variables: allow(&["TOKEN"]),
        ..rule("r")
    };
    assert_eq!(refusal(&policies(vec![whole]), WHO, &Bounds::default(), &spec()), None);
}

#[test]
fn lists_of_one_file_add_up_and_those_of_two_files_do_not() {
    let one = || Rule { secrets: allow(&["a.*"]), ..rule("one") };
    let two = || Rule { secrets: allow(&["b.*"]), ..rule("two") };
    let together = policies(vec![one(), two()]);
    assert!(together.holding(WHO).secret("a.x").is_allowed() && together.holding(WHO).secret("b.x").is_allowed());
    assert!(!together.holding(WHO).secret("c.x").is_allowed());
    let apart = Policies { files: vec![file(vec![one()]), file(vec![two()])] };
    assert!(!apart.holding(WHO).secret("a.x").is_allowed() && !apart.holding(WHO).secret("b.x").is_allowed());
}

#[test]
fn what_cannot_be_told_is_refused_where_a_rule_would_have_to_tell() {
    let images = policies(vec![Rule { images: deny(&["docker.io/x/y"]), ..rule("r") }]);
    for image in ["mcp/Time", "cafe", "relative/x.wasm", "mсp/time"] {
        assert!(!images.holding(WHO).image(image).is_allowed(), "{image}");
        assert!(Policies::default().holding(WHO).image(image).is_allowed(), "{image}");
    }
    let mounts = policies(vec![Rule { mounts: deny(&["/x"]), ..rule("r") }]);
    let secret = VolumeMount { value: Value::secret("s"), read_only: true };
    let envelope = Envelope { volumes: vec![Value::secret("s")], ..envelope() };
    let spec = ContainerSpec { volumes: vec![secret], ..spec() };
    let case = Case { who: WHO, envelope: &envelope, bounds: &Bounds::default(), policies: &mounts, mounted: &[] };
    assert!(judge(&case, &spec).iter().any(|decision| !decision.is_allowed()));
    let hosts = policies(vec![Rule { hosts: deny(&["evil.example"]), ..rule("r") }]);
    assert!(!hosts.holding(WHO).unknown_host("<secret:s>").is_allowed());
    assert!(!hosts.holding(WHO).host("exаmple.com", None).is_allowed());
}

#[test]
fn a_link_is_judged_by_where_it_leads() {
    let policies = policies(vec![Rule { mounts: allow(&["/srv/**", "volume:*"]), ..rule("r") }]);
    let envelope = envelope();
    let mounted = [None, Some(crate::volume::Volume::parse("/home/me:/x:ro").unwrap())];
    let case =
        Case { who: WHO, envelope: &envelope, bounds: &Bounds::default(), policies: &policies, mounted: &mounted };
    assert!(judge(&case, &spec()).iter().any(|decision| !decision.is_allowed()));
    let case = Case { mounted: &[], ..case };
    assert!(judge(&case, &spec()).iter().all(Decision::is_allowed));
}

fn component(entries: Vec<AllowedComponent>) -> Policies {
    let components = Components { allow: Some((2, entries)), deny: Vec::new() };
    Policies { files: vec![Policy { components, ..file(Vec::new()) }] }
}

fn entry(component: patterns::ComponentPattern) -> AllowedComponent {
    AllowedComponent { line: 3, name: "e".into(), component, interfaces: None, grants: None, limits: BTreeMap::new() }
}

#[test]
fn a_component_runs_by_its_digest_with_what_its_entry_leaves_it() {
    let own = patterns::ComponentPattern::Digest("aa".to_owned());
    let other = Who { digest: "bb", builtin: None, ..WHO };
    let plain = component(vec![entry(own.clone())]);
    assert!(plain.component(WHO).is_allowed() && plain.interface(WHO, "log").is_allowed());
    let refused = plain.component(other).to_string();
    assert!(refused.contains("`component: sha256:bb`") && refused.contains("p.yaml:2"), "{refused}");

    let narrow = AllowedComponent {
        interfaces: Some(Allow { line: 4, entries: vec![Listed { line: 5, pattern: "log".to_owned() }] }),
        grants: Some((6, Bounds { rewrite_image: ["registry.local".to_owned()].into(), ..Bounds::default() })),
        limits: [(Limit::Memory, Listed { line: 7, pattern: 100 })].into(),
        ..entry(own)
    };
    let narrow = component(vec![narrow]);
    assert!(narrow.interface(WHO, "log").is_allowed() && !narrow.interface(WHO, "secret-resolver").is_allowed());
    assert_eq!(narrow.limits(WHO).get(&Limit::Memory).map(|(most, _)| *most), Some(100));

    // What was granted is bounded by what the policy leaves of it, and the other way round.
    let granted = Bounds { rewrite_image: ["registry.local".into(), "other.local".into()].into(), ..Bounds::default() };
    let with = |image: &str| ContainerSpec { image: image.to_owned(), ..spec() };
    assert_eq!(refusal(&narrow, WHO, &granted, &with("registry.local/a")), None);
    let said = refusal(&narrow, WHO, &granted, &with("other.local/a")).unwrap();
    assert!(said.contains("is beyond `grants` of rule `e` (p.yaml:6)"), "{said}");
    assert!(refusal(&narrow, WHO, &Bounds::default(), &with("registry.local/a")).is_some());
    assert_eq!(refusal(&narrow, WHO, &Bounds::default(), &spec()), None);
}

fn texts(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(all, 0..=all.len())
}

fn some_lists<P>(all: &'static [&'static str]) -> impl Strategy<Value = Lists<P>>
where
    P: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug + Clone + 'static,
{
    (prop::option::of(texts(all)), prop_oneof![3 => Just(Vec::new()), 1 => texts(all)]).prop_map(|(allowed, denied)| {
        Lists { deny: listed(&denied), ..allowed.map_or_else(Lists::default, |all| allow(&all)) }
    })
}

prop_compose! {
    fn some_rule()(
        servers in prop::option::of(texts(&["github", "git*", "slack"])),
        images in some_lists(&["docker.io/mcp/*", "docker.io/mcp/github:1", "*/**", "registry.local/**"]),
        secrets in some_lists(&["github.*", "{server}.token", "*"]),
        config in some_lists(&["github", "github.dir", "slack"]),
        mounts in some_lists(&["/srv/**", "volume:data", "/srv/data", "/**"]),
        networks in some_lists(&["none", "declared"]),
        hosts in some_lists(&["*", "db.local", "*.local"]),
        cpu in prop::option::of(1u32..2000),
        required in prop::option::weighted(0.2, Just(Requirement::DropCapabilities)),
    ) -> Rule {
        Rule {
            name: "r".into(),
            line: 1,
            servers: servers.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect()),
            images, secrets, config, mounts, networks, hosts,
            cpu_millis: cpu.map(|pattern| Listed { line: 1, pattern }),
            require: required.into_iter().map(|pattern| Listed { line: 1, pattern }).collect(),
            ..Rule::default()
        }
    }
}

fn some_file() -> impl Strategy<Value = Policy> {
    (prop::collection::vec(some_rule(), 0..4), some_lists(&["github", "*"]))
        .prop_map(|(rules, servers)| Policy { servers, ..file(rules) })
}

prop_compose! {
    fn some_spec()(
        image in prop::sample::select(vec!["mcp/github", "mcp/github:1", "registry.local/x:1", "mcp/UPPER"]),
        secret in prop::bool::ANY,
        volumes in 0usize..3,
        network in prop::bool::ANY,
        cpu_millis in 1u32..1000,
        hardened in prop::bool::ANY,
        hosts in prop::bool::ANY,
    ) -> ContainerSpec {
        let mut spec = spec();
        spec.image = image.to_owned();
        spec.volumes.truncate(volumes);
        if !secret { spec.environment.clear(); }
        if !network { spec.network = Network::None; }
        if !hosts { spec.hosts.clear(); }
        spec.resources.cpu_millis = cpu_millis;
        spec.security.drop_capabilities = hardened;
        spec
    }
}

fn generous() -> Bounds {
    Bounds { rewrite_image: ["docker.io".to_owned(), "registry.local".to_owned()].into(), ..Bounds::default() }
}

fn passes(policies: &Policies, spec: &ContainerSpec) -> bool {
    refusal(policies, WHO, &generous(), spec).is_none()
}

proptest! {
    #[test]
    fn a_further_file_or_rule_that_denies_never_allows_more(
        files in prop::collection::vec(some_file(), 0..3),
        further in some_file(),
        at in 0usize..4,
        spec in some_spec(),
    ) {
        let before = passes(&Policies { files: files.clone() }, &spec);
        let mut more = files.clone();
        more.insert(at.min(more.len()), further.clone());
        let after = passes(&Policies { files: more }, &spec);
            prop_assert!(before || !after);
        // The same for each file, with only what forbids added to it.
        let forbids = further.rules.into_iter().map(|mut rule| {
            rule.images.allow = None;
            rule.secrets.allow = None;
            rule.config.allow = None;
            rule.mounts.allow = None;
            rule.networks.allow = None;
            rule.hosts.allow = None;
            rule
        });
        let forbids: Vec<Rule> = forbids.collect();
        for index in 0..files.len() {
            let mut more = files.clone();
            more[index].rules.extend(forbids.clone());
            let after = passes(&Policies { files: more }, &spec);
            prop_assert!(before || !after);
        }
    }

    #[test]
    fn the_order_of_files_and_rules_does_not_matter(
        files in prop::collection::vec(some_file(), 0..4),
        spec in some_spec(),
    ) {
        let forwards = passes(&Policies { files: files.clone() }, &spec);
        let backwards = files.into_iter().rev().map(|mut file| {
            file.rules.reverse();
            file
        });
        prop_assert_eq!(forwards, passes(&Policies { files: backwards.collect() }, &spec));
    }

    #[test]
    fn asking_for_less_is_never_refused_where_more_is_allowed(
        files in prop::collection::vec(some_file(), 0..3),
        spec in some_spec(),
        less in 1u32..1000,
    ) {
        let policies = Policies { files };
        if passes(&policies, &spec) {
            let mut narrow = spec.clone();
            narrow.environment.clear();
            narrow.volumes.clear();
            narrow.hosts.clear();
            narrow.network = Network::None;
            narrow.resources.cpu_millis = narrow.resources.cpu_millis.min(less);
            narrow.security = SecurityProfile { read_only_root: true, drop_capabilities: true, run_as_non_root: true };
            let refused = refusal(&policies, WHO, &generous(), &narrow);
            prop_assert!(refused.is_none(), "{:?}", refused);
        }
    }

    #[test]
    fn what_is_denied_is_denied_whatever_is_allowed(
        files in prop::collection::vec(some_file(), 0..3),
        at in 0usize..3,
        spec in some_spec(),
    ) {
        let mut files = files;
        let never = Rule { images: deny(&["*/**"]), ..rule("never") };
        let at = at.min(files.len());
        files.insert(at, file(vec![never]));
        let allowed = passes(&Policies { files }, &spec);
        prop_assert!(!allowed);
    }

    #[test]
    fn evaluation_is_total_and_shows_no_private_text(
        files in prop::collection::vec(some_file(), 0..3),
        text in any::<String>(),
        canary in "canary[a-z]{4}",
    ) {
        let policies = Policies { files };
        let who = Who { server: Some(&text), ..WHO };
        let mut all = vec![
            policies.server(&text), policies.holding(who).image(&text), policies.holding(who).secret(&text), policies.holding(who).config(&text),
            policies.holding(who).host(&text, Some(1)), policies.holding(who).variable(&text), policies.holding(who).label(&text),
            policies.holding(who).mount("shown", &Source::Path(&text), true), policies.interface(who, &text),
            policies.holding(who).namespace(&text), policies.holding(who).every_host(),
        ];
        let private = Value::private(Origin::Config, "github.dir", format!("/srv/{canary}:/x"));
        let envelope = Envelope { volumes: vec![private.clone()], image: text.clone(), ..envelope() };
        let volumes = vec![VolumeMount { value: private, read_only: false }];
        let spec = ContainerSpec { volumes, image: text.clone(), ..spec() };
        all.extend(judge(&Case { who, envelope: &envelope, bounds: &generous(), policies: &policies, mounted: &[] }, &spec));
        for decision in all {
            let shown = decision.to_string();
            prop_assert!(!shown.contains(&canary) && !shown.contains(char::is_control), "{}", shown);
        }
    }
}
