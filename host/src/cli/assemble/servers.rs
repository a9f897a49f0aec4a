//! Which servers run: catalogs and files of single servers, and what flags and files enable of them.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::super::options::CatalogOptions;
use super::ServerOptions;
use crate::capability::container_runtime::routed::is_embedded;
use crate::catalog::enabled;
use crate::catalog::files::{self, CatalogFlags, OwnFiles};
use crate::catalog::{Catalog, CatalogError, Entry, Warning};

/// The name of the catalog that is built in.
const SAMPLE_CATALOG: &str = "builtin:sample";

/// The enabled entries, in the order of the flag, of the file or of the catalog.
pub(in crate::cli) fn enabled(
    options: &ServerOptions,
    own: &OwnFiles,
    fetched: &[(String, Catalog)],
) -> anyhow::Result<Vec<(String, Entry)>> {
    let (catalog, singles) = catalogs(options, own, fetched)?;
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
        entry.enabled_tools = tools.remove(name).filter(|_| !options.all_tools);
        let has_network = !entry.disable_network && !entry.image.as_deref().is_some_and(is_embedded);
        if !entry.allow_hosts.is_empty() && has_network && !options.block_network {
            tracing::warn!(
                server = name,
                "`allowHosts` is not enforced yet: this server can reach every host; set `disableNetwork: true` to cut \
                 it off, or use `--block-network` to refuse it"
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
fn catalogs(
    options: &ServerOptions,
    own: &OwnFiles,
    fetched: &[(String, Catalog)],
) -> anyhow::Result<(Catalog, Vec<String>)> {
    let mut more = Vec::new();
    let mut singles = Vec::new();
    for file in &options.server {
        let catalog = load(&files::plain(file)?)?;
        singles.extend(catalog.names().map(str::to_owned));
        more.push(catalog);
    }
    for (name, catalog) in fetched {
        singles.push(name.clone());
        more.push(catalog.clone());
    }
    Ok((merged(own, &flags(&options.catalogs), more)?, singles))
}

/// The catalogs in these files, or the user's own, as one.
///
/// # Errors
/// If one that is named cannot be used, or there is none.
pub(in crate::cli) fn of_files(files: &[PathBuf], own: &OwnFiles) -> anyhow::Result<Catalog> {
    merged(own, &CatalogFlags { catalogs: files, ..CatalogFlags::default() }, Vec::new())
}

/// Those of the flags and `more`, as one.
fn merged(own: &OwnFiles, flags: &CatalogFlags<'_>, more: Vec<Catalog>) -> anyhow::Result<Catalog> {
    let mut catalogs = Vec::new();
    for file in own.catalogs(flags)? {
        match load(&file.path) {
            Ok(catalog) => catalogs.push(catalog),
            Err(error) if file.is_named => return Err(error.into()),
            // Nobody asked for this one, and others have the servers that are wanted.
            Err(error) => tracing::error!("catalog left out: {error}"),
        }
    }
    catalogs.extend(more);
    if catalogs.is_empty() {
        bail!("no catalog; pass one with `--catalog FILE` (`--catalog {SAMPLE_CATALOG}` to try it out)");
    }
    Ok(Catalog::merge(catalogs))
}

/// The catalogs of flags, or the user's own, as one.
///
/// # Errors
/// If one that is named cannot be used, or there is none.
pub(crate) fn of_options(options: &CatalogOptions, own: &OwnFiles) -> anyhow::Result<Catalog> {
    merged(own, &flags(options), Vec::new())
}

fn flags(options: &CatalogOptions) -> CatalogFlags<'_> {
    CatalogFlags {
        catalogs: &options.catalog,
        additional: &options.additional_catalog,
        use_configured: options.use_configured_catalogs,
    }
}

/// The files that say which servers there are and how they are configured, those of the user's own included that are
/// not there yet.
pub(in crate::cli) fn files(options: &ServerOptions, own: &OwnFiles) -> Vec<PathBuf> {
    let catalogs = own.catalogs(&flags(&options.catalogs)).unwrap_or_default().into_iter().map(|file| file.path);
    let mut files: Vec<PathBuf> = catalogs.filter(|path| path.as_os_str() != SAMPLE_CATALOG).collect();
    if options.catalogs.catalog.is_empty() || options.catalogs.use_configured_catalogs {
        // A new catalog changes the directory.
        files.extend(own.root().map(|root| root.join("catalogs")));
    }
    files.extend(options.server.iter().filter_map(|file| files::plain(file).ok()));
    for (name, named, additional) in [
        ("registry.yaml", &options.registry, &options.additional_registry),
        ("config.yaml", &options.config, &options.additional_config),
        ("tools.yaml", &options.tools_config, &options.additional_tools_config),
    ] {
        files.extend(own.of_kind(name, named, additional).unwrap_or_default());
        if named.is_empty() {
            files.extend(own.root().map(|root| root.join(name)));
        }
    }
    files.sort();
    files.dedup();
    files
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
