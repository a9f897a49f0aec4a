//! `cluster-tools populate-secret`: the variables of a file into a Secret.

use std::path::PathBuf;

use clap::Args;
use provisioning_core::value::ObjectKind;

use super::Status;
use super::apply::{self, Target};
use super::data::Data;
use super::options::ClusterOptions;
use super::output::Output;

/// Put the variables of a file into a Secret.
///
/// The Secret is made, or changed if it is there: only the variables of the file are set, and all else in it stays.
/// Variables that are empty or still to be filled in are skipped. The names of its keys, never their values, are noted
/// in a ConfigMap `NAME-keys`, so that the gateway can tell what is missing and need not be allowed to read Secrets.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The file with lines `secret.name=text`, as `generate-env` writes it; a text of several lines stands in quotes.
    /// `-` is standard input
    file: PathBuf,
    /// The Secret
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
    output.line(format!("Creating Secret from {}...", file.display()))?;
    let kind = ObjectKind::Secret;
    let data = Data::from_env_file(file, kind)?;
    let target = Target { kind, name, namespace: namespace.as_deref(), cluster, dry_run: *dry_run, output: *output };
    let count = data.values.len();
    apply::run(&target, &data, |word, namespace| {
        Some(match (count, word) {
            (0, "created") => format!(
                "Successfully created empty Secret '{name}' in namespace '{namespace}' (all values were placeholders)"
            ),
            _ => format!("Successfully {word} Secret '{name}' with {count} variables in namespace '{namespace}'"),
        })
    })
    .await
}
