#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| docker_mcp_fuzz::bodies::specification::specification(data));
