//! This program as a plugin of the `docker` command: `docker mcp ...`.
//!
//! `docker` finds a file `docker-mcp` among its plugins and asks it for `docker-cli-plugin-metadata`. For `docker
//! OPTIONS mcp ARGUMENTS` it starts it with exactly these arguments; for completion with `__complete mcp ARGUMENTS`.
//! When `docker` itself is told to end, it closes the socket that it named in the environment.

mod complete;
mod options;

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;

use super::output;

/// Names the socket that `docker` closes when it is to end.
#[cfg(unix)]
const SOCKET: &str = "DOCKER_CLI_PLUGIN_SOCKET";

/// What to do with the arguments of the process.
pub(super) enum Start {
    /// Nothing more: they were for the protocol between `docker` and its plugins.
    Done(ExitCode),
    /// Run a command of this program, which is called by this name.
    Run(Vec<OsString>, &'static str),
}

/// Takes the arguments of `docker` out, if there are any.
pub(super) fn start(mut arguments: Vec<OsString>) -> Start {
    match arguments.get(1).and_then(|first| first.to_str()) {
        Some("docker-cli-plugin-metadata") => return Start::Done(ended(output::print_json(&metadata()))),
        Some("__complete") => return Start::Done(ended(complete::run(arguments.get(2..).unwrap_or_default()))),
        _ => {}
    }
    let Some((at, environment)) = options::before_mcp(&arguments) else { return Start::Run(arguments, "docker-mcp") };
    match environment {
        Ok(environment) if environment.is_empty() => {
            arguments.drain(1..=at);
            Start::Run(arguments, "docker mcp")
        }
        // The options of `docker` have variables of the same meaning, and those are read in many places.
        Ok(environment) => Start::Done(again(arguments.get(at..).unwrap_or_default(), environment)),
        Err(reason) => Start::Done(ended(Err(anyhow::anyhow!(reason)))),
    }
}

fn metadata() -> serde_json::Value {
    json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "docker-mcp",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": "Gateway for MCP servers, provisioned by sandboxed components",
    })
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", super::message(&error));
            ExitCode::FAILURE
        }
    }
}

/// Becomes this program with other variables.
fn again(arguments: &[OsString], environment: options::Environment) -> ExitCode {
    let failed = |error: std::io::Error| ended(Err(anyhow::anyhow!("cannot start this program again: {error}")));
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    #[cfg(unix)]
    {
        failed(std::os::unix::process::CommandExt::exec(&mut command))
    }
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => failed(error),
    }
}

/// Ends this process as SIGTERM does when `docker` is told to end. A terminal's Ctrl-C reaches both anyway.
#[cfg(unix)]
pub(super) fn end_with_docker() {
    use tokio::io::AsyncReadExt as _;
    let Some(address) = std::env::var_os(SOCKET).filter(|address| !address.is_empty()) else { return };
    let connected = connect(&address).and_then(|stream| {
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    });
    let Ok(mut stream) = connected else { return tracing::debug!("docker's socket cannot be connected to") };
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        let own = rustix::process::getpid();
        if rustix::process::kill_process(own, rustix::process::Signal::TERM).is_err() {
            tracing::warn!("docker has ended and this process cannot end itself");
        }
    });
}

/// Connects to a socket in the file system or, on Linux, with `@`, to an abstract one.
#[cfg(unix)]
fn connect(address: &std::ffi::OsStr) -> std::io::Result<std::os::unix::net::UnixStream> {
    use std::os::unix::net::UnixStream;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.to_str().and_then(|address| address.strip_prefix('@')) {
        use std::os::linux::net::SocketAddrExt as _;
        return UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?);
    }
    UnixStream::connect(address)
}
