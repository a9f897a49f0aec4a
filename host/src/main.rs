//! The `docker-mcp` binary.

fn main() -> std::process::ExitCode {
    docker_mcp::cli::main()
}
