//! What a file says about itself: tools, authors, licence, a name. Claims, not facts; whoever made the file could write
//! anything here.

use std::collections::BTreeMap;

use provisioning_core::text::one_line;
use serde::Serialize;
use wasmparser::{CustomSectionReader, KnownCustom};

/// How many entries of each kind are kept.
const ENTRIES: usize = 30;
/// How many characters of each text are kept.
const TEXT: usize = 300;
/// Custom sections that hold one text, by convention of the tools.
const TEXTS: [&str; 8] = ["authors", "description", "homepage", "licenses", "revision", "source", "url", "version"];

/// What a component says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The name of the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With what it says it was made.
    pub producers: Vec<Producer>,
    /// Other texts, by their kind.
    pub texts: BTreeMap<String, String>,
}

/// Something that took part in making a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// In what part, such as `language` or `processed-by`.
    pub part: String,
    /// What.
    pub name: String,
    /// In which version.
    pub version: String,
}

impl Claims {
    /// Takes a section into account. Damaged ones are left out: nothing depends on them.
    pub(super) fn add(&mut self, section: &CustomSectionReader<'_>, depth: usize) {
        match section.as_known() {
            KnownCustom::Producers(fields) => {
                for field in fields.into_iter().flatten().take(ENTRIES) {
                    for value in field.values.into_iter().flatten().take(ENTRIES) {
                        self.add_producer(field.name, value.name, value.version);
                    }
                }
            }
            // Names and texts of parts say nothing about the whole.
            _ if depth > 0 => {}
            KnownCustom::ComponentName(names) => {
                for name in names.into_iter().flatten().take(ENTRIES) {
                    if let wasmparser::ComponentName::Component { name, .. } = name {
                        self.name = Some(one_line(name, TEXT));
                    }
                }
            }
            _ => {
                if TEXTS.contains(&section.name())
                    && let Ok(text) = std::str::from_utf8(section.data())
                {
                    self.texts.insert(section.name().to_owned(), one_line(text.trim(), TEXT));
                }
            }
        }
    }

    fn add_producer(&mut self, part: &str, name: &str, version: &str) {
        let [part, name, version] = [part, name, version].map(|text| one_line(text, TEXT));
        let producer = Producer { part, name, version };
        if self.producers.len() < ENTRIES && !self.producers.contains(&producer) {
            self.producers.push(producer);
        }
    }
}
