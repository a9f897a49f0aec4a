//! Which servers run: catalogs and files of single servers, and what flags and files enable of them.

use std::path::Path;

use anyhow::bail;

use super::ServerOptions;
use crate::capability::container_runtime::routed::is_embedded;
use crate::catalog::enabled;
use crate::catalog::files::{self, CatalogFlags, OwnFiles};
use crate::catalog::{Catalog, CatalogError, Entry, Warning};

/// The name of the catalog that is built in.
const SAMPLE_CATALOG: &str = "builtin:sample";

/// The enabled entries, in the order of the flag, of the file or of the catalog.
pub(super) fn enabled(options: &ServerOptions, own: &OwnFiles) -> anyhow::Result<Vec<(String, Entry)>> {
    let (catalog, singles) = catalogs(options, own)?;
    let named = options.servers.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let named: Vec<String> = named.chain(singles).collect();
    let mut entries = if options.enable_all_servers {
        let names: Vec<String> = catalog.names().map(str::to_owned).collect();
        usable(&catalog, &names)
    } else if !named.is_empty() {
        catalog.select(&named)?
    } else {
        let files = own.of_kind("registry.yaml", &options.registry, &options.additional_registry)?;
        if files.is_empty() {
            let names: Vec<&str> = catalog.names().take(10).collect();
            bail!(
                "no server is enabled; name some with `--servers` or take all with `--enable-all-servers` (the catalog has {})",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
        }
        let (names, odd) = enabled::servers(&files)?;
        odd.iter().for_each(warn);
        if names.is_empty() {
            let file = files.first().map(|file| file.display().to_string()).unwrap_or_default();
            tracing::warn!("no server is enabled: `{file}` lists none; `docker-mcp server enable NAME` adds one");
        }
        usable(&catalog, &names)
    };
    let tools = own.of_kind("tools.yaml", &options.tools_config, &options.additional_tools_config)?;
    let mut tools = enabled::tools(&tools)?;
    for (name, entry) in &mut entries {
        entry.enabled_tools = tools.remove(name);
        if !entry.allow_hosts.is_empty() && !entry.disable_network {
            tracing::warn!(
                server = name,
                "`allowHosts` is not enforced yet: this server can reach every host; set `disableNetwork: true` to cut it off"
            );
        }
    }
    Ok(entries)
}

/// Those of the servers that can work. One that cannot stops no other.
fn usable(catalog: &Catalog, names: &[String]) -> Vec<(String, Entry)> {
    let (entries, errors) = catalog.select_usable(names);
    errors.iter().for_each(|error| tracing::error!("server left out: {error}"));
    entries
}

fn warn(warning: &Warning) {
    tracing::warn!("{warning}");
}

/// All catalogs as one, and the names of the servers that have files of their own.
fn catalogs(options: &ServerOptions, own: &OwnFiles) -> anyhow::Result<(Catalog, Vec<String>)> {
    let flags = CatalogFlags {
        catalogs: &options.catalog,
        additional: &options.additional_catalog,
        use_configured: options.use_configured_catalogs,
    };
    let mut catalogs = Vec::new();
    for file in own.catalogs(&flags)? {
        match load(&file.path) {
            Ok(catalog) => catalogs.push(catalog),
            Err(error) if file.is_named => return Err(error.into()),
            // Nobody asked for this one, and others have the servers that are wanted.
            Err(error) => tracing::error!("catalog left out: {error}"),
        }
    }
    let mut singles = Vec::new();
    for file in &options.server {
        let catalog = load(&files::plain(file)?)?;
        singles.extend(catalog.names().map(str::to_owned));
        catalogs.push(catalog);
    }
    if catalogs.is_empty() {
        bail!("no catalog; pass one with `--catalog FILE` (`--catalog {SAMPLE_CATALOG}` to try it out)");
    }
    Ok((Catalog::merge(catalogs), singles))
}

fn load(path: &Path) -> Result<Catalog, CatalogError> {
    let (mut catalog, warnings) = if path.as_os_str() == SAMPLE_CATALOG {
        Catalog::parse(include_str!("../../../assets/sample-catalog.yaml"), Path::new(SAMPLE_CATALOG))?
    } else {
        Catalog::load(path)?
    };
    warnings.iter().for_each(warn);
    // A component beside its catalog is found from wherever the gateway is started.
    let base = path.parent().unwrap_or(Path::new(""));
    catalog.for_each_image(|image| {
        if is_embedded(image) && !image.starts_with("embedded:") && Path::new(image).is_relative() {
            *image = base.join(&*image).to_string_lossy().into_owned();
        }
    });
    Ok(catalog)
}
