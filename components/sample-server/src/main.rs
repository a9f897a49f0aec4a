//! A small MCP server as a WASI component.

fn main() {}
