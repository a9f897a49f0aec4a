#![no_main]

// The same body runs over damaged components in the tests of `host/src/inspect`.
libfuzzer_sys::fuzz_target!(|data: &[u8]| docker_mcp::inspect::exercise(data));
