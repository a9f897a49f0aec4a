//! The command line: one module per command, each with its arguments and a `run` that returns an exit status.
//!
//! Data goes to stdout, messages to stderr. Only this module prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this module is for")]

pub(crate) mod assemble;
mod cache;
mod catalog;
mod cluster;
mod completion;
mod config;
mod demo;
mod doctor;
mod feature;
mod gateway_reap;
mod gateway_run;
mod log;
mod man;
pub(crate) mod options;
pub(crate) mod output;
mod plan;
mod plugin;
mod policy;
mod progress;
mod provisioner;
mod secret;
mod server;
mod sources;
mod tools;
mod version;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::uptime;

use crate::catalog::user_files::UserFiles;

/// A gateway for MCP servers. Servers run in containers, or embedded as WebAssembly; the logic that deploys them runs
/// in a sandbox and reaches only what it is granted.
#[derive(Debug, Parser)]
// A flag that is given again replaces what was given before, as with the existing plugin: scripts add to others' commands.
#[command(name = "docker-mcp", version, arg_required_else_help = true, args_override_self = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 it failed, the last line on stderr says why and what to do; 2 wrong arguments; 3 a server or \
tool failed where others succeeded, `doctor`, `policy check` or `audit verify` found a problem, or `provisioner diff`, \
`verify` or `rebuild` a difference.

Files: ~/.docker/mcp has the catalogs, the enabled servers and tools, and the configuration; features are in \
config.json of DOCKER_CONFIG or ~/.docker.

Environment: DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG and the DOCKER_TLS variables name the engine as for `docker`; \
MCP_GATEWAY_AUTH_TOKEN is the bearer token of the HTTP transport; DOCKER_MCP_POLICY names policy files; DOCKER_MCP_SECRET_PASSPHRASE_FILE or \
DOCKER_MCP_SECRET_KEY_FILE opens the encrypted file of secrets; DOCKER_MCP_CACHE moves the cache of compiled \
components; DOCKER_MCP_IN_CONTAINER=1 says that the gateway runs in a container, which changes defaults of `gateway run`; XDG_STATE_HOME moves the locks that tell living gateways from dead ones, and the audit log; XDG_DATA_HOME moves installed provisioners; DOCKER_MCP_LOG sets the log filter (`debug`, `docker_mcp=trace`); NO_COLOR turns colours off.";

#[derive(Debug, Subcommand)]
enum Command {
    /// The gateway that MCP clients connect to
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Catalogs: which servers there are
    #[command(subcommand, visible_alias = "catalogs")]
    Catalog(catalog::Command),
    /// Servers: which of the catalogs' are enabled
    #[command(subcommand)]
    Server(server::Command),
    /// Tools of the enabled servers
    Tools(Box<tools::Arguments>),
    /// Configuration of the servers
    #[command(subcommand)]
    Config(config::Command),
    /// Parts of the gateway that can be switched on
    #[command(subcommand, visible_alias = "features")]
    Feature(feature::Command),
    /// Components that decide how servers are deployed
    #[command(subcommand)]
    Provisioner(provisioner::Command),
    /// What the operator allows
    #[command(subcommand)]
    Policy(policy::Command),
    /// Secrets of servers: set, list, remove and export them
    #[command(subcommand)]
    Secret(secret::Command),
    /// Show the whole thing at work, with a sample server and without Docker
    Demo(demo::Arguments),
    /// Check what the gateway needs on this machine, and say what to fix
    Doctor(doctor::Arguments),
    /// Print a script that completes commands in a shell
    Completion(completion::Arguments),
    /// Write manual pages
    Man(man::Arguments),
    /// Show the version
    Version(version::Arguments),
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Run the gateway until the client goes away or a signal ends it
    #[command(after_help = gateway_run::EXAMPLES)]
    Run(Box<gateway_run::Arguments>),
    /// Remove the containers and networks of gateways that were killed. A starting gateway does it as well
    Reap(gateway_reap::Arguments),
}

/// How much is logged.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Verbosity {
    /// Log more, including what components say
    #[arg(long, short, global = true)]
    verbose: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Success,
    /// Something failed where other things succeeded.
    Partial,
}

