//! `docker-mcp gateway run`.

use std::net::IpAddr;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::assemble::{self, Mode, assemble};
use super::options::{self, ServerOptions};
use super::{Status, plan, progress};
use crate::catalog::Entry;
use crate::gateway::{Gateway, HttpOptions};
use crate::lease::Reaper;
use crate::secrets::SecretText;

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// One client on standard input and output
    Stdio,
    /// Streamable HTTP at `/mcp`
    #[value(alias = "streamable-http", alias = "http")]
    Streaming,
}

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    servers: ServerOptions,
    /// How clients connect
    #[arg(long, value_enum, default_value = "stdio", help_heading = "Clients")]
    transport: Transport,
    /// The TCP port of the HTTP transport
    #[arg(long, default_value = "8811", help_heading = "Clients")]
    port: u16,
    /// The address that the HTTP transport listens on. Anything but a loopback address opens it to the network
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = "Clients")]
    host: IpAddr,
    /// Serve HTTP without a bearer token. Without it the token is MCP_GATEWAY_AUTH_TOKEN, or a new one that is shown
    #[arg(long, help_heading = "Clients")]
    allow_unauthenticated: bool,
    /// Log a line for each call of a tool: `--log-calls=false` turns it off
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    log_calls: bool,
    /// Seconds that a server may take to answer a call
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = options::seconds, help_heading = "Limits")]
    call_timeout: std::time::Duration,
    /// Calls that one server serves at once, over all clients; others wait. Default: 32 for a server that is kept, 8
    /// for one that is started for each call
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Limits")]
    max_concurrent_calls: Option<u16>,
    /// Calls that may wait for one server; those beyond get an error at once
    #[arg(long, value_name = "NUMBER", default_value = "128", help_heading = "Limits")]
    max_queued_calls: u16,
    /// HTTP sessions at once; clients beyond are answered 503 with `Retry-After`
    #[arg(long, value_name = "NUMBER", default_value = "256", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Limits")]
    max_sessions: u16,
    /// Seconds after which an HTTP session without requests ends, and with it the servers that are kept for it
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = options::seconds, help_heading = "Limits")]
    session_timeout: std::time::Duration,
    /// Verify the signatures of Docker's own images (`mcp/…`). This version cannot, and refuses to run them with this flag;
    /// without it they run unverified
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Servers")]
    verify_signatures: Option<bool>,
    /// Show what would be created and stop. Needs no engine and reads no secret's text into the output
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    if arguments.verify_signatures == Some(true) {
        refuse_unverifiable(&assemble::enabled(&arguments.servers, assemble::home().as_deref())?)?;
    }
    if arguments.dry_run {
        return plan::show(&arguments.servers, &[], plan::Format::Text).await;
    }
    super::log_to_stderr(arguments.servers.verbosity, false);
    // Taken before anything can be cancelled by them.
    let signals = CancellationToken::new();
    tokio::spawn(cancel_on_signal(signals.clone())?);

    let mut assembled = assemble(&arguments.servers, Mode::Real(progress::on_stderr()), Reaper::new()).await?;
    assembled.gateway.log_calls = arguments.log_calls;
    assembled.gateway.call_timeout = arguments.call_timeout;
    assembled.gateway.calls_at_once = arguments.max_concurrent_calls.map(usize::from);
    assembled.gateway.queue = usize::from(arguments.max_queued_calls);
    let listener = match arguments.transport {
        Transport::Stdio => None,
        Transport::Streaming => {
            let address = (arguments.host, arguments.port);
            let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {}:{}; choose another with `--port`", arguments.host, arguments.port)
            })?;
            Some(listener)
        }
    };
    let signed = assembled.servers.iter().filter(|server| signed_image(&server.entry).is_some()).count();
    if arguments.verify_signatures.is_none() && signed > 0 {
        tracing::warn!(
            servers = signed,
            "signatures of images are not verified by this version; `--verify-signatures=false` silences this"
        );
    }
    assembled.reap();
    let gateway = Gateway::start(
        std::mem::take(&mut assembled.servers),
        assembled.provisioner.clone(),
        assembled.gateway.clone(),
    );
    let provisioner = assembled.provisioner.clone();
    // A provisioner that cannot be used ends the gateway: no server could ever start.
    let unusable = async move {
        match provisioner.ready().await {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let serve = async {
        match listener {
            None => gateway.serve_stdio(signals.clone()).await,
            Some(listener) => {
                let http = HttpOptions {
                    token: token(&arguments, &listener)?,
                    session_idle: arguments.session_timeout,
                    max_sessions: usize::from(arguments.max_sessions),
                    ..HttpOptions::default()
                };
                gateway.serve_http(listener, http, signals.clone()).await
            }
        }
        .map_err(anyhow::Error::from)
    };
    let result = tokio::select! {
        served = serve => served,
        error = unusable => Err(error.into()),
    };
    gateway.shutdown().await;
    // A client that was gone before the provisioner turned out to be unusable must not make it look well.
    let unusable = assembled.provisioner.failure().cloned();
    assembled.finish().await;
    result.and_then(|()| unusable.map_or(Ok(Status::Success), |error| Err(error.into())))
}

/// Fails closed: what cannot be verified does not run.
fn refuse_unverifiable(entries: &[(String, Entry)]) -> anyhow::Result<()> {
    let found = entries.iter().filter_map(|(name, entry)| Some((name, signed_image(entry)?)));
    let found: Vec<String> = found.map(|(name, image)| format!("`{name}` (image `{image}`)")).collect();
    if found.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "`--verify-signatures` cannot be honoured for {}: this version does not verify signatures; leave these servers \
         out, or run them unverified without the flag",
        found.join(", ")
    )
}

