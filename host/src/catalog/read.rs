//! Reading catalog entries out of a file's tree.
//!
//! Three shapes of file: a catalog (`registry:`, servers by name, or `servers:`, a list), one server with its `name`,
//! and the `server.yaml` of the registry project, which [`project`] turns into an entry.

mod project;

use serde_json::{Map, Value as Json, json};

use super::MAX_SERVERS;
use super::entry::{Decision, Entry, EnvironmentEntry, RemoteEntry, SecretEntry, ToolContainer, ToolEntry};
use super::shape::{At, Fields, Note};
use super::yaml::{self, Complaint, Content, Place};

/// Keys of entries that are for people or other programs.
const FOR_OTHERS: &[&str] = &[
    "dateAdded",
    "displayName",
    "dynamic",
    "example",
    "icon",
    "name",
    "prompts",
    "readme",
    "ref",
    "requirement",
    "resources",
    "source",
    "toolsUrl",
    "transport",
    "upstream",
];
/// Keys beside `registry` that are for people or other programs.
const ABOUT_CATALOG: &[&str] = &["description", "displayName", "lastUpdate", "name", "url"];
/// The versions of catalogs that are known.
const VERSIONS: &[&str] = &["", "1", "2", "3"];

/// What a file holds.
pub(super) struct File {
    pub(super) entries: Vec<(String, Place, Entry)>,
    pub(super) notes: Vec<Note>,
    /// True if the file is one server and no catalog.
    pub(super) is_single: bool,
}

/// Reads a catalog, or a file with one server.
pub(super) fn file(text: &str) -> Result<File, Complaint> {
    let mut top = At::new("", yaml::parse(text)?).fields()?;
    let mut notes = Vec::new();
    let place = top.place();
    let mut entries = Vec::new();
    // `displayName` is the head of a catalog that has no servers yet.
    let is_catalog = top.is_empty() || ["registry", "servers", "displayName"].iter().any(|key| top.has(key));
    if is_catalog {
        catalog(&mut top, &mut entries, &mut notes)?;
        top.finish(ABOUT_CATALOG, &mut notes);
    } else if top.has("name") && ["image", "type", "remote", "sseEndpoint", "tools"].iter().any(|key| top.has(key)) {
        let name = top.peek("name").unwrap_or_default();
        entries.push((name, place, entry(top, &mut notes)?));
    } else {
        let reason = "no catalog: `registry:` is missing; put the servers below it by name";
        return Err(Complaint::new(place, "", reason));
    }
    if entries.len() > MAX_SERVERS {
        return Err(Complaint::new(place, "registry", format!("more than {MAX_SERVERS} servers; split the catalog")));
    }
    let is_invisible = |name: &str| name.trim().is_empty() || name.len() > 200 || name.contains(char::is_control);
    if let Some((name, place, _)) = entries.iter().find(|(name, ..)| is_invisible(name)) {
        let reason = "the name of a server must be visible text of at most 200 bytes; change it";
        let shown: String = name.chars().take(50).collect();
        return Err(Complaint::new(*place, shown.escape_debug().to_string(), reason));
    }
    Ok(File { entries, notes, is_single: !is_catalog })
}

fn catalog(
    top: &mut Fields,
    entries: &mut Vec<(String, Place, Entry)>,
    notes: &mut Vec<Note>,
) -> Result<(), Complaint> {
    let version = top.peek("version").unwrap_or_default();
    if !VERSIONS.contains(&version.trim()) {
        top.note("version", "this version of catalogs is not known; it is read as version 3", notes);
    }
    top.take("version");
    // A decision about the whole catalog is one about each of its servers.
    let policy = policy(top)?;
    let (registry, servers) = (top.take("registry"), top.take("servers"));
    for (name, at) in registry.map(At::fields).transpose()?.map(Fields::named).unwrap_or_default() {
        let place = at.node.place;
        entries.push((name, place, entry(at.fields()?, notes)?));
    }
    for at in servers.map(At::items).transpose()?.unwrap_or_default() {
        let mut fields = at.fields()?;
        let (place, name) = (fields.place(), fields.required("name")?);
        entries.push((name, place, entry(fields, notes)?));
    }
    if policy.as_ref().is_some_and(Decision::denies) {
        entries.iter_mut().for_each(|(_, _, entry)| entry.policy.clone_from(&policy));
    }
    Ok(())
}

