//! Flags that several commands share, and the names that they take.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::catalog::files::OwnFiles;
use crate::catalog::{Catalog, CatalogError, Entry};
use crate::cli::assemble::{self, servers};
use crate::cli::options::CatalogOptions;

/// The longest name of most objects.
const MAX_NAME: usize = 253;
/// The longest name of a namespace, and the longest part of a name between dots.
const MAX_LABEL: usize = 63;

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug)]
pub(super) struct ClusterOptions {
    /// The kubeconfig file. Default: the files in KUBECONFIG, or ~/.kube/config
    #[arg(long, value_name = "PATH", help_heading = "Cluster")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. Default: its current one
    #[arg(long, value_name = "CONTEXT", help_heading = "Cluster")]
    pub(super) kube_context: Option<String>,
    /// The namespace, if it is not named as an argument. Default: that of the context, or `default`
    #[arg(long = "namespace", value_name = "NAMESPACE", help_heading = "Cluster")]
    in_namespace: Option<String>,
}

impl ClusterOptions {
    /// The namespace that an argument or the flag names; none if the context decides.
    ///
    /// # Errors
    /// If they name two, or one that cannot exist.
    pub(super) fn namespace(&self, argument: Option<&str>) -> anyhow::Result<Option<String>> {
        let namespace = match (argument, self.in_namespace.as_deref()) {
            (Some(one), Some(other)) if one != other => {
                bail!("the namespace is `{one}` as an argument and `{other}` in `--namespace`; name it once")
            }
            (Some(named), _) | (None, Some(named)) => named,
            (None, None) => return Ok(None),
        };
        if !is_label(namespace) {
            bail!(
                "`{namespace}` cannot be a namespace; use 1 to {MAX_LABEL} of `a-z`, `0-9` and `-`, first and last a \
                 letter or digit"
            );
        }
        Ok(Some(namespace.to_owned()))
    }
}

/// Which servers are meant.
#[derive(Args, Clone, Debug)]
pub(super) struct Catalogs {
    #[command(flatten)]
    options: CatalogOptions,
}

impl Catalogs {
    /// The catalogs of the flags, or the user's own, as one.
    ///
    /// # Errors
    /// If one cannot be used, or there is none.
    pub(super) fn load(&self) -> anyhow::Result<Catalog> {
        servers::of_options(&self.options, &OwnFiles::of_home(assemble::home().as_deref()))
    }
}

/// The named servers in their order, each once. An entry that could not run is taken as it is: what it needs can be
/// told all the same.
///
/// # Errors
/// At the first name that no catalog has.
pub(super) fn select<'a>(catalog: &'a Catalog, names: &[String]) -> anyhow::Result<Vec<(String, &'a Entry)>> {
    let mut selected: Vec<(String, &Entry)> = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        let Some(entry) = catalog.get(name) else {
            let error = catalog.select(&[name.to_owned()]).err();
            return Err(error.map_or_else(|| anyhow::anyhow!("there is no server `{name}`"), CatalogError::into));
        };
        if selected.iter().all(|(known, _)| known != name) {
            selected.push((name.to_owned(), entry));
        }
    }
    Ok(selected)
}

/// The name of an object, if it can exist.
///
/// # Errors
/// If a cluster would not accept it, with what it would.
pub(super) fn object_name<'a>(name: &'a str, kind: &str) -> anyhow::Result<&'a str> {
    if name.len() <= MAX_NAME && name.split('.').all(is_label_of_any_length) {
        return Ok(name);
    }
    bail!(
        "`{name}` cannot be the name of a {kind}; use 1 to {MAX_NAME} of `a-z`, `0-9`, `-` and `.`, first and last a \
         letter or digit"
    )
}

fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_label_of_any_length(text)
}

fn is_label_of_any_length(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(is_plain)) && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(namespace: Option<&str>) -> ClusterOptions {
        ClusterOptions { kubeconfig: None, kube_context: None, in_namespace: namespace.map(str::to_owned) }
    }

    #[test]
    fn a_namespace_is_named_once_and_could_exist() {
        assert_eq!(options(None).namespace(None).unwrap(), None);
        assert_eq!(options(Some("a")).namespace(None).unwrap().as_deref(), Some("a"));
        assert_eq!(options(Some("a")).namespace(Some("a")).unwrap().as_deref(), Some("a"));
        assert!(options(Some("a")).namespace(Some("b")).unwrap_err().to_string().contains("name it once"));
        for bad in ["", "A", "-a", "a-", "a.b", "a/b", &"a".repeat(64)] {
            assert!(options(None).namespace(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_objects_are_as_a_cluster_accepts_them() {
        for good in ["a", "my-mcp-config", "a.b-c.1", &"a".repeat(253)] {
            assert_eq!(object_name(good, "Secret").unwrap(), good);
        }
        for bad in ["", "A", "a_b", "a..b", ".a", "a.", "a/b", "a b", "é", &"a".repeat(254)] {
            assert!(object_name(bad, "Secret").is_err(), "{bad}");
        }
    }
}
