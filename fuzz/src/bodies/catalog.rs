//! Catalogs, configuration files and lists of tools: total on every input, and no message shows a configured value.

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::catalog::{Catalog, configuration, enabled};

/// What every configured text is replaced by, so that it is found where it must not be.
const PRIVATE: &str = "PRIVATEVALUE";

/// A catalog, and after a null character a configuration.
pub fn catalog(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (catalog, config) = text.split_once('\0').unwrap_or((&text, &text));
    let config = configuration::parse(config, Path::new("config.yaml")).map(private).unwrap_or_default();
    let _ = enabled::parse_tools(catalog, Path::new("tools.yaml"));
    let Ok((catalog, warnings)) = Catalog::parse(catalog, Path::new("catalog.yaml")) else { return };
    assert!(warnings.len() <= 100_000);
    let names: Vec<String> = catalog.names().map(str::to_owned).collect();
    let (entries, errors) = catalog.select_usable(&names);
    assert_eq!(entries.len() + errors.len(), names.len());
    for (name, entry) in entries {
        assert!(entry.fault().is_none());
        let own = configuration::for_server(&config, &name, &entry);
        let said = own.fault.iter().chain(&own.warnings).any(|text| text.contains(PRIVATE));
        assert!(!said || text.contains(PRIVATE), "a configured value is shown: {:?}", own.fault);
    }
}

fn private(config: Map<String, Json>) -> Map<String, Json> {
    fn hide(json: Json) -> Json {
        match json {
            Json::String(_) => Json::from(PRIVATE),
            Json::Array(items) => Json::Array(items.into_iter().map(hide).collect()),
            Json::Object(map) => Json::Object(private(map)),
            other => other,
        }
    }
    config.into_iter().map(|(key, value)| (key, hide(value))).collect()
}