fn entry(mut fields: Fields, notes: &mut Vec<Note>) -> Result<Entry, Complaint> {
    if project::is_one(&fields) {
        return project::entry(fields, notes);
    }
    let entry = Entry {
        kind: filled(fields.text("type")?),
        title: fields.text("title")?,
        description: fields.text("description")?,
        image: filled(fields.text("image")?),
        command: fields.texts("command")?,
        env: fields.list("env", |at| environment(at, notes))?,
        secrets: fields.list("secrets", |at| secret(at, notes))?,
        config: config(&mut fields)?,
        volumes: fields.texts("volumes")?,
        user: filled(fields.text("user")?),
        disable_network: fields.flag("disableNetwork")?.unwrap_or_default(),
        allow_hosts: fields.texts("allowHosts")?,
        extra_hosts: fields.texts("extraHosts")?,
        long_lived: fields.flag("longLived")?.unwrap_or_default(),
        prefix: filled(fields.text("prefix")?),
        remote: remote(&mut fields, notes)?,
        sse_endpoint: filled(fields.text("sseEndpoint")?),
        tools: fields.list("tools", |at| tool(at, notes))?,
        oauth: oauth(&mut fields)?,
        metadata: fields.json_map("metadata")?,
        policy: policy(&mut fields)?,
        enabled_tools: None,
    };
    fields.finish(FOR_OTHERS, notes);
    Ok(entry)
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn environment(at: At, notes: &mut Vec<Note>) -> Result<EnvironmentEntry, Complaint> {
    let mut fields = at.fields()?;
    let variable =
        EnvironmentEntry { name: fields.required("name")?, value: fields.text("value")?.unwrap_or_default() };
    // A default of a variable is for forms; what counts is the default of the schema.
    fields.finish(&["default", "description", "example"], notes);
    Ok(variable)
}

fn secret(at: At, notes: &mut Vec<Note>) -> Result<SecretEntry, Complaint> {
    let mut fields = at.fields()?;
    let secret = SecretEntry {
        name: fields.required("name")?,
        env: fields.text("env")?.unwrap_or_default(),
        required: fields.flag("required")?,
    };
    fields.finish(&["description", "example", "prefix"], notes);
    Ok(secret)
}

/// A list of schemas, or a single one.
fn config(fields: &mut Fields) -> Result<Vec<Json>, Complaint> {
    let Some(at) = fields.take("config") else { return Ok(Vec::new()) };
    match &at.node.content {
        Content::Map(_) => Ok(vec![at.node.to_json()]),
        Content::List(items) => Ok(items.iter().filter(|node| !node.is_null()).map(|node| node.to_json()).collect()),
        Content::Scalar { .. } => Err(at.complain("a list of schemas")),
    }
}

/// A remote server; an empty map is none.
fn remote(fields: &mut Fields, notes: &mut Vec<Note>) -> Result<Option<RemoteEntry>, Complaint> {
    let Some(mut fields) = fields.below("remote")?.filter(|fields| !fields.is_empty()) else { return Ok(None) };
    let remote = RemoteEntry {
        url: fields.required("url")?,
        transport_type: filled(fields.text("transport_type")?),
        headers: fields.text_map("headers")?,
    };
    fields.finish(&[], notes);
    Ok(Some(remote))
}

/// `{providers: […]}` or `{enabled, provider}`, and the plain list of providers that the registry project writes.
fn oauth(fields: &mut Fields) -> Result<Option<Json>, Complaint> {
    let Some(at) = fields.take("oauth") else { return Ok(None) };
    match at.node.to_json() {
        Json::Array(providers) => Ok(Some(json!({ "providers": providers }))),
        map @ Json::Object(_) => Ok(Some(map)),
        _ => Err(at.complain("a map or a list of providers")),
    }
}

fn policy(fields: &mut Fields) -> Result<Option<Decision>, Complaint> {
    let Some(mut fields) = fields.below("policy")? else { return Ok(None) };
    Ok(Some(Decision { allowed: fields.flag("allowed")?, reason: fields.text("reason")? }))
}

/// A tool: a whole definition, or its name alone.
fn tool(at: At, notes: &mut Vec<Note>) -> Result<ToolEntry, Complaint> {
    if matches!(at.node.content, Content::Scalar { .. }) && !at.node.is_null() {
        return Ok(ToolEntry { name: at.text()?, ..ToolEntry::default() });
    }
    let mut fields = at.fields()?;
    let mut tool = ToolEntry {
        name: fields.required("name")?,
        description: fields.text("description")?,
        container: fields.take("container").map(|at| container(at, notes)).transpose()?.flatten(),
        parameters: fields.json_map("parameters")?.unwrap_or_default(),
        annotations: fields.json_map("annotations")?,
        policy: policy(&mut fields)?,
    };
    let arguments = fields.list("arguments", argument)?;
    let schema = fields.json_map("inputSchema")?.unwrap_or_default();
    if tool.parameters.is_empty() {
        tool.parameters = if schema.is_empty() { parameters(arguments) } else { schema };
    }
    if let Some(title) = fields.text("title")? {
        let annotations = tool.annotations.get_or_insert_default();
        annotations.entry("title").or_insert(Json::String(title));
    }
    fields.finish(&[], notes);
    Ok(tool)
}

/// An argument in the older spelling: its name, its schema and whether it must be given.
fn argument(at: At) -> Result<(String, Json, bool), Complaint> {
    let mut fields = at.fields()?;
    let name = fields.required("name")?;
    let mut schema = Map::new();
    schema.insert("type".to_owned(), Json::String(fields.text("type")?.unwrap_or_else(|| "string".to_owned())));
    let description = fields.text("desc")?.or(fields.text("description")?);
    schema.extend(description.map(|text| ("description".to_owned(), Json::String(text))));
    schema.extend(fields.json("items").map(|items| ("items".to_owned(), items)));
    let optional = fields.flag("optional")?.unwrap_or_default() || fields.flag("required")? == Some(false);
    Ok((name, Json::Object(schema), !optional))
}

/// The schema that a list of arguments amounts to.
fn parameters(arguments: Vec<(String, Json, bool)>) -> Map<String, Json> {
    if arguments.is_empty() {
        return Map::new();
    }
    let required: Vec<Json> =
        arguments.iter().filter(|(.., required)| *required).map(|(name, ..)| json!(name)).collect();
    let properties: Map<String, Json> = arguments.into_iter().map(|(name, schema, _)| (name, schema)).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Json::Object(properties));
    schema.insert("required".to_owned(), Json::Array(required));
    schema
}

/// How an ephemeral tool runs; an empty map says nothing.
fn container(at: At, notes: &mut Vec<Note>) -> Result<Option<ToolContainer>, Complaint> {
    let mut fields = at.fields()?;
    if fields.is_empty() {
        return Ok(None);
    }
    let container = ToolContainer {
        image: fields.required("image")?,
        command: fields.texts("command")?,
        volumes: fields.texts("volumes")?,
        user: filled(fields.text("user")?),
    };
    fields.finish(&[], notes);
    Ok(Some(container))
}

/// The tools of a `tools.json` beside a `server.yaml`.
pub(super) fn tools(text: &str) -> Result<(Vec<ToolEntry>, Vec<Note>), Complaint> {
    let mut notes = Vec::new();
    let items = At::new("", yaml::parse(text)?).items()?;
    let tools = items.into_iter().map(|at| tool(at, &mut notes)).collect::<Result<_, _>>()?;
    Ok((tools, notes))
}
