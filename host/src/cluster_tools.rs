//! `cluster-tools`: what a cluster needs before servers run in it, and what is left in it afterwards.
//!
//! One module per command, each with its arguments and a `run`. Commands that only read catalogs and write files never
//! look for a cluster. Only `output` prints, and no text of a secret or of configuration is ever printed. Deploying
//! servers is not done here.

mod apply;
mod check;
mod cluster;
mod create_configmap;
mod create_secret;
mod data;
mod extract_data;
mod files;
mod generate_env;
mod leftovers;
mod list;
mod needs;
mod options;
mod output;
mod populate_configmap;
mod populate_secret;
mod rbac;
mod session;
mod show_example;
mod stale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::Verbosity;

/// Prepares a Kubernetes cluster for MCP servers, and cleans up after them.
///
/// In the mode `cluster`, the gateway brings neither configuration nor secrets along: one ConfigMap and one Secret of the
/// namespace hold them for all servers. These commands find out what servers need, make files to fill in, and make the
/// two objects from them.
#[derive(Debug, Parser)]
#[command(name = "cluster-tools", version, arg_required_else_help = true, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

const HELP: &str = "\
From a catalog to a running gateway:
  cluster-tools extract-data github                     what the server needs
  cluster-tools generate-env github,slack team          two files to fill in
  cluster-tools populate-configmap team-config.env my-mcp-config default
  cluster-tools populate-secret team-secret.env my-mcp-secrets default
  cluster-tools check github,slack default \\
    --cluster-config-name my-mcp-config --cluster-secret-name my-mcp-secrets
  docker-mcp gateway run --provisioner kubernetes --servers github,slack \\
    --cluster-config-provider cluster --cluster-config-name my-mcp-config \\
    --cluster-secret-provider cluster --cluster-secret-name my-mcp-secrets

The cluster is that of --kubeconfig and --kube-context, else of KUBECONFIG or ~/.kube/config, else the one that this \
runs in. The namespace is that of the context, or `default`, unless one is named. No text of a secret or of configuration is printed, with \
--dry-run and --format json neither.

Exit codes: 0 success; 1 it failed, the last line on stderr says why and what to do; 2 wrong arguments; 3 some of it \
failed, or `check` found something missing.";

/// The commands. What each is about stands with its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    List(list::Arguments),
    Session(session::Arguments),
    Stale(stale::Arguments),
    ExtractData(extract_data::Arguments),
    GenerateEnv(generate_env::Arguments),
    ShowExample(show_example::Arguments),
    PopulateConfigmap(populate_configmap::Arguments),
    PopulateSecret(populate_secret::Arguments),
    CreateConfigmap(create_configmap::Arguments),
    CreateSecret(create_secret::Arguments),
    Check(check::Arguments),
    Rbac(rbac::Arguments),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Success,
    /// Something failed where other things succeeded, or something is missing.
    Partial,
}

/// Parses the arguments of the process and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::cli::log_to_stderr(cli.verbosity, true);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(Status::Success) => ExitCode::SUCCESS,
        Ok(Status::Partial) => ExitCode::from(3),
        Err(error) => {
            output::error(crate::cli::message(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<Status> {
    match command {
        Command::List(arguments) => list::run(&arguments).await,
        Command::Session(arguments) => session::run(&arguments).await,
        Command::Stale(arguments) => stale::run(&arguments).await,
        Command::ExtractData(arguments) => extract_data::run(&arguments),
        Command::GenerateEnv(arguments) => generate_env::run(&arguments),
        Command::ShowExample(arguments) => show_example::run(&arguments),
        Command::PopulateConfigmap(arguments) => populate_configmap::run(&arguments).await,
        Command::PopulateSecret(arguments) => populate_secret::run(&arguments).await,
        Command::CreateConfigmap(arguments) => create_configmap::run(&arguments).await,
        Command::CreateSecret(arguments) => create_secret::run(&arguments).await,
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Rbac(arguments) => rbac::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
