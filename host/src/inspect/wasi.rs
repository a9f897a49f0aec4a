//! WASI, the system interface of WebAssembly: which of its interfaces this gateway links for a component that is granted
//! their package, and what each means in plain words. What is not here no grant makes run.

use super::Risk;

/// The versions whose interfaces are linked: `0.2.` and anything.
const VERSION: &str = "0.2.";

/// Interfaces with the harm that they could do and the words for them.
const LINKED: [(&str, Risk, &str); 27] = [
    (
        "wasi:cli/environment",
        Risk::Medium,
        "environment variables, arguments and the current directory; here there are none",
    ),
    ("wasi:cli/exit", Risk::Low, "ending itself"),
    ("wasi:cli/stdin", Risk::Low, "standard input; here it has ended before it begins"),
    ("wasi:cli/stdout", Risk::Low, "standard output; here it leads nowhere"),
    ("wasi:cli/stderr", Risk::Low, "standard error; here it leads nowhere"),
    ("wasi:cli/terminal-input", Risk::Low, "a name for a terminal that is read from; here there is none"),
    ("wasi:cli/terminal-output", Risk::Low, "a name for a terminal that is written to; here there is none"),
    ("wasi:cli/terminal-stdin", Risk::Low, "the terminal of standard input; here there is none"),
    ("wasi:cli/terminal-stdout", Risk::Low, "the terminal of standard output; here there is none"),
    ("wasi:cli/terminal-stderr", Risk::Low, "the terminal of standard error; here there is none"),
    ("wasi:clocks/monotonic-clock", Risk::Low, "a clock, with which it could time what the gateway does, and waiting"),
    ("wasi:clocks/wall-clock", Risk::Low, "the time of day"),
    ("wasi:filesystem/preopens", Risk::High, "the directories that it may use; here there are none"),
    (
        "wasi:filesystem/types",
        Risk::High,
        "reading and writing files in directories that it may use; here there are none",
    ),
    ("wasi:io/error", Risk::Low, "errors of streams"),
    ("wasi:io/poll", Risk::Low, "waiting for several things at once; it is ended like any other waiting"),
    ("wasi:io/streams", Risk::Low, "streams that other interfaces of WASI hand out"),
    ("wasi:random/insecure", Risk::Low, "random numbers, with which it could behave differently each time"),
    ("wasi:random/insecure-seed", Risk::Low, "a random number, with which it could behave differently each time"),
    ("wasi:random/random", Risk::Low, "random numbers, with which it could behave differently each time"),
    ("wasi:sockets/instance-network", Risk::High, "the network as such; here every connection is refused"),
    ("wasi:sockets/ip-name-lookup", Risk::High, "looking up the addresses of names; here every lookup is refused"),
    ("wasi:sockets/network", Risk::High, "a name for the network, and its errors; here every connection is refused"),
    ("wasi:sockets/tcp", Risk::High, "connections over TCP; here every connection is refused"),
    ("wasi:sockets/tcp-create-socket", Risk::High, "making sockets for TCP; here every connection is refused"),
    ("wasi:sockets/udp", Risk::High, "packets over UDP; here every one is refused"),
    ("wasi:sockets/udp-create-socket", Risk::High, "making sockets for UDP; here every packet is refused"),
];

/// The harm that an import of WASI could do and the words for it; none if it is not linked.
pub(super) fn linked(import: &str) -> Option<(Risk, &'static str)> {
    let (interface, version) = import.split_once('@')?;
    let known = LINKED.iter().find(|(name, ..)| *name == interface)?;
    version.starts_with(VERSION).then_some((known.1, known.2))
}

/// The packages of which something is linked.
pub fn packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = LINKED.iter().filter_map(|(name, ..)| name.split('/').next()).collect();
    packages.dedup();
    packages
}
