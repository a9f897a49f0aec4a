//! `docker-mcp gateway run`.

mod arguments;
mod signatures;
mod watch;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::arguments::Transport;
pub(super) use self::arguments::{Arguments, EXAMPLES};
use super::assemble::{self, Assembled, Mode, Observers, assemble_observed};
use super::{Status, plan, progress, sources};
use crate::capability::container_runtime::routed::is_embedded;
use crate::gateway::{Connections, Gateway, GatewayOptions, HttpOptions, HttpTransport, ToolFilter};
use crate::intercept::Interceptor;
use crate::lease::Reaper;
use crate::provision::Provision;
use crate::provision::prestarted::Prestarted;
use crate::screen::Screen;
use crate::secrets::SecretText;

/// Shows what a gateway with these flags would create, of `only` these servers if any are named.
pub(super) async fn plan(
    mut arguments: Arguments,
    only: &[String],
    how: (plan::Format, plan::Shown),
    look: plan::Look,
) -> anyhow::Result<Status> {
    arguments.settle()?;
    if let Some(ignored) = arguments.ignored() {
        eprintln!("warning: {ignored}");
    }
    if arguments.deployment.prestarted {
        eprintln!(
            "warning: with `--static` the gateway starts none of these containers; it connects to those that run already"
        );
    }
    let check = |assembled: &Assembled| check_signatures(&arguments, assembled);
    plan::show(&arguments.servers, only, how, look, check).await
}

