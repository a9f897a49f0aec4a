//! The arguments of `gateway run`, and which combinations make no sense.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::bail;
use clap::{ArgAction, Args, ValueEnum};

use crate::cli::options::{self, ServerOptions};
use crate::intercept::Specification;

/// The port of the HTTP transports.
const PORT: u16 = 8811;
/// What images of the existing gateway set to 1 where it runs in a container.
const IN_CONTAINER: &str = "DOCKER_MCP_IN_CONTAINER";

/// Shown below the flags.
pub(in crate::cli) const EXAMPLES: &str = "\
Examples:
  docker-mcp gateway run --catalog builtin:sample --servers sample
  docker-mcp gateway run --servers github,time --secrets docker-desktop:.env
  docker-mcp gateway run --enable-all-servers --tools 'github:*,get_current_time' --transport streaming --port 8811
  docker-mcp gateway run --servers time --interceptor 'before:exec:cat >> calls.jsonl'

Flags with BOOL are on when given without a value; `=false` turns them off. Flags of the Docker MCP gateway that cannot \
be honoured here (--profile, --central, --oci-ref, --debug-dns) end the command with the reason. docs/compatibility.md \
compares them all.";

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// One client on standard input and output
    Stdio,
    /// The older HTTP+SSE, at `/sse`, for clients that know no other
    Sse,
    /// Streamable HTTP, at `/mcp`
    #[value(aliases = ["streamable", "streamable-http", "http"])]
    Streaming,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(in crate::cli) servers: ServerOptions,
    #[command(flatten)]
    pub(super) clients: Clients,
    #[command(flatten)]
    pub(super) calls: Calls,
    #[command(flatten)]
    pub(super) limits: Limits,
    #[command(flatten)]
    pub(super) deployment: Deployment,
    #[command(flatten)]
    absent: Absent,
    /// Show what would be created and stop. Needs no engine and reads no secret's text into the output
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    pub(super) dry_run: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Clients")]
pub(super) struct Clients {
    /// How clients connect
    #[arg(long, value_enum, default_value = "stdio", ignore_case = true)]
    pub(super) transport: Transport,
    /// The TCP port of the HTTP transports. Default: 8811
    #[arg(long)]
    port: Option<u16>,
    /// The address that the HTTP transports listen on. Anything but a loopback address opens the gateway to the
    /// network. Default: 127.0.0.1, or all addresses if DOCKER_MCP_IN_CONTAINER is 1
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Serve HTTP without a bearer token. Without it the token is MCP_GATEWAY_AUTH_TOKEN, or a new one that is shown
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    pub(super) allow_unauthenticated: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Calls")]
pub(super) struct Calls {
    /// The tools that clients may see and call: `TOOL`, `SERVER:TOOL`, `SERVER:*` or `*`, in any case. Default: all
    #[arg(long, value_name = "TOOL,...", value_delimiter = ',')]
    pub(super) tools: Vec<String>,
    /// Let a program see every call of a tool, or its result: `before|after:exec|docker|http:TARGET`, where TARGET is a
    /// command for /bin/sh, an image with arguments, or a URL. It gets JSON; what it answers, if anything, becomes the
    /// result. If it fails, the call fails. Repeat it for several; docs/interceptors.md has more
    #[arg(long, value_name = "SPECIFICATION", value_parser = clap::value_parser!(Specification))]
    pub(super) interceptor: Vec<Specification>,
    /// Refuse calls and results that hold what looks like a credential, or a secret of the gateway's own
    #[arg(long, value_name = "BOOL", hide_possible_values = true, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(super) block_secrets: bool,
    /// Log a line for each call of a tool
    #[arg(long, value_name = "BOOL", hide_possible_values = true, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(super) log_calls: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct Limits {
    /// Seconds that a server may take to answer a call, and an interceptor to answer
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = options::seconds)]
    pub(super) call_timeout: Duration,
    /// Calls that one server serves at once, over all clients; others wait. Default: 32 for a server that is kept, 8
    /// for one that is started for each call
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) max_concurrent_calls: Option<u16>,
    /// Calls that may wait for one server; those beyond get an error at once
    #[arg(long, value_name = "NUMBER", default_value = "128")]
    pub(super) max_queued_calls: u16,
    /// HTTP sessions at once; clients beyond are answered 503 with `Retry-After`
    #[arg(long, value_name = "NUMBER", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) max_sessions: u16,
    /// Seconds after which an HTTP session without requests ends, and with it the servers that are kept for it
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = options::seconds)]
    pub(super) session_timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Deployment")]
