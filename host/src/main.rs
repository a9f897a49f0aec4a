//! The `docker-mcp` binary.

fn main() {}