/// The first image of an entry that is one of Docker's own, which are signed: those in `mcp/` on Docker Hub.
fn signed_image(entry: &Entry) -> Option<&str> {
    let tools = entry.tools.iter().filter_map(|tool| tool.container.as_ref()).map(|container| container.image.as_str());
    entry.image.as_deref().into_iter().chain(tools).find(|image| {
        let hub = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
        let path = hub.iter().find_map(|registry| image.trim().strip_prefix(registry)).unwrap_or(image.trim());
        path.starts_with("mcp/")
    })
}

/// The bearer token that clients must show, and a line on stderr that says so.
fn token(arguments: &Arguments, listener: &tokio::net::TcpListener) -> anyhow::Result<Option<SecretText>> {
    let address = listener.local_addr()?;
    if arguments.allow_unauthenticated {
        if !arguments.host.is_loopback() {
            tracing::warn!(
                "anyone who reaches {address} can call every tool: it is open to the network without a token"
            );
        }
        eprintln!("listening on http://{address}/mcp without authentication");
        return Ok(None);
    }
    let given = std::env::var("MCP_GATEWAY_AUTH_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let token = match given {
        Some(token) => {
            eprintln!("listening on http://{address}/mcp with the token in MCP_GATEWAY_AUTH_TOKEN");
            token
        }
        None => {
            let token = super::random_hex(32)?;
            eprintln!(
                "listening on http://{address}/mcp\nsend `Authorization: Bearer {token}`, or set MCP_GATEWAY_AUTH_TOKEN to choose it"
            );
            token
        }
    };
    Ok(Some(SecretText::new(token)))
}

/// Cancels on Ctrl-C and SIGTERM. A second signal ends the process at once.
fn cancel_on_signal(token: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let mut interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        for count in 0.. {
            #[cfg(unix)]
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
            #[cfg(not(unix))]
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            if count > 0 {
                eprintln!("ended by a second signal; containers may remain");
                // The one place where the process is ended from inside: the user insists.
                #[allow(clippy::disallowed_methods, reason = "the user insists")]
                std::process::exit(130);
            }
            token.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_images_are_those_in_mcp_on_docker_hub() {
        let entry = |image: &str| Entry { image: Some(image.to_owned()), ..Entry::default() };
        for own in ["mcp/time", "mcp/time@sha256:00", "docker.io/mcp/time", "index.docker.io/mcp/x", " mcp/x"] {
            assert!(signed_image(&entry(own)).is_some(), "{own}");
        }
        for other in ["mcp-test/time:1", "ghcr.io/mcp/time", "localhost:5000/mcp/time", "busybox", "me/mcp/x"] {
            assert!(signed_image(&entry(other)).is_none(), "{other}");
        }
        let refusal = refuse_unverifiable(&[("time".to_owned(), entry("mcp/time"))]).unwrap_err().to_string();
        assert!(refusal.contains("`time` (image `mcp/time`)"), "{refusal}");
        refuse_unverifiable(&[("x".to_owned(), entry("ghcr.io/x"))]).unwrap();
    }
}
