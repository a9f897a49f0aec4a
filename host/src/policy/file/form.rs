//! The form of a policy file. The documentation of these types is that of the published schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

/// Something and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let place = spanned.referenced;
        Ok(Self { value: spanned.value, line: number(place.line()), column: number(place.column()) })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A key that is there has something behind it: nothing, as in `allow:` with all entries commented out, is an error.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    match Option::<T>::deserialize(deserializer)? {
        Some(found) => Ok(Some(found)),
        None => {
            Err(serde::de::Error::custom("nothing stands behind this key; write `[]` or a value, or remove the key"))
        }
    }
}

/// Text, or a number as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Amount(pub(super) String);

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "number"] })
    }
}

/// What the operator of a docker-mcp gateway allows. Every policy file must allow what is asked for; none grants
/// anything.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    /// The version of this form: 1.
    #[schemars(extend("const" = 1))]
    pub(super) version: At<u32>,
    /// What the file is for. For people.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "read by people")]
    pub(super) description: Option<String>,
    /// Which components may run as provisioners, and how far each of them may go.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Components")]
    pub(super) components: Option<Components>,
    /// Which servers may run: patterns of their names in the catalog.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) servers: Option<At<Section>>,
    /// What is demanded of the audit log.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AuditLog")]
    pub(super) audit: Option<At<AuditLog>>,
    /// What servers may use and what their containers may be.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<Rule>")]
    pub(super) rules: Option<Vec<At<Rule>>>,
}

/// The audit log. What is said here no flag changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AuditLog {
    /// Whether nothing may run without it: then `--no-audit` is refused, and so is everything while it cannot be written.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub(super) required: Option<At<bool>>,
    /// Where it is kept: an absolute path, or one that begins with `~/`, the home directory of whoever runs a gateway.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub(super) directory: Option<At<String>>,
    /// How much of it is kept at least, such as `1Gi`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) keep: Option<At<Amount>>,
}

/// Components: `sha256:DIGEST` of the `.wasm` file, `builtin:NAME`, or `*`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Components {
    /// If it is there, no other component runs.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<Component>")]
    pub(super) allow: Option<At<Vec<At<Component>>>>,
    /// Never run, whatever is allowed.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) deny: Option<Vec<At<String>>>,
}

/// A component that may run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Component {
    /// Which: `sha256:DIGEST`, `builtin:NAME`, or `*`.
    pub(super) component: At<String>,
    /// What messages call this entry. Default: the component.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub(super) name: Option<At<String>>,
    /// The interfaces and WASI packages that it may use of those that it is granted. Default: all of those.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) interfaces: Option<At<Vec<At<String>>>>,
    /// How far it may leave the envelope, of what it is granted, written as for `--grant`:
    /// `rewrite-image=registry.example`. Default: all of what it is granted.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) grants: Option<At<Vec<At<String>>>>,
    /// Ceilings for what one operation of it may use; only those that are lower than the gateway's own matter.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Limits")]
    pub(super) limits: Option<Limits>,
}

/// Ceilings for one operation of a component.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Limits {
    /// Linear memory, such as `32Mi`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) memory: Option<At<Amount>>,
    /// Elements of tables.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) table_elements: Option<At<u64>>,
    /// Core instances, tables and memories, each.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) instances: Option<At<u64>>,
    /// Handles that it holds at once.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) handles: Option<At<u64>>,
    /// What one call into the host may copy, such as `1Mi`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) copied_bytes: Option<At<Amount>>,
    /// The size of the values that it holds, such as `1Mi`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) value_bytes: Option<At<Amount>>,
    /// Containers that it asks for.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) containers: Option<At<u64>>,
    /// Time that it computes, such as `500ms` or `2s`; waiting for the host is free.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub(super) time: Option<At<Amount>>,
    /// Calls into the host.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) host_calls: Option<At<u64>>,
    /// Lines in the gateway's log.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub(super) log_lines: Option<At<u64>>,
}

/// What is allowed and denied of one kind: lists of patterns.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Section {
    /// If it is there, nothing else is allowed. The lists of all rules that hold for a server add up; `[]` allows
    /// nothing.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) allow: Option<At<Vec<At<String>>>>,
    /// Denied, whatever any list allows.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) deny: Option<Vec<At<String>>>,
}

/// A rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rule {
    /// What messages call it. No two rules of a file have one name.
    pub(super) name: At<String>,
    /// Why it is there. For people.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "read by people")]
    pub(super) description: Option<String>,
    /// Whom it is about. Default: every server and component.
    #[serde(default, rename = "for", deserialize_with = "present")]
    #[schemars(with = "Scope")]
    pub(super) scope: Option<At<Scope>>,
    /// Images: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, `embedded:NAME`, or the path of a `.wasm` file. `*` stays within a
    /// part of a name, `**` stands for any number of parts.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) images: Option<At<Section>>,
    /// Secrets by name; `{server}` is the server's name.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) secrets: Option<At<Section>>,
    /// Configuration by path, each with everything below it; `{server}` is the server's section.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) config: Option<At<Section>>,
    /// What may be mounted: `/path/**` or `volume:NAME`, with `:ro` for reading only.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) mounts: Option<At<Section>>,
    /// Network access of containers: `none` or `declared`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) networks: Option<At<Section>>,
    /// Hosts that a server is reached at or may reach: a name, `*.DOMAIN`, an address, a network as `10.0.0.0/8`, or
    /// `*`; each with `:PORT` for one port. A container with a network reaches every host, which is `*`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) hosts: Option<At<Section>>,
    /// Environment variables by name.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) variables: Option<At<Section>>,
    /// Labels by key.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) labels: Option<At<Section>>,
    /// Namespaces of a cluster.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Section")]
    pub(super) namespaces: Option<At<Section>>,
    /// The most that a container may use; the lowest of all that hold counts.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Resources")]
    pub(super) resources: Option<At<Resources>>,
    /// What every container must have.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<Requirement>")]
    pub(super) require: Option<Vec<At<Requirement>>>,
}

/// Whom a rule is about: those that fit everything that is written here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Scope {
    /// Patterns of names of servers.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) servers: Option<Vec<At<String>>>,
    /// Components: `sha256:DIGEST`, `builtin:NAME`, or `*`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<String>")]
    pub(super) components: Option<Vec<At<String>>>,
    /// Kinds of servers.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Vec<Kind>")]
    pub(super) kinds: Option<Vec<Kind>>,
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// In a container of its own, or embedded in the gateway.
    Container,
    /// At an address.
    Remote,
}

/// The most that a container may use.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Resources {
    /// Processors, such as `0.5`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) cpus: Option<At<Amount>>,
    /// Memory, such as `512Mi`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Amount")]
    pub(super) memory: Option<At<Amount>>,
}

/// What a container must have.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Requirement {
    /// An image that is named by its digest, so that its content cannot change.
    ImageDigest,
    /// A read-only root file system.
    ReadOnlyRoot,
    /// No Linux capability.
    DropCapabilities,
    /// A process that does not run as user 0.
    RunAsNonRoot,
}
