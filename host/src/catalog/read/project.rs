//! The `server.yaml` of the registry project as a catalog entry: `about`, `meta`, `run` and `config` taken apart in the
//! way in which that project generates its catalogs, with one difference: defaults of the schema are kept.

use serde_json::{Map, Value as Json};

use super::super::entry::{Entry, EnvironmentEntry};
use super::super::shape::{At, Fields, Note};
use super::super::yaml::Complaint;
use super::{FOR_OTHERS, environment, filled, oauth, policy, remote, secret, tool};

/// True if an entry is written in this shape.
pub(super) fn is_one(fields: &Fields) -> bool {
    ["about", "meta", "run"].iter().any(|key| fields.is_map(key))
}

pub(super) fn entry(mut fields: Fields, notes: &mut Vec<Note>) -> Result<Entry, Complaint> {
    let name = fields.text("name")?.unwrap_or_default();
    let mut entry = Entry {
        kind: filled(fields.text("type")?),
        image: filled(fields.text("image")?),
        long_lived: fields.flag("longLived")?.unwrap_or_default(),
        prefix: filled(fields.text("prefix")?),
        remote: remote(&mut fields, notes)?,
        tools: fields.list("tools", |at| tool(at, notes))?,
        oauth: oauth(&mut fields)?,
        metadata: fields.json_map("meta")?,
        policy: policy(&mut fields)?,
        ..Entry::default()
    };
    if let Some(mut about) = fields.below("about")? {
        entry.title = about.text("title")?;
        entry.description = about.text("description")?;
        about.finish(FOR_OTHERS, notes);
    }
    // A section of null, as `run:` with everything below it commented out, is an empty one.
    if let Some(config) = fields.below("config")? {
        configuration(config, &name, &mut entry, notes)?;
    }
    if let Some(run) = fields.below("run")? {
        running(run, &mut entry, notes)?;
    }
    fields.finish(FOR_OTHERS, notes);
    Ok(entry)
}

fn running(mut run: Fields, entry: &mut Entry, notes: &mut Vec<Note>) -> Result<(), Complaint> {
    entry.command = run.texts("command")?;
    entry.volumes = run.texts("volumes")?;
    entry.user = filled(run.text("user")?);
    entry.disable_network = run.flag("disableNetwork")?.unwrap_or_default();
    entry.allow_hosts = run.texts("allowHosts")?;
    entry.extra_hosts = run.texts("extraHosts")?;
    entry.env.extend(run.text_map("env")?.into_iter().map(|(name, value)| EnvironmentEntry { name, value }));
    run.note("ports", "ignored: a server is reached over its standard streams, and no port is published", notes);
    run.finish(&["ports"], notes);
    Ok(())
}

fn configuration(mut config: Fields, name: &str, entry: &mut Entry, notes: &mut Vec<Note>) -> Result<(), Complaint> {
    entry.env = config.list("env", |at| environment(at, notes))?;
    entry.secrets = config.list("secrets", |at| secret(at, notes))?;
    let mut schema = Map::from_iter([("name".to_owned(), Json::from(name))]);
    let description = config.text("description")?;
    schema.extend(description.map(|text| ("description".to_owned(), Json::String(text))));
    let written = if config.is_map("parameters") {
        config.take("parameters").map(At::into_json)
    } else {
        // One level too high is a mistake that real entries have.
        config.note("properties", "belongs below `parameters`; it is read as if it stood there", notes);
        config.take("parameters");
        let misplaced = ["type", "properties", "required"].map(|key| (key, config.json(key)));
        let found = misplaced.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Some(Json::Object(found.collect()))
    };
    if let Some(Json::Object(written)) = written
        && written.get("properties").is_some_and(Json::is_object)
    {
        schema.extend(written);
        entry.config.push(Json::Object(schema));
    }
    config.note("volumes", "ignored: it belongs below `run`, where it would count", notes);
    config.finish(&["volumes"], notes);
    Ok(())
}
