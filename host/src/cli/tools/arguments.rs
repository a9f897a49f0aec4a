//! The arguments of `tools call`, and what the tool's schema makes of them.

use serde_json::{Map, Value as Json};

/// One argument as it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// `{...}`: all of them at once.
    All(Map<String, Json>),
    /// `name:=JSON`.
    Exact(String, Json),
    /// `name=text`.
    Text(String, String),
    /// `name`.
    Flag(String),
}

/// Reads one argument.
pub(super) fn given(text: &str) -> Result<Given, String> {
    if text.starts_with('{') {
        return match serde_json::from_str(text) {
            Ok(Json::Object(all)) => Ok(Given::All(all)),
            Ok(_) | Err(_) => {
                Err("begins with `{` and is no JSON object; write all arguments as one object, or `name=text`"
                    .to_owned())
            }
        };
    }
    let (name, given) = match text.split_once('=') {
        Some((name, value)) => match name.strip_suffix(':') {
            Some(name) => {
                let json = serde_json::from_str(value).map_err(|error| format!("`{name}`: not JSON: {error}"))?;
                (name, Given::Exact(name.to_owned(), json))
            }
            None => (name, Given::Text(name.to_owned(), value.to_owned())),
        },
        None => (text, Given::Flag(text.to_owned())),
    };
    if name.is_empty() {
        return Err(format!("`{text}` is no argument; write `name=text`, `name:=JSON` or `{{\"name\": JSON}}`"));
    }
    Ok(given)
}

/// The arguments of the call. Text is what the schema says it is; what the schema says nothing about is JSON if it
/// can be. A name that is given several times is a list.
///
/// # Errors
/// If the schema wants something that the text is not.
pub(super) fn arguments(given: &[Given], schema: Option<&Json>) -> Result<Map<String, Json>, String> {
    let mut arguments = Map::new();
    let mut repeated: Vec<&str> = Vec::new();
    for one in given {
        let (name, value) = match one {
            Given::All(all) => {
                arguments.extend(all.clone());
                continue;
            }
            Given::Exact(name, value) => (name, value.clone()),
            Given::Text(name, text) => (name, typed(name, text, property(schema, name))?),
            Given::Flag(name) => (name, flag(property(schema, name))),
        };
        if count(given, name) < 2 {
            arguments.insert(name.clone(), value);
            continue;
        }
        // A value that the schema already made a list counts with its items.
        let mut items = match value {
            Json::Array(items) => items,
            value => vec![value],
        };
        if repeated.contains(&name.as_str()) {
            if let Some(Json::Array(list)) = arguments.get_mut(name) {
                list.append(&mut items);
            }
        } else {
            repeated.push(name);
            arguments.insert(name.clone(), Json::Array(items));
        }
    }
    Ok(arguments)
}

fn same_name(given: &Given, name: &str) -> bool {
    matches!(given, Given::Exact(own, _) | Given::Text(own, _) | Given::Flag(own) if own == name)
}

fn count(given: &[Given], name: &str) -> usize {
    given.iter().filter(|one| same_name(one, name)).count()
}

fn property<'a>(schema: Option<&'a Json>, name: &str) -> Option<&'a Json> {
    schema?.get("properties")?.get(name)
}

/// Whether a schema names this type, alone or among others.
fn wants(property: Option<&Json>, kind: &str) -> bool {
    match property.and_then(|property| property.get("type")) {
        Some(Json::String(own)) => own == kind,
        Some(Json::Array(own)) => own.iter().any(|own| own == kind),
        _ => false,
    }
}

fn typed(name: &str, text: &str, property: Option<&Json>) -> Result<Json, String> {
    let json = || serde_json::from_str::<Json>(text).ok();
    if wants(property, "string") {
        return Ok(Json::String(text.to_owned()));
    }
    if wants(property, "array") {
        let items = property.and_then(|property| property.get("items"));
        return match json() {
            Some(Json::Array(list)) => Ok(Json::Array(list)),
            _ => Ok(Json::Array(vec![typed(name, text, items)?])),
        };
    }
    for kind in ["integer", "number", "boolean", "object"] {
        if !wants(property, kind) {
            continue;
        }
        return match json() {
            Some(value @ Json::Number(_)) if kind == "number" => Ok(value),
            Some(Json::Number(number)) if kind == "integer" && (number.is_i64() || number.is_u64()) => {
                Ok(Json::Number(number))
            }
            Some(value @ Json::Bool(_)) if kind == "boolean" => Ok(value),
            Some(value @ Json::Object(_)) if kind == "object" => Ok(value),
            Some(Json::Null) if wants(property, "null") => Ok(Json::Null),
            _ => Err(format!(
                "`{name}`: the tool wants type `{kind}`, and `{text}` is none; `{name}:=JSON` passes it anyway"
            )),
        };
    }
    Ok(json().unwrap_or_else(|| Json::String(text.to_owned())))
}

fn flag(property: Option<&Json>) -> Json {
    if wants(property, "boolean") { Json::Bool(true) } else { Json::Null }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(texts: &[&str]) -> Result<Json, String> {
        let schema = json!({"properties": {
            "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": ["number", "null"]},
            "b": {"type": "boolean"}, "l": {"type": "array", "items": {"type": "integer"}}, "o": {"type": "object"},
        }});
        let given: Result<Vec<Given>, String> = texts.iter().map(|text| super::given(text)).collect();
        arguments(&given?, Some(&schema)).map(Json::Object)
    }

    #[test]
    fn text_is_what_the_schema_says_and_otherwise_json_if_it_can_be() {
        assert_eq!(
            of(&["s=1", "i=1", "n=1.5", "b=true", "l=1", "o={\"a\":1}"]).unwrap(),
            json!({
                "s": "1", "i": 1, "n": 1.5, "b": true, "l": [1], "o": {"a": 1},
            })
        );
        assert_eq!(of(&["x=1", "y=one", "z=a=b", "e="]).unwrap(), json!({"x": 1, "y": "one", "z": "a=b", "e": ""}));
        assert_eq!(
            of(&["l=[1,2]", "n=null", "b", "x"]).unwrap(),
            json!({"l": [1, 2], "n": null, "b": true, "x": null})
        );
    }

    #[test]
    fn json_is_taken_as_it_is_and_repeated_names_are_a_list() {
        assert_eq!(of(&["s:=1", "x:=[\"a\"]"]).unwrap(), json!({"s": 1, "x": ["a"]}));
        assert_eq!(of(&["{\"s\": \"a\", \"q\": 1}", "s=b"]).unwrap(), json!({"s": "b", "q": 1}));
        assert_eq!(of(&["l=1", "l=2", "t=red", "t=red"]).unwrap(), json!({"l": [1, 2], "t": ["red", "red"]}));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("i=1.5", "`i`: the tool wants type `integer`"),
            ("b=yes", "`b:=JSON`"),
            ("=x", "write `name=text`"),
            ("a:=nope", "`a`: not JSON"),
            ("{\"a\": ", "no JSON object"),
        ] {
            let error = of(&[text]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
