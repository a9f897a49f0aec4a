//! Patterns that fit nothing that there can be: why each does. In a `deny` list such a pattern protects nobody, so that it is
//! an error; in an `allow` list it is told of, and what is missing is refused anyway.

use provisioning_core::policy::glob::{NamePattern, SubtreePattern};
use provisioning_core::policy::patterns::{ComponentPattern, HostPattern, ImagePattern, MountPattern};

/// The components that are part of the gateway.
const COMPONENTS: [&str; 3] = ["cluster-mapping", "docker", "kubernetes"];
/// The servers that are part of the gateway, by the name after `embedded:`.
const EMBEDDED: [&str; 1] = ["sample"];

/// What follows the pattern in a message, if nothing can ever fit it.
pub(super) type Why = Option<String>;

/// Of a pattern that can always fit something.
pub(super) fn never<P>(_: &P) -> Why {
    None
}

pub(super) fn component(pattern: &ComponentPattern) -> Why {
    match pattern {
        ComponentPattern::BuiltIn(name) if !COMPONENTS.contains(&name.as_str()) => {
            Some(format!("is no component of this gateway; there are {}", list("builtin:", &COMPONENTS)))
        }
        _ => None,
    }
}

pub(super) fn interface(name: &str) -> Why {
    let known = crate::inspect::wasi_packages();
    let is_unknown = name.starts_with("wasi:") && !known.contains(&name);
    is_unknown.then(|| format!("is no WASI package that this gateway has; there are {}", list("", &known)))
}

/// Of servers, in the section about them: nobody is asked for whose name could stand there.
pub(super) fn server(pattern: &NamePattern) -> Why {
    pattern.is_about_server().then(|| "covers nothing: `{server}` is known only within rules; write `*`".to_owned())
}

pub(super) fn image(pattern: &ImagePattern) -> Why {
    if let Some(name) = pattern.embedded() {
        let known = EMBEDDED.iter().any(|known| name.covers(known, None));
        return (!known).then(|| format!("is no embedded server; there is {}", list("embedded:", &EMBEDDED)));
    }
    let tag = pattern.tag()?;
    if tag.is_about_server() {
        return Some("covers nothing: `{server}` is not known in tags; write `*`".to_owned());
    }
    letters(tag, "tag", 128, |letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

pub(super) fn mount(pattern: &MountPattern) -> Why {
    let name = pattern.volume()?;
    letters(name, "volume", usize::MAX, |letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

pub(super) fn variable(pattern: &NamePattern) -> Why {
    let wrong = |first: char| !(first.is_ascii_alphabetic() || first == '_');
    if pattern.beginning().is_some_and(|text| text.starts_with(wrong)) {
        return Some("covers nothing: a variable begins with a letter or `_`".to_owned());
    }
    letters(pattern, "variable", 255, |letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

pub(super) fn label(pattern: &NamePattern) -> Why {
    letters(pattern, "label", 253, |letter| letter.is_ascii_graphic() && letter != '=')
}

pub(super) fn namespace(pattern: &NamePattern) -> Why {
    letters(pattern, "namespace", 63, |letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

/// Secrets may be called anything, and so may what is configured.
pub(super) const SECRET: fn(&NamePattern) -> Why = never;
pub(super) const CONFIG: fn(&SubtreePattern) -> Why = never;
/// What is no host is refused when it is read.
pub(super) const HOST: fn(&HostPattern) -> Why = never;

/// Names have only some letters, and no more than so many.
fn letters(pattern: &NamePattern, what: &str, longest: usize, fits: impl Fn(char) -> bool) -> Why {
    if let Some(wrong) = pattern.texts().flat_map(str::chars).find(|letter| !fits(*letter)) {
        return Some(format!("covers nothing: no {what} has `{wrong}` in its name"));
    }
    let least: usize = pattern.texts().map(str::len).sum();
    (least > longest).then(|| format!("covers nothing: no name of a {what} is longer than {longest}"))
}

fn list(prefix: &str, names: &[&str]) -> String {
    names.iter().map(|name| format!("`{prefix}{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::container_runtime::embedded::SAMPLE;

    #[test]
    fn what_is_known_is_what_there_is() {
        assert!(EMBEDDED.iter().all(|name| SAMPLE == format!("embedded:{name}")));
        for name in COMPONENTS {
            let path = format!("{}/../components/{name}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&path).is_file(), "{path}");
        }
    }
}
