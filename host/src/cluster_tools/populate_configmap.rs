//! `cluster-tools populate-configmap`: the variables of a file into a ConfigMap.

use std::path::PathBuf;

use clap::Args;
use provisioning_core::value::ObjectKind;

use super::Status;
use super::apply::{self, Target};
use super::data::Data;
use super::options::ClusterOptions;
use super::output::Output;

/// Put the variables of a file into a ConfigMap.
///
/// The ConfigMap is made, or changed if it is there: only the variables of the file are set, and all else in it stays.
/// Variables that are still to be filled in are skipped.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The file with lines `server.key=value`, as `generate-env` writes it; a value of several lines stands in quotes.
    /// `-` is standard input
    file: PathBuf,
    /// The ConfigMap
    name: String,
    /// Its namespace
    namespace: Option<String>,
    /// Check the file and show which keys would be set; the cluster is not asked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterOptions,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let Arguments { file, name, namespace, dry_run, output, cluster } = arguments;
    output.line(format!("Creating ConfigMap from {}...", file.display()))?;
    let kind = ObjectKind::ConfigMap;
    let data = Data::from_env_file(file, kind)?;
    let target = Target { kind, name, namespace: namespace.as_deref(), cluster, dry_run: *dry_run, output: *output };
    let count = data.values.len();
    apply::run(&target, &data, |word, namespace| {
        Some(format!("Successfully {word} ConfigMap '{name}' with {count} variables in namespace '{namespace}'"))
    })
    .await
}