pub(super) async fn run(mut arguments: Arguments) -> anyhow::Result<Status> {
    if arguments.dry_run {
        return plan(arguments, &[], (plan::Format::Text, plan::Shown::Notable), plan::Look::AtCluster).await;
    }
    arguments.settle()?;
    let ignored = arguments.ignored();
    super::log_to_stderr(arguments.servers.verbosity, false);
    // Taken before anything can be cancelled by them.
    let signals = CancellationToken::new();
    tokio::spawn(cancel_on_signal(signals.clone())?);

    let screen = match arguments.calls.block_secrets {
        true => {
            Some(Arc::new(Screen::new().map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?))
        }
        false => None,
    };
    let mode = Mode::Real(progress::on_stderr());
    // As they are before they are read.
    let policies = assemble::policy_sources(&arguments.servers.policy, assemble::home().as_deref()).files();
    let policies = sources::versions(policies);
    let observers = Observers { screen: screen.clone(), ..Observers::default() };
    let mut assembled = assemble_observed(&arguments.servers, mode, Reaper::new(), observers).await?;
    check_signatures(&arguments, &assembled)?;
    if let Some(ignored) = ignored {
        tracing::warn!("{ignored}");
    }
    let options = gateway_options(&arguments, &assembled, screen);
    let http = listen(&arguments).await?;
    assembled.reap();
    assembled.check_rights();
    let provision = provision(&arguments, &assembled);
    let gateway = Gateway::start(assembled.loaded.servers.clone(), provision, options);
    if arguments.watches() {
        let provisioner = Arc::clone(&assembled.provisioner);
        let (sources, first) = (assembled.sources.clone(), assembled.loaded.clone());
        let watching = watch::watch(sources, policies, gateway.clone(), provisioner, first);
        let signals = signals.clone();
        tokio::spawn(async move { signals.run_until_cancelled(watching).await });
    }
    if !arguments.calls.tools.is_empty() {
        tokio::spawn(warn_of_unused_patterns(gateway.clone(), signals.clone()));
    }
    let provisioner = assembled.provisioner.clone();
    // A provisioner that cannot be used ends the gateway: no server could ever start.
    let unusable = async move {
        match provisioner.ready().await {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let serve = async {
        match http {
            None => gateway.serve_stdio(signals.clone()).await,
            Some((listener, http)) => gateway.serve_http(listener, http, signals.clone()).await,
        }
        .map_err(anyhow::Error::from)
    };
    let result = tokio::select! {
        served = serve => served,
        error = unusable => Err(error.into()),
    };
    signals.cancel();
    gateway.shutdown().await;
    // A client that was gone before the provisioner turned out to be unusable must not make it look well.
    let unusable = assembled.provisioner.failure().cloned();
    assembled.finish().await;
    result.and_then(|()| unusable.map_or(Ok(Status::Success), |error| Err(error.into())))
}

/// Refuses what cannot be verified if that was asked for, and says that nothing is if it was not.
fn check_signatures(arguments: &Arguments, assembled: &Assembled) -> anyhow::Result<()> {
    let servers = assembled.loaded.servers.iter();
    match arguments.deployment.verify_signatures {
        Some(false) => {}
        Some(true) => {
            signatures::refuse_unverifiable(servers.map(|server| (server.name.as_str(), &*server.entry)))?;
        }
        None => {
            let signed = servers.filter(|server| signatures::signed_image(&server.entry).is_some()).count();
            if signed > 0 {
                tracing::warn!(
                    servers = signed,
                    "signatures of images are not verified by this version; `--verify-signatures=false` silences this"
                );
            }
        }
    }
    Ok(())
}

fn gateway_options(arguments: &Arguments, assembled: &Assembled, screen: Option<Arc<Screen>>) -> GatewayOptions {
    let limit = arguments.limits.call_timeout;
    let interceptors = assembled.containers.iter().flat_map(|containers| {
        let specifications = arguments.calls.interceptor.iter().cloned();
        specifications.map(|specification| Interceptor::new(specification, Arc::clone(containers), limit))
    });
    GatewayOptions {
        call_timeout: limit,
        tools: ToolFilter::new(&arguments.calls.tools),
        log_calls: arguments.calls.log_calls,
        screen,
        interceptors: interceptors.collect(),
        calls_at_once: arguments.limits.max_concurrent_calls.map(usize::from),
        queue: usize::from(arguments.limits.max_queued_calls),
        ..assembled.gateway.clone()
    }
}

/// What starts the servers, or finds those that run already.
fn provision(arguments: &Arguments, assembled: &Assembled) -> Arc<dyn Provision> {
    let provisioner: Arc<dyn Provision> = assembled.provisioner.clone();
    if !arguments.deployment.prestarted {
        return provisioner;
    }
    let is_elsewhere = |image: Option<&str>| image.is_none_or(is_embedded);
    let servers = assembled.loaded.servers.iter();
    let elsewhere = servers.filter(|server| is_elsewhere(server.entry.image.as_deref()));
    let elsewhere: std::collections::BTreeSet<String> = elsewhere.map(|server| server.name.clone()).collect();
    Arc::new(Prestarted {
        others: provisioner,
        elsewhere: Box::new(move |server| elsewhere.contains(server)),
        timeout: arguments.servers.max_server_startup_timeout,
        reaper: assembled.reaper.clone(),
    })
}

/// Listens for HTTP, if that is how clients connect.
async fn listen(arguments: &Arguments) -> anyhow::Result<Option<(TcpListener, HttpOptions)>> {
    let transport = match arguments.clients.transport {
        Transport::Stdio => return Ok(None),
        Transport::Sse => HttpTransport::Sse,
        Transport::Streaming => HttpTransport::Streamable,
    };
    let (host, port) = arguments.clients.address();
    let listener = TcpListener::bind((host, port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}; choose another with `--port`"))?;
    let http = HttpOptions {
        transport,
        token: token(arguments, &listener)?,
        session_idle: arguments.limits.session_timeout,
        max_sessions: usize::from(arguments.limits.max_sessions),
        connections: Connections::for_sessions(usize::from(arguments.limits.max_sessions)),
        ..HttpOptions::default()
    };
    Ok(Some((listener, http)))
}

/// Says which patterns of `--tools` no tool has, once every server has answered: most likely they are misspelt.
async fn warn_of_unused_patterns(gateway: Gateway, ends: CancellationToken) {
    if ends.run_until_cancelled(gateway.complete()).await.is_some() {
        for pattern in gateway.unused_tool_patterns() {
            tracing::warn!("`--tools {pattern}` matches no tool of the enabled servers");
        }
    }
}

/// The bearer token that clients must show, and a line on stderr that says so.
fn token(arguments: &Arguments, listener: &TcpListener) -> anyhow::Result<Option<SecretText>> {
    let address = listener.local_addr()?;
    let path = if arguments.clients.transport == Transport::Sse { "sse" } else { "mcp" };
    if arguments.clients.allow_unauthenticated {
        if !address.ip().is_loopback() {
            tracing::warn!(
                "anyone who reaches {address} can call every tool: it is open to the network without a token"
            );
        }
        eprintln!("listening on http://{address}/{path} without authentication");
        return Ok(None);
    }
    let given = std::env::var("MCP_GATEWAY_AUTH_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let token = match given {
        Some(token) => {
            eprintln!("listening on http://{address}/{path} with the token in MCP_GATEWAY_AUTH_TOKEN");
            token
        }
        None => {
            let token = super::random_hex(32)?;
            eprintln!(
                "listening on http://{address}/{path}\nsend `Authorization: Bearer {token}`, or set MCP_GATEWAY_AUTH_TOKEN to choose it"
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