/// Parses the arguments of the process and runs the command.
pub fn main() -> ExitCode {
    let (arguments, name) = match plugin::start(std::env::args_os().collect()) {
        plugin::Start::Done(code) => return code,
        plugin::Start::Run(arguments, name) => (tools::gateway_arguments::expand(arguments), name),
    };
    let matches = Cli::command().bin_name(name).get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Gateway(GatewayCommand::Run(arguments)) = &cli.command
        && arguments.has_one_client()
    {
        // A call passes from task to task one after the other: on one thread it does so sooner, and with less memory.
        // Guests that compute give way every 10 ms, and compilers run on threads of their own.
        runtime.worker_threads(1);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli.command));
    // A thread that is still blocked, on standard input for example, must not hold up the end.
    runtime.shutdown_background();
    let code = match result {
        Ok(Status::Success) => ExitCode::SUCCESS,
        Ok(Status::Partial) => ExitCode::from(3),
        Err(error) => {
            log::last_line(&format!("error: {}", message(&error)));
            ExitCode::FAILURE
        }
    };
    log::finish();
    code
}

/// An error and its causes in one line. A cause that the text before already tells is not told again.
pub(crate) fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if text.is_empty() {
            return cause;
        }
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    })
}

async fn run(command: Command) -> anyhow::Result<Status> {
    #[cfg(unix)]
    plugin::end_with_docker();
    match command {
        Command::Catalog(command) => catalog::run(command).await,
        Command::Server(command) => server::run(command).await,
        Command::Config(command) => config::run(command),
        Command::Feature(command) => feature::run(command),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        Command::Gateway(GatewayCommand::Run(arguments)) => gateway_run::run(*arguments).await,
        Command::Gateway(GatewayCommand::Reap(arguments)) => gateway_reap::run(arguments).await,
        Command::Provisioner(command) => provisioner::run(command).await,
        Command::Policy(command) => policy::run(command),
        Command::Tools(arguments) => tools::run(*arguments).await,
        Command::Secret(command) => secret::run(command).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Version(arguments) => version::run(&arguments),
    }
}

/// The user's files.
fn user_files() -> anyhow::Result<UserFiles> {
    Ok(UserFiles::new(assemble::home().as_deref(), std::env::var_os("DOCKER_CONFIG"))?)
}

/// Sends logs to stderr: stdout belongs to the protocol and to data. Those of a gateway, which are not `quiet`, never wait
/// for their reader.
pub(crate) fn log_to_stderr(verbosity: Verbosity, quiet: bool) {
    use std::io::IsTerminal as _;
    let default = match (verbosity.verbose, quiet) {
        (true, _) => "warn,kube_client=off,rmcp::transport=off,docker_mcp=debug,provisioner=debug,server=debug",
        (false, false) => "warn,kube_client=off,rmcp::transport=off,docker_mcp=info,provisioner=info,server=info",
        (false, true) => "warn,kube_client=off,rmcp::transport=off",
    };
    let asked = std::env::var("DOCKER_MCP_LOG").ok().and_then(|text| text.parse::<EnvFilter>().ok());
    let filter = match asked {
        None => EnvFilter::new(default),
        // Whatever is asked for: at debug these log whole requests, with environments and headers, and the transport
        // logs addresses of remote servers, which may hold secrets, with its errors. The keyring is reached over D-Bus.
        // The client of clusters logs answers that it cannot read, Secrets among them.
        Some(filter) => [
            "zbus=info",
            "keyring_core=info",
            "zbus_secret_service_keyring_store=info",
            "bollard=info",
            "kube_client=off",
            "hyper=info",
            "h2=info",
            "reqwest=info",
            "rmcp=warn",
            "rmcp::transport=off",
        ]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive),
    };
    let colour = output::colours(std::io::stderr().is_terminal());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_timer(uptime());
    let lines = if quiet { None } else { log::standard_error() };
    match lines {
        Some(lines) => log.with_writer(move || lines).init(),
        None => log.with_writer(std::io::stderr).init(),
    }
}

/// Random bytes from the system, in hexadecimal.
fn random_hex(bytes: usize) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(random.iter().fold(String::with_capacity(2 * bytes), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no such file").context("cannot read `x`: no such file; create it");
        assert_eq!(message(&error), "cannot read `x`: no such file; create it");
        assert_eq!(message(&error.context("--config")), "--config: cannot read `x`: no such file; create it");
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
