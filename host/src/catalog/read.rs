//! Reading catalog entries out of a file's tree.

use super::MAX_SERVERS;
use super::entry::{Entry, EnvironmentEntry, RemoteEntry, SecretEntry, ToolContainer, ToolEntry};
use super::shape::{At, Fields, Note};
use super::yaml::{self, Complaint, Content, Place};

/// Keys of entries that are for people or other programs.
const FOR_OTHERS: &[&str] = &[
    "about",
    "dateAdded",
    "displayName",
    "example",
    "icon",
    "name",
    "prompts",
    "readme",
    "ref",
    "resources",
    "source",
    "toolsUrl",
    "transport",
    "upstream",
    "version",
];

type Entries = Vec<(String, Place, Entry)>;

/// Reads a catalog: a map with `registry` (servers by name) or `servers` (a list with names).
pub(super) fn catalog(text: &str) -> Result<(Entries, Vec<Note>), Complaint> {
    let mut top = At::new("", yaml::parse(text)?).fields()?;
    let mut notes = Vec::new();
    let place = top.place();
    // `displayName` is the head of a catalog that has no servers yet.
    if !top.is_empty() && !["registry", "servers", "displayName"].iter().any(|key| top.has(key)) {
        let reason = "no catalog: `registry:` is missing; put the servers below it by name";
        return Err(Complaint::new(place, "", reason));
    }
    let (registry, servers) = (top.take("registry"), top.take("servers"));
    let mut entries = Vec::new();
    for (name, at) in registry.map(At::fields).transpose()?.map(Fields::named).unwrap_or_default() {
        let place = at.node.place;
        entries.push((name, place, entry(at.fields()?, &mut notes)?));
    }
    for at in servers.map(At::items).transpose()?.unwrap_or_default() {
        let mut fields = at.fields()?;
        let (place, name) = (fields.place(), fields.required("name")?);
        entries.push((name, place, entry(fields, &mut notes)?));
    }
    if entries.len() > MAX_SERVERS {
        return Err(Complaint::new(place, "registry", format!("more than {MAX_SERVERS} servers; split the catalog")));
    }
    if let Some((name, place, _)) = entries.iter().find(|(name, ..)| name.is_empty() || name.contains(char::is_control))
    {
        let reason = "the name of a server must be visible text; change it";
        return Err(Complaint::new(*place, name.escape_debug().to_string(), reason));
    }
    top.finish(FOR_OTHERS, &mut notes);
    Ok((entries, notes))
}

fn entry(mut fields: Fields, notes: &mut Vec<Note>) -> Result<Entry, Complaint> {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let entry = Entry {
        kind: text(fields.text("type")?),
        title: fields.text("title")?,
        description: fields.text("description")?,
        image: text(fields.text("image")?),
        command: fields.texts("command")?,
        env: fields.list("env", |at| environment(at, notes))?,
        secrets: fields.list("secrets", |at| secret(at, notes))?,
        config: config(&mut fields)?,
        volumes: fields.texts("volumes")?,
        user: text(fields.text("user")?),
        disable_network: fields.flag("disableNetwork")?.unwrap_or_default(),
        allow_hosts: fields.texts("allowHosts")?,
        extra_hosts: fields.texts("extraHosts")?,
        long_lived: fields.flag("longLived")?.unwrap_or_default(),
        prefix: text(fields.text("prefix")?),
        remote: remote(&mut fields, notes)?,
        sse_endpoint: text(fields.text("sseEndpoint")?),
        tools: fields.list("tools", |at| tool(at, notes))?,
        oauth: fields.json("oauth"),
        metadata: fields.json_map("metadata")?,
    };
    fields.finish(FOR_OTHERS, notes);
    Ok(entry)
}

fn environment(at: At, notes: &mut Vec<Note>) -> Result<EnvironmentEntry, Complaint> {
    let mut fields = at.fields()?;
    let variable =
        EnvironmentEntry { name: fields.required("name")?, value: fields.text("value")?.unwrap_or_default() };
    fields.finish(&["example", "description"], notes);
    Ok(variable)
}

fn secret(at: At, notes: &mut Vec<Note>) -> Result<SecretEntry, Complaint> {
    let mut fields = at.fields()?;
    let secret = SecretEntry {
        name: fields.required("name")?,
        env: fields.text("env")?.unwrap_or_default(),
        required: fields.flag("required")?,
    };
    fields.finish(&["example", "description", "prefix"], notes);
    Ok(secret)
}

/// A list of schemas, or a single one.
fn config(fields: &mut Fields) -> Result<Vec<serde_json::Value>, Complaint> {
    let Some(at) = fields.take("config") else { return Ok(Vec::new()) };
    match &at.node.content {
        Content::Map(_) => Ok(vec![at.node.to_json()]),
        Content::List(items) => Ok(items.iter().filter(|node| !node.is_null()).map(|node| node.to_json()).collect()),
        Content::Scalar { .. } => Err(at.complain("a list of schemas")),
    }
}

/// A remote server; an empty map is none.
fn remote(fields: &mut Fields, notes: &mut Vec<Note>) -> Result<Option<RemoteEntry>, Complaint> {
    let Some(at) = fields.take("remote") else { return Ok(None) };
    let mut fields = at.fields()?;
    if fields.is_empty() {
        return Ok(None);
    }
    let remote = RemoteEntry {
        url: fields.required("url")?,
        transport_type: fields.text("transport_type")?.filter(|kind| !kind.is_empty()),
        headers: fields.text_map("headers")?,
    };
    fields.finish(&[], notes);
    Ok(Some(remote))
}

/// A tool: a whole definition, or its name alone.
fn tool(at: At, notes: &mut Vec<Note>) -> Result<ToolEntry, Complaint> {
    if matches!(at.node.content, Content::Scalar { .. }) && !at.node.is_null() {
        return Ok(ToolEntry { name: at.text()?, ..ToolEntry::default() });
    }
    let mut fields = at.fields()?;
    let tool = ToolEntry {
        name: fields.required("name")?,
        description: fields.text("description")?,
        container: fields.take("container").map(|at| container(at, notes)).transpose()?,
        parameters: fields.json_map("parameters")?.unwrap_or_default(),
        annotations: fields.json_map("annotations")?,
    };
    // Generated catalogs describe the arguments of servers' own tools for people.
    fields.finish(&["arguments", "enabled", "title"], notes);
    Ok(tool)
}

fn container(at: At, notes: &mut Vec<Note>) -> Result<ToolContainer, Complaint> {
    let mut fields = at.fields()?;
    let container = ToolContainer {
        image: fields.required("image")?,
        command: fields.texts("command")?,
        volumes: fields.texts("volumes")?,
        user: fields.text("user")?.filter(|user| !user.is_empty()),
    };
    fields.finish(&[], notes);
    Ok(container)
}
