//! Links a cluster: where pods run, and where values of servers come from if they are there.
//!
//! The four combinations of `--cluster-secret-provider` and `--cluster-config-provider` are four ways to link the same
//! parts. Where secrets are in the cluster, no store of secrets is linked at all.

use std::sync::Arc;

use anyhow::bail;
use provisioning_core::policy::Policies;

use super::ServerOptions;
use crate::audit::Audit;
use crate::builtin;
use crate::capability::container_runtime::kubernetes::KubernetesRuntime;
use crate::capability::container_runtime::kubernetes::permissions::Wanted;
use crate::catalog::user_files::features;
use crate::cli::cluster::{Provider, Providers};
use crate::gateway::ServerDefinition;
use crate::policy::grants::Grants;
use crate::resolve::cluster::{Cluster, ClusterValues, SingleSecrets, Unseen};
use crate::sandbox::Limits;
use crate::sandbox::component::Source;
use crate::sandbox::engine::Engine;
use crate::sandbox::mapping::Mapping;
use crate::screen::{Screen, Screened};
use crate::secrets::SecretStore;

/// Where values come from if servers run in a cluster; none if they do not.
///
/// # Errors
/// If clusters are not enabled, or the flags do not say where values come from.
pub(super) fn providers(options: &ServerOptions) -> anyhow::Result<Option<Providers>> {
    if !options.uses_cluster() {
        return Ok(None);
    }
    check_feature()?;
    options.cluster.providers().map(Some)
}

/// Refuses to use a cluster unless the user has switched that on.
///
/// # Errors
/// If not.
pub(in crate::cli) fn check_feature() -> anyhow::Result<()> {
    if features::is_enabled(&crate::cli::user_files()?, features::KUBERNETES)? {
        return Ok(());
    }
    bail!(
        "kubernetes provisioner feature is not enabled; enable it with `docker mcp feature enable {}`",
        features::KUBERNETES
    )
}

/// What is needed to ask a mapping.
pub(super) struct Asking<'a> {
    pub(super) engine: &'a Engine,
    pub(super) policies: &'a Arc<Policies>,
    pub(super) audit: &'a Audit,
    pub(super) screen: Option<&'a Arc<Screen>>,
}

/// Links the values that are in the cluster; none if all are here. Without a runtime nothing is asked of the cluster, and
/// everything is taken to be there.
pub(super) fn values(
    options: &ServerOptions,
    providers: &Providers,
    runtime: Option<&KubernetesRuntime>,
    asking: &Asking<'_>,
) -> Option<Arc<Cluster>> {
    if !providers.any_in_cluster() {
        return None;
    }
    let Providers { secrets, config, secret_name, config_name } = providers;
    let values: Arc<dyn ClusterValues> = match runtime {
        Some(runtime) => runtime.cluster_values(config_name, secret_name),
        None => Arc::new(Unseen { config_name: config_name.clone(), secret_name: secret_name.clone() }),
    };
    let source = match options.cluster.mapping() {
        Some(path) => Source::File(path.clone()),
        None => Source::BuiltIn { name: "cluster-mapping", bytes: builtin::CLUSTER_MAPPING },
    };
    let (engine, policies) = (asking.engine.clone(), Arc::clone(asking.policies));
    let mapping = Mapping::new(engine, source, policies, Limits::default(), asking.audit.clone());
    let single: Arc<dyn SecretStore> = Arc::new(SingleSecrets(Arc::clone(&values)));
    Some(Arc::new(Cluster {
        remote_secrets: match asking.screen {
            Some(screen) => Arc::new(Screened::new(single, Arc::clone(screen))),
            None => single,
        },
        values,
        mapping: Arc::new(mapping),
        keys: options.cluster.mapping_keys().to_vec(),
        secrets: *secrets == Provider::Cluster,
        config: *config == Provider::Cluster,
    }))
}

/// What the gateway will have to do in the cluster for these servers.
pub(in crate::cli) fn wanted(
    options: &ServerOptions,
    providers: &Providers,
    grants: &Grants,
    servers: &[ServerDefinition],
) -> Wanted {
    let entries = || servers.iter().map(|server| &server.entry);
    let tools = entries().any(|entry| entry.tools.iter().any(|tool| tool.container.is_some()));
    let has_volumes = |entry: &crate::catalog::Entry| {
        let of_tools = entry.tools.iter().filter_map(|tool| tool.container.as_ref());
        !entry.volumes.is_empty() || of_tools.into_iter().any(|container| !container.volumes.is_empty())
    };
    let mut configurations = Vec::new();
    let mut secrets = options.cluster.pods(options.max_server_startup_timeout).pull_secrets;
    if providers.config == Provider::Cluster {
        configurations.push(providers.config_name.clone());
    }
    if providers.secrets == Provider::Cluster {
        configurations.push(format!("{}-keys", providers.secret_name));
        if grants.bounds.remote_secrets {
            secrets.push(providers.secret_name.clone());
        }
    }
    Wanted {
        // The arguments of a call are kept in an object too.
        own_values: tools || providers.secrets == Provider::DockerEngine || providers.config == Provider::DockerEngine,
        tools,
        no_network: entries().any(|entry| entry.disable_network),
        volumes: entries().any(|entry| has_volumes(entry)),
        configurations,
        secrets,
    }
}