pub(super) struct Deployment {
    /// Follow changes of catalogs and configuration files while running; clients are told of new tools. Default: true,
    /// unless DOCKER_MCP_IN_CONTAINER is 1
    #[arg(long, value_name = "BOOL", hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    watch: Option<bool>,
    /// Verify the signatures of Docker's own images (`mcp/…`). This version cannot, and refuses to run them with this
    /// flag; without it they run unverified
    #[arg(long, value_name = "BOOL", hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(super) verify_signatures: Option<bool>,
    /// Start no server: each runs already, in a container called `mcp-NAME` that passes its standard streams on at port
    /// 4444, on a network of the gateway's
    #[arg(long = "static", value_name = "BOOL", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    pub(super) prestarted: bool,
}

/// Flags of the existing gateway that cannot be honoured here: given, they are errors that say why.
#[derive(Args, Debug)]
struct Absent {
    #[arg(long, hide = true)]
    profile: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    central: bool,
    #[arg(long, hide = true)]
    oci_ref: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    debug_dns: bool,
}

impl Arguments {
    /// Whether there is just one client, on the standard streams.
    pub(in crate::cli) fn has_one_client(&self) -> bool {
        self.clients.transport == Transport::Stdio
    }

    /// How long a tool of its own container may run: as long as a call may take, and no less than usual, because the call's
    /// own limit ends it anyway.
    pub(super) fn tool_time(&self) -> Duration {
        self.servers.tool_time.max(self.limits.call_timeout)
    }

    /// Refuses what cannot be honoured, and lets servers have what flags of others mean for them.
    ///
    /// # Errors
    /// At the first flag that cannot be honoured, with the reason.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.servers.all_tools = !self.calls.tools.is_empty();
        self.servers.tool_time = self.tool_time();
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        let Absent { profile, central, oci_ref, debug_dns } = &self.absent;
        if profile.is_some() {
            bail!(
                "`--profile` cannot be used: profiles are kept in a database of Docker Desktop; name the servers with \
                 `--servers`, and their files with `--catalog` and `--config`"
            );
        }
        if *central {
            bail!(
                "`--central` cannot be used: it lets each client choose servers and send secrets along with its \
                 requests; run a gateway for each set of servers, with `--servers` and `--secrets`"
            );
        }
        if !oci_ref.is_empty() {
            bail!(
                "`--oci-ref` cannot be used: server definitions are not fetched from image registries; save the \
                 definition to a file and pass it with `--catalog`"
            );
        }
        if *debug_dns {
            bail!(
                "`--debug-dns` cannot be used: it shows what the DNS proxies of servers with `allowHosts` are asked, \
                 and there are no such proxies yet"
            );
        }
        if self.clients.transport == Transport::Stdio {
            if self.clients.port.is_some() {
                bail!("`--port` cannot be used with `--transport stdio`; add `--transport streaming` or `sse`");
            }
            if self.clients.host.is_some() {
                bail!("`--host` cannot be used with `--transport stdio`; add `--transport streaming` or `sse`");
            }
        }
        if self.deployment.prestarted && self.deployment.watch == Some(true) {
            bail!("`--static` and `--watch` cannot be used together: servers that run already do not change");
        }
        Ok(())
    }

    /// Which flags have no effect with the provisioner in use, in a sentence.
    pub(super) fn ignored(&self) -> Option<String> {
        self.servers.cluster.ignored().filter(|_| !self.servers.uses_cluster())
    }

    /// Whether files are followed.
    pub(super) fn watches(&self) -> bool {
        !self.deployment.prestarted && self.deployment.watch.unwrap_or(!is_in_container())
    }
}

impl Clients {
    /// Where the HTTP transports listen.
    pub(super) fn address(&self) -> (IpAddr, u16) {
        let usual = if is_in_container() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        (self.host.unwrap_or(usual.into()), self.port.unwrap_or(PORT))
    }
}

fn is_in_container() -> bool {
    std::env::var(IN_CONTAINER).is_ok_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_tool_may_run_as_long_as_a_call_may_take() {
        let time = |arguments: &[&str]| {
            let line = Line::try_parse_from([&["run"], arguments].concat()).unwrap();
            line.arguments.tool_time().as_secs()
        };
        assert_eq!(time(&[]), 600);
        assert_eq!(time(&["--call-timeout", "5"]), 600, "the call ends first");
        assert_eq!(time(&["--call-timeout", "7200"]), 7200);
    }
}
