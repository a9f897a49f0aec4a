//! `cluster-tools create-configmap`: a JSON map of texts into a ConfigMap.

use anyhow::Context as _;
use clap::Args;
use provisioning_core::value::ObjectKind;

use super::Status;
use super::apply::{self, Target};
use super::data::Data;
use super::options::ClusterOptions;
use super::output::Output;

/// Put a JSON map of texts into a ConfigMap.
///
/// The ConfigMap is made, or changed if it is there: only the given keys are set, and all else in it stays.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The ConfigMap
    name: String,
    /// A map such as `{"github.host": "TEXT"}`. `-` reads it from standard input
    #[arg(value_name = "JSON|-")]
    json: String,
    /// Its namespace
    namespace: Option<String>,
    /// Check the map and show which keys would be set; the cluster is not asked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { name, json, namespace, dry_run, output, cluster } = arguments;
    let kind = ObjectKind::ConfigMap;
    let data = Data::from_json(json, kind).context("JSON")?;
    let target = Target { kind, name, namespace: namespace.as_deref(), cluster, dry_run: *dry_run, output: *output };
    apply::run(&target, &data, |_, _| None).await
}
