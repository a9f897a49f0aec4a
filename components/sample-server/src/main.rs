//! A small MCP server as a WASI 0.2 command: what the embedded runtime runs when a newcomer has nothing else.
//!
//! It reads one JSON-RPC message per line from standard input and answers on standard output. It is plain `std`
//! and one loop: the MCP libraries need an async reactor, which WASI 0.2 does not have. It needs no file and no
//! network, and deliberately knows nothing of the gateway.
//!
//! `SAMPLE_GREETING` sets the word that the tool `greet` greets with; the argument `--brief` leaves the prompt and
//! the resources out.

mod prompts;
mod protocol;
mod resources;
mod tools;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use protocol::Server;

fn main() -> ExitCode {
    let mut server = Server::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--brief" => server.brief = true,
            other => {
                // Standard output belongs to the protocol.
                let _ = writeln!(std::io::stderr(), "unknown argument `{other}`; the only one is `--brief`");
                return ExitCode::from(2);
            }
        }
    }
    if let Ok(greeting) = std::env::var("SAMPLE_GREETING") {
        server.greeting = greeting;
    }
    match serve(&server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "the client is gone: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers line by line until standard input ends.
fn serve(server: &Server) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = server.answer(&line?) {
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
    }
    Ok(())
}
